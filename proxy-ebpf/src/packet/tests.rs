use std::format;
use std::vec::Vec;

use super::frames::{Bytes, cases, jumbos};
use super::*;

#[test]
fn finds_the_segment() {
    for (name, frame, expected) in cases().into_iter().chain(jumbos()) {
        assert_eq!(parse(&Bytes(&frame)), expected, "{name}");
    }
}

#[test]
fn a_frame_cut_short_holds_nothing() {
    for (name, frame, whole) in cases() {
        for length in 0..frame.len() {
            let found = parse(&Bytes(&frame[..length]));
            // Of these there is more than was needed to see what they are.
            let is_seen = !matches!(whole, Found::Segment(_)) && found == whole;
            let is_cut = matches!(found, Found::Unparsed(Unparsed::Truncated));
            assert!(is_cut || is_seen, "{name}, {length} bytes: {found:?}");
        }
    }
}

/// A frame of which only the first part is readable, as in XDP's fragments.
struct Readable<'a>(&'a [u8], usize);

impl Packet for Readable<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        Bytes(&self.0[..self.1]).read(at)
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn reaches(&self, end: usize) -> bool {
        self.0.len() >= end
    }
}

#[test]
fn a_chain_that_leads_out_of_sight_is_too_long() {
    const HEADERS: usize = ETHERNET_HEADER + IPV6_HEADER;
    let is_v6 = |frame: &[u8]| frame[12..14] == [0x86, 0xdd];
    for (name, frame, whole) in cases().into_iter().filter(|(_, frame, _)| is_v6(frame)) {
        let Found::Segment(Segment { source, .. }) = whole else { continue };
        for readable in HEADERS..frame.len() {
            let found = parse(&Readable(&frame, readable));
            assert_eq!(found, Found::LongChain { source }, "{name}, {readable} bytes");
        }
    }
}

#[test]
fn what_follows_the_segment_does_not_matter() {
    for (name, mut frame, expected) in cases() {
        frame.extend(format!("padding of {name}").bytes());
        assert_eq!(parse(&Bytes(&frame)), expected, "{name}");
    }
}

fn every_flag_where(condition: impl Fn(Flags) -> bool) -> Vec<u8> {
    (0..=255).filter(|&bits| condition(Flags(bits))).collect()
}

#[test]
fn a_syn_without_ack_opens() {
    let opening = every_flag_where(Flags::opens);
    assert_eq!(opening, every_flag_where(|Flags(bits)| bits & 0x12 == 0x02));
    assert!(opening.contains(&0x02) && opening.contains(&0xc2) && !opening.contains(&0x12));
}

#[test]
fn what_some_tcp_sends_is_no_garbage() {
    const ECN: u8 = 0xc0;
    const PSH_URG: u8 = 0x28;
    let combined = |base: &[u8], more: u8| -> Vec<u8> {
        base.iter()
            .flat_map(|&flags| (0..=255).filter(move |b| b & !more == 0).map(move |b| flags | b))
            .collect()
    };
    let mut sent = combined(&[0x02, 0x12], ECN | PSH_URG); // SYN, SYN-ACK
    sent.extend(combined(&[0x10, 0x11], ECN | PSH_URG)); // ACK, FIN-ACK
    sent.extend(combined(&[0x04, 0x14], ECN | PSH_URG)); // RST, RST-ACK
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(every_flag_where(|flags| !flags.are_garbage()), sent);
    let (null, xmas, fin, syn_fin, syn_rst) = (0x00, 0x29, 0x01, 0x03, 0x06);
    for flags in [null, xmas, fin, syn_fin, syn_rst] {
        assert!(Flags(flags).are_garbage(), "{flags:#04x}");
    }
}

#[test]
fn addresses_are_mapped_and_back() {
    let v4 = Address::V4([157, 240, 1, 7]);
    assert_eq!(v4.mapped(), "::ffff:157.240.1.7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    for address in [v4, Address::V4([0; 4]), Address::V6([0; 16]), Address::V6([0xff; 16])] {
        assert_eq!(Address::from_mapped(address.mapped()), address);
    }
}
