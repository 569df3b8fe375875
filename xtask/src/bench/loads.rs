use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::generator::Generator;
use super::peer::{Peer, Prepared};
use super::scene::Scene;

/// What was measured, by name; the unit is the end of the name.
pub type Figures = BTreeMap<&'static str, f64>;

/// One sort of load.
#[derive(Clone, Copy)]
pub struct Load {
    pub name: &'static str,
    /// For readers of the report.
    pub what: &'static str,
    /// The figures that peers are compared by; less is better in all of them.
    pub compared: &'static [&'static str],
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// The generator's own, over a peer that has been running for a while; with `--seconds` where it takes so long.
    Requests { args: &'static [&'static str], timed: bool },
    /// A peer of its own for each measurement.
    Fresh,
}

/// As many connections as the memory of one is measured with.
const IDLE: u32 = 500;

pub const ALL: [Load; 7] = [
    Load {
        name: "kept-32",
        what: "32 kept connections",
        compared: &["cpu_us"],
        how: How::Requests { args: &["kept", "--connections", "32"], timed: true },
    },
    Load {
        name: "kept-256",
        what: "256 kept connections",
        compared: &["cpu_us"],
        how: How::Requests { args: &["kept", "--connections", "256"], timed: true },
    },
    Load {
        name: "paced",
        what: "300 requests/s in an open loop, over 32 kept connections",
        compared: &["cpu_us"],
        how: How::Requests { args: &["paced", "--connections", "32", "--per-second", "300"], timed: true },
    },
    Load {
        name: "full",
        what: "a connection each with a full handshake, 8 at a time",
        compared: &["cpu_us"],
        how: How::Requests { args: &["handshakes", "--senders", "8"], timed: true },
    },
    Load {
        name: "resumed",
        what: "a connection each with a resumed handshake, 8 at a time",
        compared: &["cpu_us"],
        how: How::Requests { args: &["handshakes", "--senders", "8", "--resumed"], timed: true },
    },
    Load {
        name: "burst",
        what: "500 new connections at once, until all are answered",
        compared: &["elapsed_ms", "cpu_us"],
        how: How::Requests { args: &["burst", "--connections", "500"], timed: false },
    },
    Load {
        name: "fresh",
        what: "a process just started: to its first 200, resident, and for each of 500 idle TLS connections",
        compared: &["start_ms", "rss_mib", "idle_kib"],
        how: How::Fresh,
    },
];

impl Load {
    /// # Errors
    /// A request was not answered with 200, or the peer is gone.
    pub fn measure(&self, peer: &Peer, scene: &Scene, duration: Duration) -> Result<Figures> {
        match self.how {
            How::Requests { args, timed } => {
                let mut args = args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
                if timed {
                    args.extend(["--seconds".to_owned(), duration.as_secs_f64().to_string()]);
                }
                requests(peer, scene, &args)
            }
            How::Fresh => fresh(peer, scene),
        }
    }
}

fn requests(peer: &Peer, scene: &Scene, args: &[String]) -> Result<Figures> {
    let mut generator = Generator::prepare(scene, peer.address, args)?;
    let before = peer.cpu()?;
    let measured = generator.run()?;
    let cpu = peer.cpu()?.saturating_sub(before);
    let number = |name| number(&measured, name);
    let (requests, seconds) = (number("requests")?, number("seconds")?);
    Ok(Figures::from([
        ("cpu_us", cpu.as_secs_f64() * 1e6 / requests),
        ("requests_per_s", requests / seconds),
        ("p50_ms", number("p50")? * 1e3),
        ("p99_ms", number("p99")? * 1e3),
        ("p99.9_ms", number("p99.9")? * 1e3),
        ("elapsed_ms", seconds * 1e3),
    ]))
}

/// Another process of the same kind, from its start.
fn fresh(peer: &Peer, scene: &Scene) -> Result<Figures> {
    let prepared = Prepared::new(peer.kind, scene)?;
    let address = prepared.address;
    let mut first = Generator::prepare(scene, address, &["first".to_owned()])?;
    first.start()?; // it knocks until somebody answers
    let peer = prepared.start(scene)?;
    let start_ms = number(&first.finish()?, "seconds")? * 1e3;
    drop(first);
    let rss_mib = peer.rss_kib()? as f64 / 1024.0;

    let before = peer.pss_kib()?;
    let args = ["idle", "--connections", &IDLE.to_string()].map(str::to_owned);
    let mut idle = Generator::prepare(scene, address, &args)?;
    let connections = number(&idle.run()?, "connections")?;
    let idle_kib = peer.pss_kib()?.saturating_sub(before) as f64 / connections;
    Ok(Figures::from([("start_ms", start_ms), ("rss_mib", rss_mib), ("idle_kib", idle_kib)]))
}

fn number(measured: &Value, name: &str) -> Result<f64> {
    measured.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} was measured"))
}
