//! SYNs without an answer: here no TCP ever completes a handshake.

use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{Need, ensure_stays, equal, pace, require, wait_until};
use hookgate_ebpf::abi::{self, Counters};
use hookgate_ebpf::attempt;
use hookgate_ebpf::diagnostic::QUIET_SWEEPS;
use hookgate_ebpf::packet::Address;

use super::kernel::{FIRST, Program};
use super::{frames, segments};

const META: Address = Address::V4(frames::SOURCE_V4);
const STRANGER: Address = Address::V4([203, 0, 113, 7]);
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const MAX_ATTEMPT_AGE: Duration = Duration::from_nanos(attempt::ATTEMPT_TIMEOUT);
const AFTER_RESET: Duration = Duration::from_nanos(attempt::AFTER_RESET);
const SWEEP: Duration = Duration::from_nanos(abi::SWEEP_INTERVAL);
const A_MOMENT: Duration = Duration::from_secs(1);

fn testbed() -> Result<Program> {
    let mut program = Program::load()?;
    program.add(META, 24, FIRST)?;
    Ok(program)
}

/// syns, retransmitted, failed, untracked.
fn of_attempts(counters: &Counters) -> [u64; 4] {
    assert_eq!(counters.handshakes, 0);
    [counters.syns, counters.syns_retransmitted, counters.failed_by.sum(), counters.untracked]
}

fn wait_for(limit: Duration, program: &Program, index: u32, expected: [u64; 4]) -> Result<()> {
    let counts = || Ok(equal(of_attempts(&program.counters(index)?), expected));
    wait_until(format!("the counts are {expected:?}"), limit, counts).map(drop)
}

#[test]
fn a_reset_ends_an_attempt_when_it_answers_the_syn_ack() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed()?;
    let begin = 0xffff_ffff; // the next number is 0
    let reset = |ahead: u32| segments::with(META, RST, 40_000, u32::wrapping_add(begin, ahead));
    program.run(&segments::with(META, SYN, 40_000, begin))?;
    for ahead in [0, 2, 65_535, 1 << 31, u32::MAX] {
        program.run(&reset(ahead))?;
    }
    let counts = || Ok(equal(of_attempts(&program.counters(FIRST)?), [1, 0, 0, 0]));
    ensure_stays("forged resets end nothing", AFTER_RESET + 2 * SWEEP, counts)?;
    program.run(&reset(1))?;
    wait_for(A_MOMENT, &program, FIRST, [1, 0, 1, 0])?;
    assert_eq!(program.attempts(abi::ATTEMPTS_META)?, 0);
    program.run(&reset(1))?;
    assert_eq!(program.counters(FIRST)?.rsts, 7);
    // The same SYN again is an attempt of its own now.
    program.run(&segments::with(META, SYN, 40_000, begin))?;
    assert_eq!(of_attempts(&program.counters(FIRST)?), [2, 0, 1, 0]);
    assert_eq!(program.seen(META)?, program.counters(FIRST)?);
    Ok(())
}

#[test]
fn a_syn_with_another_number_is_another_attempt() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed()?;
    let mut send = |source, port, sequence| program.run(&segments::with(source, SYN, port, sequence));
    for source in [META, STRANGER] {
        send(source, 40_000, 1)?;
        send(source, 40_000, 1)?;
        send(source, 40_000, 2)?; // another one
        send(source, 40_000, 2)?;
        send(source, 40_000, 1)?; // the first again
        send(source, 40_001, 1)?; // another connection
    }
    for index in [FIRST, abi::OTHER] {
        assert_eq!(of_attempts(&program.counters(index)?), [6, 3, 0, 0]);
    }
    assert_eq!(program.attempts(abi::ATTEMPTS_META)?, 3);
    assert_eq!(program.attempts(abi::ATTEMPTS_OTHER)?, 3);
    Ok(())
}

#[test]
fn without_a_sweep_no_attempt_begins() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::without_sweeps()?;
    program.add(META, 24, FIRST)?;
    for _ in 0..2 {
        program.run(&segments::with(META, SYN, 40_000, 1))?;
    }
    assert_eq!(of_attempts(&program.counters(FIRST)?), [2, 0, 0, 2]);
    assert_eq!(program.attempts(abi::ATTEMPTS_META)?, 0);
    Ok(())
}

