//! Faults on purpose, one a prefix: `hookgate lost` names stage and cause, its share is what was
//! done, and it accuses no other.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Need, NetNs, Origin, Running, is_there, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::peers::{connect, connect_within, visit};
use super::raw::{SYN, Segment, Sender};
use super::testbed::{CLOSED, EDGE_V4, EDGE_V6, Shakes, Testbed, can_run, row};

/// A prefix, and who sends from it.
pub(super) struct Case {
    pub(super) prefix: &'static str,
    pub(super) good: &'static str,
    pub(super) bad: &'static str,
}

pub(super) const CALM: Case = Case { prefix: "31.13.64.0/18", good: "31.13.66.7", bad: "31.13.66.8" };
/// This machine's firewall drops their SYNs.
const DROPPED: Case = Case { prefix: "185.60.216.0/22", good: "185.60.216.7", bad: "185.60.216.8" };
/// It drops the answers.
const MUTED: Case = Case { prefix: "179.60.192.0/22", good: "179.60.192.7", bad: "179.60.192.8" };
/// The answers are dropped behind this machine.
const UNHEARD: Case = Case { prefix: "69.63.176.0/20", good: "69.63.176.7", bad: "69.63.176.8" };
/// They send nothing after their SYN.
const SILENT: Case = Case { prefix: "66.220.144.0/20", good: "66.220.144.7", bad: "66.220.144.9" };
/// Nothing listens where they connect to.
const REFUSED: Case = Case { prefix: "173.252.64.0/18", good: "173.252.64.7", bad: "173.252.64.8" };
/// Their first SYN is dropped here, the second is not.
const LATE: Case = Case { prefix: "204.15.20.0/22", good: "204.15.20.7", bad: "204.15.20.8" };
/// They reset the attempt.
const RESET: Case = Case { prefix: "157.240.0.0/17", good: "157.240.1.7", bad: "157.240.1.8" };
/// Forged.
const FORGED: &str = "2620:0:1c00::/40";

const CASES: [&Case; 8] = [&CALM, &DROPPED, &MUTED, &UNHEARD, &SILENT, &REFUSED, &LATE, &RESET];
const GOOD: usize = 20;
const BAD: usize = 5;
/// Longer than an attempt is waited for, and a sweep more.
const THE_END: Duration = Duration::from_secs(40);
/// An emulated machine takes its time.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// In which a SYN is sent twice.
const TWO_SYNS: Duration = Duration::from_millis(1500);

pub(super) struct Edge {
    pub(super) testbed: Testbed,
    guard: String,
    proxy: Option<Running>,
    _origin: Origin,
}

impl Edge {
    pub(super) fn new() -> Result<Self> {
        let testbed = Testbed::new()?;
        for case in CASES {
            for address in [case.good, case.bad] {
                if case.bad != SILENT.bad || address != SILENT.bad {
                    // Some are there already.
                    testbed.meta.address("wan0", &format!("{address}/32")).ok();
                }
            }
        }
        let prefixes = CASES.iter().map(|case| case.prefix).chain([FORGED]);
        let list = testbed.dir.write("prefixes", prefixes.collect::<Vec<_>>().join("\n") + "\n")?;
        let origin = testbed.edge.inside(|| {
            Origin::plain_at(([127, 0, 0, 1], 0).into(), |connection| {
                while connection.request()?.is_some() {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                }
                Ok(harness::End::Close)
            })
        })?;
        let mut edge = Self { guard: format!("prefixes = {list:?}"), testbed, proxy: None, _origin: origin };
        edge.start()?;
        Ok(edge)
    }

    fn config(&self) -> Result<std::path::PathBuf> {
        let dir = self.testbed.dir.path().display();
        self.testbed.dir.write(
            "edge.toml",
            format!(
                "[listen]\nplain = [\"0.0.0.0:443\", \"[::]:443\"]\n[upstreams]\n\"ok.example\" = {{ address = \"{}\", tls = false }}\n\
                 [guard]\ninterfaces = [\"wan0\"]\nports = [443, {CLOSED}]\n{}\n[admin]\nsocket = \"{dir}/admin.sock\"\n\
                 [insight]\nstate = \"{dir}/insight\"\n[log]\naccess = false\n",
                self._origin.address(),
                self.guard
            ),
        )
    }

