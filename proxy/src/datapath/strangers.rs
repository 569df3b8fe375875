//! Strangers' share of a worker's time. While another client than strangers is connected, their
//! connections together get no more than an [`Account`] allows, whatever they cost: bodies in
//! chunks of a byte, records without content.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::net::Account;

/// Of one worker.
pub(super) struct StrangersTime {
    account: RefCell<Account>,
    /// Those that have something to do, in the order in which they came.
    queue: RefCell<VecDeque<(Waker, Rc<Cell<Place>>)>>,
    came: Notify,
}

/// Of a connection.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    InQueue,
    /// It is its turn, however much is owed.
    Called,
}

impl Default for StrangersTime {
    fn default() -> Self {
        let account = RefCell::new(Account::new(Instant::now()));
        Self { account, queue: RefCell::default(), came: Notify::default() }
    }
}

impl StrangersTime {
    /// Does a stranger's `work`. `is_shared`: whether a client is connected that is no stranger.
    pub(super) async fn run<F: Future>(
        &self,
        mut work: Pin<&mut F>,
        is_shared: impl Fn() -> bool,
    ) -> F::Output {
        let place = Rc::new(Cell::new(Place::Outside));
        poll_fn(|cx| {
            let begun = Instant::now();
            if place.get() != Place::Called && self.is_to_wait(begun) && is_shared() {
                if place.replace(Place::InQueue) == Place::Outside {
                    self.queue.borrow_mut().push_back((cx.waker().clone(), Rc::clone(&place)));
                    self.came.notify_one();
                }
                return Poll::Pending;
            }
            if place.get() == Place::Called {
                place.set(Place::Outside);
            }
            let polled = work.as_mut().poll(cx);
            let now = Instant::now();
            self.account.borrow_mut().spend(now - begun, now);
            polled
        })
        .await
    }

    fn is_to_wait(&self, now: Instant) -> bool {
        !self.queue.borrow().is_empty() || self.account.borrow().pause_until_paid(now).is_some()
    }

    /// Calls those that wait, for ever: one after another, each when what the others took is paid
    /// for.
    pub(super) async fn give(&self) {
        loop {
            while self.queue.borrow().is_empty() {
                self.came.notified().await;
            }
            let pause = self.account.borrow().pause_until_paid(Instant::now());
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            let next = self.queue.borrow_mut().pop_front();
            if let Some((waker, place)) = next {
                place.set(Place::Called);
                waker.wake();
            }
            // It runs before this goes on, and all that is ready besides.
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::task::{JoinHandle, LocalSet, spawn_local};

    use super::*;

    type Order = Rc<RefCell<Vec<&'static str>>>;

    /// A stranger that writes down its name, twice.
    fn stranger(
        name: &'static str,
        time: &Rc<StrangersTime>,
        is_shared: bool,
        order: &Order,
    ) -> JoinHandle<()> {
        let (time, order) = (Rc::clone(time), Rc::clone(order));
        spawn_local(async move {
            let work = pin!(async {
                order.borrow_mut().push(name);
                yield_now().await;
                order.borrow_mut().push(name);
            });
            time.run(work, || is_shared).await;
        })
    }

    fn in_debt(debt: Duration) -> Rc<StrangersTime> {
        let time = Rc::new(StrangersTime::default());
        time.account.borrow_mut().spend(debt, Instant::now());
        time
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_wait_for_their_time_and_all_get_a_turn() {
        LocalSet::new()
            .run_until(async {
                let (time, order) = (in_debt(Duration::from_secs(1)), Order::default());
                let giver = Rc::clone(&time);
                let giver = spawn_local(async move { giver.give().await });
                let tasks = ["first", "second"].map(|name| stranger(name, &time, true, &order));
                sleep(Duration::from_secs(3)).await;
                assert!(order.borrow().is_empty(), "a quarter of the time, and it was taken at once");
                for task in tasks {
                    task.await.unwrap();
                }
                assert_eq!(*order.borrow(), ["first", "second", "first", "second"]);
                giver.abort();
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_that_is_alone_does_not_wait() {
        LocalSet::new()
            .run_until(async {
                let (time, order) = (in_debt(Duration::from_secs(1)), Order::default());
                stranger("alone", &time, false, &order).await.unwrap();
                assert_eq!(*order.borrow(), ["alone", "alone"]);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_woken_while_it_waits_waits_once() {
        LocalSet::new()
            .run_until(async {
                let time = in_debt(Duration::from_secs(1));
                let mut running = Box::pin(async { time.run(pin!(async {}), || true).await });
                for _ in 0..3 {
                    assert!(poll_once(running.as_mut()).is_pending());
                }
                assert_eq!(time.queue.borrow().len(), 1);
            })
            .await;
    }

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(Waker::noop()))
    }
}
