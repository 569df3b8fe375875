//! From a frame to the TCP segment in it. The same code runs in the kernel and, for its tests, on
//! the host.
//!
//! Sums are written as wrapping ones, which they are in the kernel: a frame has less than 2^32
//! bytes, and none comes near the end of its type.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing))]

mod address;
#[cfg(test)]
pub(crate) mod frames;
#[cfg(test)]
mod tests;

pub use address::Address;

/// The readable bytes of a frame.
pub trait Packet {
    /// `N` bytes at offset `at`, or `None` when they do not all lie within the frame. `N` is at
    /// least 2: the kernel's verifier does not see that a single byte was checked.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The whole frame's length, of which the first part may be all that is readable.
    fn bytes(&self) -> u64;

    /// Whether the frame goes on up to `end`, of which it is known that it cannot be read.
    fn reaches(&self, end: usize) -> bool;

    /// What came over the wire as this frame; its first `headers` bytes lie before the segment's
    /// data.
    #[inline(always)]
    fn on_wire(&self, _headers: u32) -> Wire {
        Wire { packets: 1, bytes: self.bytes() }
    }

    /// An offset to be kept. A verifier that knew which way led to it would go on with each way by
    /// itself.
    #[inline(always)]
    fn hide(&self, at: usize) -> usize {
        at
    }

    /// Two bytes at `at`, an even offset, of the frame as the log has it: with an Ethernet header.
    #[inline(always)]
    fn snap(&self, at: usize) -> Option<[u8; 2]> {
        self.read(at)
    }

    /// The length of that frame.
    #[inline(always)]
    fn snap_bytes(&self) -> u64 {
        self.bytes()
    }
}

/// [`Packet::snap`] of a frame without an Ethernet header: it gets one without addresses.
#[inline(always)]
pub fn snap_bare(packet: &impl Packet, ethertype: u16, at: usize) -> Option<[u8; 2]> {
    match at {
        0..12 => Some([0; 2]),
        12 => Some(ethertype.to_be_bytes()),
        _ => packet.read(at.wrapping_sub(ETHERNET_HEADER)),
    }
}

/// Frames as the wire carried them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    pub packets: u64,
    pub bytes: u64,
}

/// What the guard wants to know of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    /// The next number that the sender expects; without ACK it means nothing.
    pub acknowledgement: u32,
    pub flags: Flags,
    /// Of the IP header.
    pub hop_limit: u8,
    /// Where its TCP header begins, counted from the frame's first byte.
    pub tcp_at: u32,
    /// Where its data begins, likewise.
    pub data_at: u32,
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

    /// Answers a segment of the peer's with one of its own: SYN-ACK, or a RST for what no socket
    /// takes.
    #[inline(always)]
    pub fn answers(self) -> bool {
        self.has(Self::ACK) && self.0 & (Self::SYN | Self::RST) != 0
    }

    /// Neither opens nor resets, and acknowledges what came, as all segments after a handshake do.
    #[inline(always)]
    pub fn goes_on(self) -> bool {
        self.0 & (Self::SYN | Self::RST | Self::ACK) == Self::ACK
    }

    /// Begins or ends something, as few segments do.
    #[inline(always)]
    pub fn is_notable(self) -> bool {
        self.0 & (Self::FIN | Self::SYN | Self::RST) != 0
    }

    /// A combination that no TCP sends and scanners do: SYN or FIN with what contradicts them, or
    /// none of SYN, RST and ACK, one of which every segment has (NULL, FIN and XMAS scans).
    #[inline(always)]
    pub fn are_garbage(self) -> bool {
        self.has(Self::SYN | Self::FIN)
            || self.has(Self::SYN | Self::RST)
            || self.has(Self::FIN | Self::RST)
            || self.0 & (Self::SYN | Self::RST | Self::ACK) == 0
    }
}

pub const ETHERNET_HEADER: usize = 14;
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
/// More than any honest packet has (RFC 8200 §4.1 knows seven places), and few enough for the
/// verifier.
const EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const TCP_HEADER: usize = 20;
/// Source and destination port, with which it begins.
const PORTS: usize = 4;

