//! This network namespace's interfaces and default routes, as rtnetlink tells them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::error::Error;
use super::netlink::{self, Message, Refusal, Socket, attribute, number, record, records};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub name: String,
    /// What its frames begin with: `ARPHRD_…` of linux/if_arp.h.
    hardware: u16,
    /// The index of the interface whose frames it takes some of: that below a VLAN, a macvlan, an
    /// ipvlan.
    lower: Option<u32>,
    /// The index of the bond or bridge that takes its frames.
    master: Option<u32>,
    /// The XDP program on it, hookgate's or another.
    pub program: Option<XdpProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    pub id: u32,
    /// What ip-link(8) calls the place where it runs: `xdpdrv`, `xdpgeneric`, `xdpoffload`.
    pub place: &'static str,
}

impl Device {
    /// Whether its frames begin with an Ethernet header, which is all that the program can read.
    pub fn has_ethernet(&self) -> bool {
        [ARPHRD_ETHER, ARPHRD_LOOPBACK].contains(&self.hardware)
    }

    fn is_right_above(&self, other: &Self) -> bool {
        self.index != other.index && (self.lower == Some(other.index) || other.master == Some(self.index))
    }
}

pub fn find(name: &str) -> Result<Device, Error> {
    let devices = list().map_err(Error::Netlink)?;
    let names = devices.iter().map(|device| device.name.clone()).collect();
    let found = devices.into_iter().find(|device| device.name == name);
    found.ok_or(Error::NoInterface { name: name.into(), present: names })
}

pub fn list() -> io::Result<Vec<Device>> {
    let mut devices = Vec::new();
    Socket::open()?.dump(netlink::RTM_GETLINK, &[0; IFINFO], |message| {
        if message.kind == netlink::RTM_NEWLINK {
            devices.extend(device(message.payload));
        }
    })?;
    Ok(devices)
}

/// Whether what comes in at `lower` reaches `upper` too, over whatever is between them. `devices`:
/// all there are.
pub fn is_above(devices: &[Device], upper: &Device, lower: &Device) -> bool {
    let (mut reached, mut to_visit) = (BTreeSet::from([lower.index]), vec![lower]);
    while let Some(below) = to_visit.pop() {
        let above = devices.iter().filter(|device| device.is_right_above(below));
        to_visit.extend(above.filter(|device| reached.insert(device.index)));
    }
    upper.index != lower.index && reached.contains(&upper.index)
}

/// The interfaces of the default routes in the main table, both families.
pub fn default_routes() -> io::Result<BTreeSet<u32>> {
    let mut interfaces = BTreeSet::new();
    Socket::open()?.dump(netlink::RTM_GETROUTE, &[0; RTMSG], |message| {
        if message.kind == netlink::RTM_NEWROUTE {
            interfaces.extend(default_route(message.payload).into_iter().flatten());
        }
    })?;
    Ok(interfaces)
}

/// Whether what has happened may change which interfaces there are, or which have a default route.
pub fn matters(message: &Message<'_>) -> bool {
    match message.kind {
        netlink::RTM_NEWLINK | netlink::RTM_DELLINK => true,
        netlink::RTM_NEWROUTE | netlink::RTM_DELROUTE => default_route(message.payload).is_some(),
        _ => false,
    }
}

/// Groups of rtnetlink(7) that [`matters`] is about: links, and routes of both families.
pub const GROUPS: u32 = 1 | 1 << 6 | 1 << 10;

