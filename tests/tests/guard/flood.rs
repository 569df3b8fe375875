//! Floods: what gets in all the same, and that every packet of them is accounted for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::{Need, pace};
use hookgate_ebpf::{abi, attempt};
use serde_json::{Value, json};

use super::peers::{Server, visit};
use super::raw::{SYN, Segment, Sender};
use super::testbed::{EDGE_V4, EDGE_V6, META, Shakes, Testbed, can_run, counts, row};

pub(super) const STRANGERS_SYNS: u64 = 200_000;
const CONNECTIONS: u64 = 500;
/// A veth holds 256 frames: fewer are sent at once, and the next after these have been seen.
const BURST: u64 = 64;

/// SYNs from as many sources, each another's.
pub(super) fn flood(testbed: &Testbed, count: u64, source: impl Fn(u32) -> [u8; 4]) -> Result<()> {
    let raw = Sender::new(&testbed.meta)?;
    for number in 0..count as u32 {
        let segment = Segment::new(EDGE_V4, 40_000, EDGE_V4, 443, SYN)?;
        raw.send(&Segment { from: (source(number).into(), 40_000), sequence: number, ..segment })?;
        if u64::from(number) % BURST == 0 {
            pace(Duration::from_micros(200));
        }
    }
    Ok(())
}

/// Frames that the sender's end of the wire had no room for.
pub(super) fn lost(testbed: &Testbed) -> Result<u64> {
    let text = testbed.meta.run("cat /sys/class/net/wan0/statistics/tx_dropped")?;
    Ok(text.trim().parse()?)
}

pub(super) fn stranger(number: u32) -> [u8; 4] {
    let [_, b, c, d] = number.to_be_bytes();
    [198, 18 + (b & 1), c, d] // RFC 2544: for benchmarks
}

/// As many connections of Meta's, one after the other; how long each took, the fastest first.
fn visits(testbed: &Testbed) -> Result<Vec<Duration>> {
    let visits = (0..CONNECTIONS as usize).map(|number| {
        let begun = Instant::now();
        visit(&testbed.meta, META[number % 4].0, EDGE_V4, 443)?;
        Ok(begun.elapsed())
    });
    let mut took = visits.collect::<Result<Vec<_>>>()?;
    took.sort_unstable();
    Ok(took)
}

/// The same, while strangers flood.
fn visits_during(testbed: &Testbed, flood: impl Fn() -> Result<()> + Sync) -> Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let flooding = scope.spawn(&flood);
        let took = visits(testbed)?;
        let was_flooding = !flooding.is_finished();
        flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(was_flooding, "the flood was over before the connections were");
        Ok(took)
    })
}

fn metas(stats: &Value) -> Shakes {
    META[..4].iter().map(|(_, prefix)| Shakes::of(row(stats, prefix))).fold(Shakes::default(), |sum, more| {
        Shakes {
            syns: sum.syns + more.syns,
            retransmitted: sum.retransmitted + more.retransmitted,
            handshakes: sum.handshakes + more.handshakes,
            failed: sum.failed + more.failed,
            untracked: sum.untracked + more.untracked,
            fins: sum.fins + more.fins,
            rsts: sum.rsts + more.rsts,
            dropped: sum.dropped + more.dropped,
        }
    })
}

const ALL_IN: Shakes = Shakes {
    syns: CONNECTIONS,
    retransmitted: 0,
    handshakes: CONNECTIONS,
    failed: 0,
    untracked: 0,
    fins: CONNECTIONS,
    rsts: 0,
    dropped: 0,
};

#[test]
fn in_strict_a_flood_of_strangers_is_dropped_and_meta_gets_in() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let server = Server::start(&testbed.edge, "[::]:443")?;
    testbed.run("mode = \"strict\"", "guard attach")?;
    let calm = visits(&testbed)?;
    let flooded = visits_during(&testbed, || flood(&testbed, STRANGERS_SYNS, stranger))?;
    let stats = testbed.wait_for(Duration::from_secs(5), |stats| Ok(metas(stats).fins == 2 * CONNECTIONS))?;
    let arrived = STRANGERS_SYNS - lost(&testbed)?;
    let all_in = Shakes {
        syns: 2 * CONNECTIONS,
        handshakes: 2 * CONNECTIONS,
        fins: 2 * CONNECTIONS,
        ..Shakes::default()
    };
    assert_eq!(metas(&stats), all_in);
    assert_eq!(server.accepted(), 2 * CONNECTIONS);
    let dropped = json!({ "strict": arrived, "limited": 0, "garbage": 0, "fragment": 0, "extensions": 0 });
    assert_eq!((&stats["other"]["dropped_by"], &stats["other"]["packets"]), (&dropped, &json!(arrived)));
    assert_eq!(Shakes::of(&stats["other"]), Shakes { dropped: arrived, ..Shakes::default() });
    let [calm, flooded] = [calm, flooded].map(|took| [took[took.len() / 2], took[took.len() * 99 / 100]]);
    println!("median and 99th percentile: {calm:?}, under the flood {flooded:?}");
    Ok(())
}

