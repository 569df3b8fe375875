//! SYNs forged in the name of a network that completes handshakes, beside its real clients of which
//! some fail: the share that failed is that of the real ones.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::{Need, NetNs, pace};
use serde_json::{Value, json};

use super::flood::lost;
use super::lost::{CALM, Edge, START_TIMEOUT, drop_packets, post};
use super::peers::connect_within;
use super::raw::{SYN, Segment, Sender};
use super::testbed::{EDGE_V4, can_run, row};

const NETWORK: &str = "31.13.66.0/24";
/// Of the same /24, and no machine: it would reset the answers.
const SILENT: &str = "31.13.66.9";
/// Those that a Windows client sends.
const OTHER_OPTIONS: &[u8] = b"\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02";
/// A real client's hop limit is 64.
const FORGED_HOPS: u8 = 40;
const FORGED: usize = 2000;

const COMPLETED: usize = 388;
/// Attempts of real clients of which a firewall drops the SYN, and of such as have other options.
const DROPPED: usize = 4;
const DROPPED_OTHER: usize = 4;
/// With other options as well, and silent after the SYN-ACK.
const SILENCED: usize = 4;
const FAILED: usize = DROPPED + DROPPED_OTHER + SILENCED;
const ATTEMPTS: usize = COMPLETED + FAILED;
const _: () = assert!(100 * FAILED == 3 * ATTEMPTS);
/// Shorter than the second after which a SYN is sent again.
const ONE_SYN: Duration = Duration::from_millis(400);
/// Of the share.
const MAX_ERROR: f64 = 0.003;

/// From addresses of the network that no machine has.
fn forge(meta: &NetNs) -> Result<()> {
    let raw = Sender::new(meta)?;
    for number in 0..FORGED {
        let from = format!("31.13.66.{}", 10 + number % 200);
        let segment = Segment::new(&from, 20_000 + u16::try_from(number)?, EDGE_V4, 443, SYN)?;
        raw.send(&Segment { hop_limit: FORGED_HOPS, options: OTHER_OPTIONS, ..segment })?;
        pace(Duration::from_micros(500));
    }
    Ok(())
}

/// Attempts of which this machine drops the SYN, and each has one.
fn fail(meta: &NetNs, count: usize) -> Result<()> {
    (0..count).try_for_each(|_| {
        ensure!(connect_within(meta, CALM.bad, EDGE_V4, 443, ONE_SYN).is_err(), "it was not dropped");
        Ok(())
    })
}

fn network(stats: &Value) -> Result<&Value> {
    let seen = stats["seen"].as_array().context("no networks")?;
    seen.iter().find(|row| row["network"] == NETWORK).context("the network was not seen")
}

#[test]
fn what_is_forged_in_the_name_of_a_sender_is_left_out_of_its_share() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    let edge = Edge::new()?;
    let (meta, here) = (&edge.testbed.meta, &edge.testbed.edge);
    let is_syn = "tcp flags & (syn | ack) == syn";
    drop_packets(here, "input", &[format!("ip saddr {} {is_syn}", CALM.bad)])?;
    // From then on the network has completed a handshake.
    post(meta, CALM.good, START_TIMEOUT)?;
    thread::scope(|scope| -> Result<()> {
        let forging = scope.spawn(|| forge(meta));
        for _ in 1..COMPLETED {
            post(meta, CALM.good, START_TIMEOUT)?;
        }
        fail(meta, DROPPED)?;
        meta.run("sysctl -q -w net.ipv4.tcp_timestamps=0 net.ipv4.tcp_sack=0")?;
        fail(meta, DROPPED_OTHER)?;
        let raw = Sender::new(meta)?;
        for port in 0..SILENCED {
            let segment = Segment::new(SILENT, 41_000 + u16::try_from(port)?, EDGE_V4, 443, SYN)?;
            raw.send(&Segment { options: OTHER_OPTIONS, ..segment })?;
        }
        forging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    ensure!(lost(&edge.testbed)? == 0, "the wire lost what was sent");

    let failed = FORGED + FAILED;
    edge.wait_for("all have failed", |stats| row(stats, CALM.prefix)["handshakes_failed"] == failed)
        .with_context(|| format!("{:?}", edge.stats()))?;
    let stats = edge.stats()?;
    for row in [row(&stats, CALM.prefix), network(&stats)?] {
        assert_eq!(row["suspect"], json!({ "silent": FORGED, "unanswered": 0 }), "{row}");
        assert_eq!(row["unproven"], json!({ "silent": 0, "unanswered": 0 }), "{row}");
        let failed_by = &row["failed_by"];
        let expected = json!([FORGED + SILENCED, DROPPED + DROPPED_OTHER]);
        assert_eq!(json!([failed_by["silent"], failed_by["unanswered"]]), expected, "{row}");
    }
    let (code, report) = edge.lost(Some(CALM.prefix))?;
    assert_eq!(report["not_counted"], json!({ "reset": 0, "unproven": 0, "suspect": FORGED }), "{report}");
    let stages = report["stages"].as_array().context("no stages")?.iter();
    let of_attempts = stages.filter(|stage| stage["unit"] == "attempts");
    let (lost, of) = of_attempts.fold((0, 0), |(lost, of), stage| {
        let count = |name: &str| stage[name].as_u64().unwrap_or(0);
        (lost + count("lost") + count("late"), of.max(count("of")))
    });
    println!("{lost} of {of} were lost, where {FAILED} of {ATTEMPTS} were made to fail");
    let error = (lost as f64 / of as f64 - FAILED as f64 / ATTEMPTS as f64).abs();
    ensure!(error < MAX_ERROR, "{lost} of {of}: {report}");
    // Eight of them, which is 2 %, for want of an answer.
    assert_eq!((code, &report["verdict"]["stage"]), (Some(1), &json!("machine")), "{report}");
    let text = edge.command(&["lost", "--since", "10m"])?.output()?;
    let text = String::from_utf8(text.stdout)?;
    ensure!(text.contains(&format!("{FORGED} of one SYN each that look unlike")), "{text}");
    Ok(())
}