/// What there is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Segment(Segment),
    /// A first fragment that ends within its TCP header: the receiver puts the flags together,
    /// unseen by us.
    ShortFragment {
        source: Address,
        destination_port: u16,
    },
    /// More extension headers than are followed, or can be seen. There may be TCP behind them.
    LongChain {
        source: Address,
    },
    /// There may be TCP that cannot be found. (With the source in it, the verifier of Linux 5.15
    /// refuses the program; [`source`] finds it.)
    Unparsed(Unparsed),
    /// Nothing for the guard: no TCP.
    Nothing,
}

/// Where a parser's way to TCP ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// The frame ends within a header.
    Truncated = 0,
    /// A header contradicts itself, or the packet's own length ends within one.
    Malformed = 1,
    /// More VLAN tags than are followed.
    Vlan = 2,
    /// A fragment that is not the first of its packet: it has no TCP header.
    LaterFragment = 3,
    /// A first fragment with the ports, and without the flags.
    ShortFragment = 4,
    /// More extension headers than are followed, or can be seen.
    LongChain = 5,
}

impl Unparsed {
    pub const ALL: [Self; 6] = [
        Self::Truncated,
        Self::Malformed,
        Self::Vlan,
        Self::LaterFragment,
        Self::ShortFragment,
        Self::LongChain,
    ];
}

/// What there is in an Ethernet frame, behind up to two VLAN tags.
pub fn parse<P: Packet>(packet: &P) -> Found {
    struct Itself;
    impl Judge for Itself {
        type Verdict = Found;

        #[inline(always)]
        fn judge(&self, found: Found) -> Found {
            found
        }
    }
    parse_and_judge(packet, &Itself)
}

/// What must be done about what there is in a frame.
pub trait Judge {
    type Verdict;

    /// To be inlined.
    fn judge(&self, found: Found) -> Self::Verdict;
}

/// The same, judged at each place where it is found. So nothing is put together from several
/// places, of which each knows but a part: a verifier before Linux 6.3 takes no program that reads
/// what was not written, even if it does not matter.
#[inline(always)]
pub fn parse_and_judge<P: Packet, J: Judge>(packet: &P, judge: &J) -> J::Verdict {
    match be16(packet, ETHERNET_HEADER - 2) {
        Some(ethertype) => parse_payload_and_judge(packet, ethertype, ETHERNET_HEADER, judge),
        None => unparsed(judge, Unparsed::Truncated),
    }
}

/// The same of what begins at `at`, which `ethertype` names.
#[inline(always)]
pub fn parse_payload_and_judge<P: Packet, J: Judge>(
    packet: &P,
    ethertype: u16,
    at: usize,
    judge: &J,
) -> J::Verdict {
    match untagged(packet, ethertype, at) {
        Some((ETHERTYPE_IPV4, at)) => ipv4(packet, at, judge),
        Some((ETHERTYPE_IPV6, at)) => ipv6(packet, at, judge),
        Some((ETHERTYPE_VLAN | ETHERTYPE_QINQ, _)) => unparsed(judge, Unparsed::Vlan),
        Some(_) => judge.judge(Found::Nothing),
        None => unparsed(judge, Unparsed::Truncated),
    }
}

#[inline(always)]
fn unparsed<J: Judge>(judge: &J, why: Unparsed) -> J::Verdict {
    judge.judge(Found::Unparsed(why))
}

/// Where a frame's IP packet comes from, in user space. `None`: it cannot be seen.
pub fn source<P: Packet>(packet: &P) -> Option<Address> {
    const V4_SOURCE: usize = 12;
    const V6_SOURCE: usize = 8;
    let ethertype = be16(packet, ETHERNET_HEADER - 2)?;
    match untagged(packet, ethertype, ETHERNET_HEADER)? {
        (ETHERTYPE_IPV4, at) if packet.read::<2>(at)?[0] >> 4 == 4 => {
            packet.read(at.wrapping_add(V4_SOURCE)).map(Address::V4)
        }
        (ETHERTYPE_IPV6, at) if packet.read::<2>(at)?[0] >> 4 == 6 => {
            packet.read(at.wrapping_add(V6_SOURCE)).map(Address::V6)
        }
        _ => None,
    }
}

