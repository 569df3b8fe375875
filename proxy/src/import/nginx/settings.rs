//! Settings that have a key in hookgate's configuration, each where requests are forwarded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::values::{bare_ip, size, time};
use crate::config::DnsServer;
use crate::import::amount::{Amount, BODY_BYTES, CA, Key, refusal};
use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};

/// A value, and what sets it.
#[derive(Clone, Debug)]
pub struct Assignment<'d> {
    pub value: Amount,
    pub directive: &'d Directive,
}

pub type Settings<'d> = BTreeMap<Key, Assignment<'d>>;

/// What the directives in force set; `base` makes a file's path absolute.
pub fn settings<'d>(
    in_force: &BTreeMap<&'d str, Vec<&'d Directive>>,
    base: &dyn Fn(&str) -> String,
    notes: &mut Notes,
) -> Settings<'d> {
    let mut settings = Settings::new();
    let is_verified =
        in_force.get("proxy_ssl_verify").and_then(|all| all.last()).is_some_and(|on| argument(on) == "on");
    for directive in in_force.values().flatten() {
        for (key, value) in read(directive, is_verified, base, notes) {
            match refusal(key, &value) {
                None => drop(settings.insert(key, Assignment { value, directive })),
                Some(why) => notes.add(Group::Different, directive, format!("[{}] {}: {why}", key.0, key.1)),
            }
        }
    }
    settings
}

fn argument(directive: &Directive) -> &str {
    directive.arguments.first().map_or("", String::as_str)
}

fn read(
    directive: &Directive,
    is_verified: bool,
    base: &dyn Fn(&str) -> String,
    notes: &mut Notes,
) -> Vec<(Key, Amount)> {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    let mut duration = |key: Key, text: &str| match time(text) {
        Some(milliseconds) => vec![(key, Amount::Milliseconds(milliseconds))],
        None => {
            notes.add(Group::Different, directive, "not a time that can be read");
            Vec::new()
        }
    };
    match (&*directive.name, &*arguments) {
        ("client_header_timeout", [text, ..]) => duration(("timeouts", "request_head"), text),
        ("client_body_timeout", [text]) => duration(("timeouts", "body_idle"), text),
        ("keepalive_timeout", ["0", ..]) => Vec::new(),
        ("keepalive_timeout", [text, ..]) => duration(("timeouts", "keepalive"), text),
        ("proxy_connect_timeout", [text]) => duration(("timeouts", "connect"), text),
        ("proxy_read_timeout", [text]) => duration(("timeouts", "response"), text),
        ("resolver_timeout", [text]) => duration(("dns", "timeout"), text),
        ("client_max_body_size", [text]) => match size(text) {
            Some(bytes) => vec![(BODY_BYTES, Amount::Number(bytes))],
            None => {
                notes.add(Group::Different, directive, "not a size that can be read");
                Vec::new()
            }
        },
        ("large_client_header_buffers", [count, text]) => match (count.parse::<u64>(), size(text)) {
            (Ok(count), Some(bytes)) => vec![
                (("limits", "head_bytes"), Amount::Number(count.saturating_mul(bytes))),
                (("limits", "uri_bytes"), Amount::Number(bytes)),
            ],
            _ => {
                notes.add(Group::Different, directive, "not a number and a size");
                Vec::new()
            }
        },
        ("proxy_ssl_trusted_certificate", [file]) if is_verified => vec![(CA, Amount::File(base(file)))],
        ("access_log", ["off"]) => vec![(("log", "access"), Amount::Flag(false))],
        ("resolver", words) => resolver(directive, words, notes),
        _ => Vec::new(),
    }
}

fn resolver(directive: &Directive, words: &[&str], notes: &mut Notes) -> Vec<(Key, Amount)> {
    let (mut servers, mut settings) = (Vec::new(), Vec::new());
    for word in words {
        if let Some(text) = word.strip_prefix("valid=") {
            settings.extend(time(text).map(|valid| (("dns", "valid"), Amount::Milliseconds(valid))));
        } else if let Some(ip) = bare_ip(word) {
            servers.push(ip.to_string());
        } else if word.parse::<DnsServer>().is_ok() {
            servers.push((*word).to_owned());
        } else if word.starts_with("ipv6=") || word.starts_with("ipv4=") {
            notes.add(Group::NoConsequence, directive, *word);
        } else if !word.starts_with("status_zone=") {
            notes.add(Group::Different, directive, format!("`{word}`: write its address into [dns] servers"));
        }
    }
    if !servers.is_empty() {
        settings.push((("dns", "servers"), Amount::Texts(servers)));
    }
    settings
}

/// What holds for all: values that are the same wherever requests are forwarded. For unlike ones
/// the longest time and the largest number; except those that an upstream has a key for.
pub fn merge(by_scope: &HashMap<usize, Settings<'_>>, notes: &mut Notes) -> BTreeMap<Key, Amount> {
    let keys: BTreeSet<Key> = by_scope.values().flat_map(|settings| settings.keys().copied()).collect();
    let mut merged = BTreeMap::new();
    for key in keys.into_iter().filter(|key| *key != CA) {
        let all: Vec<&Assignment<'_>> = by_scope.values().filter_map(|settings| settings.get(&key)).collect();
        let values: BTreeSet<&Amount> = all.iter().map(|setting| &setting.value).collect();
        let is_everywhere = all.len() == by_scope.len();
        let chosen = match values.last() {
            Some(value) if is_everywhere && values.len() == 1 => Some(*value),
            _ if key == BODY_BYTES => continue,
            Some(value @ (Amount::Milliseconds(_) | Amount::Number(_))) => Some(*value),
            _ => None,
        };
        if !is_everywhere || values.len() > 1 {
            let mut written: Vec<String> = values.iter().map(|value| value.toml().to_string()).collect();
            if !is_everywhere {
                written.push("nginx's default".to_owned());
            }
            let taken = chosen
                .map_or("hookgate's default holds".to_owned(), |value| format!("{} is taken", value.toml()));
            let why = format!(
                "unlike values where requests are forwarded ({}), and [{}] {} holds for all: {taken}",
                written.join(", "),
                key.0,
                key.1
            );
            all.iter().for_each(|setting| notes.add(Group::Different, setting.directive, &*why));
        }
        merged.extend(chosen.map(|value| (key, value.clone())));
    }
    merged
}
