//! Waits, which are the only places where a test's thread sleeps: for an event, through a window
//! in which nothing may change, until a configured time is over, and at a slow peer's pace.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// What a busy machine adds to a time that another process keeps.
const SLACK: Duration = Duration::from_millis(50);

/// What one look at a condition found.
pub trait Observation {
    fn is_met(&self) -> bool;

    /// What was seen, for the message of a wait that failed.
    fn describe(&self) -> String;
}

impl Observation for bool {
    fn is_met(&self) -> bool {
        *self
    }

    fn describe(&self) -> String {
        self.to_string()
    }
}

/// Whether it is met, and what was seen.
impl<T: Debug> Observation for (bool, T) {
    fn is_met(&self) -> bool {
        self.0
    }

    fn describe(&self) -> String {
        format!("{:?}", self.1)
    }
}

/// The observation that `seen` is what is expected.
pub fn equal<T: PartialEq<E>, E>(seen: T, expected: E) -> (bool, T) {
    (seen == expected, seen)
}

/// Looks every few milliseconds until the condition is met, and returns what was seen then.
///
/// # Errors
/// It was not met within `limit`: the error has its name and what was seen last. Or the first
/// error of `look`.
pub fn wait_until<O: Observation>(
    condition: impl Display,
    limit: Duration,
    mut look: impl FnMut() -> Result<O>,
) -> Result<O> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look()?;
        if seen.is_met() {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {condition}; last seen: {}", seen.describe());
        }
        sleep(POLL_INTERVAL);
    }
}

/// Looks every few milliseconds for as long as `window`: the condition must hold all the time.
///
/// # Errors
/// It did not: the error has its name and what was seen. Or the first error of `look`.
pub fn ensure_stays<O: Observation>(
    condition: impl Display,
    window: Duration,
    mut look: impl FnMut() -> Result<O>,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (elapsed, seen) = (begun.elapsed(), look()?);
        if !seen.is_met() {
            bail!("only for {elapsed:?} of {window:?}: {condition}; seen: {}", seen.describe());
        }
        if elapsed >= window {
            return Ok(());
        }
        sleep(POLL_INTERVAL);
    }
}

/// Looks every few milliseconds until the same was seen for as long as `rest`, and returns it.
///
/// # Errors
/// It went on changing for `limit`, or the first error of `look`.
pub fn wait_until_still<T: PartialEq + Debug>(
    subject: impl Display,
    rest: Duration,
    limit: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let (begun, mut seen) = (Instant::now(), look()?);
    let mut since = Instant::now();
    while since.elapsed() < rest {
        if begun.elapsed() >= limit {
            bail!("not at rest within {limit:?}: {subject}; last seen: {seen:?}");
        }
        sleep(POLL_INTERVAL);
        let now = look()?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(seen)
}

/// Lets a time pass that another process keeps, such as a record's time to live: it shows nothing
/// when the time is over.
pub fn outlast(limit: Duration) {
    sleep(limit + SLACK);
}

/// The rest of a peer that is slow on purpose, or that sends at a rate, before its next step.
pub fn pace(interval: Duration) {
    sleep(interval);
}

/// The same, for a peer that keeps to a timetable.
pub fn pace_until(due: Instant) {
    sleep(due.saturating_duration_since(Instant::now()));
}

#[expect(clippy::disallowed_methods, reason = "each caller's name says what it waits for")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
