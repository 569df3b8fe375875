//! Frames to be parsed, and what is in them: for the parser's own tests, and for the program's in
//! the kernel.

use std::vec;
use std::vec::Vec;

use super::{Address, Flags, Found, Packet, Segment, Unparsed};

pub const SOURCE_V4: [u8; 4] = [157, 240, 1, 7];
pub const SOURCE_V6: [u8; 16] = [0x2a, 0x03, 0x28, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const DESTINATION_V4: [u8; 4] = [198, 51, 100, 2];
pub const DESTINATION_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const SOURCE_PORT: u16 = 0xc001;
pub const DESTINATION_PORT: u16 = 443;
pub const SEQUENCE: u32 = 0x1234_5678;
pub const ACKNOWLEDGEMENT: u32 = 0x9abc_def0;
pub const HOP_LIMIT: u8 = 57;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;

/// The readable bytes are all there are.
pub struct Bytes<'a>(pub &'a [u8]);

impl Packet for Bytes<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn reaches(&self, _: usize) -> bool {
        false
    }
}

/// A VLAN tag: its type and id 7.
fn tag(ethertype: u16) -> Vec<u8> {
    [ethertype.to_be_bytes(), [0, 7]].concat()
}

fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|&t| tag(t)).collect();
    [&[0x02; 12][..], &tags, &ethertype.to_be_bytes(), payload].concat()
}

/// To port 443, with `flags`.
fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[0..2].copy_from_slice(&SOURCE_PORT.to_be_bytes());
    header[2..4].copy_from_slice(&DESTINATION_PORT.to_be_bytes());
    header[4..8].copy_from_slice(&SEQUENCE.to_be_bytes());
    header[8..12].copy_from_slice(&ACKNOWLEDGEMENT.to_be_bytes());
    header[12] = 0x50;
    header[13] = flags;
    header
}

/// `fragment`: the flags and offset field, as it stands in the header.
fn ipv4(options: usize, fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options;
    let mut packet = vec![0; header_bytes];
    packet[0] = 0x40 | (header_bytes / 4) as u8;
    packet[2..4].copy_from_slice(&((header_bytes + payload.len()) as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[8] = HOP_LIMIT;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&SOURCE_V4);
    packet[16..20].copy_from_slice(&DESTINATION_V4);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet[6] = next;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&SOURCE_V6);
    packet[24..40].copy_from_slice(&DESTINATION_V6);
    packet.extend(payload);
    packet
}

/// An extension header of `bytes`, whose length field holds `length`.
fn extension(next: u8, length: u8, bytes: usize, then: &[u8]) -> Vec<u8> {
    let mut header = vec![0; bytes];
    header[0] = next;
    header[1] = length;
    header.extend(then);
    header
}

fn fragment_header(offset_and_flags: u16, then: &[u8]) -> Vec<u8> {
    let mut header = extension(TCP, 0, 8, then);
    header[2..4].copy_from_slice(&offset_and_flags.to_be_bytes());
    header
}

/// A chain of `count` minimal destination options.
fn options(count: usize) -> Vec<u8> {
    (1..=count).fold(tcp(SYN), |then, nth| {
        let next = if nth == 1 { TCP } else { 60 };
        extension(next, 0, 8, &then)
    })
}

fn v4(flags: u8) -> Found {
    let (source, destination) = (Address::V4(SOURCE_V4), Address::V4(DESTINATION_V4));
    Found::Segment(Segment { source, destination, ..segment(flags) })
}

fn v6(flags: u8) -> Found {
    Found::Segment(segment(flags))
}

fn segment(flags: u8) -> Segment {
    Segment {
        source: Address::V6(SOURCE_V6),
        destination: Address::V6(DESTINATION_V6),
        source_port: SOURCE_PORT,
        destination_port: DESTINATION_PORT,
        sequence: SEQUENCE,
        acknowledgement: ACKNOWLEDGEMENT,
        flags: Flags(flags),
        hop_limit: HOP_LIMIT,
        tcp_at: 0,
        data_at: 0,
    }
}

