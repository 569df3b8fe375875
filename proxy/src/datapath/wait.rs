use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// What can end a wait of one connection's, set up once for all that it waits for.
pub(super) struct Wait<'t> {
    /// Rings when a deadline may have passed.
    pub(super) timer: Pin<&'t mut Sleep>,
    /// Ready when the process drains; then a wait that has ended is not begun again.
    pub(super) drain: Pin<&'t mut dyn Future<Output = ()>>,
}

/// A wait that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

impl Wait<'_> {
    /// Ready when `deadline` has passed. The timer is moved only when it would ring too late:
    /// progress is frequent, and moving is not free.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        loop {
            if self.timer.is_elapsed() || deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
        }
    }

    /// What `work` comes to by `deadline`.
    pub(super) async fn until<T>(
        &mut self,
        deadline: Instant,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Elapsed> {
        poll_fn(|cx| match work(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => self.poll_deadline(cx, deadline).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// The same, unless the process drains before.
    pub(super) async fn until_or_drain<T>(
        &mut self,
        deadline: Instant,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Elapsed> {
        poll_fn(|cx| match work(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if self.drain.as_mut().poll(cx).is_ready() => Poll::Ready(Err(Elapsed)),
            Poll::Pending => self.poll_deadline(cx, deadline).map(|()| Err(Elapsed)),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::sleep_until;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_pass_in_their_time_wherever_the_timer_stands() {
        let start = Instant::now();
        let (timer, drain) = (pin!(sleep_until(start)), pin!(pending()));
        let mut wait = Wait { timer, drain };
        for seconds in [5, 7, 60, 61] {
            let deadline = start + Duration::from_secs(seconds);
            let nothing = wait.until(deadline, |_| Poll::<()>::Pending).await;
            assert_eq!((nothing, start.elapsed()), (Err(Elapsed), Duration::from_secs(seconds)));
        }
        // Set for later, then needed earlier.
        let deadline = start + Duration::from_secs(100);
        assert_eq!(wait.until(deadline, |_| Poll::Ready(1)).await, Ok(1));
        let earlier = start + Duration::from_secs(62);
        assert_eq!(wait.until_or_drain(earlier, |_| Poll::<()>::Pending).await, Err(Elapsed));
        assert_eq!(start.elapsed(), Duration::from_secs(62));
    }
}
