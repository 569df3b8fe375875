//! Loads on peers that have been running for a while.

use std::time::Duration;

use anyhow::Result;

use crate::figures::{Figures, number, words};
use crate::generator::Generator;
use crate::kind::Route;
use crate::peer::Peer;
use crate::testbed::Testbed;

pub fn webhooks(
    peer: &Peer,
    testbed: &Testbed,
    route: Route,
    args: &[&str],
    duration: Option<Duration>,
) -> Result<Figures> {
    let mut args = words(args);
    if let Some(duration) = duration {
        args.extend(["--seconds".to_owned(), duration.as_secs_f64().to_string()]);
    }
    let mut generator = Generator::prepare(testbed, &peer.addresses, route, &args)?;
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

pub fn bodies(
    peer: &Peer,
    testbed: &Testbed,
    route: Route,
    args: &[&str],
    duration: Duration,
) -> Result<Figures> {
    let mut args = words(&[&["bodies"], args].concat());
    args.extend(["--seconds".to_owned(), duration.as_secs_f64().to_string()]);
    let mut generator = Generator::prepare(testbed, &peer.addresses, route, &args)?;
    let before = peer.cpu()?;
    let measured = generator.run()?;
    let cpu = peer.cpu()?.saturating_sub(before);
    let (bytes, seconds) = (number(&measured, "bytes")?, number(&measured, "seconds")?);
    const MIB: f64 = (1 << 20) as f64;
    Ok(Figures::from([
        ("cpu_ms_per_gib", cpu.as_secs_f64() * 1e3 / (bytes / (1024.0 * MIB))),
        ("mib_per_s", bytes / MIB / seconds),
        ("busy", cpu.as_secs_f64() / seconds),
    ]))
}
