//! What the worker asks of the parent and how it is answered: a JSON text a line, with descriptors beside the answers.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::order::Order;
use crate::access::StateFile;
use crate::guard::{Detail, InterfaceState};
use crate::prefixes::{Network, Standing};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// What the configuration's files say now, as JSON in a file. What it names may be asked for from now on.
    Configuration,
    /// It is in force: what only the former one named may not be asked for any more.
    InForce,
    /// A file that the configuration names.
    Open(PathBuf),
    /// The machine's root certificates, in a file that holds a list ([`write_list`]). The answer says what is wrong with
    /// them.
    Roots,
    /// A socket that has this address, and does not listen yet.
    Bind(SocketAddr),
    /// The socket that was given for this address listens from now on.
    Listen(SocketAddr),
    /// The command line's socket, which listens.
    AdminSocket,
    State(PathBuf, StateRequest),
    /// Put in force what the configuration says of the guard.
    Guard,
    /// Attach the guard to configured interfaces that it is not on.
    AttachMissing,
    /// The states of the configured interfaces.
    Interfaces,
    /// What the guard has counted.
    Stats(Detail),
    /// What the routing registry has of Meta's own: check it, put it in force, store it for the next start.
    Refreshed(BTreeSet<Network>),
    /// Put in force the prefixes that lie in the state file.
    Stored,
    /// Read the configured list of prefixes again and check it.
    ReadList,
    /// Put in force what [`Request::ReadList`] has read.
    PutListInForce,
    Tell(Told),
}

/// What is asked of a folder whose files outlive the process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StateRequest {
    Prepare,
    /// The file itself, for reading alone; none beside the answer: it does not exist.
    Read(StateFile),
    /// With this text, of at most [`crate::access::MAX_STATE_BYTES`].
    Replace(StateFile, Zeroizing<String>),
    /// [`StateFile::Certificate`] of the folders beside it, in a file that holds a list ([`write_list`]).
    CertificatesBeside,
    Lock,
}

/// What the worker tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// It serves.
    Ready,
    /// It reads another configuration; [`Told::Ready`] follows.
    Reloading,
    /// All of its threads turn.
    Alive,
    /// It takes no new clients.
    Stopping,
}

/// The prefixes from now on, and where the guard, if it is there, counts for each.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct InForce {
    pub(in super::super) standing: Standing,
    pub(in super::super) rows: Option<Vec<(Network, u32)>>,
}

/// The guard, and whose counts are where in its maps.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Attached {
    pub(in super::super) rows: Vec<(Network, u32)>,
    /// To what, in words.
    pub(in super::super) words: String,
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// errno(3), where a system call failed.
    pub(super) code: Option<i32>,
    /// Causes included.
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn into_io(self) -> io::Error {
        self.code.map_or_else(|| io::Error::other(self.why), io::Error::from_raw_os_error)
    }
}

/// The most descriptors beside one answer.
const MOST_DESCRIPTORS: usize = 1;

/// Errors: a path in it is not UTF-8.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Every kind of message that `line` is, whichever side it is for: what it says, and the line for the same.
pub fn read_and_write(line: &[u8]) -> Vec<(String, Vec<u8>)> {
    let kinds = [
        anew::<Request>,
        anew::<Order>,
        anew::<Result<(), Refusal>>,
        anew::<Result<Option<String>, Refusal>>,
        anew::<Result<Attached, Refusal>>,
        anew::<Result<InForce, Refusal>>,
        anew::<Result<Vec<InterfaceState>, Refusal>>,
    ];
    kinds.iter().filter_map(|anew| anew(line)).collect()
}

fn anew<M: DeserializeOwned + Serialize + std::fmt::Debug>(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let message: M = serde_json::from_slice(line).ok()?;
    // What came as JSON can be written as JSON.
    Some((format!("{message:?}"), self::line(&message).unwrap_or_default()))
}

/// Writes each item with its length (4 bytes, little-endian) before it.
///
/// Errors: the writer's; an item has 4 GiB.
pub(super) fn write_list<I: AsRef<[u8]>>(to: &mut dyn Write, items: &[I]) -> io::Result<()> {
    items.iter().map(AsRef::as_ref).try_for_each(|item| {
        let length = u32::try_from(item.len()).map_err(io::Error::other)?;
        to.write_all(&length.to_le_bytes())?;
        to.write_all(item)
    })
}

/// The items that [`write_list`] has written.
///
/// Errors: an item is cut short.
pub(super) fn read_list(mut rest: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut items = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (item, after) = after.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        items.push(item);
        rest = after;
    }
    Ok(items)
}

/// Sends as much of `bytes` as there is room for, with the descriptor beside it; how much that was.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// A whole line, and the descriptor that came beside it.
///
/// Errors: the other side has gone ([`io::ErrorKind::UnexpectedEof`]), or nothing came in time.
pub(super) fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    let mut part = vec![0; 16 * 1024];
    while line.last() != Some(&b'\n') {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match recvmsg(&socket, &mut [IoSliceMut::new(&mut part)], &mut beside, flags) {
            Ok(message) if message.bytes > 0 => message.bytes,
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.last();
            }
        }
        line.extend_from_slice(&part[..length]);
    }
    Ok((line, descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_file_of_a_state_folder_can_be_asked_for() {
        let replace = |file: &str| {
            let text = format!(r#"{{"State":["/state",{{"Replace":["{file}","text"]}}]}}"#);
            serde_json::from_str::<Request>(&text)
        };
        for file in ["Certificate", "Account", "Attempts"] {
            assert!(replace(file).is_ok(), "{file}");
        }
        for file in ["account.json", "other", "../other", ""] {
            assert!(replace(file).is_err(), "{file}");
        }
    }

    #[test]
    fn a_list_that_is_cut_short_is_an_error() {
        let mut bytes = Vec::new();
        write_list(&mut bytes, &[&b"one"[..], b"", b"three"]).unwrap();
        assert_eq!(read_list(&bytes).unwrap(), [&b"one"[..], b"", b"three"]);
        assert!(read_list(&bytes[..bytes.len() - 1]).is_err());
    }
}
