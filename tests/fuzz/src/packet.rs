use hookgate_ebpf::packet::{Address, Flags, Packet, Segment, parse};

use cases::Bytes;
use reference::Reference;

#[path = "../../../proxy-ebpf/src/packet/frames.rs"]
mod cases;
mod reference;

/// Frames of every kind that the parser's own tests know.
pub fn frames() -> impl Iterator<Item = Vec<u8>> {
    cases::cases().into_iter().chain(cases::jumbos()).map(|(_, frame, _)| frame)
}

/// The guard's parser finds what another one finds, that has the whole frame and no verifier.
pub fn check(bytes: &[u8]) {
    let found = parse(&Bytes(bytes)).map(|found| {
        let Segment { source, destination, source_port, destination_port, sequence, flags } = found;
        let [source, destination] = [source, destination].map(|address| match address {
            Address::V4(address) => address.to_vec(),
            Address::V6(address) => address.to_vec(),
        });
        Reference { source, destination, source_port, destination_port, sequence, flags: flags.0 }
    });
    assert_eq!(found, reference::parse(bytes));
    assert!(found.is_none_or(|_| bytes.len() >= 54), "a segment in less than its headers");
}
