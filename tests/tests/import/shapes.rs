//! Configurations as people write them, each with what its import has to show.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::{Need, require};

use super::differential::{compare, ensure_consistent, hosts};
use super::peer::Peer;
use super::testbed::{Outcome, Testbed};

/// Name and text of each file.
fn shapes(peer: Peer) -> Result<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(peer.shapes());
    let mut shapes = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        shapes.push((name, fs::read_to_string(path)?));
    }
    shapes.sort();
    Ok(shapes)
}

/// The head of a file: `#= exit 1`, `#= toml LINE`, `#= absent TEXT`, `#= open TEXT`, `#= note
/// TEXT`.
fn ensure_expected(text: &str, outcome: &Outcome, folder: &str) -> Result<()> {
    let Outcome { toml, said, code } = outcome;
    let settings: Vec<&str> = toml.lines().filter(|line| !line.starts_with('#')).collect();
    for expected in text.lines().filter_map(|line| line.strip_prefix("#= ")) {
        let (what, expected) = expected.split_once(' ').context("an expectation has two parts")?;
        let expected = expected.replace("@DIR@", folder);
        let is_met = match what {
            "exit" => *code == expected.parse().ok(),
            "toml" => settings.iter().any(|line| *line == expected),
            "absent" => settings.iter().all(|line| !line.contains(&expected)),
            "open" => said.lines().any(|line| line.starts_with("  ") && line.contains(&expected)),
            _ => toml.lines().any(|line| line.starts_with('#') && line.contains(&expected)),
        };
        ensure!(is_met, "expected {what} {expected}, but exit code {code:?} and\n{said}\n{toml}");
    }
    Ok(())
}

#[test]
fn imported_shapes_forward_the_same_or_say_so() -> Result<()> {
    compare_shapes(Peer::Nginx)
}

#[test]
fn imported_caddyfiles_forward_the_same_or_say_so() -> Result<()> {
    compare_shapes(Peer::Caddy)
}

#[test]
fn imported_haproxy_files_forward_the_same_or_say_so() -> Result<()> {
    compare_shapes(Peer::Haproxy)
}

fn compare_shapes(peer: Peer) -> Result<()> {
    // The origin is nginx.
    if !require(&[Need::Root, Need::Program("nginx"), Need::Program(peer.name()), Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let shapes = shapes(peer)?;
    let names: BTreeSet<String> = shapes.iter().flat_map(|(_, text)| hosts(text)).collect();
    let testbed = Testbed::new(peer, &names.into_iter().collect::<Vec<_>>())?;
    let (mut failures, mut same) = (Vec::new(), 0);
    for (name, text) in &shapes {
        match shape(&testbed, text) {
            Ok(arrived) => same += arrived,
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), shapes.len(), failures.join("\n\n"));
    ensure!(same > shapes.len(), "only {same} requests arrived at the same place");
    Ok(())
}

fn shape(testbed: &Testbed, text: &str) -> Result<usize> {
    let config = testbed.write(text)?;
    let outcome = testbed.import(&config)?;
    // Not every nginx speaks HTTP/3.
    let is_tcp = |line: &&str| !line.contains(" quic");
    let config = testbed.write(&text.split_inclusive('\n').filter(is_tcp).collect::<String>())?;
    ensure!(testbed.is_valid(&config)?, "the other server does not take it");
    ensure_consistent(testbed, &outcome)?;
    ensure_expected(text, &outcome, &testbed.folder().display().to_string())?;
    if outcome.toml.contains("\nhttps = ") || outcome.toml.contains("\nplain = ") {
        return compare(testbed, text, &outcome);
    }
    Ok(0)
}
