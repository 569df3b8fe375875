//! Idle connections to upstreams, one pool a worker: nothing here is shared between cores.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::net::Stream;

/// The most idle connections that one upstream may have in one worker.
const MOST_IDLE: usize = 256;
/// How often connections that have been idle for too long are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// So many connections are made to one upstream at the same time without asking. Whoever comes then waits a little:
/// in a burst, connections that come back are worth more than as many handshakes as there are requests.
const MOST_DIALS: usize = 8;
/// How long: too short for anybody to notice if the upstream is far away and nothing comes back.
const PATIENCE: Duration = Duration::from_millis(20);

/// Connections by upstream's serial: what was connected under one configuration does not serve another.
#[derive(Default)]
pub struct Pool {
    upstreams: RefCell<HashMap<u64, Connections>>,
    filled: Notify,
}

#[derive(Default)]
struct Connections {
    /// The most recently used one last.
    idle: Vec<Idle>,
    /// How many are being made.
    dialing: usize,
    /// Wakes one who waits for a connection or for a place to make one.
    freed: Rc<Notify>,
}

/// How a request gets its connection.
pub enum Way<'p> {
    Reuse(Stream),
    Dial { place: DialPlace<'p>, waited: Duration },
}

/// A connection that is being made; its end makes place for another.
pub struct DialPlace<'p> {
    pool: &'p Pool,
    upstream: u64,
}

impl Drop for DialPlace<'_> {
    fn drop(&mut self) {
        if let Some(connections) = self.pool.upstreams.borrow_mut().get_mut(&self.upstream) {
            connections.dialing -= 1;
            connections.freed.notify_one();
        }
    }
}

struct Idle {
    stream: Stream,
    expires: Instant,
}

impl Pool {
    /// An idle connection to the upstream with that serial, or leave to make one: at once, unless many are being
    /// made already.
    pub async fn take_or_dial(&self, upstream: u64) -> Way<'_> {
        if let Some(stream) = self.take(upstream).await {
            return Way::Reuse(stream);
        }
        match self.dial_if_few(upstream) {
            Some(place) => Way::Dial { place, waited: Duration::ZERO },
            // Boxed: rare, and has a timer.
            None => Box::pin(self.wait(upstream)).await,
        }
    }

    /// Leave to make a connection to that upstream, however many are being made.
    pub fn dial(&self, upstream: u64) -> DialPlace<'_> {
        self.upstreams.borrow_mut().entry(upstream).or_default().dialing += 1;
        DialPlace { pool: self, upstream }
    }

    fn dial_if_few(&self, upstream: u64) -> Option<DialPlace<'_>> {
        let dialing = self.upstreams.borrow().get(&upstream).map_or(0, |connections| connections.dialing);
        (dialing < MOST_DIALS).then(|| self.dial(upstream))
    }

    async fn wait(&self, upstream: u64) -> Way<'_> {
        let begun = Instant::now();
        let mut patience = pin!(sleep(PATIENCE));
        loop {
            let freed = Rc::clone(&self.upstreams.borrow_mut().entry(upstream).or_default().freed);
            tokio::select! {
                () = freed.notified() => {}
                () = &mut patience => return Way::Dial { place: self.dial(upstream), waited: PATIENCE },
            }
            if let Some(stream) = self.take(upstream).await {
                return Way::Reuse(stream);
            }
            if let Some(place) = self.dial_if_few(upstream) {
                return Way::Dial { place, waited: begun.elapsed() };
            }
        }
    }

    /// A connection to that upstream that was alive a moment ago: the most recently used one, so that the pool
    /// shrinks to what is needed.
    pub async fn take(&self, upstream: u64) -> Option<Stream> {
        loop {
            let Idle { mut stream, expires } = self.pop(upstream)?;
            if Instant::now() < expires && stream.is_quiet() {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection for `age` at most, if there is room.
    pub fn keep(&self, upstream: u64, mut stream: Stream, age: Duration) {
        let mut upstreams = self.upstreams.borrow_mut();
        let connections = upstreams.entry(upstream).or_default();
        if connections.idle.len() < MOST_IDLE && stream.holds_nothing() && stream.may_be_kept() {
            connections.idle.push(Idle { stream, expires: Instant::now() + age });
            connections.freed.notify_one();
            self.filled.notify_one();
        }
    }

    /// Closes what has been idle for too long, for ever.
    pub async fn sweep(&self) {
        loop {
            if self.upstreams.borrow().is_empty() {
                self.filled.notified().await;
            }
            sleep(SWEEP_INTERVAL).await;
            let now = Instant::now();
            self.upstreams.borrow_mut().retain(|_, connections| {
                connections.idle.retain(|idle| now < idle.expires);
                connections.is_in_use()
            });
        }
    }

    fn pop(&self, upstream: u64) -> Option<Idle> {
        self.upstreams.borrow_mut().get_mut(&upstream)?.idle.pop()
    }
}

impl Connections {
    /// Whether there is a connection, idle or on its way, or somebody who waits for one.
    fn is_in_use(&self) -> bool {
        !self.idle.is_empty() || self.dialing > 0 || Rc::strong_count(&self.freed) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many dials as there may be without asking.
    async fn dials<'p>(pool: &'p Pool, upstream: u64) -> Vec<Way<'p>> {
        let mut ways = Vec::new();
        for _ in 0..MOST_DIALS {
            let way = pool.take_or_dial(upstream).await;
            assert!(matches!(way, Way::Dial { waited: Duration::ZERO, .. }));
            ways.push(way);
        }
        ways
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_dial_in_vain_dials() {
        let (pool, upstream) = (Pool::default(), 1);
        let dials = dials(&pool, upstream).await;
        let begun = Instant::now();
        let late = pool.take_or_dial(upstream).await;
        assert!(matches!(late, Way::Dial { waited: PATIENCE, .. }));
        assert_eq!(begun.elapsed(), PATIENCE);
        let other = pool.take_or_dial(2).await;
        assert!(matches!(other, Way::Dial { waited: Duration::ZERO, .. }), "nobody waits for another's");
        drop((dials, late, other));
        assert!(pool.upstreams.borrow().values().all(|connections| !connections.is_in_use()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_dial_lets_one_go_on() {
        let (pool, upstream) = (Pool::default(), 1);
        let mut dials = dials(&pool, upstream).await;
        let milliseconds = Duration::from_millis;
        let (way, ()) = tokio::join!(pool.take_or_dial(upstream), async {
            sleep(milliseconds(5)).await;
            dials.pop();
        });
        assert!(matches!(way, Way::Dial { waited, .. } if waited == milliseconds(5)));
    }
}
