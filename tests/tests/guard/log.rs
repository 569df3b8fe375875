//! `hookgate guard log`: each event is logged or counted as suppressed, for one reader at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Running, run, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::flood::{STRANGERS_SYNS, flood, lost, stranger};
use super::raw::{RST, SYN, Segment, Sender};
use super::testbed::{EDGE_V4, EDGE_V6, STRANGERS, Testbed, can_run};

const MAX_WAIT: Duration = Duration::from_secs(15);

/// A reader of the log, and what it prints.
struct LogReader {
    running: Running,
    output: PathBuf,
}

impl LogReader {
    fn start(testbed: &Testbed, args: &str) -> Result<Self> {
        let output = testbed.dir.path().join("log");
        let command = testbed.hookgate("wan0", "", args)?;
        let running = Running::start_into(command, Stdio::from(File::create(&output)?))?;
        let mut reader = Self { running, output };
        reader.running.wait_for_stderr("reading the guard's log", MAX_WAIT)?;
        Ok(reader)
    }

    fn wait_for_end(&mut self) -> Result<()> {
        wait_until("it ends", MAX_WAIT, || Ok(self.running.ended()?.is_some()))?;
        let status = self.running.ended()?.context("no status")?;
        ensure!(status.success(), "{status}: {}", self.running.stderr());
        Ok(())
    }

    /// The events, and what the last line says.
    fn lines(&self) -> Result<(Vec<Value>, Value)> {
        let text = std::fs::read_to_string(&self.output)?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let (last, events) = lines.split_last().context("nothing was printed")?;
        Ok((events.to_vec(), last["suppressed"].clone()))
    }
}

/// A line without its time.
fn event(event: &str, reason: &str, source: &str, port: u16, prefix: Option<&str>) -> Value {
    let port = (port != 0).then_some(port);
    json!({ "event": event, "reason": reason, "source": source, "port": port, "prefix": prefix })
}

fn without_time(mut line: Value) -> Result<Value> {
    let time = line.as_object_mut().and_then(|line| line.remove("time")).context("no time")?;
    let time = time.as_str().context("a time that is no text")?;
    ensure!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    Ok(line)
}

#[test]
fn of_a_flood_each_packet_is_logged_or_counted_as_suppressed() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("mode = \"strict\"", "guard attach")?;
    let pcap = testbed.dir.path().join("dropped.pcap");
    let mut reader =
        LogReader::start(&testbed, &format!("guard log --follow --json --pcap {}", pcap.display()))?;
    flood(&testbed, STRANGERS_SYNS, stranger)?;
    let arrived = STRANGERS_SYNS - lost(&testbed)?;
    testbed.wait_for(MAX_WAIT, |stats| Ok(stats["other"]["dropped_by"]["strict"] == arrived))?;
    reader.running.signal(Signal::INT)?;
    reader.wait_for_end()?;
    let (events, suppressed) = reader.lines()?;
    println!("{} of {arrived} logged, {suppressed} suppressed", events.len());
    assert!(events.len() >= 200, "{} events", events.len());
    assert_eq!(suppressed, json!({ "strict": arrived - events.len() as u64 }));
    let mut sources = BTreeSet::new();
    for line in &events {
        let source = line["source"].as_str().context("no source")?.to_owned();
        assert_eq!(without_time(line.clone())?, event("dropped", "strict", &source, 443, None));
        assert!(source.starts_with("198.18.") || source.starts_with("198.19."), "{source}");
        sources.insert(source);
    }
    // As another reader understands the frames.
    let mut tcpdump = testbed.meta.command("tcpdump");
    tcpdump.args(["-nn", "-q", "-r"]).arg(&pcap);
    let said = run(tcpdump)?;
    assert_eq!(said.lines().count(), events.len());
    let is_logged = |line: &str| {
        let sent = line.split(" IP ").nth(1)?.split_once(".40000 > 198.51.100.2.443: tcp 0")?;
        Some(sources.contains(sent.0))
    };
    let odd: Vec<_> = said.lines().filter(|line| is_logged(line) != Some(true)).collect();
    assert!(odd.is_empty(), "{odd:?}");
    Ok(())
}