/// An IP packet that carries TCP.
struct Ip {
    source: Address,
    destination: Address,
    hop_limit: u8,
    /// Where the TCP header begins.
    tcp: usize,
}

#[inline(always)]
fn segment<P: Packet, J: Judge>(packet: &P, ip: &Ip, judge: &J) -> J::Verdict {
    let Some(header) = packet.read::<TCP_HEADER>(ip.tcp) else {
        // There is one, out of sight; or the frame was cut.
        if packet.reaches(ip.tcp.wrapping_add(TCP_HEADER)) {
            return judge.judge(Found::LongChain { source: ip.source });
        }
        return unparsed(judge, Unparsed::Truncated);
    };
    let tcp_at = packet.hide(ip.tcp) as u32;
    judge.judge(Found::Segment(Segment {
        source: ip.source,
        destination: ip.destination,
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: Flags(header[13]),
        hop_limit: ip.hop_limit,
        tcp_at,
        data_at: tcp_at.wrapping_add(u32::from(header[12] >> 4).wrapping_mul(4)),
    }))
}

#[inline(always)]
fn short_fragment<P: Packet, J: Judge>(packet: &P, ip: &Ip, judge: &J) -> J::Verdict {
    match packet.read::<PORTS>(ip.tcp) {
        Some([_, _, port @ ..]) => judge
            .judge(Found::ShortFragment { source: ip.source, destination_port: u16::from_be_bytes(port) }),
        None => unparsed(judge, Unparsed::Truncated),
    }
}

/// The type of what is behind VLAN tags, and where that begins.
#[inline(always)]
fn untagged<P: Packet>(packet: &P, mut ethertype: u16, mut at: usize) -> Option<(u16, usize)> {
    for _ in 0..VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        at = at.wrapping_add(VLAN_TAG);
        ethertype = be16(packet, at.wrapping_sub(2))?;
    }
    Some((ethertype, at))
}

/// RFC 791 §3.1.
#[inline(always)]
fn ipv4<P: Packet, J: Judge>(packet: &P, at: usize, judge: &J) -> J::Verdict {
    let Some(header) = packet.read::<IPV4_HEADER>(at) else {
        return unparsed(judge, Unparsed::Truncated);
    };
    let header_bytes = usize::from(header[0] & 0x0f).wrapping_mul(4);
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let flags_and_offset = u16::from_be_bytes([header[6], header[7]]);
    if header[0] >> 4 != 4 || header_bytes < IPV4_HEADER {
        return unparsed(judge, Unparsed::Malformed);
    }
    if header[9] != TCP {
        return judge.judge(Found::Nothing);
    }
    if flags_and_offset & FRAGMENT_OFFSET != 0 {
        return unparsed(judge, Unparsed::LaterFragment);
    }
    let ip = Ip {
        source: Address::V4([header[12], header[13], header[14], header[15]]),
        destination: Address::V4([header[16], header[17], header[18], header[19]]),
        hop_limit: header[8],
        tcp: at.wrapping_add(header_bytes),
    };
    // What lies behind the packet's own end is Ethernet's padding.
    if total_bytes >= header_bytes.wrapping_add(TCP_HEADER) || total_bytes == 0 && is_jumbo(packet, at) {
        return segment(packet, &ip, judge);
    }
    if total_bytes >= header_bytes.wrapping_add(PORTS) && flags_and_offset & MORE_FRAGMENTS != 0 {
        return short_fragment(packet, &ip, judge);
    }
    unparsed(judge, Unparsed::Malformed)
}

