//! What webhooks wait for other work: on the thread that has it, on the others, and beside the same
//! work in another process, which takes the processors' time and nothing else.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::figures::{Figures, number, percentile, words};
use crate::generator::Generator;
use crate::kind::Route;
use crate::peer::Peer;
use crate::testbed::Testbed;
use crate::threads::Threads;

const WEBHOOKS: [&str; 5] = ["paced", "--connections", "32", "--per-second", "300"];
const BODY: [&str; 5] = ["bodies", "--target", "/bodies.example.com/up", "--up-bytes", "67108864"];
const FLOOD: [&str; 5] = ["flood", "--senders", "32", "--per-second", "500"];

pub fn measure(peer: &Peer, testbed: &Testbed, duration: Duration) -> Result<Figures> {
    let elsewhere = Peer::start(peer.kind, testbed)?;
    let beside = |work: Option<(&Peer, &[&str])>| Phase::run(peer, work, testbed, duration);
    let alone = beside(None)?;
    let body = beside(Some((peer, &BODY)))?;
    let body_elsewhere = beside(Some((&elsewhere, &BODY)))?;
    let flood = beside(Some((peer, &FLOOD)))?;
    let flood_elsewhere = beside(Some((&elsewhere, &FLOOD)))?;

    let (with_body, without) = body.by_thread()?;
    let [p50, alone_p99] = percentiles(&alone.times()).context("no webhook was sent")?;
    let mut figures = Figures::from([("alone_p50_ms", p50 * 1e3), ("alone_p99_ms", alone_p99 * 1e3)]);
    let mut add = |[p50_ms, p99_ms, ratio]: [&'static str; 3], times: &[f64]| {
        // A thread may have none of the connections.
        if let Some([p50, p99]) = percentiles(times) {
            figures.extend([(p50_ms, p50 * 1e3), (p99_ms, p99 * 1e3), (ratio, p99 / alone_p99)]);
        }
    };
    add(["body_p50_ms", "body_p99_ms", "body_ratio"], &body.times());
    add(["with_body_p50_ms", "with_body_p99_ms", "with_body_ratio"], &with_body);
    add(["others_p50_ms", "others_p99_ms", "others_ratio"], &without);
    add(["body_elsewhere_p50_ms", "body_elsewhere_p99_ms", "body_elsewhere_ratio"], &body_elsewhere.times());
    add(["flood_p50_ms", "flood_p99_ms", "flood_ratio"], &flood.times());
    add(
        ["flood_elsewhere_p50_ms", "flood_elsewhere_p99_ms", "flood_elsewhere_ratio"],
        &flood_elsewhere.times(),
    );
    const MIB: f64 = (1 << 20) as f64;
    figures.extend([
        ("body_mib_per_s", body.work("bytes")? / MIB / body.work("seconds")?),
        ("handshakes_per_s", flood.work("requests")? / flood.work("seconds")?),
    ]);
    Ok(figures)
}

/// The median, and what 99 of 100 do not exceed.
fn percentiles(times: &[f64]) -> Option<[f64; 2]> {
    Some([percentile(times, 50.0)?, percentile(times, 99.0)?])
}

/// Webhooks beside some work, or beside none.
struct Phase {
    /// The client's port, and the seconds from when a webhook was due to its answer.
    webhooks: Vec<(u16, f64)>,
    /// What the work's generator has measured.
    work: Option<Value>,
    /// While all connections were open.
    threads: Threads,
}

impl Phase {
    fn run(
        peer: &Peer,
        work: Option<(&Peer, &[&str])>,
        testbed: &Testbed,
        duration: Duration,
    ) -> Result<Self> {
        let prepare = |peer: &Peer, args: &[&str]| {
            let mut args = words(args);
            args.extend(["--seconds".to_owned(), duration.as_secs_f64().to_string()]);
            Generator::prepare(testbed, &peer.addresses, Route::Webhooks, &args)
        };
        let mut webhooks = prepare(peer, &WEBHOOKS)?;
        let mut work = work.map(|(peer, args)| prepare(peer, args)).transpose()?;
        work.as_mut().map(Generator::start).transpose()?;
        let measured = webhooks.run()?;
        let work = work.as_mut();
        let threads = peer.threads()?;
        let work = work.map(Generator::finish).transpose()?;
        let webhooks = serde_json::from_value(measured["by_port"].clone());
        Ok(Self { webhooks: webhooks.context("times of the load generator")?, work, threads })
    }

    /// Seconds of all webhooks.
    fn times(&self) -> Vec<f64> {
        self.webhooks.iter().map(|(_, seconds)| *seconds).collect()
    }

    /// Seconds of those on the thread that has the work's connection, and of those on the others.
    fn by_thread(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let port = self.work("port")? as u16;
        let busy = self.threads.owner(port).context("the work's connection is closed")?;
        let owned = self.webhooks.iter().filter_map(|(port, time)| Some((self.threads.owner(*port)?, *time)));
        let (with, without): (Vec<_>, Vec<_>) = owned.partition(|(thread, _)| *thread == busy);
        let times = |webhooks: Vec<(u32, f64)>| webhooks.into_iter().map(|(_, time)| time).collect();
        Ok((times(with), times(without)))
    }

    fn work(&self, name: &str) -> Result<f64> {
        number(self.work.as_ref().context("no work beside")?, name)
    }
}
