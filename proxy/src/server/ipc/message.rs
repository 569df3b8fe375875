//! Messages as bytes: one line of JSON each, and lists of byte strings in files.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// The most descriptors beside one message.
const MAX_DESCRIPTORS: usize = 1;

/// Why a call was not served.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct Refusal {
    /// errno(3), where a system call failed.
    pub(in crate::server) code: Option<i32>,
    /// Causes included.
    pub(in crate::server) why: String,
}

impl Refusal {
    pub(super) fn into_io(self) -> io::Error {
        self.code.map_or_else(|| io::Error::other(self.why), io::Error::from_raw_os_error)
    }
}

/// Takes the socket that this process was started with as its standard input.
pub(in crate::server) fn socket_on_stdin() -> io::Result<UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // Nothing else in this process may keep it open.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
    Ok(socket.into())
}

/// Errors: a path in it is not UTF-8.
pub(in crate::server) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes each item with its length (4 bytes, little-endian) before it.
///
/// Errors: the writer's; an item has 4 GiB.
pub(in crate::server) fn write_list<I: AsRef<[u8]>>(to: &mut dyn Write, items: &[I]) -> io::Result<()> {
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

/// Sends as much of `bytes` as there is room for, with the descriptor beside it. Returns the number
/// of bytes sent.
pub(in crate::server) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// A whole line of at most `limit` bytes, and the descriptor that came beside it.
///
/// Errors: the other side has gone ([`io::ErrorKind::UnexpectedEof`]), nothing came in time, or the
/// line is too long.
pub(in crate::server) fn receive(socket: impl AsFd, limit: usize) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    let mut part = vec![0; 16 * 1024];
    while line.last() != Some(&b'\n') {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match recvmsg(&socket, &mut [IoSliceMut::new(&mut part)], &mut control, flags) {
            Ok(message) if message.bytes > 0 => message.bytes,
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.last();
            }
        }
        if line.len() + length > limit {
            return Err(io::Error::other(format!("a message is longer than {limit} bytes")));
        }
        line.extend_from_slice(&part[..length]);
    }
    Ok((line, descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_cut_short_is_an_error() {
        let mut bytes = Vec::new();
        write_list(&mut bytes, &[&b"one"[..], b"", b"three"]).unwrap();
        assert_eq!(read_list(&bytes).unwrap(), [&b"one"[..], b"", b"three"]);
        assert!(read_list(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_line_is_read_up_to_its_limit() {
        for (length, is_read) in [(99, true), (100, false)] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            send(&theirs, &line, None).unwrap();
            assert_eq!(receive(&ours, 100).is_ok(), is_read, "{length}");
        }
    }
}
