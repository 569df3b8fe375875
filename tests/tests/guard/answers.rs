//! What leaves is seen, and each failed attempt ends in one class: with the kernel's own TCP on the
//! guarded side.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use harness::{Need, NetNs, pace, run};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use super::peers::{Server, connect, connect_within, visit};
use super::raw::{ACK, Listener, SYN, Segment, Sender};
use super::testbed::{CLOSED, EDGE_V4, EDGE_V6, STRANGERS, Shakes, Testbed, can_run, refusal, row};

/// Prefixes of the testbed, and who sends from each.
pub const NORMAL: [(&str, &str); 2] = [("31.13.64.0/18", "31.13.66.7"), ("2a03:2880::/32", "2a03:2880:1::7")];
const RESET: (&str, &str) = ("157.240.0.0/17", "157.240.1.7");
const REFUSED: (&str, &str) = ("173.252.64.0/18", "173.252.64.7");
pub const FILTERED: (&str, &str) = ("185.60.216.0/22", "185.60.216.7");
pub const QUEUED: (&str, &str) = ("179.60.192.0/22", "179.60.192.9");
pub const UNHEARD: (&str, &str) = ("69.63.176.0/20", "69.63.176.7");
pub const SILENT: (&str, &str) = ("66.220.144.0/20", "66.220.144.9");
const SILENT_V6: (&str, &str) = ("2620:0:1c00::/40", "2620:0:1c00::9");
pub const UNANSWERED: (&str, &str) = ("204.15.20.0/22", "204.15.20.7");
const SCENE: [(&str, &str); 10] =
    [NORMAL[0], NORMAL[1], RESET, REFUSED, FILTERED, QUEUED, UNHEARD, SILENT, SILENT_V6, UNANSWERED];
/// Those with a kernel. The others never answer.
const AT_HOME: [(&str, &str); 5] = [REFUSED, FILTERED, QUEUED, UNHEARD, UNANSWERED];
/// Guarded, with a listener that accepts nothing.
const HUNG: u16 = 8445;
const SYN_ACK: u8 = SYN | ACK;
/// Longer than an attempt is waited for, and a sweep more.
const THE_END: Duration = Duration::from_secs(16);
const A_MOMENT: Duration = Duration::from_secs(4);
/// In which a SYN is sent three times.
const THREE_SYNS: Duration = Duration::from_millis(3500);

pub fn testbed() -> Result<(Testbed, String)> {
    let testbed = Testbed::new()?;
    for (_, address) in AT_HOME {
        testbed.meta.address("wan0", &format!("{address}/32"))?;
    }
    let list = testbed.dir.write("prefixes", SCENE.map(|(prefix, _)| prefix).join("\n") + "\n")?;
    Ok((testbed, format!("prefixes = {list:?}")))
}

pub fn attach(testbed: &Testbed, guard: &str) -> Result<String> {
    testbed.run_with_ports(&format!("443, {CLOSED}, {HUNG}"), guard, "guard attach")
}

/// What one machine receives, or sends, is dropped as these rules say.
pub fn drop(ns: &NetNs, hook: &str, rules: &[&str]) -> Result<()> {
    ns.run(&format!("nft add table inet {hook}"))?;
    ns.run(&format!("nft add chain inet {hook} drops {{ type filter hook {hook} priority 0 ; }}"))?;
    rules
        .iter()
        .try_for_each(|rule| ns.run(&format!("nft add rule inet {hook} drops {rule} drop")).map(|_| ()))
}

/// The ids of the programs that links hold on what leaves through wan0.
fn linked(testbed: &Testbed) -> Result<Vec<u32>> {
    testbed.edge.inside(|| {
        let (_, programs) = SchedClassifier::query_tcx("wan0", TcAttachType::Egress)?;
        Ok(programs.iter().map(|program| program.id()).collect())
    })
}

/// `null`: absent.
fn failed_by(stats: &Value, name: &str) -> Value {
    row(stats, name)["failed_by"].clone()
}