/// How many of the SYNs that arrived are attempts: three quarters of the room, and of the others a
/// share that leaves some.
fn followed(counts: &Shakes, arrived: u64, room: u64) -> Result<u64> {
    let followed = arrived - counts.untracked;
    ensure!((room / 4 * 3..room).contains(&followed), "{followed} are followed: {counts:?}");
    Ok(followed)
}

#[test]
fn in_observe_a_flood_of_strangers_takes_no_room_of_metas() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    // Enough of a flood to fill the strangers' table many times over; the kernel's TCP has cookies
    // for them.
    const COUNT: u64 = 50_000;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    testbed.run("", "guard attach")?;
    let begun = Instant::now();
    flood(&testbed, COUNT, stranger)?;
    visits(&testbed)?;
    let stats = testbed.wait_for(Duration::from_secs(5), |stats| Ok(metas(stats).fins == CONNECTIONS))?;
    ensure!(begun.elapsed() < Duration::from_nanos(attempt::ATTEMPT_TIMEOUT), "too slow a machine to tell");
    let (arrived, room) = (COUNT - lost(&testbed)?, u64::from(abi::ATTEMPTS_OTHER_CAPACITY));
    assert_eq!(metas(&stats), ALL_IN);
    let followed = followed(&Shakes::of(&stats["other"]), arrived, room)?;
    let expected = Shakes { syns: arrived, untracked: arrived - followed, ..Shakes::default() };
    assert_eq!(Shakes::of(&stats["other"]), expected);
    let expected = Shakes { failed: followed, ..expected };
    let ended = |stats: &Value| Ok(Shakes::of(&stats["other"]) == expected);
    assert_eq!(Shakes::of(&testbed.wait_for(Duration::from_secs(15), ended)?["other"]), expected);
    Ok(())
}

#[test]
fn a_flood_in_metas_name_is_bounded_and_hides_no_handshake() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    const MORE: u64 = 4000;
    const COUNT: u64 = abi::ATTEMPTS_META_CAPACITY as u64 + MORE;
    const VISITS: u64 = 50;
    let testbed = Testbed::new()?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let list = testbed.dir.write("prefixes", META[3].1)?;
    testbed.run(&format!("mode = \"strict\"\nprefixes = \"{}\"", list.display()), "guard attach")?;
    let begun = Instant::now();
    flood(&testbed, COUNT, |number| {
        let [_, _, c, d] = number.to_be_bytes();
        [157, 240, c + 2, d] // none of them its own: that one would answer
    })?;
    for _ in 0..VISITS {
        visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
    }
    let of_metas = |stats: &Value| Shakes::of(row(stats, META[3].1));
    let stats = testbed.wait_for(Duration::from_secs(5), |stats| Ok(of_metas(stats).fins == VISITS))?;
    ensure!(begun.elapsed() < Duration::from_nanos(attempt::ATTEMPT_TIMEOUT), "too slow a machine to tell");
    ensure!(lost(&testbed)? == 0, "the wire lost what was to fill the table");
    let room = followed(&of_metas(&stats), COUNT, COUNT - MORE)?;
    let expected = Shakes {
        syns: COUNT + VISITS,
        handshakes: VISITS,
        untracked: COUNT - room,
        fins: VISITS,
        ..Shakes::default()
    };
    assert_eq!(of_metas(&stats), expected, "each handshake was told of");
    let ended = |stats: &Value| Ok(of_metas(stats).failed == room);
    let stats = testbed.wait_for(Duration::from_secs(15), ended)?;
    assert_eq!(of_metas(&stats), Shakes { failed: room, ..expected });
    // There is room again.
    visit(&testbed.meta, META[3].0, EDGE_V4, 443)?;
    let one_more = |stats: &Value| Ok(of_metas(stats).fins == VISITS + 1);
    let stats = testbed.wait_for(Duration::from_secs(5), one_more)?;
    let expected = Shakes {
        syns: COUNT + VISITS + 1,
        handshakes: VISITS + 1,
        failed: room,
        fins: VISITS + 1,
        ..expected
    };
    assert_eq!(of_metas(&stats), expected);
    Ok(())
}

