use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Loss;
use crate::messages::{Key, Report};

/// The most that are remembered; what fails beyond stays lost.
const MAX_POSTS: usize = 65_536;
/// Of one event.
const MAX_REPETITIONS: usize = 16;
/// As long as Meta sends anything again, in seconds.
const MAX_AGE: i64 = 7 * 24 * 3600;

/// POSTs that have failed, by their first event: when that comes again and gets its 200, they have
/// been made good.
#[derive(Debug, Default)]
pub struct FailedPosts {
    failed: Mutex<HashMap<Key, Vec<Failed>>>,
    /// Those whose events are not known yet.
    expected: Mutex<HashMap<u64, Loss>>,
    numbers: AtomicU64,
    /// How many events there are, so that all that goes well takes no lock.
    count: AtomicUsize,
    made_good: Mutex<HashMap<Failed, u64>>,
}

/// One that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failed {
    /// Seconds since 1970.
    pub minute: i64,
    pub loss: Loss,
}

impl FailedPosts {
    /// A POST has failed whose events are not known yet. What it is remembered by; 0: it is not.
    pub fn expect(&self, loss: Loss) -> u64 {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.len() >= MAX_POSTS {
            return 0;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        expected.insert(number, loss);
        number
    }

    /// The events of a POST are known, or it is known that they never will be.
    pub fn note(&self, report: &Report) {
        let events = &report.observation.events;
        if report.failed_post != 0 {
            let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
            let loss = expected.remove(&report.failed_post);
            drop(expected);
            let first = events.first().filter(|first| first.has_id && report.unscanned.is_none());
            if let Some((first, loss)) = first.zip(loss) {
                self.add(first.key, loss, report.ended.div_euclid(1000));
            }
        } else if report.is_delivered && report.unscanned.is_none() {
            self.deliver(events.iter().map(|event| event.key));
        }
    }

    /// A POST whose first event this is has failed. `now`: seconds since 1970.
    fn add(&self, event: Key, loss: Loss, now: i64) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MAX_POSTS && !failed.contains_key(&event) {
            return;
        }
        let posts = failed.entry(event).or_default();
        if posts.len() < MAX_REPETITIONS {
            posts.push(Failed { minute: now.div_euclid(60) * 60, loss });
        }
        self.count.store(failed.len(), Ordering::Relaxed);
    }

    /// These events have got their 200.
    fn deliver(&self, events: impl Iterator<Item = Key>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            for post in failed.remove(&event).into_iter().flatten() {
                let mut made_good = self.made_good.lock().unwrap_or_else(PoisonError::into_inner);
                *made_good.entry(post).or_default() += 1;
            }
        }
        self.count.store(failed.len(), Ordering::Relaxed);
    }

    /// What was made good since this was called last. Forgets what is too old for that.
    pub fn take_made_good(&self, now: i64) -> HashMap<Failed, u64> {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.retain(|_, posts| posts.iter().any(|post| now - post.minute < MAX_AGE));
            self.count.store(failed.len(), Ordering::Relaxed);
        }
        // A report that had no room is never noted.
        let oldest = self.numbers.load(Ordering::Relaxed).saturating_sub(MAX_POSTS as u64 / 2);
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.retain(|number, _| *number > oldest);
        drop(expected);
        std::mem::take(&mut *self.made_good.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Cause, LostAt};
    use crate::prefixes::CounterIndex;

    #[test]
    fn every_failed_post_of_an_event_is_made_good_by_its_200() {
        let posts = FailedPosts::default();
        let loss = |cause| Loss {
            counter: CounterIndex::OTHER,
            upstream: None,
            lost_at: LostAt::Upstream,
            cause: Cause::Status(cause),
        };
        let [one, other] = [Key([1; 16]), Key([2; 16])];
        posts.add(one, loss(500), 1000);
        posts.add(one, loss(500), 1010);
        posts.add(other, loss(503), 1010);
        assert!(posts.take_made_good(2000).is_empty());
        posts.deliver([one, Key([3; 16])].into_iter());
        let made_good = posts.take_made_good(2000);
        assert_eq!(made_good, HashMap::from([(Failed { minute: 960, loss: loss(500) }, 2)]));
        posts.deliver([one].into_iter());
        assert!(posts.take_made_good(2000).is_empty());
        assert!(posts.take_made_good(1010 + MAX_AGE).is_empty());
        posts.deliver([other].into_iter());
        assert!(posts.take_made_good(1010 + MAX_AGE).is_empty(), "it is too old");
    }
}
