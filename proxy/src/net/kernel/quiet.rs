use std::os::fd::AsFd as _;

use rustix::io::ioctl_fionread;

use super::{Incoming, KernelSession};
use crate::sys::receive_record;

/// How often an idle session is read from: a few session tickets are expected, in no more pieces
/// than these.
const MAX_READS: usize = 16;

impl KernelSession {
    /// Whether nothing is left of what was read, no part of a message and no close of the peer's,
    /// and the kernel shows what else it has.
    pub fn holds_nothing(&self) -> bool {
        self.shows_parts && self.control.is_empty() && !self.has_ended && self.failure.is_none()
    }

    /// Whether the peer has said that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the peer has neither closed nor sent content, nor part of a record, as far as the
    /// kernel knows by now.
    pub fn is_quiet(&mut self) -> bool {
        let mut to = [0; 1024];
        for _ in 0..MAX_READS {
            if self.has_ended || self.failure.is_some() {
                return false;
            }
            // The kernel is asked: the runtime learns of what has come only when it next polls.
            let received = receive_record(self.tcp.as_fd(), &mut to);
            match self.look_at(received, &to) {
                Ok(Incoming::Nothing) => return self.holds_nothing() && !self.has_part_of_record(),
                Ok(Incoming::Control) => {}
                Ok(Incoming::Content(_)) | Err(_) => return false,
            }
        }
        false
    }

    /// Whether bytes have come that are no whole record yet: nothing else is left in the socket
    /// when there is none to read.
    fn has_part_of_record(&self) -> bool {
        ioctl_fionread(&self.tcp).map_or(true, |bytes| bytes > 0)
    }
}
