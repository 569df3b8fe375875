use std::time::Duration;

use tokio::time::Instant;

/// A share of a thread's time, as a divisor.
const SHARE: u32 = 4;
/// What a timer that rings late may be made up for.
const MAX_CREDIT: Duration = Duration::from_millis(2);

/// What strangers may take of a thread's time while another client is connected: until when what
/// they took is paid for, by time that others could have.
#[derive(Debug)]
pub struct Account {
    paid_until: Instant,
}

impl Account {
    pub fn new(now: Instant) -> Self {
        Self { paid_until: now }
    }

    /// They took `spent`, until now.
    pub fn spend(&mut self, spent: Duration, now: Instant) {
        let begun = now.checked_sub(MAX_CREDIT).unwrap_or(now);
        self.paid_until = self.paid_until.max(begun) + spent * SHARE;
    }

    /// How long it takes until all is paid for; `None`: it is.
    pub fn pause_until_paid(&self, now: Instant) -> Option<Duration> {
        self.paid_until.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_time_may_be_taken() {
        const TURN: Duration = Duration::from_millis(1);
        let begun = Instant::now();
        let (mut account, mut now, mut turns) = (Account::new(begun), begun, 0);
        while now < begun + Duration::from_secs(1) {
            now += TURN;
            turns += 1;
            account.spend(TURN, now);
            // A timer rings up to a millisecond late.
            now += account
                .pause_until_paid(now)
                .map_or(Duration::ZERO, |pause| pause + Duration::from_micros(700));
        }
        assert!((240..=252).contains(&turns), "{turns}");
        // A stranger that comes after a while does not wait.
        let later = now + Duration::from_secs(1);
        account.spend(TURN / 4, later);
        assert_eq!(account.pause_until_paid(later), None);
    }
}
