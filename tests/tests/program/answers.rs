//! Frames that leave, and the class that a failed attempt ends in.

use std::time::Duration;

use anyhow::Result;
use harness::{Need, require, wait_until};
use hookgate_ebpf::abi::{self, FailedBy, Settings};
use hookgate_ebpf::attempt;
use hookgate_ebpf::packet::Address;

use super::kernel::{FIRST, PORT, Program};
use super::{frames, segments};

/// Leaves it to the next program.
const TC_ACT_UNSPEC: i32 = -1;
const META: Address = Address::V4(frames::SOURCE_V4);
const META_V6: Address = Address::V6(frames::SOURCE_V6);
const STRANGER: Address = Address::V4([203, 0, 113, 7]);
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Our first number.
const OURS: u32 = 0xffff_ffff;
const THE_END: Duration = Duration::from_nanos(attempt::ATTEMPT_TIMEOUT + 8 * abi::SWEEP_INTERVAL);

fn testbed() -> Result<Program> {
    let mut program = Program::load()?;
    program.add(META, 24, FIRST)?;
    program.add(META_V6, 32, FIRST)?;
    Ok(program)
}

/// A peer that has sent its SYN.
#[derive(Clone, Copy)]
struct Peer {
    address: Address,
    port: u16,
    sequence: u32,
}

impl Peer {
    fn new(address: Address, port: u16) -> Self {
        // The next number is 0 for some.
        Self { address, port, sequence: 0u32.wrapping_sub(u32::from(port % 2)) }
    }

    /// Sends a segment with its first number, and `ahead` more.
    fn sends(self, program: &mut Program, flags: u8, ahead: u32, acknowledgement: u32) -> Result<()> {
        let sequence = self.sequence.wrapping_add(ahead);
        let frame = segments::with(self.address, flags, self.port, sequence);
        program.run(&acknowledging(self.address, frame, acknowledgement)).map(drop)
    }

    fn opens(self, program: &mut Program) -> Result<()> {
        self.sends(program, SYN, 0, 0)
    }

    /// Gets a segment from a port, which acknowledges its SYN, and `ahead` more.
    fn gets(self, program: &mut Program, from: u16, flags: u8, ahead: u32) -> Result<()> {
        let acknowledgement = self.sequence.wrapping_add(1).wrapping_add(ahead);
        let frame = leaving(self, from, flags, acknowledgement);
        assert_eq!(program.run_leaving(&frame)?, TC_ACT_UNSPEC);
        Ok(())
    }

    fn is_answered(self, program: &mut Program) -> Result<()> {
        self.gets(program, PORT, SYN | ACK, 0)
    }
}

/// The same frame with another acknowledgement number.
fn acknowledging(source: Address, mut frame: Vec<u8>, acknowledgement: u32) -> Vec<u8> {
    let (_, tcp) = places(source);
    frame[tcp + 8..tcp + 12].copy_from_slice(&acknowledgement.to_be_bytes());
    frame
}

/// A frame to a peer from one of our ports.
fn leaving(peer: Peer, port: u16, flags: u8, acknowledgement: u32) -> Vec<u8> {
    let frame = segments::with(peer.address, flags, peer.port, OURS);
    let mut frame = acknowledging(peer.address, frame, acknowledgement);
    let (address, tcp) = places(peer.address);
    let bytes = if matches!(peer.address, Address::V4(_)) { 4 } else { 16 };
    let (source, destination) = frame[address..address + 2 * bytes].split_at_mut(bytes);
    source.swap_with_slice(destination);
    frame[tcp..tcp + 2].copy_from_slice(&port.to_be_bytes());
    frame[tcp + 2..tcp + 4].copy_from_slice(&peer.port.to_be_bytes());
    frame
}

fn places(address: Address) -> (usize, usize) {
    match address {
        Address::V4(_) => segments::V4,
        Address::V6(_) => segments::V6,
    }
}