    pub(super) fn command(&self, args: &[&str]) -> Result<std::process::Command> {
        let mut command = self.testbed.edge.command(&harness::binary()?.to_string_lossy());
        command.args(args).arg("--config").arg(self.config()?);
        Ok(command)
    }

    fn start(&mut self) -> Result<()> {
        let mut proxy = Running::start(self.command(&["run"])?)?;
        proxy.wait_for_stderr("(admin)", START_TIMEOUT)?;
        self.proxy = Some(proxy);
        Ok(())
    }

    pub(super) fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.command(&["stats", "--json"])?.output()?.stdout)?)
    }

    /// Exit code and report, of one prefix or all.
    pub(super) fn lost(&self, prefix: Option<&str>) -> Result<(Option<i32>, Value)> {
        let mut args = vec!["lost", "--json", "--since", "10m"];
        args.extend(prefix.into_iter().flat_map(|prefix| ["--prefix", prefix]));
        let output = self.command(&args)?.output()?;
        let report = serde_json::from_slice(&output.stdout);
        Ok((
            output.status.code(),
            report.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?,
        ))
    }

    pub(super) fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Result<()> {
        wait_until(what, THE_END, || Ok(is_so(&self.stats()?))).map(drop)
    }
}

/// What one machine receives, or sends, is dropped as these rules say.
pub(super) fn drop_packets(ns: &NetNs, hook: &str, rules: &[String]) -> Result<()> {
    ns.run(&format!("nft add table inet {hook}"))?;
    ns.run(&format!("nft add chain inet {hook} drops {{ type filter hook {hook} priority 0 ; }}"))?;
    rules.iter().try_for_each(|rule| ns.run(&format!("nft add rule inet {hook} drops {rule} drop")).map(drop))
}