/// The same with the ends of the TCP header where the frame has them: its sequence number is in no
/// other place.
fn located((name, frame, found): (&'static str, Vec<u8>, Found)) -> (&'static str, Vec<u8>, Found) {
    let Found::Segment(segment) = found else { return (name, frame, found) };
    let sequence = SEQUENCE.to_be_bytes();
    let sequence_at = frame.windows(sequence.len()).position(|bytes| bytes == sequence).unwrap_or_default();
    let tcp_at = (sequence_at - 4) as u32;
    (name, frame, Found::Segment(Segment { tcp_at, data_at: tcp_at + 20, ..segment }))
}

/// A first fragment with so much of a TCP header, and the whole of an IPv4 or IPv6 packet around
/// it.
fn v4_fragment(flags_and_offset: u16, bytes: usize) -> Vec<u8> {
    ipv4(0, flags_and_offset, TCP, &tcp(SYN)[..bytes])
}

fn v6_fragment(offset_and_flags: u16, bytes: usize) -> Vec<u8> {
    ipv6(44, &fragment_header(offset_and_flags, &tcp(SYN)[..bytes]))
}

const SHORT_V4: Found =
    Found::ShortFragment { source: Address::V4(SOURCE_V4), destination_port: DESTINATION_PORT };
const SHORT_V6: Found =
    Found::ShortFragment { source: Address::V6(SOURCE_V6), destination_port: DESTINATION_PORT };
const LONG_CHAIN: Found = Found::LongChain { source: Address::V6(SOURCE_V6) };
const MALFORMED: Found = Found::Unparsed(Unparsed::Malformed);
const LATER_FRAGMENT: Found = Found::Unparsed(Unparsed::LaterFragment);

/// What the kernel makes of many segments (BIG TCP): more than a length field can say, which is 0
/// then.
pub fn jumbos() -> Vec<(&'static str, Vec<u8>, Found)> {
    let v4_frame = |payload: usize| {
        let mut frame = ethernet(&[], 0x0800, &ipv4(0, 0, TCP, &tcp(ACK)));
        frame[16..18].fill(0);
        frame.resize(14 + payload, 0xaa);
        frame
    };
    let v6_frame = |options: &[u8], payload: usize| {
        let mut frame = ethernet(&[], 0x86dd, &ipv6(if options.is_empty() { TCP } else { 0 }, options));
        frame[18..20].fill(0);
        frame.extend(tcp(ACK));
        frame.resize(14 + payload, 0xaa);
        frame
    };
    let jumbo_option = extension(TCP, 0, 8, &[]);
    let jumbos = vec![
        ("IPv4, 65536 bytes", v4_frame(65536), v4(ACK)),
        ("IPv4, length 0 and 65535 bytes", v4_frame(65535), MALFORMED),
        ("IPv4, length 0 and 40 bytes", v4_frame(40), MALFORMED),
        ("IPv6, jumbo option", v6_frame(&jumbo_option, 65600), v6(ACK)),
        ("IPv6, without the option", v6_frame(&[], 65600), v6(ACK)),
        ("IPv6, length 0 and 68 bytes", v6_frame(&jumbo_option, 68), MALFORMED),
    ];
    jumbos.into_iter().map(located).collect()
}

/// Name, frame, and what must be found in it.
pub fn cases() -> Vec<(&'static str, Vec<u8>, Found)> {
    let v4_frame = |packet: Vec<u8>| ethernet(&[], 0x0800, &packet);
    let v6_frame = |packet: Vec<u8>| ethernet(&[], 0x86dd, &packet);
    let whole = ipv4(0, 0x4000, TCP, &tcp(SYN));
    let mut wrong_version = whole.clone();
    wrong_version[0] = 0x65;
    let mut header_too_short = whole.clone();
    header_too_short[0] = 0x44;
    let mut padded = whole.clone();
    padded[3] = 39;
    let mut v6_padded = ipv6(TCP, &tcp(SYN));
    v6_padded[5] = 19;
    let mut v6_wrong_version = ipv6(TCP, &tcp(SYN));
    v6_wrong_version[0] = 0x45;
    let ninth = extension(60, 0, 8, &options(8));
    let fragments = (1..=9).fold(tcp(SYN), |then, nth| {
        let next = if nth == 1 { TCP } else { 44 };
        extension(next, 0, 8, &then)
    });
    let mut to_udp = options(8);
    to_udp[7 * 8] = 17;
    let cases = vec![
        ("IPv4 SYN", v4_frame(whole.clone()), v4(SYN)),
        ("IPv4 SYN-ACK", v4_frame(ipv4(0, 0, TCP, &tcp(SYN_ACK))), v4(SYN_ACK)),
        ("IPv4, every option", v4_frame(ipv4(40, 0, TCP, &tcp(SYN))), v4(SYN)),
        ("IPv4, first fragment", v4_frame(ipv4(0, 0x2000, TCP, &tcp(SYN))), v4(SYN)),
        ("IPv4, later fragment", v4_frame(ipv4(0, 0x2001, TCP, &tcp(SYN))), LATER_FRAGMENT),
        ("IPv4, last fragment", v4_frame(ipv4(0, 0x1fff, TCP, &tcp(SYN))), LATER_FRAGMENT),
        ("IPv4 UDP", v4_frame(ipv4(0, 0, 17, &tcp(SYN))), Found::Nothing),
        ("IPv4, another version", v4_frame(wrong_version), MALFORMED),
        ("IPv4, header too short", v4_frame(header_too_short), MALFORMED),
        ("IPv4, TCP header in the padding", v4_frame(padded), MALFORMED),
        ("VLAN", ethernet(&[0x8100], 0x0800, &whole), v4(SYN)),
        ("VLAN, IPv6", ethernet(&[0x8100], 0x86dd, &ipv6(TCP, &tcp(SYN))), v6(SYN)),
        ("QinQ", ethernet(&[0x88a8, 0x8100], 0x0800, &whole), v4(SYN)),
        ("three tags", ethernet(&[0x88a8, 0x8100, 0x8100], 0x0800, &whole), Found::Unparsed(Unparsed::Vlan)),
        ("ARP", ethernet(&[], 0x0806, &whole), Found::Nothing),
        ("802.3", ethernet(&[], 40, &whole), Found::Nothing),
        ("IPv6 SYN", v6_frame(ipv6(TCP, &tcp(SYN))), v6(SYN)),
        ("IPv6, another version", v6_frame(v6_wrong_version), MALFORMED),
        ("IPv6, TCP header in the padding", v6_frame(v6_padded), MALFORMED),
        ("hop by hop", v6_frame(ipv6(0, &extension(TCP, 0, 8, &tcp(SYN)))), v6(SYN)),
        ("routing, 24 bytes", v6_frame(ipv6(43, &extension(TCP, 2, 24, &tcp(SYN)))), v6(SYN)),
        ("options, 2048 bytes", v6_frame(ipv6(60, &extension(TCP, 255, 2048, &tcp(SYN)))), v6(SYN)),
        ("authentication", v6_frame(ipv6(51, &extension(TCP, 4, 24, &tcp(SYN)))), v6(SYN)),
        ("IPv6, whole in a fragment", v6_frame(ipv6(44, &fragment_header(0, &tcp(SYN)))), v6(SYN)),
        ("IPv6, first fragment", v6_frame(ipv6(44, &fragment_header(1, &tcp(SYN)))), v6(SYN)),
        ("IPv6, later fragment", v6_frame(ipv6(44, &fragment_header(8, &tcp(SYN)))), LATER_FRAGMENT),
        ("longest chain", v6_frame(ipv6(60, &options(8))), v6(SYN)),
        ("chain too long", v6_frame(ipv6(60, &ninth)), LONG_CHAIN),
        ("chain too long, of fragment headers", v6_frame(ipv6(44, &fragments)), LONG_CHAIN),
        ("long chain to UDP", v6_frame(ipv6(60, &to_udp)), Found::Nothing),
        ("IPv4, fragment of 8 bytes", v4_frame(v4_fragment(0x2000, 8)), SHORT_V4),
        ("IPv4, fragment of 16 bytes", v4_frame(v4_fragment(0x2000, 16)), SHORT_V4),
        ("IPv4, fragment with half of the ports", v4_frame(v4_fragment(0x2000, 2)), MALFORMED),
        ("IPv4, too short and no fragment", v4_frame(v4_fragment(0x4000, 16)), MALFORMED),
        ("IPv6, fragment of 8 bytes", v6_frame(v6_fragment(1, 8)), SHORT_V6),
        ("IPv6, fragment of 16 bytes", v6_frame(v6_fragment(1, 16)), SHORT_V6),
        ("IPv6, too short and no fragment", v6_frame(v6_fragment(0, 16)), MALFORMED),
        ("encrypted", v6_frame(ipv6(50, &tcp(SYN))), Found::Nothing),
        ("no next header", v6_frame(ipv6(59, &tcp(SYN))), Found::Nothing),
        ("ICMPv6", v6_frame(ipv6(58, &tcp(SYN))), Found::Nothing),
    ];
    cases.into_iter().map(located).collect()
}
