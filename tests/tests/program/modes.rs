//! What each mode makes of whose packets.

use anyhow::Result;
use harness::{Need, require};
use hookgate_ebpf::abi::{self, Counters, Settings};
use hookgate_ebpf::packet::{Address, Flags, Found, Wire};
use hookgate_ebpf::verdict::Reason;

use super::kernel::{FIRST, Program, XDP_DROP, XDP_PASS};
use super::{frames, segments};

const META: [Address; 2] = [Address::V4(frames::SOURCE_V4), Address::V6(frames::SOURCE_V6)];
const ALLOWED: [Address; 2] =
    [Address::V4([192, 0, 2, 1]), Address::V6([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])];

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
/// NULL, XMAS, FIN, SYN with FIN, SYN with RST.
const GARBAGE: [u8; 5] = [0x00, 0x29, 0x01, 0x03, 0x06];

/// Each is in a block of its own.
const fn stranger_v4(block: u8) -> Address {
    Address::V4([203, 0, block, 7])
}

const fn stranger_v6(block: u8) -> Address {
    Address::V6([0x20, 1, 0xd, 0xb8, 0, block, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])
}

fn testbed(mode: u32) -> Result<Program> {
    of(Program::load()?, mode)
}

fn of(mut program: Program, mode: u32) -> Result<Program> {
    program.add(META[0], 24, FIRST)?;
    program.add(META[1], 48, FIRST)?;
    for address in ALLOWED {
        program.allow(address, if matches!(address, Address::V4(_)) { 32 } else { 128 })?;
    }
    program.set_mode(mode)?;
    Ok(program)
}

#[test]
fn meta_and_allowed_networks_pass_whatever_the_mode() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    for mode in [Settings::OBSERVE, Settings::LIMIT, Settings::STRICT] {
        let mut program = testbed(mode)?;
        for (index, source) in
            [(FIRST, META[0]), (FIRST, META[1]), (abi::ALLOWED, ALLOWED[0]), (abi::ALLOWED, ALLOWED[1])]
        {
            for flags in [SYN, ACK, RST].into_iter().chain(GARBAGE) {
                for _ in 0..10 {
                    let frame = segments::with_flags(source, flags);
                    let before = program.counters(index)?;
                    assert_eq!(program.run(&frame)?, XDP_PASS, "mode {mode}, {source:?}, {flags:#04x}");
                    assert_eq!(program.counters(index)?.packets, before.packets + 1);
                }
            }
        }
        assert_eq!(program.counters(abi::OTHER)?, Counters::default());
        assert_eq!(program.counters(FIRST)?.dropped + program.counters(abi::ALLOWED)?.dropped, 0);
        for reason in Reason::ALL {
            assert_eq!(program.drops(reason)?, 0);
        }
    }
    Ok(())
}

#[test]
fn an_allowed_network_takes_no_row_of_metas() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed(Settings::STRICT)?;
    program.allow(META[0], 32)?;
    assert_eq!(program.run(&segments::with_flags(META[0], ACK))?, XDP_PASS);
    assert_eq!(program.counters(FIRST)?.packets, 1);
    assert_eq!(program.counters(abi::ALLOWED)?.packets, 0);
    Ok(())
}

#[test]
fn strangers_are_seen_or_dropped_by_the_mode() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    [Program::load, Program::tc].into_iter().try_for_each(strangers_by_mode)
}

fn strangers_by_mode(load: fn() -> Result<Program>) -> Result<()> {
    let garbage = Some(Reason::Garbage);
    // Loaded once: an emulated machine's verifier takes seconds.
    let mut program = of(load()?, Settings::OBSERVE)?;
    for stranger in [stranger_v4, stranger_v6] {
        for (block, (mode, flags, reason)) in (100..).zip([
            (Settings::OBSERVE, SYN, None),
            (Settings::OBSERVE, ACK, None),
            (Settings::OBSERVE, GARBAGE[0], None),
            (Settings::OBSERVE, GARBAGE[3], None),
            (Settings::LIMIT, SYN, None),
            (Settings::LIMIT, ACK, None),
            (Settings::LIMIT, RST, None),
            (Settings::LIMIT, GARBAGE[0], garbage),
            (Settings::LIMIT, GARBAGE[1], garbage),
            (Settings::LIMIT, GARBAGE[2], garbage),
            (Settings::LIMIT, GARBAGE[3], garbage),
            (Settings::LIMIT, GARBAGE[4], garbage),
            (Settings::STRICT, SYN, Some(Reason::Strict)),
            (Settings::STRICT, ACK, Some(Reason::Strict)),
            (Settings::STRICT, RST, Some(Reason::Strict)),
            (Settings::STRICT, GARBAGE[1], garbage),
            (Settings::STRICT, GARBAGE[4], garbage),
        ]) {
            let source = stranger(block);
            program.set_mode(mode)?;
            let mut expected = program.counters(abi::OTHER)?;
            let mut drops = Vec::new();
            for each in Reason::ALL {
                drops.push((each, program.drops(each)? + u64::from(reason == Some(each))));
            }
            let frame = segments::with_flags(source, flags);
            let case = format!("mode {mode}, {source:?}, flags {flags:#04x}");
            let verdict = if reason.is_some() { XDP_DROP } else { XDP_PASS };
            assert_eq!(program.run(&frame)?, verdict, "{case}");
            let wire = Wire { packets: 1, bytes: frame.len() as u64 };
            match reason {
                Some(_) => expected.drop(wire, 0),
                None => expected.pass(Flags(flags), wire, 0, |count, more| *count += more),
            }
            assert_eq!(program.counters(abi::OTHER)?, expected, "{case}");
            for (each, expected) in drops {
                assert_eq!(program.drops(each)?, expected, "{case}, {each:?}");
            }
            let remembered = program.stranger(source).ok();
            let syns = u64::from(Flags(flags).opens());
            assert_eq!(remembered, if reason.is_some() { None } else { Some((1, syns)) }, "{case}");
        }
    }
    Ok(())
}

