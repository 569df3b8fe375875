use hookgate_ebpf::fingerprint::Fingerprint;
use hookgate_ebpf::packet::{Address, Flags, Found, Packet, Segment, Unparsed, parse};

use cases::Bytes;
use reference::{Parsed, Reference};

#[path = "../../../proxy-ebpf/src/packet/frames.rs"]
mod cases;
mod reference;

/// Frames of every kind that the parser's own tests know.
pub fn frames() -> impl Iterator<Item = Vec<u8>> {
    cases::cases().into_iter().chain(cases::jumbos()).map(|(_, frame, _)| frame)
}

/// The guard's parser finds what another one finds, that has the whole frame and no verifier.
pub fn check(bytes: &[u8]) {
    let bytes_of = |address| match address {
        Address::V4(address) => address.to_vec(),
        Address::V6(address) => address.to_vec(),
    };
    let found = parse(&Bytes(bytes));
    if let Found::Segment(segment) = found {
        // Whatever its options are.
        Fingerprint::of(&Bytes(bytes), segment.tcp_at as usize, segment.hop_limit);
    }
    let found = match found {
        Found::Segment(Segment {
            source,
            destination,
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            flags,
            hop_limit,
            tcp_at,
            data_at,
        }) => Parsed::Segment(Reference {
            source: bytes_of(source),
            destination: bytes_of(destination),
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            flags: flags.0,
            hop_limit,
            tcp_bytes: bytes.len() as isize - tcp_at as isize,
            data_bytes: bytes.len() as isize - data_at as isize,
        }),
        Found::ShortFragment { source, destination_port } => {
            Parsed::ShortFragment { source: bytes_of(source), destination_port }
        }
        Found::LongChain { source } => Parsed::LongChain { source: bytes_of(source) },
        Found::Unparsed(_) | Found::Nothing => Parsed::Nothing,
    };
    assert_eq!(found, reference::parse(bytes));
    let is_segment = matches!(found, Parsed::Segment(_));
    assert!(!is_segment || bytes.len() >= 54, "a segment in less than its headers");
}
