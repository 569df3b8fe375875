//! Snippets of `hookgate.toml`, made whole so that `hookgate check` can judge them, and the keys
//! that there are.
//!
//! The rule: what a start cannot do without and a snippet leaves out is added, `[listen]` with
//! `https` and `http`, and the certificate of proxy.example.com unless there is one or `[acme]`
//! gets it. Every file that it names is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml_edit::{Array, DocumentMut, Item, TomlError, Value};

use super::markdown::{Page, Piece};

/// The configuration in which every key is written, if only as a comment; tests see to that.
const REFERENCE: &str = "packaging/hookgate.toml";
const CERTIFICATE: &str = "/etc/letsencrypt/live/proxy.example.com";
/// Relative paths count from here.
const FOLDER: &str = "/etc/hookgate";

/// A snippet that can be checked.
#[derive(Debug)]
pub struct Whole {
    pub text: String,
    /// The files that it names, and what they are.
    pub files: Vec<(Kind, PathBuf)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Certificate,
    Key,
    Authority,
    Prefixes,
    Folder,
}

/// # Errors
/// It is not TOML.
pub fn whole(snippet: &str) -> Result<Whole, TomlError> {
    let mut document: DocumentMut = snippet.parse()?;
    let has = |document: &DocumentMut, section: &str, keys: &[&str]| {
        document.get(section).is_some_and(|section| keys.iter().any(|key| section.get(key).is_some()))
    };
    if !has(&document, "listen", &["https", "http", "plain"]) {
        add(&mut document, "listen", "https", Array::from_iter(["0.0.0.0:443", "[::]:443"]));
        add(&mut document, "listen", "http", Array::from_iter(["0.0.0.0:80", "[::]:80"]));
    }
    let has_certificate = has(&document, "acme", &["domains"]) || has(&document, "tls", &["cert", "certs"]);
    if has(&document, "listen", &["https"]) && !has_certificate {
        add(&mut document, "tls", "cert", format!("{CERTIFICATE}/fullchain.pem"));
        add(&mut document, "tls", "key", format!("{CERTIFICATE}/privkey.pem"));
    }
    let mut files = Vec::new();
    named(document.as_item(), &mut files);
    Ok(Whole { text: document.to_string(), files })
}

fn add(document: &mut DocumentMut, section: &str, key: &str, value: impl Into<Value>) {
    let table = document.entry(section).or_insert_with(toml_edit::table);
    if let Some(table) = table.as_table_like_mut() {
        table.insert(key, toml_edit::value(value));
    }
}

fn named(item: &Item, files: &mut Vec<(Kind, PathBuf)>) {
    if let Some(tables) = item.as_array_of_tables() {
        tables.iter().for_each(|table| named(&Item::Table(table.clone()), files));
    }
    for value in item.as_array().into_iter().flatten() {
        named(&Item::Value(value.clone()), files);
    }
    for (key, inside) in item.as_table_like().into_iter().flat_map(|table| table.iter()) {
        let kind = match key {
            "cert" => Some(Kind::Certificate),
            "key" => Some(Kind::Key),
            "ca" | "client_ca" => Some(Kind::Authority),
            "prefixes" => Some(Kind::Prefixes),
            "state" | "webroot" => Some(Kind::Folder),
            _ => None,
        };
        match (kind, inside.as_str()) {
            (Some(kind), Some(path)) if path != "builtin" => files.push((kind, Path::new(FOLDER).join(path))),
            _ => named(inside, files),
        }
    }
}

/// The keys that there are, as `(section, key)`; those of an upstream under `upstreams`.
pub struct Keys(BTreeSet<(String, String)>);

impl Keys {
    /// # Errors
    /// The reference can't be read.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(REFERENCE);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let is_setting = |rest: &str| rest.starts_with(|c: char| !c.is_whitespace());
        let written =
            text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
        let document: DocumentMut = written.collect::<Vec<_>>().join("\n").parse().context(REFERENCE)?;
        let mut keys = BTreeSet::new();
        let tables = document.iter().filter_map(|(name, section)| Some((name, section.as_table_like()?)));
        for (name, section) in tables {
            for (key, value) in section.iter() {
                match value.as_table_like().filter(|_| name == "upstreams") {
                    Some(upstream) => {
                        keys.extend(upstream.iter().map(|(key, _)| (name.to_owned(), key.to_owned())))
                    }
                    None => drop(keys.insert((name.to_owned(), key.to_owned()))),
                }
            }
        }
        Ok(Self(keys))
    }

    /// A line for every `[section]`, `[section] key` and `key = value` in the text that there is
    /// not.
    pub fn findings(&self, page: &Page) -> Vec<String> {
        let unknown = page.code.iter().filter_map(|piece| Some((piece, self.unknown(piece)?)));
        unknown.map(|(piece, what)| format!("{}:{}: no such {what}", page.path, piece.line)).collect()
    }

    fn unknown(&self, piece: &Piece) -> Option<String> {
        let is_name =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let (section, rest) = match piece.text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((section, rest)) if is_name(section) => (Some(section), rest.trim()),
            Some(_) => return None,
            None => (None, &*piece.text),
        };
        if let Some(section) = section.filter(|name| !self.0.iter().any(|(known, _)| known == name)) {
            return Some(format!("section: [{section}]"));
        }
        let (key, has_value) = match rest.split_once(" = ") {
            Some((key, _)) => (key, true),
            None => (rest, false),
        };
        // A word alone may mean anything.
        if !is_name(key) || (section.is_none() && !has_value) {
            return None;
        }
        let known =
            self.0.iter().any(|(of, known)| known == key && section.is_none_or(|section| section == of));
        (!known).then(|| format!("key: {}", piece.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_snippet_leaves_out_is_added() {
        let shown = |snippet: &str| whole(snippet).unwrap().text;
        let guard = shown("[guard]\ninterfaces = [\"eth0\"]\n");
        assert!(
            guard.contains("https = ") && guard.contains("fullchain.pem") && guard.contains("eth0"),
            "{guard}"
        );
        let acme = shown("[acme]\ndomains = [\"a.example\"]\n");
        assert!(acme.contains("https = ") && !acme.contains("fullchain.pem"), "{acme}");
        let plain = shown("[listen]\nplain = [\"127.0.0.1:1\"]\n");
        assert!(!plain.contains("https") && !plain.contains("fullchain.pem"), "{plain}");
        assert!(whole("[listen").is_err());
    }

    #[test]
    fn files_are_found_wherever_they_are_named() {
        let files = whole("[tls]\ncerts = [{ cert = \"a.pem\", key = \"/b.key\" }]\nclient_ca = \"c.pem\"\n")
            .unwrap()
            .files;
        assert_eq!(
            files,
            [
                (Kind::Certificate, PathBuf::from("/etc/hookgate/a.pem")),
                (Kind::Key, PathBuf::from("/b.key")),
                (Kind::Authority, PathBuf::from("/etc/hookgate/c.pem")),
            ]
        );
    }
}
