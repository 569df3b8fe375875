//! This network namespace's interfaces, as rtnetlink tells them (RFC 3549, rtnetlink(7)).

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::Error;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub name: String,
    /// The id of the XDP program on it, whoever put it there.
    pub program: Option<u32>,
}

pub fn find(name: &str) -> Result<Device, Error> {
    let devices = list().map_err(Error::Netlink)?;
    let names = devices.iter().map(|device| device.name.clone()).collect();
    let found = devices.into_iter().find(|device| device.name == name);
    found.ok_or(Error::NoInterface { name: name.into(), present: names })
}

pub fn list() -> io::Result<Vec<Device>> {
    // NETLINK_ROUTE is protocol 0: none.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut devices = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (bytes, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        for message in records(&buffer[..bytes], Message::split) {
            match message.kind {
                NLMSG_DONE => return Ok(devices),
                NLMSG_ERROR => return Err(error(message.payload)),
                RTM_NEWLINK => devices.extend(device(message.payload)),
                _ => {}
            }
        }
    }
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

const MESSAGE_HEADER: usize = 16;
const IFINFO: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

const IFLA_IFNAME: u16 = 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
/// In an attribute's type: flags, not type.
const NLA_TYPE: u16 = 0x3fff;

/// All interfaces, please: a header, and an `ifinfomsg` of zeros.
fn request() -> [u8; MESSAGE_HEADER + IFINFO] {
    let mut request = [0; MESSAGE_HEADER + IFINFO];
    request[0..4].copy_from_slice(&((MESSAGE_HEADER + IFINFO) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request
}

/// From the payload of an RTM_NEWLINK.
fn device(payload: &[u8]) -> Option<Device> {
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let attributes = payload.get(IFINFO..)?;
    let name = attribute(attributes, IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned();
    let program = attribute(attributes, IFLA_XDP)
        .and_then(|xdp| attribute(xdp, IFLA_XDP_PROG_ID))
        .and_then(|id| id.first_chunk().copied().map(u32::from_ne_bytes));
    Some(Device { index, name, program: program.filter(|&id| id != 0) })
}

/// From the payload of an NLMSG_ERROR: a negative errno.
fn error(payload: &[u8]) -> io::Error {
    let code = payload.first_chunk().copied().map(i32::from_ne_bytes);
    code.map_or(io::ErrorKind::InvalidData.into(), |code| io::Error::from_raw_os_error(-code))
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    records(attributes, Attribute::split).find(|attribute| attribute.kind == kind).map(|found| found.payload)
}

struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message, and its length.
    fn split(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        Some((Self { kind, payload: bytes.get(MESSAGE_HEADER..length)? }, length))
    }
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
fn records<'a, R: 'a>(
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

    fn record(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = (ATTRIBUTE_HEADER + payload.len()) as u16;
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), payload].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn reads_a_device() {
        let ifinfo = [&[0; 4][..], &7u32.to_ne_bytes(), &[0; 8]].concat();
        let xdp = [record(2, &[1]), record(IFLA_XDP_PROG_ID, &42u32.to_ne_bytes())].concat();
        let named = [ifinfo, record(IFLA_IFNAME, b"eth0.100\0")].concat();
        let plain = Device { index: 7, name: "eth0.100".into(), program: None };
        assert_eq!(device(&named), Some(plain.clone()));
        let held = [named.clone(), record(IFLA_XDP | 0x8000, &xdp)].concat();
        assert_eq!(device(&held), Some(Device { program: Some(42), ..plain }));
        for length in 0..named.len() - 3 {
            assert_eq!(device(&named[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let devices = list().unwrap();
        assert!(devices.iter().any(|device| device.name == "lo" && device.index == 1), "{devices:?}");
        let error = find("no-such-thing").unwrap_err().to_string();
        assert!(error.contains("\"no-such-thing\"") && error.contains("lo"), "{error}");
    }
}
