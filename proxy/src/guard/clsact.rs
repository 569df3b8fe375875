//! A tc program in clsact (tc-bpf(8)), where the kernel has no links for such programs: before
//! Linux 6.6.
//!
//! No descriptor holds it, so it is known by the name of its filter. The name also says whether
//! clsact itself came with it.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::netlink::{self, Refusal, Socket, attribute, record};
use crate::sys::bpf::Direction;

/// `struct tcmsg`.
const TCMSG: usize = 20;
/// `TC_H_MAKE(TC_H_CLSACT, 0)`, and what the kernel calls its parent and its two ends.
const CLSACT: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const ENDS: [u32; 2] = [INGRESS, EGRESS];
const ETH_P_ALL: u16 = 3;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// Behind the filter's name where clsact goes with it.
const WITH_CLSACT: &str = "+clsact";

/// Where a program is, and what its filter is called.
#[derive(Clone, Copy, Debug)]
pub struct Place<'n> {
    pub interface: u32,
    pub direction: Direction,
    pub name: &'n str,
}

impl Place<'_> {
    fn end(self) -> u32 {
        match self.direction {
            Direction::In => INGRESS,
            Direction::Out => EGRESS,
        }
    }
}

/// A filter at one end of an interface's clsact.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    /// Priority and protocol, as the kernel has them in one number.
    info: u32,
    handle: u32,
    /// `None`: not a BPF program's.
    name: Option<String>,
}

impl Filter {
    fn came_with_clsact(&self) -> bool {
        self.name.as_deref().is_some_and(|name| name.ends_with(WITH_CLSACT))
    }
}

/// Puts a program in a place; instead of the one that is there under that name, in one step.
/// Whether there was one.
pub fn attach(place: Place<'_>, program: BorrowedFd<'_>) -> Result<bool, Refusal> {
    let socket = Socket::open()?;
    let Place { interface, name, .. } = place;
    if let Some(own) = own(&socket, place).map_err(refusal)? {
        let own_name = own.name.as_deref().unwrap_or(name);
        let header = tcmsg(interface, own.handle, place.end(), own.info);
        let body = [&header[..], &bpf(program, own_name)].concat();
        socket.request(netlink::RTM_NEWTFILTER, &body)?;
        return Ok(true);
    }
    let clsact = [&tcmsg(interface, CLSACT, CLSACT_PARENT, 0)[..], &record(TCA_KIND, b"clsact\0")].concat();
    let is_added = match socket.create(netlink::RTM_NEWQDISC, &clsact) {
        Ok(()) => true,
        Err(Refusal { errno: Errno::EXIST, .. }) => false,
        Err(refusal) => return Err(refusal),
    };
    // An empty one has no use: an attach that was killed has left it. With a hookgate's other
    // filters it goes when the last of them does.
    let others = all(&socket, interface).map_err(refusal)?;
    let comes_with = is_added || others.is_empty() || others.iter().any(Filter::came_with_clsact);
    let full_name = if comes_with { format!("{name}{WITH_CLSACT}") } else { name.to_owned() };
    let any_priority = u32::from(ETH_P_ALL.to_be());
    let body = [&tcmsg(interface, 0, place.end(), any_priority)[..], &bpf(program, &full_name)].concat();
    let attached = socket.create(netlink::RTM_NEWTFILTER, &body);
    if attached.is_err() && (is_added || others.is_empty()) {
        socket.request(netlink::RTM_DELQDISC, &clsact).ok();
    }
    attached.map(|()| false)
}

/// Takes that program away, if it is there, and clsact, if that came with it and is empty then.
/// Whether it was there.
pub fn detach(place: Place<'_>) -> Result<bool, Refusal> {
    let socket = Socket::open()?;
    let interface = place.interface;
    let mut was_there = false;
    while let Some(own) = own(&socket, place).map_err(refusal)? {
        socket.request(netlink::RTM_DELTFILTER, &tcmsg(interface, own.handle, place.end(), own.info))?;
        was_there = true;
        if own.came_with_clsact() && all(&socket, interface).map_err(refusal)?.is_empty() {
            socket.request(netlink::RTM_DELQDISC, &tcmsg(interface, CLSACT, CLSACT_PARENT, 0))?;
        }
    }
    Ok(was_there)
}

/// Whether that program is there.
pub fn is_attached(place: Place<'_>) -> io::Result<bool> {
    Ok(own(&Socket::open()?, place)?.is_some())
}