/// All classes, of which one has a count.
fn only(class: &str, count: u64) -> Value {
    let mut classes =
        json!({ "reset": 0, "refused": 0, "uncompleted": 0, "unheard": 0, "silent": 0, "unanswered": 0 });
    classes[class] = count.into();
    classes
}

/// A listener whose queue is full, since it accepts nothing; and the handshakes of which only the
/// last packet is missing.
pub struct FullQueue {
    _listener: Socket,
    _held: Vec<TcpStream>,
    pub last: Vec<Segment>,
}

impl FullQueue {
    pub fn new(testbed: &Testbed, raw: &Sender, waiting: u16) -> Result<Self> {
        let address: SocketAddr = format!("0.0.0.0:{HUNG}").parse()?;
        let backlog = i32::from(waiting);
        let listener = testbed.edge.inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&address.into())?;
            socket.listen(backlog)?;
            Ok(socket)
        })?;
        let answers = Listener::new(&testbed.meta)?;
        let to: IpAddr = QUEUED.1.parse()?;
        let mut last = Vec::new();
        for port in 41_000..41_000 + waiting {
            let syn = Segment::new(QUEUED.1, port, EDGE_V4, HUNG, SYN)?;
            raw.send(&syn)?;
            let answer =
                answers.find(A_MOMENT, |answer| answer.flags == SYN_ACK && answer.to == (to, port))?;
            let acknowledged = answer.context("no SYN-ACK")?.sequence.wrapping_add(1);
            last.push(Segment { flags: ACK, sequence: syn.sequence.wrapping_add(1), acknowledged, ..syn });
        }
        // One more than the backlog.
        let held = (0..=waiting).map(|_| connect(&testbed.meta, STRANGERS[0], EDGE_V4, HUNG));
        Ok(Self { _held: held.collect::<Result<_>>()?, _listener: listener, last })
    }
}