/// SYNs over IPv6 in Meta's name, each from a /48 of its own, of 16,384 that there are.
fn new_blocks(testbed: &Testbed, count: u64) -> Result<()> {
    let raw = Sender::new(&testbed.meta)?;
    for number in 0..count as u32 {
        let segment = Segment::new(EDGE_V6, 40_000, EDGE_V6, 443, SYN)?;
        let [_, _, c, d] = number.to_be_bytes();
        let from = [0x2a, 0x03, 0x28, 0x80, c & 0x3f | 0x80, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        raw.send(&Segment { from: (from.into(), 40_000), sequence: number, ..segment })?;
        if u64::from(number) % BURST == 0 {
            pace(Duration::from_micros(200));
        }
    }
    Ok(())
}

/// Rows of `seen`, each network once.
fn distinct(stats: &Value) -> Result<&Vec<Value>> {
    let seen = stats["seen"].as_array().context("no rows")?;
    let networks: BTreeSet<&str> = seen.iter().filter_map(|row| row["network"].as_str()).collect();
    ensure!(networks.len() == seen.len(), "{} rows, {} networks", seen.len(), networks.len());
    Ok(seen)
}

#[test]
fn figures_are_read_while_blocks_come_and_go() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    const COUNT: u64 = 300_000;
    let testbed = Testbed::new()?;
    testbed.run("mode = \"strict\"", "guard attach")?;
    let (mut took, mut most) = (Vec::new(), 0);
    std::thread::scope(|scope| -> Result<()> {
        let flooding = [0, 1].map(|_| scope.spawn(|| new_blocks(&testbed, COUNT)));
        while flooding.iter().any(|flood| !flood.is_finished()) {
            let begun = Instant::now();
            let stats = testbed.stats()?;
            took.push(begun.elapsed());
            most = most.max(distinct(&stats)?.len());
        }
        flooding
            .into_iter()
            .try_for_each(|flood| flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    took.sort_unstable();
    let packets = testbed.stats()?["prefixes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| counts(row).packets)
        .sum::<u64>();
    println!("{packets} packets; read {} times, in {:?} to {:?}", took.len(), took.first(), took.last());
    ensure!(took.len() > 3, "too few readings to tell: {took:?}");
    let capacity = abi::SEEN_CAPACITY as usize;
    assert!((capacity / 2..=capacity + 1).contains(&most), "{most} rows");
    Ok(())
}

#[test]
fn a_flood_of_ever_new_blocks_hides_no_sender_and_no_figure() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    // Each from a /48 of its own: several times what the table holds.
    const COUNT: u64 = 5 * abi::SEEN_CAPACITY as u64;
    const VISITS: u64 = 3;
    const SENDER: &str = "2a03:2880:1::/48";
    let testbed = Testbed::new()?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    testbed.run("mode = \"strict\"", "guard attach")?;
    let before = (0..VISITS).try_for_each(|_| visit(&testbed.meta, META[5].0, EDGE_V6, 443));
    before?;
    new_blocks(&testbed, COUNT)?;
    visit(&testbed.meta, META[5].0, EDGE_V6, 443)?;
    let closed = |stats: &Value| Ok(Shakes::of(row(stats, SENDER)).fins == VISITS + 1);
    let stats = testbed.wait_for(Duration::from_secs(5), closed)?;
    let expected = Shakes { syns: VISITS + 1, handshakes: VISITS + 1, fins: VISITS + 1, ..Shakes::default() };
    assert_eq!(Shakes::of(row(&stats, SENDER)), expected);
    assert_eq!(row(&stats, SENDER)["proven"], true);

    let seen = distinct(&stats)?;
    let capacity = abi::SEEN_CAPACITY as usize;
    // The kernel takes several at a time away.
    assert!((capacity / 2..=capacity + 1).contains(&seen.len()), "{} rows", seen.len());
    assert_eq!(seen.iter().filter(|row| row["proven"] == true).count(), 1);
    Ok(())
}

#[test]
fn the_maps_take_little_of_the_kernels_memory() -> Result<()> {
    if !can_run(&[Need::Program("bpftool")]) {
        return Ok(());
    }
    const MAX_BYTES: u64 = 24_000_000;
    let testbed = Testbed::new()?;
    testbed.run("", "guard attach")?;
    let pins = testbed.edge.run("ls /sys/fs/bpf/hookgate")?;
    let is_map =
        |name: &&str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let maps = pins.lines().filter(is_map).map(|name| -> Result<u64> {
        let shown =
            testbed.edge.run(&format!("bpftool --json map show pinned /sys/fs/bpf/hookgate/{name}"))?;
        let map: Value = serde_json::from_str(&shown)?;
        map["bytes_memlock"].as_u64().with_context(|| format!("{name} tells no memory"))
    });
    let maps = maps.collect::<Result<Vec<_>>>()?;
    let bytes: u64 = maps.iter().sum();
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    println!("{bytes} bytes of {} maps, processors {}", maps.len(), possible.trim());
    assert!((1_000_000..MAX_BYTES).contains(&bytes), "{bytes} bytes");
    assert!(testbed.run("", "guard status")?.contains("; its maps take "));
    Ok(())
}