/// Why the kernel does not put a program on an interface in native mode, in its own words: it has
/// them for those alone who ask through netlink. `None`: it would put it there.
pub fn why_not_native(device: &Device, program: BorrowedFd<'_>) -> Option<Refusal> {
    const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
    const NONE: i32 = -1;
    let set = |program: i32, flags: u32| {
        let mut body = [0; IFINFO].to_vec();
        body[4..8].copy_from_slice(&device.index.to_ne_bytes());
        let fd = record(IFLA_XDP_FD, &program.to_ne_bytes());
        let flags = record(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
        body.extend(record(IFLA_XDP | NLA_F_NESTED, &[fd, flags].concat()));
        Socket::open()?.request(netlink::RTM_SETLINK, &body)
    };
    let refusal = set(program.as_raw_fd(), XDP_FLAGS_DRV_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST).err();
    if refusal.is_none() {
        set(NONE, XDP_FLAGS_DRV_MODE).ok();
    }
    refusal
}

pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// `struct ifinfomsg`.
const IFINFO: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
/// Ids of programs, by where they run.
const IFLA_XDP_PROGRAMS: [(u16, &str); 3] = [(5, "xdpdrv"), (6, "xdpgeneric"), (7, "xdpoffload")];
const NLA_F_NESTED: u16 = 1 << 15;

/// Kinds whose IFLA_LINK is the interface below. Of tunnels it is what carries them, and of a veth
/// its peer: their frames are not those of that one.
const KINDS_ABOVE: [&[u8]; 5] = [b"vlan", b"macvlan", b"macvtap", b"ipvlan", b"ipvtap"];

/// `struct rtmsg`.
const RTMSG: usize = 12;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
/// `struct rtnexthop`.
const RTNEXTHOP: usize = 8;

/// From the payload of an RTM_NEWLINK.
fn device(payload: &[u8]) -> Option<Device> {
    let hardware = u16::from_ne_bytes(*payload.get(2..)?.first_chunk()?);
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let attributes = payload.get(IFINFO..)?;
    let text = |bytes: &'_ [u8]| bytes.strip_suffix(b"\0").unwrap_or(bytes).to_owned();
    let name = String::from_utf8_lossy(&text(attribute(attributes, IFLA_IFNAME)?)).into_owned();
    let kind =
        attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND)).map(text);
    let is_above = kind.is_some_and(|kind| KINDS_ABOVE.contains(&&*kind));
    let is_here = attribute(attributes, IFLA_LINK_NETNSID).is_none();
    let lower = number(attributes, IFLA_LINK).filter(|_| is_above && is_here);
    let programs = attribute(attributes, IFLA_XDP).unwrap_or_default();
    let mut programs = IFLA_XDP_PROGRAMS.into_iter().filter_map(|(kind, place)| {
        number(programs, kind).filter(|id| *id != 0).map(|id| XdpProgram { id, place })
    });
    let program = programs.next();
    Some(Device { index, name, hardware, lower, master: number(attributes, IFLA_MASTER), program })
}

