//! Idle connections to upstreams, one pool a worker: only what is learnt of each upstream is shared
//! between cores ([`super::keep_alive`]).

mod addresses;
mod idle;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::directory::Upstream;
use super::dns::Dns;
use super::usage::Usage;
use crate::net::Stream;
use addresses::Addresses;
use idle::Idle;

/// The most idle connections that one upstream may have in one worker.
const MAX_IDLE: usize = 256;
/// How often idle connections are looked at: those that have been idle for too long, those that
/// their upstream has closed, and those whose name leads elsewhere.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// How long an upstream without connections is remembered here: making room for it anew costs more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// The connections that are made to one upstream at the same time without waiting. Beyond it a
/// request waits a little: in a burst, a connection that comes back is worth more than another
/// handshake.
const MAX_DIALS: usize = 8;
/// How long: too short for anybody to notice if the upstream is far away and nothing comes back.
const DIAL_WAIT: Duration = Duration::from_millis(20);

/// Connections by upstream's serial: what was connected under one configuration does not serve
/// another.
#[derive(Default)]
pub struct Pool {
    upstreams: RefCell<HashMap<u64, Connections>>,
    filled: Notify,
}

struct Connections {
    upstream: Arc<Upstream>,
    /// In the order in which they became idle.
    idle: VecDeque<Idle>,
    /// How many are being made.
    dialing: usize,
    /// Wakes one who waits for a connection or for a place to make one.
    freed: Rc<Notify>,
    addresses: Addresses,
    last_used: Instant,
    /// When one became idle last.
    last_kept: Option<Instant>,
}

/// What a connection is wanted for.
#[derive(Clone, Copy)]
pub struct Wanted<'w> {
    pub upstream: &'w Arc<Upstream>,
    pub dns: &'w Dns,
    /// The request may be sent again if the connection dies of it.
    pub is_repeatable: bool,
}

/// How a request gets its connection.
pub enum Checkout<'p> {
    Reused(Stream, Usage),
    Dial { permit: DialPermit<'p>, waited: Duration },
}

/// A connection that is being made; its end makes place for another.
pub struct DialPermit<'p> {
    pool: &'p Pool,
    upstream: u64,
}

impl Drop for DialPermit<'_> {
    fn drop(&mut self) {
        if let Some(connections) = self.pool.upstreams.borrow_mut().get_mut(&self.upstream) {
            connections.dialing -= 1;
            connections.freed.notify_one();
        }
    }
}

impl Pool {
    /// An idle connection, or leave to make one: at once, unless many are being made already.
    pub async fn take_or_dial(&self, wanted: Wanted<'_>) -> Checkout<'_> {
        if let Some((stream, usage)) = self.take(wanted).await {
            return Checkout::Reused(stream, usage);
        }
        match self.dial_if_few(wanted.upstream) {
            Some(permit) => Checkout::Dial { permit, waited: Duration::ZERO },
            // Boxed: rare, and has a timer.
            None => Box::pin(self.wait(wanted)).await,
        }
    }

    /// Leave to make a connection to that upstream, however many are being made.
    pub fn dial(&self, upstream: &Arc<Upstream>) -> DialPermit<'_> {
        self.with(upstream, Instant::now(), |connections| connections.dialing += 1);
        DialPermit { pool: self, upstream: upstream.serial }
    }

    fn dial_if_few(&self, upstream: &Arc<Upstream>) -> Option<DialPermit<'_>> {
        let dialing = self.with(upstream, Instant::now(), |connections| connections.dialing);
        (dialing < MAX_DIALS).then(|| self.dial(upstream))
    }

    async fn wait(&self, wanted: Wanted<'_>) -> Checkout<'_> {
        let begun = Instant::now();
        let mut dial_wait = pin!(sleep(DIAL_WAIT));
        loop {
            let freed =
                self.with(wanted.upstream, Instant::now(), |connections| Rc::clone(&connections.freed));
            tokio::select! {
                () = freed.notified() => {}
                () = &mut dial_wait => return Checkout::Dial { permit: self.dial(wanted.upstream), waited: DIAL_WAIT },
            }
            if let Some((stream, usage)) = self.take(wanted).await {
                return Checkout::Reused(stream, usage);
            }
            if let Some(permit) = self.dial_if_few(wanted.upstream) {
                return Checkout::Dial { permit, waited: begun.elapsed() };
            }
        }
    }

    /// A connection that was alive a moment ago: the most recently used one, so that the pool
    /// shrinks to what is needed.
    async fn take(&self, wanted: Wanted<'_>) -> Option<(Stream, Usage)> {
        let now = Instant::now();
        let addresses = self.with(wanted.upstream, now, |connections| {
            (!connections.idle.is_empty()).then(|| connections.addresses.clone())
        })?;
        addresses.ensure_fresh(wanted.upstream, wanted.dns, now).await;
        let now = Instant::now();
        self.with(wanted.upstream, now, |connections| connections.take(wanted.is_repeatable, now))
    }

    /// Keeps a connection that has brought a response for `age` at most, if it can serve another
    /// request. When there is no more room, the one that has been idle for longest goes.
    pub fn keep(&self, upstream: &Arc<Upstream>, stream: Stream, usage: Usage, age: Duration) {
        let now = Instant::now();
        let Some(idle) = Idle::new(stream, usage, age, upstream.keep_alive(), now) else { return };
        self.with(upstream, now, |connections| {
            if connections.addresses.have(idle.usage()) {
                if connections.idle.len() == MAX_IDLE {
                    connections.idle.pop_front();
                }
                connections.idle.push_back(idle);
                connections.last_kept = Some(now);
                connections.freed.notify_one();
                self.filled.notify_one();
            }
        });
    }

    /// Looks after idle connections, for ever; `dns` is the one to ask by now.
    pub async fn sweep(&self, dns: impl Fn() -> Arc<Dns>) {
        loop {
            if self.upstreams.borrow().is_empty() {
                self.filled.notified().await;
            }
            sleep(SWEEP_INTERVAL).await;
            let (now, dns) = (Instant::now(), dns());
            self.upstreams.borrow_mut().retain(|_, connections| {
                connections.sweep(&dns, now);
                connections.is_in_use(now)
            });
        }
    }

    fn with<T>(&self, upstream: &Arc<Upstream>, now: Instant, work: impl FnOnce(&mut Connections) -> T) -> T {
        let mut upstreams = self.upstreams.borrow_mut();
        let connections = upstreams.entry(upstream.serial).or_insert_with(|| Connections::new(upstream, now));
        connections.last_used = now;
        work(connections)
    }
}