#[test]
fn each_failed_attempt_ends_in_one_class() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    assert_eq!(attach(&testbed, &guard)?, "attached to wan0 (native)\n");
    let is_ack = "tcp flags & (syn | ack) == ack";
    let is_syn = "tcp flags & (syn | ack) == syn";
    drop(
        &testbed.edge,
        "input",
        &[&format!("ip saddr {} {is_ack}", FILTERED.1), &format!("ip saddr {} {is_syn}", UNANSWERED.1)],
    )?;
    drop(&testbed.meta, "input", &[&format!("ip daddr {}", UNHEARD.1)])?;
    drop(&testbed.meta, "output", &[&format!("ip saddr {} tcp flags & rst == rst", QUEUED.1)])?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let raw = Sender::new(&testbed.meta)?;

    for _ in 0..5 {
        visit(&testbed.meta, NORMAL[0].1, EDGE_V4, 443)?;
        visit(&testbed.meta, NORMAL[1].1, EDGE_V6, 443)?;
    }
    // The sender's kernel answers the SYN-ACK that it did not ask for with a RST.
    for port in 41_001..=41_003 {
        raw.send(&Segment::new(RESET.1, port, EDGE_V4, 443, SYN)?)?;
    }
    for _ in 0..2 {
        assert!(connect(&testbed.meta, REFUSED.1, EDGE_V4, CLOSED).is_err());
    }
    // For the client the connection is there, and it sends.
    let mut filtered = connect(&testbed.meta, FILTERED.1, EDGE_V4, 443)?;
    filtered.write_all(b"hello")?;
    let full = FullQueue::new(&testbed, &raw, 4)?;
    full.last.iter().try_for_each(|ack| raw.send(ack))?;
    for port in [41_001, 41_002, 41_002] {
        raw.send(&Segment::new(SILENT_V6.1, port, EDGE_V6, 443, SYN)?)?;
        // The SYN-ACK leaves before the SYN comes again.
        pace(Duration::from_millis(200));
    }
    for port in [41_001, 41_002] {
        raw.send(&Segment::new(SILENT.1, port, EDGE_V4, 443, SYN)?)?;
    }
    for (_, from) in [UNHEARD, UNANSWERED] {
        assert!(connect_within(&testbed.meta, from, EDGE_V4, 443, THREE_SYNS).is_err());
    }

    let expected = BTreeMap::from([
        (NORMAL[0].0, only("reset", 0)),
        (NORMAL[1].0, only("reset", 0)),
        (RESET.0, only("reset", 3)),
        (REFUSED.0, only("refused", 2)),
        (FILTERED.0, only("uncompleted", 1)),
        (QUEUED.0, only("uncompleted", 4)),
        (UNHEARD.0, only("unheard", 1)),
        (SILENT.0, only("silent", 2)),
        // The one that came again, and the one that did not.
        (
            SILENT_V6.0,
            json!({ "reset": 0, "refused": 0, "uncompleted": 0, "unheard": 1, "silent": 1, "unanswered": 0 }),
        ),
        (UNANSWERED.0, only("unanswered", 1)),
        ("other", only("reset", 0)),
    ]);
    let found = |stats: &Value| -> BTreeMap<&str, Value> {
        expected.keys().map(|name| (*name, failed_by(stats, name))).collect()
    };
    let stats = testbed.wait_for(THE_END, |stats| Ok(found(stats) == expected))?;
    assert_eq!(found(&stats), expected);
    assert_eq!(stats["guard"]["failures_unclassified"], Value::Null);
    for name in expected.keys() {
        let sum: u64 = expected[name].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        assert_eq!(Shakes::of(row(&stats, name)).failed, sum, "{name}");
    }
    let completed = |name: &str| Shakes::of(row(&stats, name)).handshakes;
    assert_eq!((completed(NORMAL[0].0), completed(NORMAL[1].0), completed("other")), (5, 5, 5));
    // The same by /24 and /48.
    for (network, prefix) in [
        ("157.240.1.0/24", RESET.0),
        ("173.252.64.0/24", REFUSED.0),
        ("179.60.192.0/24", QUEUED.0),
        ("2620:0:1c00::/48", SILENT_V6.0),
        ("31.13.66.0/24", NORMAL[0].0),
    ] {
        assert_eq!(failed_by(&stats, network), expected[prefix], "{network}");
    }
    // A new version's program takes over with what was counted.
    attach(&testbed, &guard)?;
    raw.send(&Segment::new(RESET.1, 41_004, EDGE_V4, 443, SYN)?)?;
    let more = only("reset", 4);
    let stats = testbed.wait_for(A_MOMENT, |stats| Ok(failed_by(stats, RESET.0) == more))?;
    assert_eq!(failed_by(&stats, RESET.0), more);
    let text = testbed.run("", "stats")?;
    assert!(text.contains("\n  failed: 4 reset\n") && text.contains("\n  failed: 4 uncompleted\n"), "{text}");
    Ok(())
}

