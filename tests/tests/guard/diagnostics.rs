//! What the programs could not do comes to hookgate's log, and not too often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Running, wait_until};

use super::flood::flood;
use super::testbed::{Testbed, can_run};

const NO_ROOM: &str = "guard: more attempts of Meta's sources than there is room for";
const INTERVAL: Duration = Duration::from_secs(10);
/// How much later the log is looked at.
const TOLERANCE: Duration = Duration::from_secs(3);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Enough to fill the table within the time that an attempt has.
const SYNS: u64 = 20_000;

#[test]
fn a_full_table_is_told_once_in_ten_seconds() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let mut proxy = Running::start(testbed.hookgate("wan0", "mode = \"strict\"", "run")?)?;
    proxy.wait_for_stderr("guard: attached to wan0", MAX_WAIT)?;
    assert!(!proxy.stderr().contains("diagnostics"), "{}", proxy.stderr());
    let times = |count: usize| {
        let said = || Ok(proxy.stderr().matches(NO_ROOM).count() >= count);
        wait_until(format!("it is told {count} times"), MAX_WAIT, said)?;
        anyhow::Ok(Instant::now())
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                flood(&testbed, SYNS, |number| {
                    let [_, _, c, d] = number.to_be_bytes();
                    [157, 240, c + 2, d]
                })?;
            }
            anyhow::Ok(())
        });
        let told = times(1).and_then(|first| Ok((first, times(2)?, times(3)?)));
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (first, second, third) = told?;
        for pause in [second - first, third - second] {
            ensure!(INTERVAL - TOLERANCE < pause && pause < INTERVAL + TOLERANCE, "after {pause:?}");
        }
        Ok(())
    })
}
