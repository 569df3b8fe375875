//! What the kernel counts by itself.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::Need;
use serde_json::Value;

use super::answers::{FullQueue, QUEUED, attach, drop, testbed};
use super::raw::Sender;
use super::testbed::can_run;

const A_MOMENT: Duration = Duration::from_secs(4);

fn count(stats: &Value, name: &str) -> Result<u64> {
    stats["kernel"][name].as_u64().with_context(|| format!("no {name}: {}", stats["kernel"]))
}

#[test]
fn what_a_full_accept_queue_drops_is_told() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
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
    Ok(())
}