/// One message, from its own connection.
pub(super) fn post(meta: &NetNs, from: &str, limit: Duration) -> Result<()> {
    let mut stream = connect_within(meta, from, EDGE_V4, 443, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let request =
        "POST /ok.example/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

/// Attempts that go wrong, all at once. How many.
fn fail(meta: &NetNs, from: &str) -> usize {
    thread::scope(|scope| {
        let failing = (0..BAD).map(|_| scope.spawn(|| connect_within(meta, from, EDGE_V4, 443, TWO_SYNS)));
        let failing: Vec<_> = failing.collect();
        failing.into_iter().filter_map(|attempt| attempt.join().ok()).filter(Result::is_err).count()
    })
}

/// Stage, cause, lost, late and of.
fn verdict(report: &Value) -> Value {
    let verdict = &report["verdict"];
    match verdict {
        Value::Null => Value::Null,
        verdict => {
            json!([verdict["stage"], verdict["cause"], verdict["lost"], verdict["late"], verdict["of"]])
        }
    }
}

#[test]
fn each_fault_has_its_stage_and_no_other_is_accused() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    let edge = Edge::new()?;
    let (meta, here) = (&edge.testbed.meta, &edge.testbed.edge);
    let raw = Sender::new(meta)?;
    for case in CASES {
        for _ in 0..GOOD {
            post(meta, case.good, START_TIMEOUT)?;
        }
    }
    let (code, report) = edge.lost(None)?;
    assert_eq!((code, verdict(&report)), (Some(0), Value::Null), "{report}");

    let syn = "tcp flags & (syn | ack) == syn";
    let syn_ack = "tcp flags & (syn | ack) == syn | ack";
    let [dropped, late] = [DROPPED.bad, LATE.bad].map(|bad| format!("ip saddr {bad} {syn}"));
    drop_packets(here, "input", &[dropped, late])?;
    drop_packets(here, "output", &[format!("ip daddr {} {syn_ack}", MUTED.bad)])?;
    drop_packets(meta, "input", &[format!("ip daddr {} {syn_ack}", UNHEARD.bad)])?;
    for case in [&DROPPED, &MUTED, &UNHEARD] {
        assert_eq!(fail(meta, case.bad), BAD, "{}", case.prefix);
    }
    for number in 0..BAD {
        let port = u16::try_from(41_000 + number)?;
        raw.send(&Segment::new(SILENT.bad, port, EDGE_V4, 443, SYN)?)?;
        // Its kernel answers the SYN-ACK that it did not ask for with a RST.
        raw.send(&Segment::new(RESET.bad, port, EDGE_V4, 443, SYN)?)?;
        assert!(connect(meta, REFUSED.bad, EDGE_V4, CLOSED).is_err());
        for network in 0..8 {
            let forged = format!("2620:0:1c{number:02x}:{network}::9");
            raw.send(&Segment::new(&forged, port, EDGE_V6, 443, SYN)?)?;
        }
    }
    let made_good: Result<()> = thread::scope(|scope| {
        let late: Vec<_> = (0..BAD).map(|_| scope.spawn(|| post(meta, LATE.bad, START_TIMEOUT))).collect();
        let syns = (GOOD + BAD) as u64;
        edge.wait_for("their SYNs are here", |stats| Shakes::of(row(stats, LATE.prefix)).syns >= syns)?;
        here.run("nft flush chain inet input drops")?;
        late.into_iter().try_for_each(|post| match post.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    made_good?;
    let failed = BAD as u64;
    for case in [&DROPPED, &MUTED, &UNHEARD, &SILENT, &REFUSED, &RESET] {
        edge.wait_for("they have failed", |stats| Shakes::of(row(stats, case.prefix)).failed == failed)?;
    }
    edge.wait_for("the forged ones, too", |stats| Shakes::of(row(stats, FORGED)).failed == 8 * failed)?;

    let of = GOOD + BAD;
    // Where the kernel tells its reasons.
    let dropped = match edge.stats()?["guard"]["kernel_drops_uncounted"] {
        Value::Null => "netfilter_drop",
        _ => "unanswered",
    };
    for (case, expected) in [
        (&CALM, Value::Null),
        (&DROPPED, json!(["machine", dropped, BAD, 0, of])),
        (&MUTED, json!(["machine", dropped, BAD, 0, of])),
        (&UNHEARD, json!(["outbound", "unheard", BAD, 0, of])),
        (&SILENT, json!(["inbound", "silent", BAD, 0, of])),
        (&REFUSED, json!(["machine", "refused", BAD, 0, of])),
        (&LATE, json!(["machine", dropped, 0, BAD, of])),
        (&RESET, Value::Null),
    ] {
        let (code, report) = edge.lost(Some(case.prefix))?;
        assert_eq!(verdict(&report), expected, "{}: {report}", case.prefix);
        assert_eq!(code, Some(i32::from(!expected.is_null())));
    }
    let (code, report) = edge.lost(None)?;
    assert_eq!((code, &report["verdict"]["stage"]), (Some(1), &json!("machine")), "{report}");
    let doctor = edge.command(&["doctor", "--json"])?.output()?;
    let doctor: Value = serde_json::from_slice(&doctor.stdout)?;
    let findings = doctor["findings"].as_array().context("no findings")?;
    let traffic = findings.iter().find(|finding| finding["subject"] == "traffic").context("no verdict")?;
    assert_eq!((&traffic["level"], &traffic["text"]), (&json!("fail"), &report["verdict"]["text"]));
    let evidence = edge.command(&["evidence", "--for", "provider", "--since", "10m", "--json"])?.output()?;
    let evidence: Value = serde_json::from_slice(&evidence.stdout)?;
    assert_eq!(evidence["lost"]["verdict"]["stage"], "machine", "{evidence}");
    for (rows, key) in [("window", "prefixes"), ("since_attach", "networks")] {
        let rows = evidence[rows][key].as_array().with_context(|| format!("no {rows}: {evidence}"))?;
        let is_it = |row: &&Value| row["prefix"] == UNHEARD.prefix && row["failed_by"]["unheard"] == BAD;
        let row = rows.iter().find(is_it).with_context(|| format!("{}: {rows:?}", UNHEARD.prefix))?;
        assert_eq!(row["handshakes"], GOOD, "{row}");
        assert!(rows.iter().all(|row| row["packets"].as_u64() > Some(0)), "{rows:?}");
    }
    let (_, report) = edge.lost(Some(RESET.prefix))?;
    assert_eq!(report["not_counted"], json!({ "reset": BAD, "unproven": 0, "suspect": 0 }));
    let (code, report) = edge.lost(Some(FORGED))?;
    assert_eq!((code, verdict(&report)), (Some(0), Value::Null), "{report}");
    assert_eq!(report["not_counted"], json!({ "reset": 0, "unproven": 8 * BAD, "suspect": 0 }));
    Ok(())
}

#[test]
fn what_the_guard_counts_while_hookgate_is_down_is_judged_and_not_twice() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let mut edge = Edge::new()?;
    for _ in 0..GOOD {
        post(&edge.testbed.meta, CALM.good, START_TIMEOUT)?;
    }
    let proxy = edge.proxy.take().context("it runs")?;
    let children = format!("/proc/{0}/task/{0}/children", proxy.pid());
    let worker: u32 = std::fs::read_to_string(children)?.trim().parse()?;
    proxy.signal(Signal::KILL)?;
    // It ends with its supervisor, a moment later.
    wait_until("its worker has ended", START_TIMEOUT, || Ok(!is_there(worker)))?;
    drop(proxy);
    for _ in 0..BAD {
        assert!(visit(&edge.testbed.meta, CALM.good, EDGE_V4, 443).is_err());
    }
    let down = |edge: &Edge| {
        wait_until("they have failed", THE_END, || {
            let (code, report) = edge.lost(Some(CALM.prefix))?;
            Ok((code == Some(1), report))
        })
    };
    let (_, report) = down(&edge)?;
    assert_eq!(verdict(&report), json!(["machine", "refused", BAD, 0, GOOD + BAD]), "{report}");
    edge.start()?;
    for _ in 0..2 {
        let (_, report) = edge.lost(Some(CALM.prefix))?;
        assert_eq!(verdict(&report), json!(["machine", "refused", BAD, 0, GOOD + BAD]), "{report}");
    }
    Ok(())
}

#[test]
fn a_request_is_followed_from_its_syn_to_the_last_byte() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let edge = Edge::new()?;
    let printed = edge.testbed.dir.path().join("trace.json");
    let follow = || -> Result<Value> {
        let command = edge.command(&["trace", "ok.example", "--json"])?;
        let mut follower = Running::start_into(command, std::fs::File::create(&printed)?.into())?;
        wait_until("a request is followed", START_TIMEOUT, || {
            post(&edge.testbed.meta, CALM.good, START_TIMEOUT)?;
            Ok(follower.ended()?.is_some())
        })?;
        Ok(serde_json::from_str(&std::fs::read_to_string(&printed)?)?)
    };
    let mut trace = follow()?;
    if trace["steps"][0]["name"] == "head" {
        // Its connection had been made when the follower began.
        trace = follow()?;
    }
    assert_eq!((&trace["version"], &trace["upstream"]), (&json!(1), &json!("ok.example")), "{trace}");
    let steps = trace["steps"].as_array().context("no steps")?;
    let names: Vec<_> = steps.iter().filter_map(|step| step["name"].as_str()).collect();
    let way = [
        "syn",
        "syn_ack",
        "established",
        "accepted",
        "head",
        "route",
        "sent",
        "response_head",
        "response",
        "written",
    ];
    assert_eq!(
        names.iter().filter(|name| **name != "connect").collect::<Vec<_>>(),
        way.iter().collect::<Vec<_>>(),
        "{trace}"
    );
    let seconds: Vec<f64> = steps.iter().filter_map(|step| step["seconds"].as_f64()).collect();
    assert_eq!(seconds[0], 0.0, "{trace}");
    assert!(seconds.is_sorted() && seconds.iter().all(|seconds| *seconds < 5.0), "{trace}");
    Ok(())
}
