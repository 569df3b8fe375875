//! What tc sees after the kernel has bundled segments, or taken tags away: counted as the wire had
//! it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Counts, Need, NetNs, Tap, run};
use serde_json::{Value, json};

use super::device::Port;
use super::peers::{Server, connect};
use super::raw::{SYN, Segment};
use super::testbed::{EDGE_V4, EDGE_V6, META, Testbed, by_prefix, can_run, row};

const MAX_WAIT: Duration = Duration::from_secs(20);
const UPLOAD_BYTES: usize = 2 << 20;
/// Ethernet, IPv4, TCP with time stamps.
const HEADERS: u64 = 14 + 20 + 32;

/// One connection that says much, up to its end.
fn upload(testbed: &Testbed, from: &str) -> Result<()> {
    let to = if from.contains(':') { EDGE_V6 } else { EDGE_V4 };
    let mut stream = connect(&testbed.meta, from, to, 443)?;
    stream.write_all(&vec![0xaa; UPLOAD_BYTES])?;
    Ok(())
}

/// Whether a connection of that prefix has ended. A machine that is slow to answer gets its FIN
/// again.
fn has_ended(stats: &Value, prefix: &str) -> bool {
    row(stats, prefix)["fins"].as_u64().is_some_and(|fins| fins > 0)
}

/// Waits for the end of a connection of each of these prefixes. The packets that followed it are
/// counted too: the kernel has taken them when it answers.
fn ended(testbed: &Testbed, prefixes: &[&str]) -> Result<Value> {
    testbed.wait_for(MAX_WAIT, |stats| Ok(prefixes.iter().all(|prefix| has_ended(stats, prefix))))
}

#[test]
fn what_gro_bundles_counts_as_the_wire_had_it() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    testbed.edge.run("ethtool -K wan0 gro on")?;
    // So little is under way at once that the wire, which holds 256 frames, loses none.
    let mut window = testbed.edge.command("sysctl");
    window.args(["-qw", "net.ipv4.tcp_rmem=4096 131072 131072"]);
    run(window)?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    assert_eq!(testbed.run("xdp = \"tc\"", "guard attach")?, "attached to wan0 (tc)\n");
    let (wire, bundled) = (Tap::start(&testbed.meta, "wan0", 443)?, Tap::start(&testbed.edge, "wan0", 443)?);
    let (v4, v6) = (META[3], META[5]);
    for (from, _) in [v4, v6] {
        upload(&testbed, from)?;
    }
    let equals = |stats: &Value| -> Result<bool> {
        let (sent, counted) = (wire.counts()?, by_prefix(stats));
        let is_equal = |(from, prefix): (&str, &str)| -> Result<bool> {
            Ok(counted.get(prefix) == sent.get(&from.parse()?) && has_ended(stats, prefix))
        };
        Ok(is_equal(v4)? && is_equal(v6)?)
    };
    let stats = testbed.wait_for(MAX_WAIT, equals)?;
    let (sent, bundled) = (wire.finish()?, bundled.finish()?);
    for (from, prefix) in [v4, v6] {
        let (sent, bundled) = (sent[&from.parse()?], bundled[&from.parse()?]);
        assert_eq!(by_prefix(&stats)[prefix], sent, "{from}");
        assert!(bundled.packets < sent.packets / 2, "{from}: {bundled:?} of {sent:?} is no bundling");
        assert_eq!(row(&stats, prefix)["dropped"], 0);
    }
    let lost = testbed.meta.run("cat /sys/class/net/wan0/statistics/tx_dropped")?;
    assert_eq!(lost, "0\n", "by the wire");
    Ok(())
}

/// Segments that one machine's TCP has sent.
fn segments_sent(ns: &NetNs) -> Result<u64> {
    let text = ns.run("cat /proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let counts = names.split(' ').zip(values.split(' '));
    // What is sent again is not among the first.
    let counts = counts.filter(|(name, _)| ["OutSegs", "RetransSegs"].contains(name));
    Ok(counts.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
}

#[test]
fn segments_that_a_card_would_cut_count_one_by_one() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    // Between virtual machines nothing ever cuts them.
    for ns in [&testbed.meta, &testbed.edge] {
        ns.run("ethtool -K wan0 tso on gso on gro on")?;
    }
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    testbed.run("xdp = \"tc\"", "guard attach")?;
    let tap = Tap::start(&testbed.meta, "wan0", 443)?;
    let before = segments_sent(&testbed.meta)?;
    let (from, prefix) = META[3];
    upload(&testbed, from)?;
    ended(&testbed, &[prefix])?;
    let expected =
        |stats: &Value| Ok(by_prefix(stats)[prefix].packets == segments_sent(&testbed.meta)? - before);
    let stats = testbed.wait_for(MAX_WAIT, expected)?;
    let bundles = tap.finish()?[&from.parse()?];
    let counted = by_prefix(&stats)[prefix];
    assert!(bundles.packets < counted.packets / 2, "{bundles:?} of {counted:?} are no bundles");
    assert_eq!(counted.bytes, bundles.bytes + (counted.packets - bundles.packets) * HEADERS);
    assert_eq!(row(&stats, prefix)["dropped"], 0);
    Ok(())
}

#[test]
fn tagged_frames_count_with_their_tags() -> Result<()> {
    if !can_run(&[Need::Program("python3")]) {
        return Ok(());
    }
    // What the kernel has taken out of a frame before tc, XDP sees in it.
    for (xdp, port) in [("tc", 443), ("generic", 443)] {
        let testbed = Testbed::new()?;
        let device = Port::new(&testbed.edge, "tap0")?;
        let attach = testbed.hookgate("tap0", &format!("xdp = \"{xdp}\""), "guard attach")?;
        assert_eq!(run(attach)?, format!("attached to tap0 ({xdp})\n"));
        for (tags, number) in [(&[][..], 1), (&[0x8100u16][..], 2), (&[0x88a8, 0x8100][..], 3)] {
            let segment = Segment::new(META[3].0, 40_000 + number, EDGE_V4, port, SYN)?;
            let tags = tags.iter().flat_map(|tag| [&tag.to_be_bytes()[..], &[0, 7]].concat());
            let tags: Vec<u8> = tags.collect();
            device.receive(&[&[2; 12][..], &tags, &[0x08, 0], &segment.packet()].concat())?;
        }
        let expected = Counts { packets: 3, bytes: 54 + 58 + 62, syns: 3 };
        let stats = testbed.wait_for(MAX_WAIT, |stats| {
            Ok(by_prefix(stats).get(META[3].1).is_some_and(|counts| counts.packets == 3))
        })?;
        assert_eq!(by_prefix(&stats)[META[3].1], expected, "{xdp}");
        assert_eq!(stats["guard"]["interfaces"], json!([{ "name": "tap0", "xdp": xdp }]));
    }
    Ok(())
}