/// The command that takes that program away; `None`: it is not there.
pub fn removal(place: Place<'_>, interface: &str) -> Option<String> {
    let own = own(&Socket::open().ok()?, place).ok()??;
    let (end, priority) = (if place.end() == INGRESS { "ingress" } else { "egress" }, own.info >> 16);
    Some(format!(
        "tc filter del dev {interface} {end} protocol all pref {priority} handle {} bpf",
        own.handle
    ))
}

fn own(socket: &Socket, place: Place<'_>) -> io::Result<Option<Filter>> {
    let is_own = |filter: &Filter| {
        let rest = filter.name.as_deref().and_then(|full| full.strip_prefix(place.name));
        rest.is_some_and(|rest| rest.is_empty() || rest == WITH_CLSACT)
    };
    Ok(filters(socket, place.interface, place.end())?.into_iter().find(is_own))
}

fn all(socket: &Socket, interface: u32) -> io::Result<Vec<Filter>> {
    let ends = ENDS.map(|end| filters(socket, interface, end));
    Ok(ends.into_iter().collect::<io::Result<Vec<_>>>()?.concat())
}

/// None also where there is no clsact.
fn filters(socket: &Socket, interface: u32, parent: u32) -> io::Result<Vec<Filter>> {
    let mut filters = Vec::new();
    let dumped = socket.dump(netlink::RTM_GETTFILTER, &tcmsg(interface, 0, parent, 0), |message| {
        if message.kind == netlink::RTM_NEWTFILTER {
            filters.extend(filter(message.payload));
        }
    });
    match dumped.map_err(|error| (Errno::from_io_error(&error), error)) {
        Ok(()) | Err((Some(Errno::INVAL | Errno::NOENT), _)) => Ok(filters),
        Err((_, error)) => Err(error),
    }
}

/// From the payload of an RTM_NEWTFILTER.
fn filter(payload: &[u8]) -> Option<Filter> {
    let word = |at: usize| Some(u32::from_ne_bytes(*payload.get(at..)?.first_chunk()?));
    let (handle, info) = (word(8)?, word(16)?);
    let attributes = payload.get(TCMSG..)?;
    let is_bpf = attribute(attributes, TCA_KIND) == Some(b"bpf\0");
    let options = attribute(attributes, TCA_OPTIONS).filter(|_| is_bpf);
    let name = options.and_then(|options| attribute(options, TCA_BPF_NAME));
    let name =
        name.map(|name| String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned());
    // One without a handle only announces those of its priority.
    (handle != 0).then_some(Filter { info, handle, name })
}

fn tcmsg(interface: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut message = [0; TCMSG];
    for (at, word) in [(4, interface), (8, handle), (12, parent), (16, info)] {
        message[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    message
}

/// Attributes of a filter that is a program, whose return value decides.
fn bpf(program: BorrowedFd<'_>, name: &str) -> Vec<u8> {
    let options = [
        record(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
        record(TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat()),
        record(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
    ];
    [record(TCA_KIND, b"bpf\0"), record(TCA_OPTIONS, &options.concat())].concat()
}

fn refusal(error: io::Error) -> Refusal {
    Errno::from_io_error(&error).unwrap_or(Errno::IO).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_filter() {
        let name = record(TCA_BPF_NAME, b"hookgate/answers+clsact\0");
        let kind = |kind: &[u8]| [&record(TCA_KIND, kind)[..], &record(TCA_OPTIONS, &name)].concat();
        let message = |handle, kind: &[u8]| [&tcmsg(3, handle, EGRESS, 0xc000_0300)[..], kind].concat();
        let found =
            |name: Option<&str>| Some(Filter { info: 0xc000_0300, handle: 1, name: name.map(str::to_owned) });
        let whole = message(1, &kind(b"bpf\0"));
        assert_eq!(filter(&whole), found(Some("hookgate/answers+clsact")));
        assert_eq!(filter(&message(1, &kind(b"u32\0"))), found(None), "another program's options");
        assert_eq!(filter(&message(0, &kind(b"bpf\0"))), None);
        for length in 0..TCMSG {
            assert_eq!(filter(&whole[..length]), None, "{length} bytes");
        }
        for length in TCMSG..whole.len() {
            assert!(filter(&whole[..length]).is_some(), "{length} bytes");
        }
    }
}
