//! What a session holds besides its keys while no request is under way.

use std::io;

use rustix::net::{RecvFlags, recv};

use super::Session;
use super::end::{Intent, Progress};

/// How often an idle session is read from: a few session tickets are expected.
const MAX_READS: usize = 4;

impl Session {
    /// Whether nothing of what was read is left: no content, no part of a record, no close of the
    /// peer's. Session tickets that were read are taken in.
    pub fn holds_nothing(&mut self) -> bool {
        self.look_at_what_was_read() && self.incoming.is_empty()
    }

    /// Whether content was read that no caller has taken yet.
    pub fn holds_content(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether the peer has said that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// [`Self::holds_nothing`], once what the kernel has by now was read. The kernel is asked
    /// itself, since the runtime learns of what has come only when it next polls.
    pub fn is_quiet(&mut self) -> bool {
        for _ in 0..MAX_READS {
            if !self.look_at_what_was_read() {
                return false;
            }
            let received = recv(&self.tcp, self.incoming.space(), RecvFlags::DONTWAIT);
            let received = received.map(|(_, count)| count).map_err(io::Error::from);
            self.incoming.filled_more(*received.as_ref().unwrap_or(&0));
            self.incoming.release_if_empty();
            match received {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.incoming.is_empty(),
                Ok(0) | Err(_) => return false,
            }
        }
        false
    }

    /// Decrypts the whole records that were read; whether the session can go on, and none of them
    /// had content.
    fn look_at_what_was_read(&mut self) -> bool {
        while !self.incoming.is_empty() && !self.has_ended {
            match self.step_ahead(Intent::Receive) {
                Ok(Progress::Continue) => {}
                Ok(Progress::PeerClosed) => self.has_ended = true,
                Ok(Progress::NeedsInput | Progress::Done) => break,
                Err(_) => return false,
            }
        }
        self.ahead.is_empty() && !self.has_ended && self.failure.is_none()
    }
}
