//! hookgate is killed between two calls of bpf(2), at each of them; the next start completes what
//! that one has left.

use std::mem::offset_of;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Need, run};
use hookgate_ebpf::abi::Settings;
use serde_json::Value;

use super::peers::{Server, connect_within, visit};
use super::testbed::{EDGE_V4, EDGE_V6, STRANGERS, Testbed, can_run};

const NEEDS: [Need; 2] = [Need::Program("strace"), Need::Program("bpftool")];
const STRICT: &str = "mode = \"strict\"";
/// In which a connection comes about, or not at all.
const SHORT: Duration = Duration::from_millis(300);
/// A prefix and an address of its own.
const STAYS: [(&str, &str); 2] =
    [("157.240.0.0/17", "157.240.1.7"), ("2a03:2880:f000::/36", "2a03:2880:f003::7")];
const LEAVES: (&str, &str) = ("31.13.64.0/18", "31.13.67.7");
const ENTERS: (&str, &str) = ("57.144.0.0/14", "57.144.1.7");

#[test]
fn a_start_that_is_killed_is_completed_by_the_next() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    at_moments(&Crash { before: None, wanted: &[STAYS[0], STAYS[1]] }, few)
}

#[test]
fn an_attach_over_a_guard_that_is_killed_leaves_strict_in_force() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    at_moments(&Crash { before: Some(&[STAYS[0], STAYS[1]]), wanted: &[STAYS[0], STAYS[1]] }, few)
}

#[test]
fn a_change_of_prefixes_that_is_killed_is_completed_by_the_next_start() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    let before = &[STAYS[0], STAYS[1], LEAVES][..];
    at_moments(&Crash { before: Some(before), wanted: &[STAYS[0], STAYS[1], ENTERS] }, few)
}

#[test]
fn an_entry_that_no_row_speaks_of_is_removed() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    let stage = Stage::new(&Crash { before: Some(&STAYS), wanted: &STAYS })?;
    // 157.193.7.0/24, a stranger's, as the first of Meta's prefixes. Others are so near that
    // sources there are looked up.
    const STRANGER: &str = "157.193.7.7";
    stage.testbed.meta.address("wan0", &format!("{STRANGER}/32"))?;
    let entry = "key hex 18 00 00 00 9d c1 07 00 value hex 02 00 00 00";
    stage.testbed.edge.run(&format!("bpftool map update pinned /sys/fs/bpf/hookgate/PREFIXES_V4 {entry}"))?;
    visit(&stage.testbed.meta, STRANGER, EDGE_V4, 443).context("the entry has no effect")?;
    stage.attach()?;
    let came = connect_within(&stage.testbed.meta, STRANGER, EDGE_V4, 443, SHORT);
    ensure!(came.is_err(), "the entry is still there");
    stage.is_strict(&STAYS)?;
    stage.is_complete(&STAYS)
}

#[test]
#[ignore = "takes ten minutes"]
fn at_every_change() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    let stays = &STAYS[..];
    at_moments(&Crash { before: None, wanted: stays }, every)?;
    at_moments(&Crash { before: Some(stays), wanted: stays }, every)?;
    let before = &[STAYS[0], STAYS[1], LEAVES][..];
    at_moments(&Crash { before: Some(before), wanted: &[STAYS[0], STAYS[1], ENTERS] }, every)
}

/// An attach that is killed.
struct Crash<'p> {
    /// The prefixes of the guard that is there.
    before: Option<&'p [(&'static str, &'static str)]>,
    /// Those that were to be in force.
    wanted: &'p [(&'static str, &'static str)],
}

/// Each third of the first and the last of changes in a row that are of one kind and to one map.
/// All of them take minutes.
fn few(calls: &[String]) -> Vec<usize> {
    changes(calls, |row| row).into_iter().step_by(3).collect()
}

/// All changes, but of very many in a row, such as the bits of all ports, each sixteenth.
fn every(calls: &[String]) -> Vec<usize> {
    changes(calls, |row| if row > 64 { 16 } else { 1 })
}

/// Numbers of calls that change something, from 1 on; `step`: by the length of a row of equal ones.
fn changes(calls: &[String], step: impl Fn(usize) -> usize) -> Vec<usize> {
    let changes = ["UPDATE_ELEM", "DELETE_ELEM", "LINK_CREATE", "LINK_UPDATE", "OBJ_PIN"];
    let (mut numbers, mut first) = (Vec::new(), 1);
    for row in calls.chunk_by(|one, next| one == next) {
        if changes.iter().any(|change| row[0].contains(change)) {
            let last = row.len() - 1;
            numbers.extend((0..last).step_by(step(row.len())).chain([last]).map(|at| first + at));
        }
        first += row.len();
    }
    numbers
}