impl Connections {
    fn new(upstream: &Arc<Upstream>, now: Instant) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            idle: VecDeque::new(),
            dialing: 0,
            freed: Rc::default(),
            addresses: Addresses::default(),
            last_used: now,
            last_kept: None,
        }
    }

    fn take(&mut self, is_repeatable: bool, now: Instant) -> Option<(Stream, Usage)> {
        let keep_alive = self.upstream.keep_alive();
        loop {
            // All others have been idle for longer. They stay: how long they last is worth knowing.
            if !keep_alive.may_use(self.idle.back()?.age(now), is_repeatable, now) {
                return None;
            }
            let mut idle = self.idle.pop_back()?;
            let may_serve = !idle.is_expired(now) && self.addresses.have(idle.usage());
            if may_serve && idle.is_alive(keep_alive, now) {
                return Some(idle.into_use(now));
            }
        }
    }

    fn sweep(&mut self, dns: &Arc<Dns>, now: Instant) {
        let keep_alive = self.upstream.keep_alive();
        let addresses = &self.addresses;
        self.idle.retain_mut(|idle| {
            !idle.is_expired(now) && addresses.have(idle.usage()) && idle.seems_alive(keep_alive, now)
        });
        if let Some(oldest) = self.idle.front() {
            keep_alive.is_open_after(oldest.age(now));
        }
        // It may be a coincidence that none is idle now.
        let has_some = self.last_kept.is_some_and(|kept| now < kept + FORGOTTEN_AFTER);
        if has_some || !self.idle.is_empty() {
            self.addresses.refresh(&self.upstream, dns, now);
        }
    }

    /// Whether there is a connection, idle or on its way, or a request that waits for one, or was a
    /// moment ago.
    fn is_in_use(&self, now: Instant) -> bool {
        !self.idle.is_empty()
            || self.dialing > 0
            || Rc::strong_count(&self.freed) > 1
            || now < self.last_used + FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Disk;
    use crate::config::Config;
    use crate::upstream::Directory;

    /// Two upstreams, and a DNS that is never asked.
    fn upstreams() -> ([Arc<Upstream>; 2], Dns) {
        let text = "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\
                    \"a.example\" = { tls = false }\n\"b.example\" = { tls = false }\n";
        let config = Config::parse("hookgate.toml".as_ref(), text).unwrap();
        let directory = Directory::new(&config.upstreams, &Disk).unwrap();
        let upstream = |name: &str| Arc::clone(directory.find(name.as_bytes()).unwrap());
        (["a.example", "b.example"].map(upstream), Dns::new(&config.dns, &Disk).unwrap())
    }

    /// As many dials as there may be without asking.
    async fn dials<'p>(pool: &'p Pool, wanted: Wanted<'_>) -> Vec<Checkout<'p>> {
        let mut ways = Vec::new();
        for _ in 0..MAX_DIALS {
            let way = pool.take_or_dial(wanted).await;
            assert!(matches!(way, Checkout::Dial { waited: Duration::ZERO, .. }));
            ways.push(way);
        }
        ways
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_in_vain_dials() {
        let (pool, ([a, b], dns)) = (Pool::default(), upstreams());
        let wanted = |upstream| Wanted { upstream, dns: &dns, is_repeatable: true };
        let dials = dials(&pool, wanted(&a)).await;
        let begun = Instant::now();
        let late = pool.take_or_dial(wanted(&a)).await;
        assert!(matches!(late, Checkout::Dial { waited: DIAL_WAIT, .. }));
        assert_eq!(begun.elapsed(), DIAL_WAIT);
        let other = pool.take_or_dial(wanted(&b)).await;
        assert!(matches!(other, Checkout::Dial { waited: Duration::ZERO, .. }), "nobody waits for another's");
        drop((dials, late, other));
        let later = Instant::now() + FORGOTTEN_AFTER;
        assert!(pool.upstreams.borrow().values().all(|connections| !connections.is_in_use(later)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_dial_permits_another() {
        let (pool, ([a, _], dns)) = (Pool::default(), upstreams());
        let wanted = Wanted { upstream: &a, dns: &dns, is_repeatable: true };
        let mut dials = dials(&pool, wanted).await;
        let milliseconds = Duration::from_millis;
        let (way, ()) = tokio::join!(pool.take_or_dial(wanted), async {
            sleep(milliseconds(5)).await;
            dials.pop();
        });
        assert!(matches!(way, Checkout::Dial { waited, .. } if waited == milliseconds(5)));
    }
}
