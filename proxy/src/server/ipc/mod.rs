//! What passes between the supervisor and its worker, over two socket pairs, a JSON text a line:
//! the worker's calls with their replies, beside which a descriptor may come; and the supervisor's
//! commands.

mod calls;
mod client;
mod command;
mod message;

pub(super) use calls::*;
pub(super) use client::SupervisorClient;
pub use client::SupervisorError;
pub(super) use command::{Command, CommandReceiver, CommandSender, channel};
pub(super) use message::{Refusal, line, receive, send, socket_on_stdin, write_list};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Every kind of message that `line` is, whichever side it is for: what it says, and the line for
/// the same.
pub fn read_and_write(line: &[u8]) -> Vec<(String, Vec<u8>)> {
    let kinds = [
        decode_and_encode::<Request>,
        decode_and_encode::<Command>,
        decode_and_encode::<Result<(), Refusal>>,
        decode_and_encode::<Result<Option<String>, Refusal>>,
        decode_and_encode::<Result<AttachedGuard, Refusal>>,
        decode_and_encode::<Result<ActivePrefixes, Refusal>>,
        decode_and_encode::<Result<Vec<crate::guard::InterfaceState>, Refusal>>,
    ];
    kinds.iter().filter_map(|kind| kind(line)).collect()
}

fn decode_and_encode<M: DeserializeOwned + Serialize + std::fmt::Debug>(
    line: &[u8],
) -> Option<(String, Vec<u8>)> {
    let message: M = serde_json::from_slice(line).ok()?;
    // What came as JSON can be written as JSON.
    Some((format!("{message:?}"), self::line(&message).unwrap_or_default()))
}