#[test]
fn answers_that_leave_elsewhere_are_told() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    NetNs::link((&testbed.meta, "way1"), (&testbed.edge, "way1"))?;
    testbed.edge.run("ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:09 dev way1 nud permanent")?;
    testbed.meta.run("ip link set way1 address 02:00:00:00:00:09")?;
    for ns in [&testbed.meta, &testbed.edge] {
        for interface in ["all", "wan0", "way1"] {
            ns.run(&format!("sysctl -qw net.ipv4.conf.{interface}.rp_filter=0"))?;
        }
    }
    let _server = Server::start(&testbed.edge, "0.0.0.0:443")?;
    visit(&testbed.meta, NORMAL[0].1, EDGE_V4, 443)?;
    let stats = testbed.wait_for(A_MOMENT, |stats| Ok(row(stats, NORMAL[0].0)["handshakes"] == 1))?;
    assert_eq!(failed_by(&stats, NORMAL[0].0), only("reset", 0));
    testbed.edge.run(&format!("ip route add {}/32 via 192.0.2.1 dev way1 onlink", NORMAL[0].1))?;
    visit(&testbed.meta, NORMAL[0].1, EDGE_V4, 443)?;
    let is_told = |stats: &Value| Ok(stats["guard"]["failures_unclassified"].is_string());
    let stats = testbed.wait_for(A_MOMENT, is_told)?;
    let why = "1 of 2 handshakes were completed whose SYN-ACK left through no guarded interface";
    let told = stats["guard"]["failures_unclassified"].as_str().context("not told")?;
    assert!(told.starts_with(why), "{told}");
    for name in [NORMAL[0].0, RESET.0, "other"] {
        assert_eq!(failed_by(&stats, name), Value::Null, "{name}");
        assert_eq!(row(&stats, name)["rtt_seconds"], Value::Null, "{name}");
        assert!(row(&stats, name)["established_seconds"].is_object(), "{name}");
    }
    assert_eq!(row(&stats, NORMAL[0].0)["handshakes"], 2);
    let status = testbed.run("", "guard status")?;
    assert!(status.contains(&format!("; failed handshakes are not classified: {why}")), "{status}");
    Ok(())
}

#[test]
fn a_program_that_was_taken_off_is_told_and_put_back() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    assert_eq!(linked(&testbed)?.len(), 1);
    assert_eq!(testbed.stats()?["guard"]["failures_unclassified"], Value::Null);
    let index = testbed.edge.run("cat /sys/class/net/wan0/ifindex")?;
    testbed.edge.run(&format!("rm /sys/fs/bpf/hookgate/answers-{}", index.trim()))?;
    let told = testbed.stats()?["guard"]["failures_unclassified"].clone();
    assert!(told.as_str().is_some_and(|told| told.contains("has been taken off")), "{told}");
    assert_eq!(attach(&testbed, &guard)?, "attached to wan0 (native), with the counters it had\n");
    assert_eq!(testbed.stats()?["guard"]["failures_unclassified"], Value::Null);
    assert_eq!(linked(&testbed)?.len(), 1);
    testbed.run("", "guard detach")?;
    assert_eq!(linked(&testbed)?, Vec::<u32>::new());
    Ok(())
}

/// Whether the kernel has links for tc programs.
pub fn has_links(testbed: &Testbed) -> bool {
    linked(testbed).is_ok()
}

/// An attach on a kernel that has no links for tc programs, as Linux before 6.6.
pub fn attach_without_links(testbed: &Testbed, guard: &str) -> Result<String> {
    testbed.run("", "guard detach")?;
    if !has_links(testbed) {
        return attach(testbed, guard);
    }
    let log = testbed.dir.path().join("calls");
    let strace = |options: &[&str]| {
        let hookgate = testbed.hookgate("wan0", guard, "guard attach")?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=bpf"]).args(options).arg("-o").arg(&log);
        strace.arg(hookgate.get_program()).args(hookgate.get_args());
        run(strace)
    };
    strace(&[])?;
    let calls = std::fs::read_to_string(&log)?;
    let calls: Vec<&str> = calls.lines().filter(|line| line.contains("bpf(")).collect();
    // strace may not know the names of the places.
    let places = ["attach_type=0x2e", "attach_type=0x2f", "attach_type=BPF_TCX_"];
    let is_link =
        |line: &str| line.contains("BPF_LINK_CREATE") && places.iter().any(|place| line.contains(place));
    let mut links = (1..).zip(calls).filter(|(_, line)| is_link(line)).map(|(nth, _)| nth);
    // For what leaves, and in tc mode for what comes in.
    let first = links.next().context("no link for tc was made")?;
    let when = match links.next() {
        Some(second) => format!("{first}..{second}+{}", second - first),
        None => first.to_string(),
    };
    testbed.run("", "guard detach")?;
    strace(&[&format!("--inject=bpf:error=EINVAL:when={when}")])
}

