use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::packet::frames::Bytes;

/// MSS 1460, SACK, timestamps, window scale 7.
const LINUX: &[u8] = b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x5e\x2f\x91\x03\0\0\0\0\x01\x03\x03\x07";
/// MSS 1460, window scale 8, SACK.
const WINDOWS: &[u8] = b"\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02";
/// MSS 1460, window scale 6, timestamps, SACK, end.
const MACOS: &[u8] = b"\x02\x04\x05\xb4\x01\x03\x03\x06\x01\x01\x08\x0a\x11\x22\x33\x44\0\0\0\0\x04\x02\0\0";
/// Linux with a TCP Fast Open cookie.
const COOKIE: &[u8] = b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x5e\x2f\x91\x03\0\0\0\0\x01\x03\x03\x07\
    \x22\x0a\x01\x02\x03\x04\x05\x06\x07\x08\x01\x01";
/// Before the TCP header, whatever it is.
const BEFORE: usize = 34;

fn frame(options: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0xee; BEFORE + TCP_HEADER];
    frame[BEFORE + DATA_OFFSET] = ((TCP_HEADER + options.len()) / 4 * 16) as u8;
    frame.extend(options);
    frame
}

fn hash_of(frame: &[u8]) -> Option<u16> {
    hash_options(&Bytes(frame), BEFORE, |state, _| state)
}

/// What follows the header does not matter.
fn hash(options: &[u8]) -> u16 {
    let bare = frame(options);
    let with_data = [&bare[..], &[0xab; 64]].concat();
    assert_eq!(hash_of(&bare), hash_of(&with_data));
    hash_of(&bare).expect("a whole header")
}

fn changed(options: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut options = options.to_vec();
    assert_ne!(options[at], byte);
    options[at] = byte;
    options
}

#[test]
fn systems_differ_by_their_options() {
    let different = [
        LINUX.to_vec(),
        WINDOWS.to_vec(),
        MACOS.to_vec(),
        COOKIE.to_vec(),
        Vec::new(),
        changed(LINUX, 3, 0xa0),
        changed(LINUX, 19, 8),
        // The same in another order.
        [&LINUX[4..6], &LINUX[..4], &LINUX[6..]].concat(),
    ];
    let hashes: BTreeSet<u16> = different.iter().map(|options| hash(options)).collect();
    assert_eq!(hashes.len(), different.len());
}

#[test]
fn what_differs_from_syn_to_syn_does_not_count() {
    for at in 8..16 {
        assert_eq!(hash(&changed(LINUX, at, 0xaa)), hash(LINUX), "byte {at} of the timestamps");
    }
    for at in 22..30 {
        assert_eq!(hash(&changed(COOKIE, at, 0xaa)), hash(COOKIE), "byte {at} of the cookie");
    }
    assert_eq!(hash(&changed(MACOS, 23, 0xaa)), hash(MACOS), "behind the end of the list");
}

#[test]
fn a_header_that_is_cut_has_no_fingerprint() {
    let whole = frame(LINUX);
    for length in 0..whole.len() {
        assert_eq!(hash_of(&whole[..length]), None, "{length} bytes");
    }
    assert!(hash_of(&whole).is_some());
    // A length that does not even hold the header.
    let mut too_short = whole;
    for words in 0..HEADER_WORDS as u8 {
        too_short[BEFORE + DATA_OFFSET] = words << 4;
        assert_eq!(hash_of(&too_short), None, "{words} words");
    }
}

#[test]
fn a_malformed_list_ends_where_it_is_malformed() {
    for length in [0, 1] {
        let list = [2, 4, 5, 0xb4, 8, length, 7, 7];
        assert_eq!(hash(&list), hash(&changed(&list, 6, 8)), "length {length}");
        assert_ne!(hash(&list), hash(&changed(&list, 3, 0xa0)), "length {length}");
    }
    // Beyond the end of the header.
    let too_long = [2, 4, 5, 0xb4, 8, 255, 7, 7];
    assert_eq!(hash(&too_long), hash(&changed(&too_long, 7, 8)));
    // Of another kind to the last byte, which has no length.
    assert_ne!(hash(&[1, 1, 1, 8]), hash(&[1, 1, 1, 1]));
    // The longest list: every one of it is taken.
    let longest = [1; 40];
    assert_ne!(hash(&longest), hash(&longest[..36]));
    assert_ne!(hash(&longest), hash(&changed(&longest, 39, 0)));
}

#[test]
fn any_bytes_have_a_fingerprint() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let options: Vec<u8> = (0..40)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Small ones are kinds and lengths.
                if random & 1 == 0 { (random >> 8) as u8 } else { (random >> 8) as u8 & 7 }
            })
            .collect();
        hash(&options[..(random as usize >> 16) % 11 * 4]);
    }
}

fn variants(completed: &[Fingerprint]) -> Variants {
    completed.iter().fold(Variants::default(), |variants, completed| variants.with(*completed))
}

#[test]
fn hop_limit_and_options_both_differ() {
    let real = Fingerprint::new(57, 1);
    let variants = variants(&[real]);
    for (hop_limit, options, is_unlike) in [
        (57, 1, false),
        (57, 2, false),
        (40, 1, false),
        (40, 2, true),
        // Another route.
        (55, 2, false),
        (59, 2, false),
        (54, 2, true),
        (60, 2, true),
        (0, 2, true),
        (255, 2, true),
    ] {
        let fingerprint = Fingerprint::new(hop_limit, options);
        assert_eq!(variants.are_unlike(fingerprint), is_unlike, "{hop_limit} {options}");
    }
}

#[test]
fn what_is_not_known_differs_from_nothing() {
    let forged = Fingerprint::new(40, 2);
    let unknown = Fingerprint::default();
    assert!(!Variants::default().are_unlike(forged));
    assert!(!variants(&[unknown]).are_unlike(forged));
    assert!(!variants(&[Fingerprint::new(57, 1)]).are_unlike(unknown));
    let real = [Fingerprint::new(57, 1), unknown];
    assert_eq!(variants(&real), variants(&real[..1]));
    // Also a hop limit and a hash of 0 are known.
    assert!(variants(&[Fingerprint::new(0, 0)]).are_unlike(forged));
    assert!(!variants(&[Fingerprint::new(0, 0)]).are_unlike(Fingerprint::new(2, 9)));
}

#[test]
fn the_latest_two_that_differ_are_kept() {
    let [a, b, c] = [(57, 1), (120, 2), (240, 3)].map(|(hops, options)| Fingerprint::new(hops, options));
    let (like_a, like_b, like_c) =
        (Fingerprint::new(57, 9), Fingerprint::new(120, 9), Fingerprint::new(240, 9));
    let both = variants(&[a, b, b, b, a]);
    assert!(!both.are_unlike(like_a) && !both.are_unlike(like_b) && both.are_unlike(like_c));
    let later = both.with(c);
    assert!(!later.are_unlike(like_a) && later.are_unlike(like_b) && !later.are_unlike(like_c));
    // One that has changed its route a little takes its own place.
    let nearer = both.with(Fingerprint::new(59, 1));
    assert!(!nearer.are_unlike(Fingerprint::new(61, 9)) && nearer.are_unlike(Fingerprint::new(56, 9)));
    assert!(!nearer.are_unlike(like_b));
}
