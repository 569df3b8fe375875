use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use hookgate::config::{Config, ConfigError};

/// The commented configuration that the package installs.
const SHIPPED: &str = include_str!("../../../packaging/hookgate.toml");
/// Settings and values that no sensible operator writes.
const ODD_SETTINGS: [(&str, &str); 4] = [
    ("upstreams.\"a.b\"", "{}"),
    ("upstreams.\"A.b\"", "{}"),
    ("upstreams.\"a.b\".port", "0"),
    ("upstreams.\"a.b\".in_flight", "1024"),
];
const ODD_VALUES: [&str; 17] = [
    "-1",
    "0.5",
    "-0.5",
    "1.5",
    "nan",
    "0x7f",
    "99999999999999999999",
    "\"\"",
    "\"0s\"",
    "\"9999d\"",
    "[]",
    "[\"\"]",
    "{ port = 1 }",
    "true",
    "\"::\"",
    "\"1.2.3.4/33\"",
    "\"é\"",
];

/// Every `section.key = value` of the shipped configuration, and odd ones. A search among whole
/// words leads further than one among letters.
static SETTINGS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let (mut settings, mut section) = (Vec::from(ODD_SETTINGS.map(owned)), "");
    for line in SHIPPED.lines().map(|line| line.trim_start_matches('#')) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or_default();
        } else if let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.trim().contains(' '))
        {
            let value = value.split(" #").next().unwrap_or_default();
            settings.push((format!("{section}.{}", key.trim()), value.to_owned()));
        }
    }
    settings
});

/// Their values, and odd ones.
static VALUES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut values: Vec<&str> = SETTINGS.iter().map(|(_, value)| &**value).chain(ODD_VALUES).collect();
    values.sort_unstable();
    values.dedup();
    values
});

/// Each setting with its own value: where a search among words begins.
pub fn spelled_seeds() -> impl Iterator<Item = Vec<u8>> {
    let value_of = |value: &str| VALUES.iter().position(|known| *known == value);
    let spelled = move |(key, (_, value)): (usize, &(String, String))| {
        Some(vec![0, u8::try_from(key).ok()?, u8::try_from(value_of(value)?).ok()?])
    };
    SETTINGS.iter().enumerate().filter_map(spelled)
}

/// The text itself, or after a zero: a byte for a key and one for its value, behind the least that
/// is valid.
fn text(bytes: &[u8]) -> String {
    let Some(spelled) = bytes.strip_prefix(&[0]) else { return String::from_utf8_lossy(bytes).into_owned() };
    let setting = |[key, value]: &[u8; 2]| {
        let (key, value) = (usize::from(*key) % SETTINGS.len(), usize::from(*value) % VALUES.len());
        format!("\n{} = {}", SETTINGS[key].0, VALUES[value])
    };
    let settings: String = spelled.as_chunks().0.iter().map(setting).collect();
    format!("listen.plain = [\"0.0.0.0:1\"]{settings}")
}

/// A configuration is either valid and then holds together, or everything that is said about it has
/// its place in it.
pub fn check(bytes: &[u8]) {
    let text = text(bytes);
    match Config::parse(Path::new("/etc/hookgate/hookgate.toml"), &text) {
        Ok(config) => {
            holds_together(&config);
            for upstream in &config.upstreams {
                let twice = format!("upstreams.\"{}\" = {{}}\n{text}", upstream.name.to_ascii_uppercase());
                assert!(
                    Config::parse(Path::new("twice.toml"), &twice).is_err(),
                    "a host may stand there twice"
                );
            }
        }
        Err(ConfigError(problems)) => {
            assert!(!problems.is_empty(), "refused without a word");
            let lines: Vec<&str> = text.split('\n').collect();
            for problem in &problems {
                let place = problem.place.unwrap_or_else(|| panic!("without a place: {problem}"));
                let line = place.line.checked_sub(1).and_then(|index| lines.get(index));
                let line = line.unwrap_or_else(|| panic!("no such line: {problem}"));
                let columns = 1..=line.chars().count() + 1;
                assert!(columns.contains(&place.column), "no such column: {problem}");
                assert!(!problem.message.is_empty());
            }
            let places = problems.iter().map(|problem| problem.place);
            assert!(places.is_sorted(), "not in the order of the file");
        }
    }
}

fn holds_together(config: &Config) {
    let listen = &config.listen;
    assert!(!listen.https.is_empty() || !listen.http.is_empty() || !listen.plain.is_empty());
    assert!(listen.https.is_empty() || config.tls.is_some(), "https without a certificate");
    assert!(config.tls.as_ref().is_none_or(|tls| !tls.pairs.is_empty()));
    let mut names = HashSet::new();
    for upstream in &config.upstreams {
        let name = &upstream.name;
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        assert!((1..=253).contains(&name.len()) && name.bytes().all(allowed), "{name:?}");
        assert!(!name.ends_with('.') && name.parse::<std::net::IpAddr>().is_err(), "{name:?}");
        assert!(names.insert(name), "{name} stands there twice");
        assert!(upstream.port != 0 && upstream.in_flight > 0, "{upstream:?}");
    }
    let limits = &config.limits;
    assert!((0.0..=1.0).contains(&limits.reserved_for_meta));
    assert!(limits.headers <= hookgate::http::MAX_FIELD_LINES);
    assert!(config.relay.name.bytes().all(hookgate::http::is_token_byte) && !config.relay.name.is_empty());
}
