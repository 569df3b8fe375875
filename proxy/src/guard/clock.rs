use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::observe::clock;

/// Wall time, and the kernel's monotonic time at the same moment.
pub struct Clock {
    pub wall: Timestamp,
    monotonic: Duration,
}

impl Clock {
    pub fn read() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = Duration::from_secs(now.tv_sec.unsigned_abs());
        Self { wall: clock::now(), monotonic: seconds + Duration::from_nanos(now.tv_nsec.unsigned_abs()) }
    }

    pub fn monotonic_nanos(&self) -> u64 {
        u64::try_from(self.monotonic.as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long ago that was, as below.
    pub fn age(&self, monotonic_nanos: u64) -> Option<Duration> {
        (monotonic_nanos != 0).then(|| self.monotonic.saturating_sub(Duration::from_nanos(monotonic_nanos)))
    }

    /// The wall time of a moment that the program took from the kernel's monotonic clock, in
    /// nanoseconds; 0 is no moment.
    pub fn wall_time(&self, monotonic_nanos: u64) -> Option<Timestamp> {
        self.wall.checked_sub(self.age(monotonic_nanos)?).ok()
    }
}
