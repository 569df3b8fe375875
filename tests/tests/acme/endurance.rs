//! Years of operation in two minutes.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use harness::{NetNs, Origin, free_port, is_there, pace, wait_until};

use crate::renewing::{OK, Wished, send};
use crate::{MAX_WAIT, NAME, believing, can_run};

const CLIENTS: usize = 4;
const RENEWALS: usize = 5;
/// In between two renewals, at least: 1,000 and 20 in all.
const RELOADS: usize = 200;
const UPGRADES: usize = 4;

/// What the two processes hold: descriptors of both, and the worker's resident memory in KiB.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    memory: u64,
}

impl Held {
    fn by(testbed: &Wished) -> Result<Self> {
        let parents = fs::read_dir(format!("/proc/{}/fd", testbed.proxy.pid()))?.count();
        let descriptors = testbed.proxy.descriptors()? + parents;
        Ok(Self { descriptors, memory: testbed.proxy.memory_kib()?.0 })
    }
}

/// How long requests take that [`CLIENTS`] clients send while `meanwhile` runs, in order.
fn under_load(testbed: &Wished, meanwhile: impl FnOnce() -> Result<()>) -> Result<Vec<Duration>> {
    let trusted = believing(&testbed.pebble.root()?)?;
    let stop = AtomicBool::new(false);
    let mut took = scope(|scope| {
        let clients = [(); CLIENTS].map(|()| scope.spawn(|| send(&testbed.edge, &trusted, &stop)));
        let done = meanwhile();
        stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        done.map(|()| took)
    })?;
    took.sort();
    Ok(took)
}

fn percentile(took: &[Duration], percent: usize) -> Duration {
    took[(took.len() - 1) * percent / 100]
}

/// Each changes the configuration: an upstream comes or goes, every tenth time a listener.
fn reload(testbed: &Wished, plain: &str, count: &mut usize) -> Result<()> {
    let path = testbed.proxy.config();
    let former = fs::read_to_string(path)?;
    let (upstream, listener) = ("\"other.example\" = {}\n", format!("plain = [\"{plain}\"]\n"));
    let toggled = |text: String, before: &str, line: &str| match text.contains(line) {
        true => text.replace(line, ""),
        false => text.replacen(before, &format!("{before}{line}"), 1),
    };
    let mut text = toggled(former, "[upstreams]\n", upstream);
    *count += 1;
    if count.is_multiple_of(10) {
        text = toggled(text, "[listen]\n", &listener);
    }
    fs::write(path, text)?;
    testbed.proxy.command(&NetNs::here(), &["reload"]).map(drop)
}

#[test]
#[ignore = "takes three minutes"]
fn reloads_upgrades_and_renewals_fail_no_request() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let origin = Origin::answering(OK)?;
    let more =
        format!("[upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n", origin.address());
    // Always due: a quarter of its life lies between one certificate and the next.
    let lifetime = Duration::from_secs(80);
    let testbed = Wished::start(lifetime, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", &more)?;
    let plain = format!("127.0.0.1:{}", free_port()?);
    let root = testbed.pebble.root()?;

    let quiet = under_load(&testbed, || {
        pace(Duration::from_secs(12));
        Ok(())
    })?;
    let (mut held, mut reloads) = (Vec::new(), 0);
    let busy = under_load(&testbed, || {
        for _ in 0..RENEWALS {
            let (begun, shown) = (Instant::now(), testbed.edge.shown(&root, NAME)?);
            // At once, as an order that an upgrade interrupts comes later.
            for _ in 0..UPGRADES {
                testbed.proxy.upgrade()?;
                reload(&testbed, &plain, &mut reloads)?;
            }
            let enough = reloads + RELOADS - UPGRADES;
            while reloads < enough || testbed.edge.shown(&root, NAME)? == shown {
                ensure!(begun.elapsed() < MAX_WAIT, "no renewal\n{}", testbed.proxy.stderr());
                reload(&testbed, &plain, &mut reloads)?;
                pace(Duration::from_millis(50));
            }
            held.push(Held::by(&testbed)?);
        }
        Ok(())
    })?;

    let (was, is) = (percentile(&quiet, 99), percentile(&busy, 99));
    eprintln!(
        "{} requests over {reloads} reloads, {} upgrades and {RENEWALS} renewals: none failed; \
         99 % within {is:?}, {was:?} when nothing happened ({:.2} times)",
        busy.len(),
        testbed.proxy.successors().len(),
        is.as_secs_f64() / was.as_secs_f64()
    );
    let (Some(first), Some(last)) = (held.first(), held.last()) else { unreachable!("there were renewals") };
    eprintln!("held after the first renewal: {first:?}, after the last one: {last:?}");
    ensure!(last.descriptors <= first.descriptors + 8, "descriptors grow: {held:?}");
    ensure!(last.memory <= first.memory + 4096, "memory grows: {held:?}");
    let former: Vec<u32> = testbed.proxy.successors().into_iter().rev().skip(1).collect();
    wait_until("the former processes end", MAX_WAIT, || Ok(!former.iter().any(|pid| is_there(*pid))))?;
    Ok(())
}
