//! rtnetlink as bytes (RFC 3549, rtnetlink(7)): messages, their attributes, and the socket for
//! them.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use crate::sys;

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
pub const RTM_GETLINK: u16 = 18;
pub const RTM_SETLINK: u16 = 19;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
pub const RTM_GETROUTE: u16 = 26;
pub const RTM_NEWQDISC: u16 = 36;
pub const RTM_DELQDISC: u16 = 37;
pub const RTM_NEWTFILTER: u16 = 44;
pub const RTM_DELTFILTER: u16 = 45;
pub const RTM_GETTFILTER: u16 = 46;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
/// Of an error: the request that follows is cut to its header.
const NLM_F_CAPPED: u16 = 0x100;
/// Of an error: attributes follow the request.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// In an attribute's type: flags, not type.
const NLA_TYPE: u16 = 0x3fff;
/// The kernel fills no more at once, whatever the room.
const BUFFER_BYTES: usize = 64 * 1024;

/// A route socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// An error, and the kernel's own words where it had some.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errno: Errno,
    pub words: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, words: None }
    }
}

impl Socket {
    pub fn open() -> rustix::io::Result<Self> {
        route_socket(SocketFlags::CLOEXEC).map(Self)
    }

    /// Everything of a kind; `header`: the request's own, which comes before attributes.
    pub fn dump(&self, request: u16, header: &[u8], mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
        send(&self.0, &message(request, NLM_F_DUMP, header), SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (bytes, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            for message in messages(&buffer[..bytes]) {
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return refusal(&message).map_err(|refusal| refusal.errno.into()),
                    _ => each(&message),
                }
            }
        }
    }

    /// Has the kernel do something; `body`: the request's header and attributes.
    pub fn request(&self, kind: u16, body: &[u8]) -> Result<(), Refusal> {
        self.ask(kind, 0, body)
    }

    /// Has the kernel make something that must not be there yet.
    pub fn create(&self, kind: u16, body: &[u8]) -> Result<(), Refusal> {
        self.ask(kind, NLM_F_CREATE | NLM_F_EXCL, body)
    }

    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Refusal> {
        // If that fails, errors come without words.
        sys::enable_extended_acks(self.0.as_fd()).ok();
        send(&self.0, &message(kind, NLM_F_ACK | flags, body), SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let (bytes, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
        let answer = messages(&buffer[..bytes]).find(|message| message.kind == NLMSG_ERROR);
        answer.map_or(Err(Errno::PROTO.into()), |answer| refusal(&answer))
    }
}

/// A socket on which the kernel tells unasked what happens; reading does not wait for it.
pub fn listen(groups: u32) -> rustix::io::Result<OwnedFd> {
    let socket = route_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// What has come, up to `limit` times what one call gives. False: something was lost, or is left.
pub fn receive(socket: BorrowedFd<'_>, limit: usize, mut each: impl FnMut(&Message<'_>)) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for _ in 0..limit {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((bytes, _)) => messages(&buffer[..bytes]).for_each(|message| each(&message)),
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::NOBUFS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn route_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0: none.
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
}

pub struct Message<'a> {
    pub kind: u16,
    flags: u16,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message, and its length.
    fn split(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
        Some((Self { kind, flags, payload: bytes.get(MESSAGE_HEADER..length)? }, length))
    }
}

fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    records(bytes, Message::split)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (MESSAGE_HEADER + body.len()) as u32;
    // The sequence number and the sender's port are of no use: one request is under way at a time.
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags | NLM_F_REQUEST).to_ne_bytes(), &[0; 8], body]
        .concat()
}

/// From an NLMSG_ERROR: a negative errno or 0 for none, the request, and what the kernel has to
/// say.
fn refusal(message: &Message<'_>) -> Result<(), Refusal> {
    let errno = match message.payload.first_chunk().copied().map(i32::from_ne_bytes) {
        Some(0) => return Ok(()),
        // MAX_ERRNO is 4095.
        Some(code @ -4095..0) => Errno::from_raw_os_error(-code),
        _ => Errno::PROTO,
    };
    let words = || {
        let request = message.payload.get(4..)?;
        let length = u32::from_ne_bytes(*request.first_chunk()?) as usize;
        let length = if message.flags & NLM_F_CAPPED == 0 { length } else { MESSAGE_HEADER };
        let words = attribute(request.get(length.next_multiple_of(4)..)?, NLMSGERR_ATTR_MSG)?;
        let words = String::from_utf8_lossy(words.strip_suffix(b"\0").unwrap_or(words));
        Some(words.trim_end_matches(['.', '\n']).to_owned()).filter(|words| !words.is_empty())
    };
    Err(Refusal { errno, words: (message.flags & NLM_F_ACK_TLVS != 0).then(words).flatten() })
}

/// The payload of the first attribute of that kind.
pub fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    records(attributes, Attribute::split).find(|attribute| attribute.kind == kind).map(|found| found.payload)
}

/// The number that an attribute is.
pub fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    attribute(attributes, kind)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// An attribute as it is sent.
pub fn record(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = (ATTRIBUTE_HEADER + payload.len()) as u16;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

struct Attribute<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The first attribute, and its length.
    fn split(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & NLA_TYPE;
        Some((Self { kind, payload: bytes.get(ATTRIBUTE_HEADER..length)? }, length))
    }
}

/// Records one behind the other, each aligned to four bytes; what can't be split ends them.
pub fn records<'a, R: 'a>(
    mut bytes: &'a [u8],
    split: impl Fn(&'a [u8]) -> Option<(R, usize)> + 'a,
) -> impl Iterator<Item = R> + 'a {
    std::iter::from_fn(move || {
        let (record, length) = split(bytes)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_kernels_words() {
        let request = message(RTM_SETLINK, NLM_F_ACK, &[7; 20]);
        let words = record(NLMSGERR_ATTR_MSG, b"Peer MTU is too large to set XDP.\0");
        let code = (-34i32).to_ne_bytes();
        let refused = |flags: u16, payload: &[&[u8]]| {
            refusal(&Message { kind: NLMSG_ERROR, flags, payload: &payload.concat() })
        };
        let expected =
            Err(Refusal { errno: Errno::RANGE, words: Some("Peer MTU is too large to set XDP".into()) });
        assert_eq!(refused(NLM_F_ACK_TLVS, &[&code, &request, &words]), expected);
        let capped = NLM_F_ACK_TLVS | NLM_F_CAPPED;
        assert_eq!(refused(capped, &[&code, &request[..MESSAGE_HEADER], &words]), expected);
        let number_alone = Err(Refusal { errno: Errno::RANGE, words: None });
        assert_eq!(refused(0, &[&code, &request]), number_alone);
        for length in 0..words.len() {
            let cut = refused(NLM_F_ACK_TLVS, &[&code, &request, &words[..length]]);
            assert!(cut == number_alone || length + 4 > words.len(), "{length} bytes: {cut:?}");
        }
        assert_eq!(refused(NLM_F_ACK_TLVS, &[]), Err(Refusal { errno: Errno::PROTO, words: None }));
        assert_eq!(refused(0, &[&[0; 4]]), Ok(()));
    }
}
