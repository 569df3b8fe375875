//! From a frame to the TCP segment in it. The same code runs in the kernel and, for its tests, on the host.

#[cfg(test)]
mod frames;
#[cfg(test)]
mod tests;

/// The readable bytes of a frame.
pub trait Packet {
    /// `N` bytes at offset `at`, or `None` when they do not all lie within the frame. `N` is at least 2: the kernel's
    /// verifier does not see that a single byte was checked.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The whole frame's length, of which the first part may be all that is readable.
    fn bytes(&self) -> u64;
}

/// What the guard wants to know of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub flags: Flags,
}

/// In network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Address {
    /// As IPv6 writes it: an IPv4 address is mapped (RFC 4291 §2.5.5.2).
    #[inline(always)]
    pub fn mapped(self) -> [u8; 16] {
        match self {
            Self::V4([a, b, c, d]) => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            Self::V6(address) => address,
        }
    }

    /// The reverse of [`Address::mapped`].
    #[inline(always)]
    pub fn from_mapped(address: [u8; 16]) -> Self {
        match address {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Self::V4([a, b, c, d]),
            address => Self::V6(address),
        }
    }
}

/// TCP's control bits (RFC 9293 §3.1), FIN lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    #[inline(always)]
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Asks for a connection: SYN without ACK.
    #[inline(always)]
    pub fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// Begins or ends something, as few segments do.
    #[inline(always)]
    pub fn is_notable(self) -> bool {
        self.0 & (Self::FIN | Self::SYN | Self::RST) != 0
    }

    /// A combination that no TCP sends and scanners do: SYN or FIN with what contradicts them, or none of SYN, RST and
    /// ACK, one of which every segment has (NULL, FIN and XMAS scans).
    #[inline(always)]
    pub fn are_garbage(self) -> bool {
        self.has(Self::SYN | Self::FIN)
            || self.has(Self::SYN | Self::RST)
            || self.has(Self::FIN | Self::RST)
            || self.0 & (Self::SYN | Self::RST | Self::ACK) == 0
    }
}

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const VLAN_TAG: usize = 4;
const VLAN_TAGS: usize = 2;

const IPV4_HEADER: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const IPV6_HEADER: usize = 40;
/// The unit of IPv6 extension lengths.
const OCTETS: usize = 8;
/// More than any honest packet has (RFC 8200 §4.1 knows seven places), and few enough for the verifier.
const EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const TCP_HEADER: usize = 20;
/// The part of it that says who talks to whom.
const PORTS: usize = 4;

/// What there is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Segment(Segment),
    /// A first fragment that ends within its TCP header: the receiver puts the flags together, unseen by us.
    ShortFragment {
        source: Address,
        destination_port: u16,
    },
    /// More extension headers than are followed, or can be seen. There may be TCP behind them.
    LongChain {
        source: Address,
    },
    /// Nothing for the guard: no TCP, a fragment that is not the first, or what cannot be understood.
    Nothing,
}

/// What there is in an Ethernet frame, behind up to two VLAN tags.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Found {
    let Some((ethertype, at)) = ethernet(packet) else { return Found::Nothing };
    let carried = match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, at),
        ETHERTYPE_IPV6 => ipv6(packet, at),
        _ => None,
    };
    match carried {
        Some(Carried::Tcp(ip)) => match segment(packet, &ip) {
            Some(segment) => Found::Segment(segment),
            // There is one, out of sight.
            None if packet.bytes() >= (ip.tcp + TCP_HEADER) as u64 => Found::LongChain { source: ip.source },
            None => Found::Nothing,
        },
        Some(Carried::Fragment(ip)) => match packet.read::<PORTS>(ip.tcp) {
            Some([_, _, port @ ..]) => {
                Found::ShortFragment { source: ip.source, destination_port: u16::from_be_bytes(port) }
            }
            None => Found::Nothing,
        },
        Some(Carried::LongChain(source)) => Found::LongChain { source },
        None => Found::Nothing,
    }
}

/// `None`: the readable part of the frame ends before its header does.
#[inline(always)]
fn segment<P: Packet>(packet: &P, ip: &Ip) -> Option<Segment> {
    let header: [u8; TCP_HEADER] = packet.read(ip.tcp)?;
    Some(Segment {
        source: ip.source,
        destination: ip.destination,
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        flags: Flags(header[13]),
    })
}

/// An IP packet that carries TCP.
struct Ip {
    source: Address,
    destination: Address,
    /// Where the TCP header begins.
    tcp: usize,
}

/// What an IP packet carries, as far as the guard is concerned.
enum Carried {
    Tcp(Ip),
    /// The ports, and not all of the TCP header.
    Fragment(Ip),
    LongChain(Address),
}

