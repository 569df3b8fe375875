//! tc's programs: bundles of segments, and frames without Ethernet.

use anyhow::Result;
use harness::{Need, require};
use hookgate_ebpf::abi::{self, Counters, Settings};
use hookgate_ebpf::packet::{Address, Flags, Found};
use hookgate_ebpf::tc::ANSWERS;
use hookgate_ebpf::verdict::Reason;

use super::kernel::{ETHERNET_HEADER, FIRST, Program, XDP_DROP, XDP_PASS};
use super::{frames, segments};

const META_V4: Address = Address::V4(frames::SOURCE_V4);
const META_V6: Address = Address::V6(frames::SOURCE_V6);
const STRANGER: Address = Address::V4([203, 0, 113, 7]);
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// A frame with so much data behind its headers.
fn with_data(source: Address, bytes: usize) -> Vec<u8> {
    let mut frame = segments::with_flags(source, ACK);
    let length_at = if matches!(source, Address::V4(_)) { 16 } else { 18 };
    let length = u16::from_be_bytes([frame[length_at], frame[length_at + 1]]) + bytes as u16;
    frame[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    frame.resize(frame.len() + bytes, 0xaa);
    frame
}

#[test]
fn a_bundle_counts_as_what_was_on_the_wire() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    for (load, link_header) in [(Program::tc as fn() -> Result<Program>, ETHERNET_HEADER), (Program::bare, 0)]
    {
        let mut program = load()?;
        program.add(META_V4, 24, FIRST)?;
        program.add(META_V6, 48, FIRST)?;
        for (source, headers) in [(META_V4, 20 + 20), (META_V6, 40 + 20)] {
            // The last segment may have less data.
            for (bundle, data, packets) in [
                ([0, 0], 1000, 1),
                ([1, 0], 1000, 1),
                ([3, 500], 1400, 3),
                ([3, 500], 1001, 3),
                // By the data alone, as a virtual machine's card tells it.
                ([0, 500], 1400, 3),
                ([0, 500], 1500, 3),
                ([0, 500], 1501, 4),
            ] {
                let before = program.counters(FIRST)?;
                assert_eq!(program.run_bundle(&with_data(source, data), bundle)?, XDP_PASS);
                let after = program.counters(FIRST)?;
                let bytes = packets * (link_header + headers) as u64 + data as u64;
                let counted = (after.packets - before.packets, after.bytes - before.bytes);
                assert_eq!(counted, (packets, bytes), "{source:?}, {bundle:?}, {data} bytes of data");
            }
        }
    }
    Ok(())
}

#[test]
fn each_segment_of_a_dropped_bundle_counts() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::tc()?;
    program.set_mode(Settings::STRICT)?;
    assert_eq!(program.run_bundle(&with_data(STRANGER, 1400), [3, 500])?, XDP_DROP);
    let other = program.counters(abi::OTHER)?;
    assert_eq!((other.packets, other.dropped, other.bytes), (3, 3, 3 * 54 + 1400));
    assert_eq!(program.drops(Reason::Strict)?, 3);
    program.set_mode(Settings::OBSERVE)?;
    assert_eq!(program.run_bundle(&with_data(STRANGER, 1400), [3, 500])?, XDP_PASS);
    assert_eq!(program.stranger(STRANGER)?, (3, 0));
    Ok(())
}

#[test]
fn a_frame_without_ethernet_is_parsed_from_its_ip_header() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::bare()?;
    program.add(META_V4, 32, FIRST)?;
    program.add(META_V6, 128, FIRST)?;
    program.set_mode(Settings::STRICT)?;
    // The test's frames have Ethernet, which the kernel takes off.
    let is_bare = |frame: &[u8]| matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd]);
    let cases = frames::cases().into_iter().filter(|(_, frame, _)| is_bare(frame) && frame.len() < 3000);
    for (name, frame, found) in cases {
        let mut expected = Counters::default();
        if let Found::Segment(found) = found {
            expected.packets = 1;
            expected.syns = found.flags.opens().into();
            expected.bytes = (frame.len() - ETHERNET_HEADER) as u64;
        }
        let added = program.added_by(&frame, FIRST)?;
        let of_attempts = Counters { syns_retransmitted: added.syns_retransmitted, ..expected };
        assert_eq!(added, of_attempts, "{name}");
    }
    assert_eq!(program.run(&segments::with_flags(STRANGER, SYN))?, XDP_DROP);
    assert_eq!(program.run(&segments::with_flags(META_V4, SYN))?, XDP_PASS);
    let other = program.counters(abi::OTHER)?;
    assert_eq!((other.packets, other.dropped), (1, 1), "the first fragments and long chains are Meta's");
    Ok(())
}

#[test]
fn answers_without_ethernet_are_seen() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::bare()?;
    program.add(META_V4, 24, FIRST)?;
    program.run(&segments::with(META_V4, SYN, 40_000, 7))?;
    let mut answer = segments::with(META_V4, Flags::SYN | Flags::ACK, 443, 1);
    let (addresses, tcp) = segments::V4;
    let peer: [u8; 4] = answer[addresses..addresses + 4].try_into()?;
    answer[addresses + 4..addresses + 8].copy_from_slice(&peer);
    answer[tcp + 2..tcp + 4].copy_from_slice(&40_000u16.to_be_bytes());
    answer[tcp + 8..tcp + 12].copy_from_slice(&8u32.to_be_bytes());
    assert_eq!(program.waiting()?, 0);
    program.run_leaving_by(ANSWERS[1], &answer)?;
    assert_eq!(program.waiting()?, 1);
    Ok(())
}