#[test]
fn each_source_has_a_bucket_of_its_own() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = testbed(Settings::LIMIT)?;
    // Three at once, one a second: what comes in during the test is less than one.
    let mut passed = |source: Address| -> Result<usize> {
        let frame = segments::with_flags(source, SYN);
        let verdicts = (0..20).map(|_| program.run(&frame)).collect::<Result<Vec<_>>>()?;
        Ok(verdicts.into_iter().filter(|verdict| *verdict == XDP_PASS).count())
    };
    assert_eq!(passed(Address::V4([203, 0, 113, 7]))?, 3);
    assert_eq!(passed(Address::V4([203, 0, 113, 8]))?, 3, "its neighbour");
    let v6 = |network: u8, host: u8| {
        Address::V6([0x20, 1, 0xd, 0xb8, 0, 7, 0, network, 0, 0, 0, 0, 0, 0, 0, host])
    };
    assert_eq!(passed(v6(1, 1))?, 3);
    assert_eq!(passed(v6(1, 2))?, 0, "the same /64");
    assert_eq!(passed(v6(2, 1))?, 3, "another /64");
    assert_eq!(program.drops(Reason::Limited)?, 4 * 17 + 20);
    let counters = program.counters(abi::OTHER)?;
    assert_eq!((counters.packets, counters.syns, counters.dropped), (100, 12, 88));
    let other_flags = segments::with_flags(Address::V4([203, 0, 113, 7]), ACK);
    assert_eq!(program.run(&other_flags)?, XDP_PASS, "only SYNs are limited");
    Ok(())
}

#[test]
fn strangers_do_not_hide_their_flags_where_these_count() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let hidden = || {
        frames::cases().into_iter().filter_map(|(name, frame, found)| match found {
            Found::ShortFragment { destination_port: 443, .. } => Some((name, frame, Reason::Fragment)),
            Found::LongChain { .. } => Some((name, frame, Reason::Extensions)),
            _ => None,
        })
    };
    assert!(hidden().count() >= 6);
    // Each from a stranger, from Meta, and from an allowed network.
    type Prepare = fn(&mut Program, Address) -> Result<()>;
    let whose: [(Prepare, bool); 3] = [
        (|_, _| Ok(()), true),
        (|program, source| program.add(source, 24, FIRST), false),
        (|program, source| program.allow(source, 24), false),
    ];
    for (prepare, is_stranger) in whose {
        let mut program = Program::load()?;
        META.into_iter().try_for_each(|source| prepare(&mut program, source))?;
        let mut dropped = [0; Reason::ALL.len()];
        for mode in [Settings::OBSERVE, Settings::LIMIT, Settings::STRICT] {
            program.set_mode(mode)?;
            for (name, frame, reason) in hidden() {
                let is_dropped = is_stranger && mode != Settings::OBSERVE;
                let verdict = if is_dropped { XDP_DROP } else { XDP_PASS };
                assert_eq!(program.run(&frame)?, verdict, "{name}, mode {mode}");
                dropped[reason as usize] += u64::from(is_dropped);
                for each in Reason::ALL {
                    assert_eq!(program.drops(each)?, dropped[each as usize], "{name}, mode {mode}, {each:?}");
                }
                let (counters, all) = (program.counters(abi::OTHER)?, dropped.iter().sum::<u64>());
                assert_eq!((counters.packets, counters.dropped), (all, all), "{name}, mode {mode}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_fragment_for_another_port_passes() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::load()?;
    program.set_mode(Settings::STRICT)?;
    let case = frames::cases().into_iter().find(|(name, ..)| *name == "IPv4, fragment of 8 bytes");
    let mut frame = case.map(|(_, frame, _)| frame).unwrap_or_default();
    frame[14 + 20 + 3] ^= 1;
    assert_eq!(program.run(&frame)?, XDP_PASS);
    assert_eq!(program.counters(abi::OTHER)?, Counters::default());
    Ok(())
}
