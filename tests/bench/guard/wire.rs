//! Packets a second over a veth, whose two ends share one core here: sending, the wire, XDP and the
//! kernel behind it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::programs::xdp::XdpMode;
use harness::NetNs;
use serde_json::{Value, json};

use super::kernel::Program;
use super::paths::processor_time;
use super::raw::{ACK, Segment, Sender};

const FROM: &str = "157.240.1.7";
const TO: &str = "198.51.100.2";
const LASTS: Duration = Duration::from_secs(1);

/// Without a program, and with each of `programs` in either mode, `rounds` times.
pub fn measure(programs: &mut [(&str, Program)], rounds: usize) -> Result<Vec<Value>> {
    let (meta, edge) = (NetNs::new()?, NetNs::new()?);
    NetNs::link((&meta, "wan0"), (&edge, "wan0"))?;
    // No machine has that address: what arrives has been through XDP, and ends there.
    for (ns, own, other, address) in [
        (&meta, "02:00:00:00:00:01", "02:00:00:00:00:02", "198.51.100.1/24"),
        (&edge, "02:00:00:00:00:02", "02:00:00:00:00:01", "198.51.100.3/24"),
    ] {
        ns.run(&format!("ip link set wan0 address {own}"))?;
        ns.address("wan0", address)?;
        ns.run(&format!("ip neigh add {TO} lladdr {other} dev wan0 nud permanent"))?;
    }
    let sender = Sender::new(&meta)?;
    let segment = Segment::new(FROM, 40_000, TO, 443, ACK)?;
    let mut samples = Vec::new();
    for round in 0..rounds {
        let without = rate(&sender, &segment, &edge)?;
        samples.push(json!({ "round": round, "program": null, "xdp": null, "packets_per_s": without }));
        for (name, program) in programs.iter_mut() {
            for (xdp, mode) in [("native", XdpMode::Driver), ("generic", XdpMode::Skb)] {
                let link = edge.inside(|| Ok(program.xdp()?.attach("wan0", mode)?))?;
                let rate = rate(&sender, &segment, &edge);
                program.xdp()?.detach(link)?;
                samples.push(json!({ "round": round, "program": name, "xdp": xdp, "packets_per_s": rate? }));
            }
        }
    }
    Ok(samples)
}

/// How many packets arrive when one follows the other, in a second of processor time: what else
/// runs does not matter.
fn rate(sender: &Sender, segment: &Segment, edge: &NetNs) -> Result<f64> {
    let before = received(edge)?;
    let (begun, worked) = (Instant::now(), processor_time());
    while begun.elapsed() < LASTS {
        for _ in 0..64 {
            sender.send(segment)?;
        }
    }
    let worked = processor_time() - worked;
    Ok((received(edge)? - before) / worked)
}

fn received(edge: &NetNs) -> Result<f64> {
    let text = edge.run("cat /sys/class/net/wan0/statistics/rx_packets")?;
    text.trim().parse().context("a count of packets")
}
