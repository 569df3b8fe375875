//! The same requests to another server and to hookgate with the outcome of its import: either the
//! same arrives at the same place, or the outcome says that it does not.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::testbed::{Entry, Fate, Outcome, Testbed};

/// The comments of an outcome, by group.
#[derive(Debug, Default)]
struct Comments {
    open: Vec<String>,
    elsewhere: Vec<String>,
    different: Vec<String>,
}

impl Comments {
    fn of(toml: &str) -> Self {
        let mut comments = Self::default();
        let mut group = None;
        for line in toml.lines() {
            let Some(text) = line.strip_prefix("# ") else {
                group = None;
                continue;
            };
            match text {
                title if title.starts_with("Closed in ") && title.ends_with(", open here:") => {
                    group = Some(0);
                }
                "Goes elsewhere, arrives otherwise, or is left out:" => group = Some(1),
                "Set differently:" => group = Some(2),
                text => match group {
                    Some(0) => comments.open.push(text.to_owned()),
                    Some(1) => comments.elsewhere.push(text.to_owned()),
                    Some(2) => comments.different.push(text.to_owned()),
                    _ => {}
                },
            }
        }
        comments
    }
}

/// Whether a comment can be about `host`: it names it, or names none.
fn is_about(comment: &str, host: &str) -> bool {
    let hosts = comment.rsplit_once(" (").and_then(|(_, hosts)| hosts.strip_suffix(')'));
    let is_list = |hosts: &str| !hosts.contains(['$', '^', '=', '`']);
    match hosts.filter(|hosts| is_list(hosts)) {
        Some(hosts) if hosts.contains(" more") => true,
        Some(hosts) => hosts.split(", ").any(|named| named == host) || comment.contains(host),
        None => true,
    }
}

/// Names and words of a configuration that could stand in a path.
pub fn hosts(text: &str) -> BTreeSet<String> {
    let unescaped = text.replace('\\', "").to_ascii_lowercase();
    let words = unescaped.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'));
    let is_host = |word: &&str| {
        let last = word.rsplit('.').next().unwrap_or_default();
        word.contains('.')
            && !word.starts_with('.')
            && last.len() > 1
            && last.bytes().all(|b| b.is_ascii_lowercase())
    };
    let is_file = |word: &&str| {
        ["pem", "conf", "key", "sock", "log", "map", "cfg"].iter().any(|end| word.ends_with(end))
    };
    let mut hosts: BTreeSet<String> =
        words.filter(is_host).filter(|word| !is_file(word)).map(str::to_owned).collect();
    hosts.extend(["unnamed.example.com".to_owned(), "chatwoot".to_owned()]);
    hosts
}

/// Paths inside and outside of what patterns tell apart.
fn targets(text: &str, hosts: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut targets = Vec::new();
    for host in hosts {
        for path in ["/x/y?z=1", "/", "", "/x", "/webhooks/w?z=1", "/super_admin", "/rails/a.php"] {
            targets.push((host.clone(), format!("/{host}{path}")));
        }
        if text.contains("hooks/") {
            targets.push((host.clone(), format!("/hooks/{host}/x?z=1")));
        }
    }
    targets
}

/// Compares both, and returns how many requests arrived at the same place.
pub fn compare(testbed: &Testbed, text: &str, outcome: &Outcome) -> Result<usize> {
    let hosts = hosts(text);
    let targets = targets(text, &hosts);
    let comments = Comments::of(&outcome.toml);
    let entries = Testbed::entries(&outcome.toml)?;
    let asks = text.contains("ssl_verify_client");
    let _other = testbed.start_other(&entries)?;
    let proxy = testbed.start_hookgate(&outcome.toml);
    let _proxy = proxy.with_context(|| format!("hookgate with\n{}", outcome.toml))?;
    let mut same = 0;
    for entry in entries {
        for has_certificate in if asks && entry.is_tls { vec![false, true] } else { vec![false] } {
            let entry = Entry { has_certificate, ..entry };
            let paths: Vec<String> = targets.iter().map(|(_, target)| target.clone()).collect();
            let before = testbed.fates(&testbed.other, entry, &paths)?;
            let after = testbed.fates(&testbed.hookgate, entry, &paths)?;
            for (((host, target), other), hookgate) in targets.iter().zip(&before).zip(&after) {
                let first = target.split(['/', '?']).nth(1).unwrap_or_default();
                judge([host, first], other, hookgate, &comments).with_context(|| {
                    format!(
                        "{target} at {entry:?}: the other {other:?}, hookgate {hookgate:?}\n{}",
                        outcome.toml
                    )
                })?;
                same += usize::from(other == hookgate && matches!(other, Fate::Arrived { .. }));
            }
        }
    }
    Ok(same)
}

/// `hosts`: the one in the path, and the path's first segment.
fn judge(hosts: [&str; 2], other: &Fate, hookgate: &Fate, comments: &Comments) -> Result<()> {
    let is_told = |comment: &String| hosts.iter().any(|host| is_about(comment, host));
    let tells = |group: &[String]| group.iter().any(is_told);
    // Under another name of the relay the other server would forward it as hookgate does.
    let depends_on_name = comments.different.iter().any(|line| line.contains("under every name"));
    match (other, hookgate) {
        (Fate::Arrived { .. }, Fate::Arrived { .. }) if other == hookgate => {}
        (_, Fate::Arrived { .. }) if depends_on_name => {}
        (Fate::Arrived { place, .. }, Fate::Arrived { place: here, .. }) => {
            ensure!(place == here, "it arrives elsewhere");
            let is_told = tells(&comments.different) || tells(&comments.elsewhere);
            ensure!(is_told, "it arrives otherwise, and nothing is told");
        }
        (Fate::Arrived { .. }, _) => {
            ensure!(tells(&comments.elsewhere), "it is no longer forwarded, and nothing is told");
        }
        (Fate::Answered(200..=399), Fate::Arrived { .. }) => {
            let is_told = tells(&comments.elsewhere) || tells(&comments.open);
            ensure!(is_told, "the other server answers it, and nothing is told");
        }
        (_, Fate::Arrived { .. }) => {
            ensure!(tells(&comments.open), "it was refused and is forwarded, and nothing is told");
        }
        (Fate::Answered(_) | Fate::Refused, Fate::Answered(_) | Fate::Refused) => {}
    }
    Ok(())
}

/// Ends with an error where an outcome is not what its exit code says.
pub fn ensure_consistent(testbed: &Testbed, outcome: &Outcome) -> Result<()> {
    let comments = Comments::of(&outcome.toml);
    match outcome.code {
        Some(0) => {
            ensure!(comments.open.is_empty(), "open, and exit code 0:\n{}", outcome.toml);
            let file = testbed.folder().join("imported.toml");
            std::fs::write(&file, &outcome.toml)?;
            let mut check = testbed.hookgate.command(&harness::binary()?.to_string_lossy());
            check.arg("check").arg("--config").arg(file);
            harness::run(check).with_context(|| format!("check refuses\n{}", outcome.toml))?;
        }
        Some(1) => {
            let is_told = !comments.open.is_empty() || outcome.said.contains("to correct by hand: ");
            ensure!(is_told, "exit code 1 without a reason: {}\n{}", outcome.said, outcome.toml);
            ensure!(
                comments.open.iter().all(|line| outcome.said.contains(line)),
                "not on standard error: {comments:?}"
            );
        }
        code => bail!("exit code {code:?}: {}", outcome.said),
    }
    Ok(())
}
