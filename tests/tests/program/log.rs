//! What the program logs, and that it does so for a reader alone.

use std::time::Instant;

use anyhow::Result;
use harness::{Need, require};
use hookgate_ebpf::abi::Settings;
use hookgate_ebpf::event::{Cause, SNAP_BYTES};
use hookgate_ebpf::packet::{Address, Flags, Found, Unparsed};
use hookgate_ebpf::verdict::Reason;

use super::frames;
use super::kernel::{Program, XDP_DROP, XDP_PASS};
use super::segments;

const SESSION: u32 = 77;
const FOR_EVER: u64 = u64::MAX;
const STRANGER: Address = Address::V4([203, 0, 113, 7]);

/// What must be logged of a frame in `observe`.
fn expected(found: Found) -> Option<(Unparsed, [u8; 16], u16)> {
    match found {
        Found::Unparsed(why) => Some((why, [0; 16], 0)),
        Found::ShortFragment { source, destination_port } => {
            Some((Unparsed::ShortFragment, source.mapped(), destination_port))
        }
        Found::LongChain { source } => Some((Unparsed::LongChain, source.mapped(), 0)),
        Found::Segment(_) | Found::Nothing => None,
    }
}

fn logs(mut program: Program, cases: &[(&'static str, Vec<u8>, Found)]) -> Result<()> {
    program.set_reader(FOR_EVER, SESSION)?;
    let mut logged = 0;
    for (name, frame, found) in cases {
        assert_eq!(program.run(frame)?, XDP_PASS, "{name}");
        let events = program.take_events()?;
        let Some((why, source, port)) = expected(*found) else {
            assert_eq!(events, [], "{name}");
            continue;
        };
        let [(head, start)] = &events[..] else { panic!("{name}: {events:?}") };
        assert_eq!((head.session, head.cause), (SESSION, Cause::Unparsed(why).number()), "{name}");
        assert_eq!((head.source, head.port, head.bytes), (source, port, frame.len() as u32), "{name}");
        // Two bytes at a time.
        assert_eq!(start, &frame[..frame.len().min(SNAP_BYTES) / 2 * 2], "{name}");
        logged += 1;
    }
    assert!(logged > 15, "{logged} cases are too few to tell");
    Ok(())
}

#[test]
fn frames_that_cannot_be_parsed_are_logged_as_they_came() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let whole = frames::cases();
    let cut = whole.iter().filter_map(|(name, frame, _)| {
        let frame = frame.get(..33)?.to_vec();
        let found = hookgate_ebpf::packet::parse(&frames::Bytes(&frame));
        Some((*name, frame, found))
    });
    let cases: Vec<_> = whole.iter().cloned().chain(cut).collect();
    logs(Program::load()?, &cases)?;
    logs(Program::linear()?, &cases)
}

#[test]
fn nothing_is_logged_unless_a_reader_is_there() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::load()?;
    program.set_mode(Settings::STRICT)?;
    let stranger = segments::with_flags(STRANGER, Flags::SYN);
    let later = frames::cases().into_iter().find(|(name, ..)| *name == "IPv4, later fragment");
    let later = later.map(|(_, frame, _)| frame).unwrap_or_default();
    let cause = Cause::Unparsed(Unparsed::LaterFragment);
    // None, and one that has not renewed its lease.
    for (round, until) in (1..).zip([0, 1]) {
        program.set_reader(until, SESSION)?;
        assert_eq!((program.run(&stranger)?, program.run(&later)?), (XDP_DROP, XDP_PASS));
        assert_eq!(program.take_events()?, []);
        assert_eq!((program.drops(Reason::Strict)?, program.counted(cause)?), (round, round));
    }
    program.set_reader(FOR_EVER, SESSION)?;
    assert_eq!((program.run(&stranger)?, program.run(&later)?), (XDP_DROP, XDP_PASS));
    let causes: Vec<u32> = program.take_events()?.iter().map(|(head, _)| head.cause).collect();
    assert_eq!(causes, [Cause::Dropped(Reason::Strict), cause].map(Cause::number));
    Ok(())
}

#[test]
fn a_flood_is_logged_within_its_budget_and_takes_none_of_others() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    const COUNT: usize = 5000;
    const BURST: usize = 200;
    const PER_SECOND: f64 = 100.0;
    let mut program = Program::load()?;
    program.set_mode(Settings::STRICT)?;
    program.set_reader(FOR_EVER, SESSION)?;
    let frame = segments::with_flags(STRANGER, Flags::SYN);
    let begun = Instant::now();
    let mut events = Vec::new();
    for _ in 0..COUNT {
        program.run(&frame)?;
        events.extend(program.take_events()?);
    }
    // A CPU's budget each: the test may be moved to another one.
    let cpus = std::thread::available_parallelism()?.get();
    let most = cpus * (BURST + (begun.elapsed().as_secs_f64() * PER_SECOND).ceil() as usize + 1);
    assert!((BURST..=most).contains(&events.len()), "{} of {COUNT}, at most {most}", events.len());
    assert_eq!(program.drops(Reason::Strict)?, COUNT as u64);
    program.run(&segments::with_flags(STRANGER, 0))?;
    let causes: Vec<u32> = program.take_events()?.iter().map(|(head, _)| head.cause).collect();
    assert_eq!(causes, [Cause::Dropped(Reason::Garbage).number()]);
    Ok(())
}