#[test]
fn before_links_for_tc_it_is_in_clsact() -> Result<()> {
    if !can_run(&[Need::Program("nft"), Need::Program("strace"), Need::Program("tc")]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    let qdiscs = || testbed.edge.run("tc qdisc show dev wan0");
    let filters = || testbed.edge.run("tc filter show dev wan0 egress");
    let before = qdiscs()?;
    assert_eq!(attach_without_links(&testbed, &guard)?, "attached to wan0 (native)\n");
    assert!(qdiscs()?.contains("clsact"), "{}", qdiscs()?);
    assert_eq!(filters()?.matches("hookgate/answers+clsact").count(), 1, "{}", filters()?);
    assert!(!testbed.edge.run("ls /sys/fs/bpf/hookgate")?.contains("answers-"));

    let _server = Server::start(&testbed.edge, "0.0.0.0:443")?;
    let raw = Sender::new(&testbed.meta)?;
    visit(&testbed.meta, NORMAL[0].1, EDGE_V4, 443)?;
    for port in 41_001..=41_003 {
        raw.send(&Segment::new(RESET.1, port, EDGE_V4, 443, SYN)?)?;
    }
    let stats = testbed.wait_for(A_MOMENT, |stats| Ok(failed_by(stats, RESET.0) == only("reset", 3)))?;
    assert_eq!(failed_by(&stats, RESET.0), only("reset", 3));
    assert_eq!(stats["guard"]["failures_unclassified"], Value::Null);

    // Its filter goes with the guard, and so does what the filter needed; what others put there
    // stays.
    testbed.run("", "guard detach")?;
    assert_eq!(qdiscs()?, before);
    testbed.edge.run("tc qdisc add dev wan0 clsact")?;
    attach(&testbed, &guard)?;
    let other = "tc filter add dev wan0 ingress bpf direct-action object-pinned /sys/fs/bpf/hookgate/answers";
    testbed.edge.run(other)?;
    attach_without_links(&testbed, &guard)?;
    assert!(filters()?.contains("hookgate/answers") && !filters()?.contains("+clsact"), "{}", filters()?);
    // A second attach takes over, without one more of them; where there are links, they take its
    // place.
    attach(&testbed, &guard)?;
    let filters_left = filters()?.matches("hookgate/answers").count();
    assert_eq!(filters_left, usize::from(!has_links(&testbed)), "{}", filters()?);
    assert_eq!(testbed.edge.run("ls /sys/fs/bpf/hookgate")?.contains("answers-"), has_links(&testbed));
    assert_eq!(testbed.stats()?["guard"]["failures_unclassified"], Value::Null);
    testbed.run("", "guard detach")?;
    assert!(qdiscs()?.contains("clsact"));
    assert!(testbed.edge.run("tc filter show dev wan0 ingress")?.contains("direct-action"));
    Ok(())
}

#[test]
fn a_refused_attach_leaves_what_leaves_as_it_was() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    run(testbed.hookgate("lo", "pin = \"other\"", "guard attach")?)?;
    let both = || refusal(testbed.hookgate("wan0\", \"lo", &guard, "guard attach")?);
    let is_refused = || -> Result<()> {
        let (code, said) = both()?;
        assert!(code == Some(1) && said.contains("lo already runs the guard of another hookgate"), "{said}");
        Ok(())
    };
    is_refused()?;
    assert_eq!(linked(&testbed)?, Vec::<u32>::new());
    assert!(!testbed.edge.run("ls /sys/fs/bpf")?.contains("hookgate"));
    attach(&testbed, &guard)?;
    let (before, pins) = (linked(&testbed)?, testbed.edge.run("ls /sys/fs/bpf/hookgate")?);
    is_refused()?;
    assert_eq!(linked(&testbed)?, before);
    assert_eq!(testbed.edge.run("ls /sys/fs/bpf/hookgate")?, pins);
    assert_eq!(testbed.stats()?["guard"]["failures_unclassified"], Value::Null);
    Ok(())
}
