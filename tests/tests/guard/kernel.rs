//! What the kernel drops: its own counters, and its reasons.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::Need;
use serde_json::{Value, json};

use super::answers::{FILTERED, FullQueue, NORMAL, QUEUED, SILENT, UNHEARD, attach, drop, testbed};
use super::peers::{Server, visit};
use super::raw::{SYN, Segment, Sender};
use super::testbed::{CLOSED, EDGE_V4, EDGE_V6, STRANGERS, Testbed, UNGUARDED, can_run, row};

const A_MOMENT: Duration = Duration::from_secs(4);

fn count(stats: &Value, name: &str) -> Result<u64> {
    stats["kernel"][name].as_u64().with_context(|| format!("no {name}: {}", stats["kernel"]))
}

#[test]
fn what_a_full_accept_queue_drops_is_told() -> Result<()> {
    if !can_run(&[Need::Program("nft"), Need::Program("bpftool")]) {
        return Ok(());
    }
    const LAST: u16 = 4;
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    drop(&testbed.meta, "output", &[&format!("ip saddr {} tcp flags & rst == rst", QUEUED.1)])?;
    let full = FullQueue::new(&testbed, &Sender::new(&testbed.meta)?, LAST)?;
    let before = testbed.stats()?;
    let raw = Sender::new(&testbed.meta)?;
    full.last.iter().try_for_each(|ack| raw.send(ack))?;
    for name in ["listen_overflows", "listen_drops"] {
        let more = count(&before, name)? + u64::from(LAST);
        testbed.wait_for(A_MOMENT, |stats| Ok(count(stats, name)? == more))?;
    }
    // Newer kernels have a reason for it, too.
    if reasons(&testbed)?.contains(&"tcp_listen_overflow".to_owned()) {
        assert_eq!(drops(&testbed.stats()?, QUEUED.0), json!({ "tcp_listen_overflow": LAST }));
    }
    Ok(())
}

fn drops(stats: &Value, name: &str) -> Value {
    row(stats, name)["kernel_drops"].clone()
}

/// Whether this kernel tells reasons, by another reader of its types. The reasons' names.
fn reasons(testbed: &Testbed) -> Result<Vec<String>> {
    let dump = testbed.edge.run("bpftool btf dump file /sys/kernel/btf/vmlinux")?;
    let lines = dump.lines().skip_while(|line| !line.contains("ENUM 'skb_drop_reason'")).skip(1);
    let names = lines.take_while(|line| line.starts_with('\t')).filter_map(|line| line.split('\'').nth(1));
    let names = names.filter_map(|name| name.strip_prefix("SKB_DROP_REASON_"));
    Ok(names.map(str::to_lowercase).collect())
}

#[test]
fn what_the_kernel_drops_of_metas_has_its_reason() -> Result<()> {
    if !can_run(&[Need::Program("nft"), Need::Program("bpftool")]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    let reasons = reasons(&testbed)?;
    if reasons.is_empty() {
        let stats = testbed.stats()?;
        let why = stats["guard"]["kernel_drops_uncounted"].as_str().context("not told")?;
        assert!(why.contains("Linux 5.17"), "{why}");
        assert_eq!(drops(&stats, NORMAL[0].0), Value::Null);
        return Ok(());
    }
    let is_syn = "tcp flags & (syn | ack) == syn";
    let is_syn_ack = "tcp flags & (syn | ack) == (syn | ack)";
    let dropped = [SILENT.1, NORMAL[1].1, STRANGERS[0]].map(|from| {
        let family = if from.contains(':') { "ip6" } else { "ip" };
        format!("{family} saddr {from} {is_syn}")
    });
    drop(&testbed.edge, "input", &dropped.each_ref().map(String::as_str))?;
    drop(&testbed.edge, "output", &[&format!("ip daddr {} {is_syn_ack}", UNHEARD.1)])?;
    // Of another namespace: not counted.
    drop(&testbed.meta, "input", &[&format!("ip daddr {} {is_syn_ack}", FILTERED.1)])?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let raw = Sender::new(&testbed.meta)?;
    let send = |from: &str, to: &str, port: u16, count: u16| -> Result<()> {
        (0..count).try_for_each(|nth| raw.send(&Segment::new(from, 43_000 + nth, to, port, SYN)?))
    };
    send(SILENT.1, EDGE_V4, 443, 7)?;
    send(SILENT.1, EDGE_V4, CLOSED, 2)?;
    send(SILENT.1, EDGE_V4, UNGUARDED, 4)?;
    send(NORMAL[1].1, EDGE_V6, 443, 5)?;
    send(STRANGERS[0], EDGE_V4, 443, 3)?;
    send(FILTERED.1, EDGE_V4, 443, 1)?;
    send(UNHEARD.1, EDGE_V4, 443, 1)?;
    visit(&testbed.meta, NORMAL[0].1, EDGE_V4, 443)?;
    let netfilter = |count: u64| json!({ "netfilter_drop": count });
    // Two SYN-ACKs: the second after a second.
    let stats = testbed.wait_for(A_MOMENT, |stats| {
        Ok(drops(stats, UNHEARD.0) == netfilter(2) && drops(stats, SILENT.0) == netfilter(9))
    })?;
    assert_eq!(drops(&stats, NORMAL[1].0), netfilter(5));
    assert_eq!([drops(&stats, NORMAL[0].0), drops(&stats, FILTERED.0)], [json!({}), json!({})]);
    assert_eq!(drops(&stats, "other"), Value::Null);
    assert_eq!(stats["guard"]["kernel_drops_uncounted"], Value::Null);
    assert!(reasons.contains(&"netfilter_drop".to_owned()), "{reasons:?}");

    // A new version's program goes on with the counts, and is the only one.
    attach(&testbed, &guard)?;
    send(SILENT.1, EDGE_V4, 443, 1)?;
    testbed.wait_for(A_MOMENT, |stats| Ok(drops(stats, SILENT.0) == netfilter(10)))?;
    // Taken off with the guard.
    let shown = testbed.edge.run("bpftool --json link show pinned /sys/fs/bpf/hookgate/kernel-drops")?;
    let id = serde_json::from_str::<Value>(&shown)?["id"].clone();
    let is_there = || Ok::<_, anyhow::Error>(testbed.edge.run(&format!("bpftool link show id {id}")).is_ok());
    assert!(is_there()?);
    testbed.run("", "guard detach")?;
    assert!(!is_there()?);
    Ok(())
}