#[test]
fn the_log_names_what_failed_or_could_not_be_parsed_and_ends_by_itself() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    const META: &str = "157.240.9.9"; // no machine has it
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    let mut reader = LogReader::start(&testbed, "guard log --json")?;
    let raw = Sender::new(&testbed.meta)?;
    let syn = Segment::new(META, 40_000, EDGE_V4, 443, SYN)?;
    raw.send(&syn)?;
    raw.send(&Segment { flags: RST, sequence: syn.sequence.wrapping_add(1), ..syn })?;
    let [first, later] = Segment::new(STRANGERS[0], 40_000, EDGE_V4, 443, SYN)?.in_fragments(8);
    raw.send_packet(&syn, &first)?;
    raw.send_packet(&syn, &later)?;
    let long = Segment::new("2001:db8:7::99", 40_000, EDGE_V6, 443, SYN)?;
    raw.send_packet(&long, &long.behind_options(9))?;
    reader.wait_for_end()?;
    let (events, suppressed) = reader.lines()?;
    let mut events = events.into_iter().map(without_time).collect::<Result<Vec<_>>>()?;
    events.sort_by_key(|event| event["reason"].to_string());
    let expected = [
        event("unparsed", "later_fragment", STRANGERS[0], 0, None),
        event("unparsed", "long_chain", "2001:db8:7::99", 0, None),
        event("failed", "reset", META, 443, Some("157.240.9.0/24")),
        event("unparsed", "short_fragment", STRANGERS[0], 443, None),
    ];
    assert_eq!(events, expected);
    assert_eq!(suppressed, json!({ "later_fragment": 0, "long_chain": 0, "reset": 0, "short_fragment": 0 }));
    Ok(())
}

#[test]
fn one_reader_at_a_time_and_the_death_of_one_keeps_no_other_out() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.run("mode = \"strict\"", "guard attach")?;
    let mut first = LogReader::start(&testbed, "guard log --follow --json")?;
    let (code, said) = testbed.refusal("", "guard log")?;
    let named = format!("process {}, reads the guard's log", first.running.pid());
    assert_eq!((code, said.contains(&named)), (Some(1), true), "{said}");
    first.running.signal(Signal::KILL)?;
    wait_until("it is dead", MAX_WAIT, || Ok(first.running.ended()?.is_some()))?;

    let mut second = LogReader::start(&testbed, "guard log --follow --json --reason strict")?;
    let raw = Sender::new(&testbed.meta)?;
    for flags in [SYN, 0] {
        raw.send(&Segment::new("203.0.113.99", 40_000, EDGE_V4, 443, flags)?)?;
    }
    testbed.wait_for(MAX_WAIT, |stats| Ok(stats["other"]["dropped_by"]["garbage"] == 1))?;
    second.running.signal(Signal::TERM)?;
    second.wait_for_end()?;
    let (events, suppressed) = second.lines()?;
    let events = events.into_iter().map(without_time).collect::<Result<Vec<_>>>()?;
    assert_eq!(events, [event("dropped", "strict", "203.0.113.99", 443, None)]);
    assert_eq!(suppressed, json!({ "strict": 0 }));

    let mut third = LogReader::start(&testbed, "guard log --follow")?;
    testbed.run("", "guard detach")?;
    // The process may have ended before its last words have been read.
    wait_until("it says that the guard is gone", MAX_WAIT, || {
        Ok(third.running.ended()?.is_some() && third.running.stderr().contains("the guard was detached"))
    })?;
    let (code, said) = testbed.refusal("", "guard log")?;
    assert_eq!((code, said.contains("the guard is not attached")), (Some(1), true), "{said}");
    Ok(())
}
