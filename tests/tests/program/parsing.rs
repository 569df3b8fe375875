//! Which packets are counted, where, and that whatever can't be parsed passes.

use anyhow::Result;
use harness::{Need, require};
use hookgate_ebpf::abi::{self, Counters};
use hookgate_ebpf::packet::{Address, Flags, Found, Wire, parse};

use super::frames::{self, Bytes};
use super::kernel::{ETHERNET_HEADER, FIRST, PORT, Program, XDP_PASS, hands_over_fragments};
use super::reference::{self, Parsed, Reference};
use super::segments;

const META_V4: Address = Address::V4(frames::SOURCE_V4);
const META_V6: Address = Address::V6(frames::SOURCE_V6);

/// What one passing packet with those flags counts.
fn one(frame: &[u8], flags: Flags) -> Counters {
    let mut counters = Counters::default();
    counters.pass(flags, Wire { packets: 1, bytes: frame.len() as u64 }, 0, |count, more| *count += more);
    counters
}

#[test]
fn counts_what_the_parser_finds_at_every_length() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let all = || frames::cases().into_iter().chain(frames::jumbos());
    if hands_over_fragments()? {
        finds(Program::load()?, ETHERNET_HEADER, all().collect())?;
    }
    // What a page can hold.
    let short = || all().filter(|(_, frame, _)| frame.len() < 3000).collect();
    finds(Program::linear()?, ETHERNET_HEADER, short())?;
    // The kernel tests it with whole IP headers alone.
    finds(Program::tc()?, ETHERNET_HEADER + 40, short())
}

fn finds(mut program: Program, shortest: usize, cases: Vec<(&'static str, Vec<u8>, Found)>) -> Result<()> {
    program.add(META_V4, 32, FIRST)?;
    program.add(META_V6, 128, FIRST + 1)?;
    let mut counted = 0;
    let segments = cases.iter().filter(|(_, _, found)| matches!(found, Found::Segment(_))).count();
    for (name, whole, expected) in cases {
        let shortest = if whole.len() > 60_000 { whole.len() } else { shortest };
        for length in shortest..=whole.len() {
            let frame = &whole[..length];
            let found = if length == whole.len() { expected } else { parse(&Bytes(frame)) };
            let sums = |program: &Program| [0, 1, 2, 3].map(|index| program.counters(index));
            let before = sums(&program);
            assert_eq!(program.run(frame)?, XDP_PASS, "{name}, {length} bytes");
            for (index, (after, before)) in sums(&program).into_iter().zip(before).enumerate() {
                let (mut expected, after) = (before?, after?);
                if let Found::Segment(found) = found
                    && index as u32 == if matches!(found.source, Address::V4(_)) { FIRST } else { FIRST + 1 }
                {
                    counted += 1;
                    expected.pass(
                        found.flags,
                        Wire { packets: 1, bytes: length as u64 },
                        0,
                        |count, more| *count += more,
                    );
                }
                let of_attempts = Counters { syns_retransmitted: after.syns_retransmitted, ..expected };
                assert_eq!(after, of_attempts, "{name}, {length} bytes, index {index}");
            }
        }
    }
    assert_eq!(counted, segments);
    Ok(())
}

#[test]
fn a_packet_counts_once_at_its_longest_match() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let [a, b, c, d] = frames::SOURCE_V4;
    let frame = segments::ack(META_V4);
    let ack = one(&frame, Flags(Flags::ACK));
    let mut program = Program::load()?;
    assert_eq!(program.added_by(&frame, abi::OTHER)?, ack, "in no prefix");
    program.add(Address::V4([a, b, 0, 0]), 16, FIRST)?;
    program.prove(META_V4)?;
    assert_eq!(program.added_by(&frame, FIRST)?, ack);
    // Prefixes that are added change the generation: what was remembered of the block is not
    // believed any more.
    program.add(Address::V4([a, b, c, 0]), 24, FIRST + 1)?;
    program.add(Address::V4([a, b, c ^ 1, 0]), 24, FIRST + 2)?;
    assert_eq!(program.added_by(&frame, FIRST)?, ack, "the block's own entry");
    let settings = program.settings()?;
    program.set(abi::Settings { generation_v4: 4, ..settings })?;
    assert_eq!(program.added_by(&frame, FIRST + 1)?, ack);
    // Longer than a block: while the generation is odd each packet is looked up.
    program.add(META_V4, 32, FIRST + 3)?;
    program.set(abi::Settings { generation_v4: 5, ..settings })?;
    for _ in 0..2 {
        assert_eq!(program.added_by(&frame, FIRST + 3)?, ack);
        assert_eq!(program.added_by(&segments::ack(Address::V4([a, b, c, d ^ 1])), FIRST + 1)?, ack);
    }
    // What was remembered while it was odd is not believed when it is even again.
    program.set(abi::Settings { generation_v4: 6, ..settings })?;
    assert_eq!(program.added_by(&segments::ack(Address::V4([a, b, c, d ^ 1])), FIRST + 1)?, ack);
    assert_eq!(program.proven(META_V4)?.packets, 8);
    Ok(())
}

