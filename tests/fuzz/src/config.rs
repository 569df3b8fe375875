use std::collections::HashSet;
use std::path::Path;

use hookgate::config::{Config, ConfigError};

/// A configuration is either valid and then holds together, or everything that is said about it has its place in it.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse(Path::new("/etc/hookgate/hookgate.toml"), &text) {
        Ok(config) => holds_together(&config),
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty(), "refused without a word");
            let lines: Vec<&str> = text.split('\n').collect();
            for problem in &problems {
                let line = problem.line.checked_sub(1).and_then(|index| lines.get(index));
                let line = line.unwrap_or_else(|| panic!("no such line: {problem}"));
                let columns = 1..=line.chars().count() + 1;
                assert!(columns.contains(&problem.column), "no such column: {problem}");
                assert!(!problem.message.is_empty());
            }
            let places = problems.iter().map(|problem| (problem.line, problem.column));
            assert!(places.is_sorted(), "not in the order of the file");
        }
        Err(error) => panic!("a file was read: {error}"),
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
    assert!(limits.headers <= hookgate::http::MOST_FIELD_LINES);
    assert!(config.relay.name.bytes().all(hookgate::http::is_token_byte) && !config.relay.name.is_empty());
}
