//! What becomes of each SYN, counted by who sent it and how: exact, with the kernel's own TCP at
//! both ends.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use harness::{Tap, run, wait_until};
use serde_json::Value;

use super::peers::{Server, connect, connect_within, visit};
use super::raw::{ACK, Listener, RST, SYN, Segment, Sender};
use super::testbed::{CLOSED, EDGE_V4, EDGE_V6, META, STRANGERS, Shakes, Testbed, can_run, row};

/// Prefixes of the testbed, and who sends from each. Those that are at home nowhere never answer a
/// SYN-ACK.
const NORMAL_V4: (&str, &str) = ("31.13.64.0/18", "31.13.66.7");
const NORMAL_V6: (&str, &str) = ("2a03:2880::/32", "2a03:2880:1::7");
const SCANNER: (&str, &str) = ("157.240.0.0/17", "157.240.1.7");
const SILENT: (&str, &str) = ("66.220.144.0/20", "66.220.144.9");
const SILENT_V6: (&str, &str) = ("2620:0:1c00::/40", "2620:0:1c00::9");
const UNHEARD: (&str, &str) = ("69.63.176.0/20", "69.63.176.7");
const REFUSED: (&str, &str) = ("173.252.64.0/18", "173.252.64.7");
const FORGER: (&str, &str) = ("179.60.192.0/22", "179.60.192.9");
const REPEATER: (&str, &str) = ("185.60.216.0/22", "185.60.216.7");
const SCENE: [(&str, &str); 9] =
    [NORMAL_V4, NORMAL_V6, SCANNER, SILENT, SILENT_V6, UNHEARD, REFUSED, FORGER, REPEATER];
const AT_HOME: [(&str, &str); 3] = [UNHEARD, REFUSED, REPEATER];

/// Longer than an attempt is waited for, and a sweep more.
const THE_END: Duration = Duration::from_secs(13);

fn testbed() -> Result<(Testbed, String)> {
    let testbed = Testbed::new()?;
    for (_, address) in AT_HOME {
        testbed.meta.address("wan0", &format!("{address}/32"))?;
    }
    let list = SCENE.map(|(prefix, _)| prefix).join("\n");
    let list = testbed.dir.write("prefixes", &(list + "\n"))?;
    let guard = format!("prefixes = \"{}\"\nallow = [\"{}/32\"]", list.display(), STRANGERS[0]);
    testbed.run(&guard, "guard attach")?;
    Ok((testbed, guard))
}

