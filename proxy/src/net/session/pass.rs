//! From one session right into another.

use std::io;
use std::task::{Context, Poll, ready};

use super::end::{Intent, Progress, content_that_fits};
use super::{RECORD_CONTENT_BYTES, Session};
use crate::net::{Buffer, Size};

/// Why content did not get from one session to another.
#[derive(Debug)]
pub enum PassError {
    Read(io::Error),
    Write(io::Error),
}

impl Session {
    /// Decrypts content right into records of `to`'s, without a stop in between: up to `most` bytes
    /// of it, and no more than `to` takes at a time. What came with the last of them goes to
    /// `rest`. Ready with 0 at the end of the input. `to` must have been flushed, here nothing may
    /// have been decrypted ahead.
    pub fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Self,
        most: usize,
        rest: &mut Buffer,
    ) -> Poll<Result<usize, PassError>> {
        let (mut passed, mut fits, mut refused) = (0, usize::MAX, None);
        loop {
            while !self.has_ended
                && passed < most
                && (passed == 0
                    || !self.incoming.is_empty() && passed.saturating_add(RECORD_CONTENT_BYTES) <= fits)
            {
                let step = self.step(Intent::Receive, &mut |bytes| {
                    let (content, other) = bytes.split_at(bytes.len().min(most.saturating_sub(passed)));
                    to.outgoing.want(Size::Large);
                    fits = content_that_fits(to.outgoing.space().len().saturating_add(to.outgoing.len()));
                    refused = refused.take().or(to.grant(Intent::Send(content)).err());
                    passed = passed.saturating_add(content.len());
                    rest.extend(other);
                });
                if let Some(error) = refused.take() {
                    return Poll::Ready(Err(PassError::Write(error)));
                }
                match step {
                    Ok(Progress::Continue) => {}
                    Ok(Progress::NeedsInput | Progress::Done) => break,
                    Ok(Progress::PeerClosed) => self.has_ended = true,
                    // As with filling.
                    Err(_) if passed > 0 => break,
                    Err(error) => return Poll::Ready(Err(PassError::Read(error))),
                }
            }
            if passed > 0 || self.has_ended {
                return Poll::Ready(Ok(passed));
            }
            if let Poll::Ready(sent) = self.poll_flush(cx) {
                sent.map_err(PassError::Read)?;
            }
            ready!(self.poll_receive(cx)).map_err(PassError::Read)?;
        }
    }

    /// Whether all decrypted content has been read.
    pub fn has_nothing_ahead(&self) -> bool {
        self.ahead.is_empty()
    }
}
