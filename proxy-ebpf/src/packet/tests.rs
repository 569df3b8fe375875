use std::format;
use std::vec::Vec;

use super::frames::cases;
use super::*;

struct Bytes(Vec<u8>);

impl Packet for Bytes {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

#[test]
fn finds_the_segment() {
    for (name, frame, expected) in cases() {
        assert_eq!(parse(&Bytes(frame)), expected, "{name}");
    }
}

#[test]
fn a_frame_cut_short_holds_nothing() {
    for (name, frame, _) in cases() {
        for length in 0..frame.len() {
            assert_eq!(parse(&Bytes(frame[..length].to_vec())), None, "{name}, {length} bytes");
        }
    }
}

#[test]
fn what_follows_the_segment_does_not_matter() {
    for (name, mut frame, expected) in cases() {
        frame.extend(format!("padding of {name}").bytes());
        assert_eq!(parse(&Bytes(frame)), expected, "{name}");
    }
}

#[test]
fn a_syn_without_ack_opens() {
    let opening: Vec<u8> = (0..=255).filter(|&bits| Flags(bits).opens()).collect();
    let expected: Vec<u8> = (0..=255).filter(|bits| bits & 0x12 == 0x02).collect();
    assert_eq!(opening, expected);
    assert!(opening.contains(&0x02) && opening.contains(&0xc2) && !opening.contains(&0x12));
}