#[test]
fn each_syn_is_accounted_for() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    let _both = Server::start(&testbed.edge, "[::]:443")?;
    let raw = Sender::new(&testbed.meta)?;
    let mut expected = BTreeMap::<&str, Shakes>::new();

    // Ordinary connections; IPv4 by an IPv6 socket.
    for _ in 0..5 {
        visit(&testbed.meta, NORMAL_V4.1, EDGE_V4, 443)?;
        visit(&testbed.meta, NORMAL_V6.1, EDGE_V6, 443)?;
    }
    for normal in [NORMAL_V4, NORMAL_V6] {
        expected.insert(normal.0, Shakes { syns: 5, handshakes: 5, fins: 5, ..Shakes::default() });
    }
    for stranger in STRANGERS {
        visit(&testbed.meta, stranger, if stranger.contains(':') { EDGE_V6 } else { EDGE_V4 }, 443)?;
    }
    expected.insert("other", Shakes { syns: 2, handshakes: 2, fins: 2, ..Shakes::default() });

    // A SYN scan: the sender's kernel answers the SYN-ACK that it did not ask for with a RST.
    for port in [40_001, 40_002, 40_003] {
        raw.send(&Segment::new(SCANNER.1, port, EDGE_V4, 443, SYN)?)?;
    }
    expected.insert(SCANNER.0, Shakes { syns: 3, failed: 3, rsts: 3, ..Shakes::default() });

    // Silence after the SYN; one of them sends it twice.
    for port in [40_001, 40_002, 40_002] {
        raw.send(&Segment::new(SILENT.1, port, EDGE_V4, 443, SYN)?)?;
        raw.send(&Segment::new(SILENT_V6.1, port, EDGE_V6, 443, SYN)?)?;
    }
    for silent in [SILENT, SILENT_V6] {
        expected.insert(silent.0, Shakes { syns: 3, retransmitted: 1, failed: 2, ..Shakes::default() });
    }

    // A port without a listener.
    for _ in 0..2 {
        assert!(connect(&testbed.meta, REFUSED.1, EDGE_V4, CLOSED).is_err());
    }
    expected.insert(REFUSED.0, Shakes { syns: 2, failed: 2, ..Shakes::default() });

    // Acknowledgements that the kernel's TCP does not take: of a SYN-ACK that was never seen, and
    // of nothing at all.
    raw.send(&Segment::new(FORGER.1, 40_001, EDGE_V4, 443, SYN)?)?;
    for port in [40_001, 40_001, 40_002] {
        let ack = Segment::new(FORGER.1, port, EDGE_V4, 443, ACK)?;
        raw.send(&Segment { sequence: ack.sequence + 1, acknowledged: 77, ..ack })?;
    }
    // And resets that are none.
    let rst = Segment::new(FORGER.1, 40_001, EDGE_V4, 443, RST)?;
    raw.send(&Segment { sequence: rst.sequence.wrapping_sub(1), ..rst })?;
    expected.insert(FORGER.0, Shakes { syns: 1, failed: 1, rsts: 1, ..Shakes::default() });

    // The SYN of a connection comes once more after the handshake; then one with another number on
    // the same ports, which begins an attempt that the kernel's TCP does not take part in.
    let listener = Listener::new(&testbed.edge)?;
    let mut stream = connect(&testbed.meta, REPEATER.1, EDGE_V4, 443)?;
    let syn = loop {
        let syn = listener.next(SYN)?;
        if syn.from == (REPEATER.1.parse()?, stream.local_addr()?.port()) {
            break syn;
        }
    };
    raw.send(&syn)?;
    raw.send(&Segment { sequence: syn.sequence ^ 0x8000_0000, ..syn })?;
    stream.write_all(b"still there")?;
    drop(stream);
    let repeated =
        Shakes { syns: 3, retransmitted: 1, handshakes: 1, failed: 1, fins: 1, ..Shakes::default() };
    expected.insert(REPEATER.0, repeated);

    let found = |stats: &Value| -> BTreeMap<&str, Shakes> {
        expected.keys().map(|name| (*name, Shakes::of(row(stats, name)))).collect()
    };
    // A reset is believed soon, silence is waited for.
    let scanned = |stats: &Value| Ok(Shakes::of(row(stats, SCANNER.0)).failed == 3);
    let soon = testbed.wait_for(Duration::from_secs(3), scanned)?;
    assert_eq!(Shakes::of(row(&soon, SCANNER.0)), expected[SCANNER.0]);
    for waiting in [SILENT, SILENT_V6, REFUSED, FORGER] {
        assert_eq!(Shakes::of(row(&soon, waiting.0)).failed, 0, "{}", waiting.0);
    }
    let stats = testbed.wait_for(THE_END, |stats| Ok(found(stats) == expected))?;
    assert_eq!(found(&stats), expected);
    for (prefix, shakes) in found(&stats) {
        let Shakes { syns, retransmitted, handshakes, failed, untracked, .. } = shakes;
        assert_eq!(syns, retransmitted + handshakes + failed + untracked, "{prefix}");
    }

    // The same by /24 and /48, and nothing else among them.
    let seen: BTreeMap<&str, (&str, Shakes)> = stats["seen"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| Some((row["network"].as_str()?, (row["prefix"].as_str()?, Shakes::of(row)))))
        .collect();
    let expected_seen = BTreeMap::from([
        ("31.13.66.0/24", NORMAL_V4.0),
        ("2a03:2880:1::/48", NORMAL_V6.0),
        ("157.240.1.0/24", SCANNER.0),
        ("66.220.144.0/24", SILENT.0),
        ("2620:0:1c00::/48", SILENT_V6.0),
        ("173.252.64.0/24", REFUSED.0),
        ("179.60.192.0/24", FORGER.0),
        ("185.60.216.0/24", REPEATER.0),
    ]);
    let expected_seen: BTreeMap<&str, (&str, Shakes)> =
        expected_seen.into_iter().map(|(network, prefix)| (network, (prefix, expected[prefix]))).collect();
    assert_eq!(seen, expected_seen);
    assert!(testbed.run(&guard, "stats --all")?.contains("31.13.66.0/24"));
    Ok(())
}

