//! Loads that begin with a process of the peer's kind that has just been started, in a control
//! group of its own.

use anyhow::Result;

use crate::figures::{Figures, number, words};
use crate::generator::Generator;
use crate::kind::{Kind, Route};
use crate::peer::{Peer, Prepared};
use crate::testbed::Testbed;

/// As many connections as the memory of one is measured with.
const IDLE: &str = "500";

pub fn start_and_idle(kind: Kind, testbed: &Testbed) -> Result<Figures> {
    let prepared = Prepared::new(kind, testbed)?.in_cgroup(testbed)?;
    let (peer, start) = start(prepared, testbed)?;
    let [rss_mib, pss_mib] = [peer.rss_kib()?, peer.pss_kib()?].map(|kib| kib as f64 / 1024.0);

    // What any work leaves behind, a log of the latest requests for instance, is no idle
    // connection's.
    let started = Memory::of(&peer)?;
    let args = ["kept", "--connections", "32", "--seconds", "1"];
    let mut work = Generator::prepare(testbed, &peer.addresses, Route::Webhooks, &words(&args))?;
    work.run()?;
    let worked_mib = started.growth(&peer)?.pss_kib / 1024.0;

    let before = Memory::of(&peer)?;
    let mut idle = Generator::prepare(
        testbed,
        &peer.addresses,
        Route::Webhooks,
        &words(&["idle", "--connections", IDLE]),
    )?;
    let connections = number(&idle.run()?, "connections")?;
    let grown = before.growth(&peer)?;
    let mut figures = Figures::from([
        ("start_ms", start.answered_ms),
        ("accepted_ms", start.accepted_ms),
        ("shaken_ms", start.shaken_ms),
        ("rss_mib", rss_mib),
        ("pss_mib", pss_mib),
        ("worked_mib", worked_mib),
        ("idle_kib", grown.pss_kib / connections),
    ]);
    figures.extend(grown.peak_kib.map(|kib| ("idle_cgroup_kib", kib / connections)));
    Ok(figures)
}

pub fn uploads(kind: Kind, testbed: &Testbed, args: &[&str]) -> Result<Figures> {
    let (peer, _) = start(Prepared::new(kind, testbed)?.in_cgroup(testbed)?, testbed)?;
    let before = Memory::of(&peer)?;
    let all = ["uploads", "--connections", "200", "--bytes", "1048576"];
    let mut uploads =
        Generator::prepare(testbed, &peer.addresses, Route::Bodies, &words(&[&all, args].concat()))?;
    uploads.run()?;
    let grown = before.growth(&peer)?;
    uploads.end()?;
    let mut figures = Figures::from([("held_mib", grown.pss_kib / 1024.0)]);
    figures.extend(grown.peak_kib.map(|kib| ("held_cgroup_mib", kib / 1024.0)));
    Ok(figures)
}

/// Milliseconds from when a shell gave way to a peer's program.
pub struct Start {
    pub accepted_ms: f64,
    /// The TLS handshake done.
    pub shaken_ms: f64,
    /// Its first 200.
    pub answered_ms: f64,
}

/// Starts it while the generator tries to connect.
///
/// # Errors
/// It does not start.
pub fn start(prepared: Prepared, testbed: &Testbed) -> Result<(Peer, Start)> {
    let mut first = Generator::prepare(testbed, &prepared.addresses, Route::Webhooks, &words(&["first"]))?;
    let held = prepared.hold(testbed)?;
    first.start()?;
    let peer = held.release()?;
    let measured = first.finish()?;
    let ms = |name| Ok::<_, anyhow::Error>(number(&measured, name)? * 1e3);
    Ok((peer, Start { accepted_ms: ms("accepted")?, shaken_ms: ms("shaken")?, answered_ms: ms("seconds")? }))
}

/// A peer's memory at one time.
struct Memory {
    pss_kib: u64,
    cgroup_kib: Option<u64>,
}

/// What it has more since then: now, and at most.
struct Growth {
    pss_kib: f64,
    peak_kib: Option<f64>,
}

impl Memory {
    fn of(peer: &Peer) -> Result<Self> {
        let cgroup_kib = peer.cgroup().map(|cgroup| cgroup.used_kib()).transpose()?;
        Ok(Self { pss_kib: peer.pss_kib()?, cgroup_kib })
    }

    fn growth(&self, peer: &Peer) -> Result<Growth> {
        let pss_kib = peer.pss_kib()?.saturating_sub(self.pss_kib) as f64;
        let peak_kib = peer.cgroup().map(|cgroup| cgroup.peak_kib()).transpose()?;
        let peak_kib = peak_kib.zip(self.cgroup_kib).map(|(peak, before)| peak.saturating_sub(before) as f64);
        Ok(Growth { pss_kib, peak_kib })
    }
}