#[test]
fn each_failed_attempt_ends_in_one_class() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let program = &mut testbed()?;
    for (address, index) in [(META, FIRST), (META_V6, FIRST), (STRANGER, abi::OTHER)] {
        let before = program.counters(index)?.failed_by;
        let peer = |port| Peer::new(address, port);
        // No SYN-ACK: none at all, one from another port, one to another SYN, one without ACK.
        for port in 1..=4 {
            peer(port).opens(program)?;
        }
        peer(2).gets(program, PORT + 1, SYN | ACK, 0)?;
        peer(3).gets(program, PORT, SYN | ACK, 1)?;
        peer(4).gets(program, PORT, SYN, 0)?;
        peer(1).opens(program)?; // a SYN that comes again before it is answered
        // And then nothing, or what acknowledges nothing of ours.
        for port in 5..=7 {
            peer(port).opens(program)?;
            peer(port).is_answered(program)?;
        }
        peer(6).sends(program, ACK, 1, OURS.wrapping_add(2))?;
        peer(7).sends(program, ACK, 2, OURS.wrapping_add(1))?;
        // The SYN comes again.
        for port in 8..=9 {
            peer(port).opens(program)?;
            peer(port).is_answered(program)?;
            peer(port).opens(program)?;
            peer(port).is_answered(program)?;
        }
        // The ACK comes; the SYN had, too.
        for port in 10..=11 {
            peer(port).opens(program)?;
            peer(port).is_answered(program)?;
        }
        peer(11).opens(program)?;
        peer(10).sends(program, ACK, 1, OURS.wrapping_add(1))?;
        peer(11).sends(program, ACK | 0x08, 1, OURS.wrapping_add(1))?;
        // A RST leaves; one without ACK belongs to another segment.
        peer(12).opens(program)?;
        peer(12).gets(program, PORT, RST | ACK, 0)?;
        peer(13).opens(program)?;
        peer(13).is_answered(program)?;
        peer(13).sends(program, ACK, 1, OURS.wrapping_add(1))?;
        peer(13).gets(program, PORT, RST | ACK, 0)?;
        peer(14).opens(program)?;
        peer(14).gets(program, PORT, RST, 0)?;
        // A RST comes, whatever had come before.
        peer(15).opens(program)?;
        peer(15).sends(program, RST, 1, 0)?;
        peer(16).opens(program)?;
        peer(16).is_answered(program)?;
        peer(16).sends(program, ACK, 1, OURS.wrapping_add(1))?;
        peer(16).gets(program, PORT, RST | ACK, 0)?;
        peer(16).sends(program, RST, 1, 0)?;
        let expected = FailedBy {
            reset: before.reset + 2,
            refused: before.refused + 2,
            uncompleted: before.uncompleted + 2,
            unheard: before.unheard + 2,
            silent: before.silent + 3,
            unanswered: before.unanswered + 5,
            unclassified: 0,
        };
        wait_until("each attempt has ended", THE_END, || {
            Ok(program.counters(index)?.failed_by.sum() == expected.sum())
        })?;
        assert_eq!(program.counters(index)?.failed_by, expected, "{address:?}");
        assert_eq!(program.waiting()?, 0, "{address:?}");
    }
    let in_blocks = [META, META_V6].map(|address| program.seen(address).map(|seen| seen.failed_by.sum()));
    for sum in in_blocks {
        assert_eq!(sum?, 16);
    }
    Ok(())
}

#[test]
fn what_leaves_is_waited_for_once() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let program = &mut testbed()?;
    for port in 1..=100 {
        let peer = Peer::new(META, port);
        peer.is_answered(program)?; // to nothing that came
        peer.opens(program)?;
        assert_eq!(program.waiting()?, u64::from(port) - 1);
        for _ in 0..3 {
            peer.is_answered(program)?;
        }
        assert_eq!(program.waiting()?, u64::from(port));
    }
    for port in 1..=100 {
        Peer::new(META, port).sends(program, RST, 1, 0)?;
    }
    wait_until("none is open", THE_END, || Ok(program.waiting()? == 0))?;
    assert_eq!(program.counters(FIRST)?.failed_by, FailedBy { reset: 100, ..FailedBy::default() });
    Ok(())
}

#[test]
fn without_sight_of_what_leaves_no_failure_is_classified() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let program = &mut testbed()?;
    let settings = program.settings()?;
    program.set(Settings { sees_answers: 0, ..settings })?;
    let (early, late) = (Peer::new(META, 1), Peer::new(META, 2));
    early.opens(program)?;
    // It is what was so when the attempt began that counts.
    program.set(settings)?;
    late.opens(program)?;
    for peer in [early, late] {
        peer.sends(program, RST, 1, 0)?;
    }
    wait_until("both have failed", THE_END, || Ok(program.counters(FIRST)?.failed_by.sum() == 2))?;
    let expected = FailedBy { reset: 1, unclassified: 1, ..FailedBy::default() };
    assert_eq!(program.counters(FIRST)?.failed_by, expected);
    Ok(())
}

#[test]
fn all_else_that_leaves_passes() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed()?;
    for (name, frame, _) in frames::cases() {
        assert_eq!(program.run_leaving(&frame)?, TC_ACT_UNSPEC, "{name}");
    }
    Ok(())
}