#[test]
fn a_sweep_without_diagnostics_ends_attempts_too() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::without_sweeps()?;
    program.begin_sweeps(QUIET_SWEEPS)?;
    program.add(META, 24, FIRST)?;
    program.run(&segments::with(META, SYN, 40_000, 1))?;
    program.run(&segments::with(META, RST, 40_000, 2))?;
    wait_for(A_MOMENT, &program, FIRST, [1, 0, 1, 0])
}

#[test]
fn an_attempt_fails_ten_seconds_after_its_last_syn() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed()?;
    let syn = segments::with(META, SYN, 40_000, 1);
    program.run(&syn)?;
    program.run(&segments::with(META, SYN, 40_001, 1))?;
    pace(Duration::from_secs(4));
    program.run(&syn)?;
    // One was sent again after four seconds.
    wait_for(MAX_ATTEMPT_AGE - Duration::from_secs(4) + A_MOMENT / 2, &program, FIRST, [3, 1, 1, 0])?;
    let counts = || Ok(equal(of_attempts(&program.counters(FIRST)?), [3, 1, 1, 0]));
    ensure_stays("the other goes on", Duration::from_secs(3) - A_MOMENT / 2, counts)?;
    wait_for(Duration::from_secs(2), &program, FIRST, [3, 1, 2, 0])?;
    assert_eq!(program.attempts(abi::ATTEMPTS_META)?, 0);
    Ok(())
}

#[test]
fn a_full_table_is_told_and_takes_nothing_from_meta() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    const MORE: u64 = 1000;
    let room = u64::from(abi::ATTEMPTS_OTHER_CAPACITY);
    let mut program = testbed()?;
    let begun = Instant::now();
    for number in 0..(room + MORE) as u32 {
        let [_, b, c, d] = number.to_be_bytes();
        program.run(&segments::with(Address::V4([203, b, c, d]), SYN, 40_000, 1))?;
    }
    let told = of_attempts(&program.counters(abi::OTHER)?);
    let followed = room + MORE - told[3];
    if begun.elapsed() >= MAX_ATTEMPT_AGE {
        // An emulated machine is too slow to fill it before the first ones give way.
        let ended = || Ok(program.attempts(abi::ATTEMPTS_OTHER)? == 0);
        wait_until("all attempts end", MAX_ATTEMPT_AGE + 10 * A_MOMENT, ended)?;
        let [syns, retransmitted, failed, untracked] = of_attempts(&program.counters(abi::OTHER)?);
        assert_eq!((syns, retransmitted, failed + untracked), (room + MORE, 0, room + MORE));
        return Ok(());
    }
    // Three quarters of the room, and of the others a share that leaves some.
    assert!((room / 4 * 3..room).contains(&followed), "{told:?}");
    assert_eq!(told, [room + MORE, 0, 0, room + MORE - followed]);
    program.run(&segments::with(META, SYN, 40_000, 1))?;
    program.run(&segments::with(META, SYN, 40_000, 1))?;
    assert_eq!(of_attempts(&program.counters(FIRST)?), [2, 1, 0, 0]);
    wait_for(
        MAX_ATTEMPT_AGE + 5 * A_MOMENT,
        &program,
        abi::OTHER,
        [room + MORE, 0, followed, room + MORE - followed],
    )?;
    assert_eq!(program.attempts(abi::ATTEMPTS_OTHER)?, 0);
    Ok(())
}

#[test]
fn without_reports_of_handshakes_none_has_failed() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed()?;
    program.set(abi::Settings { netns: 0, ..program.settings()? })?;
    for sequence in [1, 1, 2] {
        program.run(&segments::with(META, SYN, 40_000, sequence))?;
        program.run(&segments::with(META, RST, 40_000, sequence + 1))?;
    }
    wait_for(2 * A_MOMENT, &program, FIRST, [3, 1, 0, 2])
}
