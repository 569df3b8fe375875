//! Giving a session to the kernel: after the handshake, or when a long body comes.

use std::io;
use std::os::fd::AsFd as _;

use super::Session;
use super::end::{Intent, RustlsConnection};
use crate::net::{Buffer, KernelSession, KernelTls, Stream};
use crate::sys::start_kernel_tls;

const RECORD_HEADER_BYTES: usize = 5;

impl Session {
    /// A stream of its content, which the kernel takes over now or when a long body comes, if it
    /// can.
    ///
    /// Errors: it could, and then did not take the keys.
    pub fn into_stream(mut self) -> io::Result<Stream> {
        self.kernel = self.kernel.filter(|kernel| self.is_known_to(*kernel));
        self.one_by_one = false;
        match self.kernel {
            Some(kernel) if kernel.is_at_once() && self.is_between_records() => self.hand_over(kernel),
            _ => Ok(Stream::Tls(Box::new(self))),
        }
    }

    /// Whether the kernel may take it over later.
    pub fn may_be_handed_over(&self) -> bool {
        self.kernel.is_some()
    }

    /// What the kernel is to take over at the next opportunity: `None` if that is not now, and then
    /// what is read next ends with a record.
    ///
    /// Errors: the session has failed.
    pub fn opportunity(&mut self) -> io::Result<Option<KernelTls>> {
        let Some(kernel) = self.kernel else { return Ok(None) };
        self.one_by_one = true;
        if !self.incoming.is_empty() {
            return Ok(None);
        }
        // A key update that it owes the peer would come with what is sent next, and the kernel
        // knows nothing of it.
        self.end.queue_pending_records();
        if self.state().wants_write() {
            self.step_ahead(Intent::Receive)?;
        }
        Ok(self.is_between_records().then_some(kernel))
    }

    /// Gives the keys to the kernel, between records.
    ///
    /// Errors: it does not take them.
    pub fn hand_over(mut self, kernel: KernelTls) -> io::Result<Stream> {
        if start_kernel_tls(self.tcp.as_fd()).is_err() {
            // Nothing has changed.
            self.kernel = None;
            self.one_by_one = false;
            return Ok(Stream::Tls(Box::new(self)));
        }
        let session = match self.end {
            RustlsConnection::Client(client) => KernelSession::of_client(self.tcp, client, kernel),
            RustlsConnection::Server(server) => KernelSession::of_server(self.tcp, server, kernel),
        };
        Ok(Stream::Kernel(Box::new(session?)))
    }

    fn is_known_to(&self, kernel: KernelTls) -> bool {
        let state = self.state();
        let negotiated = state.protocol_version().zip(state.negotiated_cipher_suite());
        negotiated.is_some_and(|(version, suite)| kernel.takes(version, suite.suite()))
    }

    /// Whether nothing lies here that the kernel would have to know of.
    fn is_between_records(&self) -> bool {
        let is_empty = [&self.incoming, &self.outgoing, &self.ahead].into_iter().all(Buffer::is_empty);
        is_empty
            && !self.state().wants_write()
            && !self.has_ended
            && !self.has_closed
            && self.failure.is_none()
    }
}

/// How many bytes complete the last of `records`, or its header.
pub(super) fn rest_of_record(mut records: &[u8]) -> usize {
    loop {
        let length = match records {
            [_, _, _, a, b, ..] => RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*a, *b])),
            start => return RECORD_HEADER_BYTES.saturating_sub(start.len()),
        };
        match records.split_at_checked(length) {
            Some((_, rest)) => records = rest,
            None => return length.saturating_sub(records.len()),
        }
    }
}

#[cfg(test)]
mod proofs;
