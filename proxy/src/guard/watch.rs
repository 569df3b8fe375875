//! What happens to interfaces and default routes, as rtnetlink tells it unasked.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::netdev;
use super::netlink::{self, Message};
use crate::sys;

/// Changes come in bursts, which one look is enough for.
const BURST: Duration = Duration::from_millis(200);
/// The longest time without a look: not all that can go wrong is told of.
const RECHECK: Duration = Duration::from_secs(15);
/// Reads of the socket at once.
const READS: usize = 64;

/// Tells when it is time to look at the interfaces again.
#[derive(Debug)]
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// To be called within a runtime.
    pub fn begin() -> io::Result<Self> {
        sys::register_async(netlink::listen(netdev::GROUPS)?).map(Self)
    }

    /// Waits until something may have changed.
    ///
    /// Errors: the socket's.
    pub async fn next(&self) -> io::Result<()> {
        let changed = async {
            loop {
                let mut ready = self.0.readable().await?;
                let mut matters = false;
                let is_all = self.receive(|message| matters |= netdev::matters(message))?;
                if is_all {
                    ready.clear_ready();
                }
                if matters || !is_all {
                    return io::Result::Ok(());
                }
            }
        };
        match timeout(RECHECK, changed).await {
            Ok(changed) => changed?,
            Err(_) => return Ok(()),
        }
        sleep(BURST).await;
        // What the burst has left is seen by the look that follows.
        self.receive(|_| {}).map(drop)
    }

    fn receive(&self, each: impl FnMut(&Message<'_>)) -> io::Result<bool> {
        netlink::receive(self.0.get_ref().as_fd(), READS, each)
    }
}