#[test]
fn a_syn_that_the_kernel_sends_again_is_a_retransmission() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let (testbed, _) = testbed()?;
    let _server = Server::start(&testbed.edge, "0.0.0.0:443")?;
    // The edge hears it, and can't answer.
    testbed.edge.run(&format!("ip route add blackhole {}/32", UNHEARD.1))?;
    let tap = Tap::start(&testbed.meta, "wan0", 443)?;
    let unheard = connect_within(&testbed.meta, UNHEARD.1, EDGE_V4, 443, Duration::from_millis(3500));
    assert!(unheard.is_err());
    // And this one is answered at last.
    testbed.edge.run(&format!("ip route add blackhole {}/32", META[0].0))?;
    let late = std::thread::scope(|scope| -> Result<()> {
        let client = scope.spawn(|| visit(&testbed.meta, META[0].0, EDGE_V4, 443));
        let is_repeated = || Ok(tap.counts()?.get(&META[0].0.parse()?).is_some_and(|sent| sent.syns >= 2));
        wait_until("the table is written again", Duration::from_secs(5), is_repeated)?;
        testbed.edge.run(&format!("ip route del blackhole {}/32", META[0].0))?;
        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    late?;

    let ended = |stats: &Value| {
        let (unheard, late) = (Shakes::of(row(stats, UNHEARD.0)), Shakes::of(row(stats, NORMAL_V4.0)));
        Ok(unheard.failed == 1 && late.fins == 1)
    };
    let stats = testbed.wait_for(THE_END, ended)?;
    let sent = tap.finish()?;
    let syns = |address: &str| -> Result<u64> { Ok(sent[&address.parse()?].syns) };
    let (unheard, late) = (syns(UNHEARD.1)?, syns(META[0].0)?);
    assert!(unheard >= 3 && late >= 2, "{unheard} and {late} SYNs are no retransmissions");
    let expected = Shakes { syns: unheard, retransmitted: unheard - 1, failed: 1, ..Shakes::default() };
    assert_eq!(Shakes::of(row(&stats, UNHEARD.0)), expected);
    let expected =
        Shakes { syns: late, retransmitted: late - 1, handshakes: 1, fins: 1, ..Shakes::default() };
    assert_eq!(Shakes::of(row(&stats, NORMAL_V4.0)), expected);
    Ok(())
}

#[test]
fn where_handshakes_cannot_be_counted_the_rest_is() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("umount /sys/fs/cgroup")?;
    // Nor may it mount one for itself.
    let weak = testbed.hookgate_with("--bounding-set=-sys_admin", "wan0", "", "guard attach")?;
    let said = run(weak)?;
    let why = "; handshakes are not counted: no cgroup2 hierarchy is mounted: run `mount -t cgroup2";
    assert!(said.starts_with("attached to wan0 (native)") && said.contains(why), "{said}");
    assert!(testbed.run("", "guard status")?.contains("; handshakes are not counted: "));
    let _server = Server::start(&testbed.edge, "0.0.0.0:443")?;
    visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
    let closed = |stats: &Value| Ok(row(stats, META[3].1)["fins"] == 1);
    let stats = testbed.wait_for(Duration::from_secs(3), closed)?;
    let counted = row(&stats, META[3].1);
    assert_eq!((&counted["syns"], &counted["fins"]), (&Value::from(1), &Value::from(1)));
    assert!(counted.get("handshakes").is_none() && counted.get("handshakes_failed").is_none(), "{counted}");
    // Where they can be again, the next attaching sees to it: as root, hookgate needs none that is
    // mounted (`ip netns exec` covers /sys with an empty one).
    assert_eq!(testbed.run("", "guard attach")?, "attached to wan0 (native), with the counters it had\n");
    visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
    let counted = |stats: &Value| Ok(row(stats, META[3].1)["handshakes"] == 1);
    assert_eq!(row(&testbed.wait_for(Duration::from_secs(3), counted)?, META[3].1)["handshakes"], 1);
    Ok(())
}
