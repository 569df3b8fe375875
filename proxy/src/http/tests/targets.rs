use super::cases::{self, same};
use super::heads::latin1;
use crate::http::head::HeadError;
use crate::http::target::{self, Target};

const KEYS: &[&str] = &["name", "method", "target", "reads", "segment", "rest"];

#[test]
fn targets() {
    cases::for_each("targets.toml", KEYS, |case| {
        let target = case.bytes("target").expect("a target");
        let parsed = target::parse(case.text("method").unwrap_or("POST"), &target);
        let (reads, split) = match parsed {
            Ok(Target::Path(path)) => (format!("path {}", latin1(path)), target::split(path)),
            Ok(Target::Asterisk) => ("asterisk".into(), None),
            Ok(Target::Authority) => ("authority".into(), None),
            Err(HeadError::Malformed(_)) => ("400".into(), None),
            Err(other) => panic!("a target is not refused with {other:?}"),
        };
        if let Some(expected) = case.text("reads") {
            same("reads", &reads, expected)?;
        }
        let expected = case.text("segment").zip(case.text("rest"));
        let expected = expected.map(|(segment, rest)| (segment.to_owned(), rest.to_owned()));
        let split = split.map(|(segment, rest)| (latin1(segment), latin1(rest)));
        same("goes to", &format!("{split:?}"), &format!("{expected:?}"))
    });
}