fn at_moments(crash: &Crash<'_>, moments: impl Fn(&[String]) -> Vec<usize>) -> Result<()> {
    let calls = Stage::new(crash)?.calls()?;
    let moments = moments(&calls);
    ensure!(moments.len() > 5, "{moments:?} of {} calls", calls.len());
    for moment in moments {
        let stage = Stage::new(crash)?;
        let check = || {
            stage.attach_killed_at(moment)?;
            if crash.before.is_some() {
                stage.is_strict(&STAYS)?;
            }
            stage.attach()?;
            stage.is_strict(crash.wanted)?;
            stage.is_complete(crash.wanted)
        };
        check().with_context(|| format!("killed at call {moment}: {}", calls[moment - 1]))?;
    }
    Ok(())
}

/// Two machines, on one of which a guard is as it was before the crash.
struct Stage {
    testbed: Testbed,
    guard: String,
    _server: Server,
}

impl Stage {
    fn new(crash: &Crash<'_>) -> Result<Self> {
        let testbed = Testbed::new()?;
        let list = |name: &str, prefixes: &[(&str, &str)]| {
            let rows = prefixes.iter().map(|(prefix, _)| format!("{prefix}\n")).collect::<String>();
            let path = testbed.dir.write(name, rows)?;
            Ok::<_, anyhow::Error>(format!("{STRICT}\nprefixes = {path:?}"))
        };
        if let Some(before) = crash.before {
            testbed.run(&list("before", before)?, "guard attach")?;
        }
        let guard = list("wanted", crash.wanted)?;
        let server = Server::start(&testbed.edge, "[::]:443")?;
        Ok(Self { testbed, guard, _server: server })
    }

    fn strace(&self, options: &[&str]) -> Result<Command> {
        let hookgate = self.testbed.hookgate("wan0", &self.guard, "guard attach")?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=bpf"]).args(options).arg(hookgate.get_program());
        strace.args(hookgate.get_args());
        Ok(strace)
    }

    /// What an attach calls, in order: the command and the map, if any.
    fn calls(&self) -> Result<Vec<String>> {
        let log = self.testbed.dir.path().join("calls");
        run(self.strace(&["-o", &log.to_string_lossy()])?)?;
        let text = std::fs::read_to_string(log)?;
        let of_line = |line: &str| {
            let (command, rest) = line.split_once("bpf(")?.1.split_once(',')?;
            let map = rest.split_once("map_fd=").and_then(|(_, rest)| rest.split_once(','));
            Some(format!("{command} {}", map.map_or("", |(map, _)| map)))
        };
        Ok(text.lines().filter_map(of_line).collect())
    }

    fn attach_killed_at(&self, moment: usize) -> Result<()> {
        let inject = format!("--inject=bpf:signal=KILL:when={moment}");
        let output = self.strace(&[&inject, "-o", "/dev/null"])?.output()?;
        ensure!(!output.status.success(), "it was not killed: {output:?}");
        Ok(())
    }

    fn attach(&self) -> Result<()> {
        self.testbed.run(&self.guard, "guard attach").map(drop)
    }

    /// Whether the maps hold these and nothing else, and no change is under way.
    fn is_complete(&self, prefixes: &[(&str, &str)]) -> Result<()> {
        for (map, is_v6) in [("PREFIXES_V4", false), ("PREFIXES_V6", true)] {
            let there = self.bpftool(&format!("dump pinned /sys/fs/bpf/hookgate/{map}"))?;
            let expected = prefixes.iter().filter(|(prefix, _)| prefix.contains(':') == is_v6).count();
            ensure!(there.as_array().map(Vec::len) == Some(expected), "{map}: {there}");
        }
        let settings = self.bpftool("lookup pinned /sys/fs/bpf/hookgate/SETTINGS key 0 0 0 0")?;
        for at in [offset_of!(Settings, generation_v4), offset_of!(Settings, generation_v6)] {
            let lowest = settings["value"][at].as_str().context("no value")?;
            let lowest = u8::from_str_radix(lowest.trim_start_matches("0x"), 16)?;
            ensure!(lowest % 2 == 0, "the generation at {at} is odd: {settings}");
        }
        let stats = self.testbed.stats()?;
        ensure!(stats["guard"]["failures_unclassified"].is_null(), "{}", stats["guard"]);
        ensure!(stats["other"]["failed_by"].is_object(), "{}", stats["other"]);
        Ok(())
    }

    fn bpftool(&self, arguments: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.testbed.edge.run(&format!("bpftool -j map {arguments}"))?)?)
    }

    /// Whether these come in, and no other source does.
    fn is_strict(&self, prefixes: &[(&str, &str)]) -> Result<()> {
        let to = |from: &str| if from.contains(':') { EDGE_V6 } else { EDGE_V4 };
        for (prefix, from) in prefixes {
            visit(&self.testbed.meta, from, to(from), 443).with_context(|| format!("{prefix} is dropped"))?;
        }
        let others = [LEAVES, ENTERS].into_iter().filter(|own| !prefixes.contains(own)).map(|(_, from)| from);
        let strangers: Vec<&str> = match prefixes == STAYS {
            // Of those that come and go one is in force, whichever.
            true => vec![STRANGERS[0]],
            false => others.chain([STRANGERS[0]]).collect(),
        };
        for from in strangers {
            let came = connect_within(&self.testbed.meta, from, to(from), 443, SHORT);
            ensure!(came.is_err(), "{from} is let in");
        }
        Ok(())
    }
}
