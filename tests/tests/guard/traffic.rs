//! Changes under traffic: no source is taken for a stranger for a moment, and every packet is
//! counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{Running, pace_until, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use super::peers::{Server, visit};
use super::raw::{ACK, Segment, Sender};
use super::testbed::{EDGE_V4, EDGE_V6, META, Shakes, Testbed, can_run, row};

/// Half of what is sent, in packets a second, where the machine has time for it.
const RATE: u64 = 10_000;
/// How many packets must meet each change at least.
const MIN_PACKETS_PER_CHANGE: u64 = 1000;
const BURST: u64 = 32;
/// An emulated machine takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends established traffic of Meta's at twice the rate until told to stop; how many packets.
fn traffic(testbed: &Testbed, stop: &AtomicBool) -> Result<u64> {
    let raw = Sender::new(&testbed.meta)?;
    // From addresses that no machine has here: it would answer the RSTs that come back.
    let segments = [("157.240.9.9", EDGE_V4), ("31.13.66.99", EDGE_V4), ("2a03:2880:f003::99", EDGE_V6)]
        .map(|(from, to)| Segment::new(from, 40_000, to, 443, ACK));
    let segments = segments.into_iter().collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for segment in segments.iter().cycle().take(BURST as usize) {
            raw.send(segment)?;
        }
        sent += BURST;
        pace_until(begun + Duration::from_micros(sent * 1_000_000 / (2 * RATE)));
    }
    Ok(sent)
}

#[test]
fn programs_and_prefixes_change_under_traffic_and_nothing_is_dropped() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    // Where the traffic comes from is Meta's by each list, and by another prefix each time.
    let lists = [
        "157.240.0.0/17\n31.13.66.0/24\n2a03:2880:f000::/36\n",
        "157.240.0.0/16\n31.13.64.0/18\n2a03:2880::/32\n",
        "157.240.8.0/24\n157.240.9.0/25\n31.13.66.0/25\n2a03:2880:f003::/48\n",
    ];
    let lists = (0..).zip(lists).map(|(n, text)| testbed.dir.write(&format!("list{n}"), text));
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let strict = |list: &std::path::Path| format!("mode = \"strict\"\nprefixes = \"{}\"", list.display());
    testbed.run(&strict(&lists[0]), "guard attach")?;

    let stop = AtomicBool::new(false);
    let (sent, took, changes) = std::thread::scope(|scope| {
        let begun = Instant::now();
        let sending = scope.spawn(|| traffic(&testbed, &stop));
        let mut changes = 0;
        let changing = || -> Result<()> {
            while begun.elapsed() < Duration::from_secs(5) {
                for list in [&lists[1], &lists[2], &lists[0]] {
                    testbed.run(&strict(list), "guard attach")?;
                    changes += 1;
                }
            }
            Ok(())
        };
        let changed = { changing }();
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        changed.map(|()| (sent, begun.elapsed(), changes))
    })?;

    let lost: u64 = testbed.meta.run("cat /sys/class/net/wan0/statistics/tx_dropped")?.trim().parse()?;
    let (mut counted, mut strangers) = (0, 0);
    for list in &lists {
        testbed.run(&strict(list), "guard attach")?;
        let stats = testbed.stats()?;
        let rows = stats["prefixes"].as_array().into_iter().flatten();
        counted += rows.filter_map(|row| row["packets"].as_u64()).sum::<u64>();
        strangers += stats["other"]["packets"].as_u64().unwrap_or(u64::MAX);
    }
    assert_eq!((strangers, counted), (0, sent - lost), "strangers, and packets of Meta's");
    let rate = sent * 1000 / took.as_millis() as u64;
    assert!(sent >= MIN_PACKETS_PER_CHANGE * changes, "{sent} packets are too few for {changes} changes");
    println!("{rate} packets/s, {changes} changes, {lost} lost by the wire");
    Ok(())
}

#[test]
fn counting_goes_on_when_the_proxy_is_killed() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let mut proxy = Running::start(testbed.hookgate("wan0", "mode = \"strict\"", "run")?)?;
    proxy.wait_for_stderr("guard: attached to wan0", START_TIMEOUT)?;
    let visits = |count: u64| -> Result<()> {
        (0..count).try_for_each(|_| visit(&testbed.meta, META[0].0, EDGE_V4, 443))
    };
    visits(3)?;
    proxy.signal(Signal::KILL)?;
    wait_until("the proxy ends", Duration::from_secs(5), || Ok(proxy.ended()?.is_some()))?;
    visits(4)?;
    let closed = |count: u64| move |stats: &Value| Ok(Shakes::of(row(stats, META[0].1)).fins == count);
    let expected = |count| Shakes { syns: count, handshakes: count, fins: count, ..Shakes::default() };
    let stats = testbed.wait_for(Duration::from_secs(5), closed(7))?;
    assert_eq!(
        (Shakes::of(row(&stats, META[0].1)), &stats["guard"]["state"]),
        (expected(7), &"attached".into())
    );

    let mut proxy = Running::start(testbed.hookgate("wan0", "mode = \"strict\"", "run")?)?;
    proxy.wait_for_stderr("with the counters it had", START_TIMEOUT)?;
    visits(2)?;
    let stats = testbed.wait_for(Duration::from_secs(5), closed(9))?;
    assert_eq!(Shakes::of(row(&stats, META[0].1)), expected(9));
    proxy.stop()?;
    assert_eq!(testbed.stats()?["guard"]["state"], "attached", "a proxy that ends leaves the guard");
    Ok(())
}