/// The type of what the frame carries, and where that begins.
#[inline(always)]
fn ethernet<P: Packet>(packet: &P) -> Option<(u16, usize)> {
    let mut at = ETHERNET_HEADER;
    let mut ethertype = be16(packet, at - 2)?;
    for _ in 0..VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        at += VLAN_TAG;
        ethertype = be16(packet, at - 2)?;
    }
    Some((ethertype, at))
}

/// RFC 791 §3.1.
#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: usize) -> Option<Carried> {
    let header: [u8; IPV4_HEADER] = packet.read(at)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let flags_and_offset = u16::from_be_bytes([header[6], header[7]]);
    let carries_tcp = header[0] >> 4 == 4
        && header_bytes >= IPV4_HEADER
        && header[9] == TCP
        && flags_and_offset & FRAGMENT_OFFSET == 0;
    if !carries_tcp {
        return None;
    }
    let ip = Ip {
        source: Address::V4([header[12], header[13], header[14], header[15]]),
        destination: Address::V4([header[16], header[17], header[18], header[19]]),
        tcp: at + header_bytes,
    };
    // What lies behind the packet's own end is Ethernet's padding.
    if total_bytes >= header_bytes + TCP_HEADER || total_bytes == 0 && is_jumbo(packet, at) {
        return Some(Carried::Tcp(ip));
    }
    let has_ports = total_bytes >= header_bytes + PORTS;
    (has_ports && flags_and_offset & MORE_FRAGMENTS != 0).then_some(Carried::Fragment(ip))
}

/// RFC 8200 §3 and §4.
#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: usize) -> Option<Carried> {
    let start: [u8; 8] = packet.read(at)?;
    if start[0] >> 4 != 6 {
        return None;
    }
    let payload_bytes = usize::from(u16::from_be_bytes([start[4], start[5]]));
    let payload = at + IPV6_HEADER;
    let source = Address::V6(packet.read(at + 8)?);
    let (tcp, has_more) = match follow_chain(packet, start[6], payload) {
        Chain::Tcp { at, has_more } => (at, has_more),
        Chain::TooLong => return Some(Carried::LongChain(source)),
        Chain::Elsewhere => return None,
    };
    let ip = Ip { source, destination: Address::V6(packet.read(at + 24)?), tcp };
    let end = payload + payload_bytes;
    if tcp + TCP_HEADER <= end || payload_bytes == 0 && is_jumbo(packet, at) {
        return Some(Carried::Tcp(ip));
    }
    (has_more && tcp + PORTS <= end).then_some(Carried::Fragment(ip))
}

/// Whether what begins at `at` is longer than IP's length field can say. The kernel's own bundles of segments are (BIG
/// TCP), and write 0 there.
#[inline(always)]
fn is_jumbo<P: Packet>(packet: &P, at: usize) -> bool {
    packet.bytes() > at as u64 + u64::from(u16::MAX)
}

/// Where a chain of extension headers leads.
enum Chain {
    Tcp {
        at: usize,
        /// Behind a fragment header that announces more fragments.
        has_more: bool,
    },
    /// Further than it is followed, or can be: its end lies behind the readable part of the frame.
    TooLong,
    Elsewhere,
}

#[inline(always)]
fn follow_chain<P: Packet>(packet: &P, first: u8, mut at: usize) -> Chain {
    let (mut next, mut has_more) = (first, false);
    for _ in 0..EXTENSIONS {
        if next == TCP {
            return Chain::Tcp { at, has_more };
        }
        let Some([following, length, offset @ ..]) = packet.read::<4>(at) else {
            let is_there = packet.bytes() >= at as u64 + 4;
            return if is_there && is_extension(next) { Chain::TooLong } else { Chain::Elsewhere };
        };
        let bytes = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(length) + 1) * OCTETS,
            AUTHENTICATION => (usize::from(length) + 2) * 4, // RFC 4302 §2.2
            FRAGMENT if u16::from_be_bytes(offset) & 0xfff8 == 0 => {
                has_more |= u16::from_be_bytes(offset) & 1 != 0;
                OCTETS
            }
            _ => return Chain::Elsewhere,
        };
        next = following;
        at += bytes;
    }
    match next {
        TCP => Chain::Tcp { at, has_more },
        next if is_extension(next) => Chain::TooLong,
        _ => Chain::Elsewhere,
    }
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

#[inline(always)]
fn be16<P: Packet>(packet: &P, at: usize) -> Option<u16> {
    packet.read(at).map(u16::from_be_bytes)
}
