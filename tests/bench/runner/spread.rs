//! How evenly new connections come to the threads.

use anyhow::{Context, Result};

use crate::figures::{Figures, words};
use crate::generator::Generator;
use crate::kind::Route;
use crate::peer::Peer;
use crate::testbed::Testbed;

pub fn measure(peer: &Peer, testbed: &Testbed) -> Result<Figures> {
    let (one_by_one, at_once) = (shares(peer, testbed, &[])?, shares(peer, testbed, &["--at-once"])?);
    Ok(Figures::from([
        ("one_by_one_most_pct", one_by_one.most),
        ("one_by_one_least_pct", one_by_one.least),
        ("at_once_most_pct", at_once.most),
        ("at_once_least_pct", at_once.least),
    ]))
}

/// The most and the least of the connections that one thread has, in per cent.
struct Shares {
    most: f64,
    least: f64,
}

fn shares(peer: &Peer, testbed: &Testbed, args: &[&str]) -> Result<Shares> {
    let args = words(&[&["open", "--connections", "64"], args].concat());
    let mut opened = Generator::prepare(testbed, &peer.addresses, Route::Webhooks, &args)?;
    let measured = opened.run()?;
    let ports = serde_json::from_value::<Vec<u16>>(measured["ports"].clone());
    let ports = ports.context("ports of the load generator")?;
    let counts = peer.threads()?.counts(&ports);
    let share = |count: Option<&usize>| {
        count.map(|count| *count as f64 / ports.len() as f64 * 100.0).context("no thread")
    };
    Ok(Shares { most: share(counts.iter().max())?, least: share(counts.iter().min())? })
}