#[test]
fn other_ports_are_not_looked_at() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut frame = segments::ack(META_V4);
    let mut program = Program::load()?;
    let port_at = ETHERNET_HEADER + 20 + 2;
    for port in [0, 22, PORT - 1, PORT + 1, PORT + 64, PORT ^ 0x8000, u16::MAX] {
        frame[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
        assert_eq!(program.added_by(&frame, abi::OTHER)?, Counters::default(), "port {port}");
    }
    frame[port_at..port_at + 2].copy_from_slice(&PORT.to_be_bytes());
    assert_eq!(program.added_by(&frame, abi::OTHER)?.packets, 1);
    Ok(())
}

#[test]
fn a_frame_in_fragments_counts_whole() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) || !hands_over_fragments()? {
        return Ok(());
    }
    let mut frame = segments::ack(META_V4);
    frame.resize(9014, 0xaa);
    let mut program = Program::load()?;
    assert_eq!(program.added_by(&frame, abi::OTHER)?, one(&frame, Flags(Flags::ACK)));
    Ok(())
}

#[test]
fn mutated_frames_are_parsed_as_a_second_parser_does() -> Result<()> {
    mutate(100_000)
}

#[test]
#[ignore = "a million frames take a while"]
fn a_million_mutated_frames_are_parsed_as_a_second_parser_does() -> Result<()> {
    mutate(1_000_000)
}

/// Frames of every kind with a few bytes changed, mostly among their headers, and now and then cut:
/// none is dropped in `observe`, and the counters are what the plain parser makes of them.
fn mutate(count: u64) -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    const BATCH: u64 = 1000;
    let whole: Vec<Vec<u8>> = frames::cases().into_iter().map(|(_, frame, _)| frame).collect();
    let mut program = Program::load()?;
    program.add(META_V4, 16, FIRST)?;
    program.add(META_V6, 32, FIRST + 1)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut expected = [Counters::default(); 4];
    let mut segments = 0u64;
    for number in 1..=count {
        let mut frame = whole[random.below(whole.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(frame.len().min(100));
            frame[at] = random.next() as u8;
        }
        if random.below(8) == 0 {
            frame.truncate(ETHERNET_HEADER.max(random.below(frame.len() + 1)));
        }
        assert_eq!(program.run(&frame)?, XDP_PASS, "{}", frame.escape_ascii());
        if let Parsed::Segment(found) = reference::parse(&frame)
            && found.destination_port == PORT
        {
            segments += 1;
            let expected = &mut expected[index(&found) as usize];
            expected.pass(
                Flags(found.flags),
                Wire { packets: 1, bytes: frame.len() as u64 },
                0,
                |count, more| *count += more,
            );
        }
        if number % BATCH == 0 {
            for (index, expected) in (0..).zip(expected) {
                let got = program.counters(index)?;
                let of_attempts = Counters {
                    syns_retransmitted: got.syns_retransmitted,
                    failed_by: got.failed_by,
                    untracked: got.untracked,
                    ..expected
                };
                assert_eq!(got, of_attempts, "index {index}, after {number} frames");
            }
        }
    }
    assert!(segments > count / 4, "{segments} segments to the guarded port are too few to tell");
    assert!(
        expected.iter().enumerate().all(|(index, sum)| (sum.packets > 0) == (index != 1)),
        "{expected:?}"
    );
    Ok(())
}

fn index(found: &Reference) -> u32 {
    match found.source {
        ref v4 if v4.len() == 4 && v4[..2] == frames::SOURCE_V4[..2] => FIRST,
        ref v6 if v6.len() == 16 && v6[..4] == frames::SOURCE_V6[..4] => FIRST + 1,
        _ => abi::OTHER,
    }
}

/// xorshift64 (Marsaglia 2003): the same frames in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
