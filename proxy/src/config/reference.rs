//! The page that explains every key, held against the code.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::Config;
use super::sections::known_keys;
use super::upstreams::KEYS;

const PAGE: &str = include_str!("../../../docs/configuration.md");
/// What the sections that are off by default, and keys that go with others, can't be without.
const NEEDED: &str = "listen.https = [\"127.0.0.1:1\"]\nlisten.http = [\"127.0.0.1:2\"]\ntls.client_ca = \"ca.pem\"\n\
                      acme.domains = [\"a.example\"]\nguard.interfaces = [\"eth0\"]\n";
/// The other sections, each without a key.
const BARE: &str = "upstreams.\"a.example\" = {}\nprocess = {}\nadmin = {}\n";

/// A row's section, keys and default; keys share a row when they go together.
fn rows() -> impl Iterator<Item = (&'static str, Vec<&'static str>, &'static str)> {
    let sections = PAGE.split("\n## `[").skip(1).filter_map(|text| text.split_once("]`"));
    sections.flat_map(|(section, text)| {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(move |row| {
            let (keys, rest) = row.split_once(" | ")?;
            let keys = keys.split(',').map(|key| key.trim_matches(['`', ' '])).collect();
            Some((section, keys, rest.split(" | ").next()?))
        });
        rows.collect::<Vec<_>>()
    })
}

#[test]
fn the_page_names_every_key_and_no_other() {
    let of_rows =
        rows().flat_map(|(section, keys, _)| keys.into_iter().map(move |key| format!("{section}.{key}")));
    let named: BTreeSet<String> = of_rows.collect();
    // Keys within a value (`limit`, `certs`) stand in the row of that.
    let known = known_keys(&[NEEDED, BARE].concat()).into_iter().filter(|key| key.matches('.').count() == 1);
    let known: BTreeSet<String> = known.chain(KEYS.iter().map(|key| format!("upstreams.{key}"))).collect();
    assert_eq!(named, known);
}

#[test]
fn what_the_page_shows_as_defaults_are_the_defaults() {
    let mut written = NEEDED.to_owned();
    for (section, keys, default) in rows() {
        let Some(value) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else { continue };
        let section = if section == "upstreams" { "upstreams.\"a.example\"" } else { section };
        keys.iter().for_each(|key| writeln!(written, "{section}.{key} = {value}").unwrap());
    }
    assert!(written.lines().count() > 45, "{written}");
    let meant = |text: &str| format!("{:#?}", Config::parse(Path::new("hookgate.toml"), text).unwrap());
    assert_eq!(meant(&written), meant(&[NEEDED, BARE].concat()));
}