/// RFC 8200 §3 and §4.
#[inline(always)]
fn ipv6<P: Packet, J: Judge>(packet: &P, at: usize, judge: &J) -> J::Verdict {
    let Some(header) = packet.read::<IPV6_HEADER>(at) else {
        return unparsed(judge, Unparsed::Truncated);
    };
    let [version, _, _, _, high, low, next, hop_limit, addresses @ ..] = header;
    let (Some(source), Some(destination)) = (addresses.first_chunk(), addresses.last_chunk()) else {
        return judge.judge(Found::Nothing);
    };
    if version >> 4 != 6 {
        return unparsed(judge, Unparsed::Malformed);
    }
    let payload_bytes = usize::from(u16::from_be_bytes([high, low]));
    let payload = at.wrapping_add(IPV6_HEADER);
    let chain = follow_chain(packet, next, payload);
    let source = Address::V6(*source);
    match chain.leads {
        Leads::Elsewhere => return judge.judge(Found::Nothing),
        Leads::OutOfSight => return judge.judge(Found::LongChain { source }),
        Leads::ToEnd => return unparsed(judge, Unparsed::Truncated),
        Leads::ToLaterFragment => return unparsed(judge, Unparsed::LaterFragment),
        Leads::ToTcp => {}
    }
    let (ip, end) = (
        Ip { source, destination: Address::V6(*destination), hop_limit, tcp: chain.at },
        payload.wrapping_add(payload_bytes),
    );
    if ip.tcp.wrapping_add(TCP_HEADER) <= end || payload_bytes == 0 && is_jumbo(packet, at) {
        return segment(packet, &ip, judge);
    }
    if chain.has_more && ip.tcp.wrapping_add(PORTS) <= end {
        return short_fragment(packet, &ip, judge);
    }
    unparsed(judge, Unparsed::Malformed)
}

/// Whether what begins at `at` is longer than IP's length field can say. The kernel's own bundles
/// of segments are (BIG TCP), and write 0 there.
#[inline(always)]
fn is_jumbo<P: Packet>(packet: &P, at: usize) -> bool {
    packet.bytes() > (at as u64).wrapping_add(u64::from(u16::MAX))
}

/// A chain of extension headers, as far as it was followed.
struct Chain {
    leads: Leads,
    at: usize,
    /// Behind a fragment header that announces more fragments.
    has_more: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leads {
    ToTcp,
    /// Further than it is followed, or can be: its end lies behind the readable part of the frame.
    OutOfSight,
    /// The frame ends within it.
    ToEnd,
    /// To a fragment of TCP's that is not the first.
    ToLaterFragment,
    Elsewhere,
}

#[inline(always)]
fn follow_chain<P: Packet>(packet: &P, first: u8, at: usize) -> Chain {
    let mut chain = Chain { leads: Leads::Elsewhere, at, has_more: false };
    let mut next = first;
    for _ in 0..EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        let Some([following, length, offset @ ..]) = packet.read::<4>(chain.at) else {
            chain.leads =
                if packet.reaches(chain.at.wrapping_add(4)) { Leads::OutOfSight } else { Leads::ToEnd };
            return chain;
        };
        let bytes = match next {
            AUTHENTICATION => usize::from(length).wrapping_add(2).wrapping_mul(4), // RFC 4302 §2.2
            FRAGMENT => {
                let offset = u16::from_be_bytes(offset);
                if offset & 0xfff8 != 0 {
                    if following == TCP {
                        chain.leads = Leads::ToLaterFragment;
                    }
                    return chain;
                }
                chain.has_more |= offset & 1 != 0;
                OCTETS
            }
            _ => usize::from(length).wrapping_add(1).wrapping_mul(OCTETS),
        };
        chain.at = chain.at.wrapping_add(bytes);
        next = following;
    }
    if next == TCP {
        chain.leads = Leads::ToTcp;
    } else if is_extension(next) {
        chain.leads = Leads::OutOfSight;
    }
    chain
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

#[inline(always)]
fn be16<P: Packet>(packet: &P, at: usize) -> Option<u16> {
    packet.read(at).map(u16::from_be_bytes)
}
