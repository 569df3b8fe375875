//! Strangers' turns in TLS handshakes. What a handshake costs is a signature, a thousand times what
//! it costs to ask for one; so strangers' wait in a queue until no other task is ready, and each
//! thread does one at a time.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::account::Account;

/// The number that may wait. At a millisecond each (an RSA key's signature) and a quarter of the
/// time, the last one is served within 4 s, before its own time is over.
const MAX_WAITING: usize = 1000;

/// The queue of one worker.
pub struct StrangersHandshakes {
    /// A permit for the first who waits.
    turns: Semaphore,
    waiting: Cell<usize>,
    came: Notify,
    /// What turns have taken since it was last looked at.
    spent: Cell<Duration>,
}

/// As many wait as may.
#[derive(Debug)]
pub struct QueueFull;

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many handshakes wait for their turn")
    }
}

impl std::error::Error for QueueFull {}

impl Default for StrangersHandshakes {
    fn default() -> Self {
        Self {
            turns: Semaphore::const_new(0),
            waiting: Cell::default(),
            came: Notify::default(),
            spent: Cell::default(),
        }
    }
}

impl StrangersHandshakes {
    /// A turn, in the order in which they were asked for.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, QueueFull> {
        if self.waiting.get() >= MAX_WAITING {
            return Err(QueueFull);
        }
        let _waiting = Waiting::new(self);
        self.came.notify_one();
        // It is never closed, so there is always a permit in the end.
        if let Ok(permit) = self.turns.acquire().await {
            permit.forget();
        }
        Ok(Turn { queue: self, begun: Instant::now() })
    }

    /// Gives turns, for ever: one after all else that is ready has run. `is_shared`: whether a
    /// client is connected that is no stranger; then all turns together get no more than their
    /// share of the time.
    pub async fn give_turns(&self, is_shared: impl Fn() -> bool) {
        let mut account = Account::new(Instant::now());
        loop {
            while self.waiting.get() == 0 {
                self.came.notified().await;
            }
            self.turns.add_permits(1);
            // The runtime comes back here when it has run what is ready and has looked for what the
            // sockets brought.
            yield_now().await;
            let now = Instant::now();
            account.spend(self.spent.take(), now);
            if let Some(pause) = account.pause_until_paid(now).filter(|_| is_shared()) {
                sleep(pause).await;
            }
        }
    }
}

/// Something that costs time on behalf of a stranger; over when dropped.
pub(super) struct Turn<'q> {
    queue: &'q StrangersHandshakes,
    begun: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.spent.set(self.queue.spent.get() + self.begun.elapsed());
    }
}

/// One that waits, in the count.
struct Waiting<'q>(&'q Cell<usize>);

impl<'q> Waiting<'q> {
    fn new(queue: &'q StrangersHandshakes) -> Self {
        queue.waiting.set(queue.waiting.get().saturating_add(1));
        Self(&queue.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// Runs `work` in a thread that gives turns.
    fn with_turns<F: Future>(work: impl FnOnce(Rc<StrangersHandshakes>) -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let queue = Rc::new(StrangersHandshakes::default());
            let giver = Rc::clone(&queue);
            drop(spawn_local(async move { giver.give_turns(|| true).await }));
            work(queue).await
        })
    }

    #[test]
    fn others_run_between_two_turns() {
        let order = Rc::new(RefCell::new(Vec::new()));
        with_turns(async |queue| {
            let strangers = ["first", "second", "third"].map(|name| {
                let (queue, order) = (Rc::clone(&queue), Rc::clone(&order));
                spawn_local(async move {
                    let turn = queue.turn().await.unwrap();
                    order.borrow_mut().push(name);
                    drop(turn);
                })
            });
            let other = Rc::clone(&order);
            let other = spawn_local(async move {
                for _ in 0..3 {
                    other.borrow_mut().push("other");
                    yield_now().await;
                }
            });
            for task in strangers.into_iter().chain([other]) {
                task.await.unwrap();
            }
        });
        assert_eq!(*order.borrow(), ["other", "first", "other", "second", "other", "third"]);
    }

    #[test]
    fn the_queue_has_an_end_and_a_place_is_given_back() {
        let queue = StrangersHandshakes::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(queue.turn())).collect();
            for turn in &mut waiting {
                assert!(poll_once(turn).is_none());
            }
            assert!(poll_once(&mut Box::pin(queue.turn())).is_some_and(|turn| turn.is_err()));
            waiting.pop();
            assert!(poll_once(&mut Box::pin(queue.turn())).is_none());
        });
        assert_eq!(queue.waiting.get(), 0);
    }

    /// What a future has come to after one poll.
    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
