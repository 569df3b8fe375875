use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors that a service manager has passed to this process (sd_listen_fds(3)), once in
/// its life.
///
/// Errors: what it says of them makes no sense, or they are not there.
pub fn inherited() -> io::Result<Vec<OwnedFd>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let own = |fd: RawFd| {
        // SAFETY: the protocol gives these numbers to this process alone, which has opened nothing
        // at them; they were seen to be open when they were made close-on-exec a moment ago, and
        // this runs once.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    Ok(sd_notify::listen_fds()?.map(own).collect())
}
