use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor for whose events a task can wait. To be called within a runtime.
///
/// Errors: epoll(7) does not take it.
pub fn register_async(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is the same descriptor, and open, as long as the value lives.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
