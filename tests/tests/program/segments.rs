//! Frames with a segment to the guarded port.

use hookgate_ebpf::packet::{Address, Flags};

use super::frames;

/// In the first and in the first IPv6 case of `frames`: where addresses and TCP begin.
pub const V4: (usize, usize) = (14 + 12, 14 + 20);
pub const V6: (usize, usize) = (14 + 8, 14 + 40);

pub fn with_flags(source: Address, flags: u8) -> Vec<u8> {
    with(source, flags, frames::SOURCE_PORT, frames::SEQUENCE)
}

pub fn ack(source: Address) -> Vec<u8> {
    with_flags(source, Flags::ACK)
}

pub fn with(source: Address, flags: u8, source_port: u16, sequence: u32) -> Vec<u8> {
    let (name, (address, tcp)) = match source {
        Address::V4(_) => ("IPv4 SYN", V4),
        Address::V6(_) => ("IPv6 SYN", V6),
    };
    let case = frames::cases().into_iter().find(|(case, ..)| *case == name);
    let mut frame = case.map(|(_, frame, _)| frame).unwrap_or_default();
    match source {
        Address::V4(octets) => frame[address..address + 4].copy_from_slice(&octets),
        Address::V6(octets) => frame[address..address + 16].copy_from_slice(&octets),
    }
    frame[tcp..tcp + 2].copy_from_slice(&source_port.to_be_bytes());
    frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
    frame[tcp + 8..tcp + 12].fill(0);
    frame[tcp + 13] = flags;
    frame
}
