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
}

/// What the guard wants to know of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: Source,
    pub destination_port: u16,
    pub flags: Flags,
}

/// The source address, in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// TCP's control bits (RFC 9293 §3.1), FIN lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;

    /// Asks for a connection: SYN without ACK.
    #[inline(always)]
    pub fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
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

/// The TCP segment in an Ethernet frame, behind up to two VLAN tags. `None` for whatever holds none or cannot be
/// understood, also for every fragment but the first: those have no TCP header.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Option<Segment> {
    let (ethertype, at) = ethernet(packet)?;
    let (source, tcp) = match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, at)?,
        ETHERTYPE_IPV6 => ipv6(packet, at)?,
        _ => return None,
    };
    let header: [u8; TCP_HEADER] = packet.read(tcp)?;
    Some(Segment {
        source,
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        flags: Flags(header[13]),
    })
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

/// RFC 791 §3.1: the source, and where the TCP header begins.
#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: usize) -> Option<(Source, usize)> {
    let header: [u8; IPV4_HEADER] = packet.read(at)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let carries_tcp = header[0] >> 4 == 4
        && header_bytes >= IPV4_HEADER
        && header[9] == TCP
        && fragment_offset == 0
        && total_bytes >= header_bytes + TCP_HEADER; // else those bytes are Ethernet's padding
    carries_tcp.then_some((Source::V4([header[12], header[13], header[14], header[15]]), at + header_bytes))
}

/// RFC 8200 §3 and §4: the source, and where the TCP header begins.
#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: usize) -> Option<(Source, usize)> {
    let start: [u8; 8] = packet.read(at)?;
    if start[0] >> 4 != 6 {
        return None;
    }
    let payload_bytes = usize::from(u16::from_be_bytes([start[4], start[5]]));
    let payload = at + IPV6_HEADER;
    let tcp = skip_extensions(packet, start[6], payload)?;
    let within = tcp + TCP_HEADER <= payload + payload_bytes;
    let source = Source::V6(packet.read(at + 8)?);
    within.then_some((source, tcp))
}

/// Where the TCP header begins behind a chain of extension headers; `None` when the chain is too long or leads elsewhere.
#[inline(always)]
fn skip_extensions<P: Packet>(packet: &P, first: u8, mut at: usize) -> Option<usize> {
    let mut next = first;
    for _ in 0..EXTENSIONS {
        if next == TCP {
            return Some(at);
        }
        let [following, length, offset @ ..] = packet.read::<4>(at)?;
        let bytes = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(length) + 1) * OCTETS,
            AUTHENTICATION => (usize::from(length) + 2) * 4, // RFC 4302 §2.2
            FRAGMENT if u16::from_be_bytes(offset) & 0xfff8 == 0 => OCTETS,
            _ => return None,
        };
        next = following;
        at += bytes;
    }
    (next == TCP).then_some(at)
}

#[inline(always)]
fn be16<P: Packet>(packet: &P, at: usize) -> Option<u16> {
    packet.read(at).map(u16::from_be_bytes)
}