/// From the payload of an RTM_NEWROUTE or RTM_DELROUTE: the interfaces of a default route; `None`:
/// it is another route.
fn default_route(payload: &[u8]) -> Option<Vec<u32>> {
    let [_family, length, _, _, table, _, _, kind] = *payload.first_chunk()?;
    if (length, table, kind) != (0, RT_TABLE_MAIN, RTN_UNICAST) {
        return None;
    }
    let attributes = payload.get(RTMSG..)?;
    let next_hop = |bytes: &'_ [u8]| {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let index = u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        (RTNEXTHOP..=bytes.len()).contains(&length).then_some((index, length))
    };
    let several = attribute(attributes, RTA_MULTIPATH).unwrap_or_default();
    Some(number(attributes, RTA_OIF).into_iter().chain(records(several, next_hop)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ifinfo(hardware: u16, index: u32) -> Vec<u8> {
        [&[0; 2][..], &hardware.to_ne_bytes(), &index.to_ne_bytes(), &[0; 8]].concat()
    }

    #[test]
    fn reads_a_device() {
        let named = [ifinfo(ARPHRD_ETHER, 7), record(IFLA_IFNAME, b"eth0.100\0")].concat();
        let plain = Device {
            index: 7,
            name: "eth0.100".into(),
            hardware: ARPHRD_ETHER,
            lower: None,
            master: None,
            program: None,
        };
        assert_eq!(device(&named), Some(plain.clone()));
        let xdp =
            [record(2, &[1]), record(4, &42u32.to_ne_bytes()), record(6, &42u32.to_ne_bytes())].concat();
        let held = [named.clone(), record(IFLA_XDP | NLA_F_NESTED, &xdp)].concat();
        let program = XdpProgram { id: 42, place: "xdpgeneric" };
        assert_eq!(device(&held), Some(Device { program: Some(program), ..plain.clone() }));
        for length in 0..named.len() - 3 {
            assert_eq!(device(&named[..length]), None, "{length} bytes");
        }
        let link = record(IFLA_LINK, &2u32.to_ne_bytes());
        let of_kind = |kind: &[u8]| record(IFLA_LINKINFO, &record(IFLA_INFO_KIND, kind));
        let elsewhere = record(IFLA_LINK_NETNSID, &0u32.to_ne_bytes());
        for (kind, more, lower) in [
            (&b"vlan\0"[..], &[][..], Some(2)),
            (b"vlan\0", &elsewhere, None),
            (b"veth\0", &[], None),
            (b"vxlan\0", &[], None),
        ] {
            let found = device(&[&named[..], &link, &of_kind(kind), more].concat());
            assert_eq!(found, Some(Device { lower, ..plain.clone() }), "{kind:?}");
        }
        assert!(plain.has_ethernet());
        assert!(!Device { hardware: 65534, ..plain }.has_ethernet());
    }

    #[test]
    fn what_lies_above_what() {
        let device = |index, lower, master| {
            let name = format!("eth{index}");
            Device { index, name, hardware: ARPHRD_ETHER, lower, master, program: None }
        };
        // Two cards of a bond, in a bridge, with a VLAN on that; and another card.
        let devices = [
            device(1, None, Some(3)),
            device(2, None, Some(3)),
            device(3, None, Some(4)),
            device(4, None, None),
            device(5, Some(4), None),
            device(6, None, None),
        ];
        let above = |upper: usize, lower: usize| is_above(&devices, &devices[upper - 1], &devices[lower - 1]);
        for (upper, lower, expected) in [
            (5, 1, true),
            (4, 2, true),
            (3, 1, true),
            (1, 5, false),
            (1, 2, false),
            (1, 1, false),
            (5, 6, false),
        ] {
            assert_eq!(above(upper, lower), expected, "{upper} above {lower}");
        }
    }

    #[test]
    fn reads_default_routes() {
        let route = |length: u8, table: u8, kind: u8, attributes: &[u8]| {
            [&[2, length, 0, 0, table, 0, 0, kind, 0, 0, 0, 0][..], attributes].concat()
        };
        let out = record(RTA_OIF, &3u32.to_ne_bytes());
        assert_eq!(default_route(&route(0, RT_TABLE_MAIN, RTN_UNICAST, &out)), Some(vec![3]));
        for other in [
            route(24, RT_TABLE_MAIN, RTN_UNICAST, &out),
            route(0, 255, RTN_UNICAST, &out),
            route(0, RT_TABLE_MAIN, 7, &out),
        ] {
            assert_eq!(default_route(&other), None);
        }
        let hop = |index: u32| [&8u16.to_ne_bytes()[..], &[0; 2], &index.to_ne_bytes()].concat();
        let several = record(RTA_MULTIPATH, &[hop(4), hop(5)].concat());
        let balanced = route(0, RT_TABLE_MAIN, RTN_UNICAST, &several);
        assert_eq!(default_route(&balanced), Some(vec![4, 5]));
        for length in 0..balanced.len() {
            assert!(default_route(&balanced[..length]).is_none_or(|found| found.len() < 2), "{length} bytes");
        }
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let devices = list().unwrap();
        assert!(devices.iter().any(|device| device.name == "lo" && device.index == 1), "{devices:?}");
        let error = find("no-such-thing").unwrap_err().to_string();
        assert!(error.contains("\"no-such-thing\"") && error.contains("lo"), "{error}");
        default_routes().unwrap();
    }
}
