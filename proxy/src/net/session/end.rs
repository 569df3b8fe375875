//! What rustls does with records: the same for either end of a session.

use rustls::Error;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::RECORD_CONTENT_BYTES;
use crate::net::Buffer;

/// What a record is longer than its content, at most, as rustls makes them: header, explicit nonce,
/// type and tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 1 + 16;

pub(super) enum RustlsConnection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to do as soon as rustls is ready for it.
#[derive(Clone, Copy)]
pub(super) enum Intent<'a> {
    Receive,
    Send(&'a [u8]),
    Close,
}

/// What rustls has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something on the way; there is more to do before the next read.
    Continue,
    /// It wants more to read, or a intent to fulfil.
    NeedsInput,
    /// The intent is fulfilled.
    Done,
    /// The peer has closed.
    PeerClosed,
}

impl RustlsConnection {
    /// Has rustls queue what it would send with the next content.
    pub(super) fn queue_pending_records(&mut self) {
        match self {
            Self::Client(client) => queue_pending(client.process_tls_records(&mut [])),
            Self::Server(server) => queue_pending(server.process_tls_records(&mut [])),
        }
    }

    /// Processes `records` until there is something to do, and does it: decrypted content goes to
    /// `take`, records to send go to `outgoing`. Returns the number of bytes used up.
    pub(super) fn process(
        &mut self,
        records: &mut [u8],
        intent: Intent<'_>,
        take: &mut dyn FnMut(&[u8]),
        outgoing: &mut Buffer,
    ) -> (usize, Result<Progress, Error>) {
        match self {
            Self::Client(client) => handle(client.process_tls_records(records), intent, take, outgoing),
            Self::Server(server) => handle(server.process_tls_records(records), intent, take, outgoing),
        }
    }
}

fn queue_pending<Data>(status: UnbufferedStatus<'_, '_, Data>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        // Refused for want of room, after what goes before it has been queued.
        let _ = traffic.encrypt(b"?", &mut []);
    }
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    intent: Intent<'_>,
    take: &mut dyn FnMut(&[u8]),
    outgoing: &mut Buffer,
) -> (usize, Result<Progress, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                take(record.payload);
                discard = discard.saturating_add(record.discard);
            }
            Ok(Progress::Continue)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            match data.encode(outgoing.space()) {
                Ok(length) => outgoing.filled_more(length),
                Err(EncodeError::InsufficientSize(needs)) => {
                    let length = data.encode(outgoing.space_for(needs.required_size)).map_err(refused)?;
                    outgoing.filled_more(length);
                }
                Err(error) => return Err(refused(error)),
            }
            Ok(Progress::Continue)
        }
        // It is in `outgoing`, whose order is the order of sending.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Progress::Continue)
        }
        ConnectionState::PeerClosed => Ok(Progress::PeerClosed),
        ConnectionState::WriteTraffic(mut traffic) => {
            let mut length_needed = match intent {
                Intent::Receive => return Ok(Progress::NeedsInput),
                Intent::Send(text) => encrypted_bytes(text.len()),
                Intent::Close => RECORD_OVERHEAD_BYTES,
            };
            loop {
                let space = outgoing.space_for(length_needed);
                let written = match intent {
                    Intent::Receive | Intent::Close => traffic.queue_close_notify(space),
                    Intent::Send(text) => traffic.encrypt(text, space),
                };
                match written {
                    Ok(length) => {
                        outgoing.filled_more(length);
                        return Ok(Progress::Done);
                    }
                    Err(EncryptError::InsufficientSize(needs)) => length_needed = needs.required_size,
                    Err(error) => return Err(refused(error)),
                }
            }
        }
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Progress::NeedsInput),
        other => Err(Error::General(format!("{other:?} was not asked for"))),
    });
    (discard, step)
}

/// How much content, in whole records, becomes no longer than `bytes`.
pub(super) fn content_that_fits(bytes: usize) -> usize {
    (bytes / (RECORD_CONTENT_BYTES + RECORD_OVERHEAD_BYTES)).saturating_mul(RECORD_CONTENT_BYTES)
}

/// How long records with so much content become.
fn encrypted_bytes(content: usize) -> usize {
    let records = content.div_ceil(RECORD_CONTENT_BYTES).max(1);
    content.saturating_add(records.saturating_mul(RECORD_OVERHEAD_BYTES))
}

fn refused(error: impl std::error::Error) -> Error {
    Error::General(error.to_string())
}
