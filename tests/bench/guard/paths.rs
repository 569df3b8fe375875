//! Each way through a program, by BPF_PROG_TEST_RUN: no wire, no kernel around it.

use std::time::Duration;

use anyhow::{Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use hookgate_ebpf::abi::{self, Settings};
use hookgate_ebpf::packet::{Address, Flags};
use hookgate_ebpf::tc;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::kernel::{PORT, Program, XDP_DROP, XDP_PASS, of_tc};
use super::{frames, segments};

const META: Address = Address::V4(frames::SOURCE_V4);
const META_V6: Address = Address::V6(frames::SOURCE_V6);
const STRANGER: Address = Address::V4([203, 0, 113, 7]);
const SYN: u8 = Flags::SYN;
/// How many attempts begin in a round. Few, so that there is room for those of all rounds.
const FIRST_SYNS: u32 = 100;
/// Where a frame over IPv4 has TCP's sequence number.
const SEQUENCE: std::ops::Range<usize> = 14 + 20 + 4..14 + 20 + 8;

/// One way through a program.
struct Path {
    name: &'static str,
    frame: Vec<u8>,
    mode: u32,
    verdict: u32,
    /// Each frame begins an attempt.
    is_first: bool,
    /// Prefixes are being changed, and there are allowed networks: all sources are looked up.
    is_looked_up: bool,
}

fn paths() -> Vec<Path> {
    let path = |name, frame, mode, verdict| Path {
        name,
        frame,
        mode,
        verdict,
        is_first: false,
        is_looked_up: false,
    };
    let first = |name, source| {
        let frame = segments::with_flags(source, SYN);
        Path { is_first: true, ..path(name, frame, Settings::OBSERVE, XDP_PASS) }
    };
    let mut other_port = segments::ack(META);
    other_port[14 + 20 + 2..14 + 20 + 4].copy_from_slice(&(PORT + 1).to_be_bytes());
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    vec![
        path("meta_established", segments::ack(META), Settings::OBSERVE, XDP_PASS),
        path("meta_established_v6", segments::ack(META_V6), Settings::OBSERVE, XDP_PASS),
        path("meta_syn", segments::with_flags(META, SYN), Settings::OBSERVE, XDP_PASS),
        first("meta_first_syn", META),
        path("stranger_established", segments::ack(STRANGER), Settings::OBSERVE, XDP_PASS),
        path("stranger_syn", segments::with_flags(STRANGER, SYN), Settings::OBSERVE, XDP_PASS),
        first("stranger_first_syn", STRANGER),
        path("stranger_syn_dropped", segments::with_flags(STRANGER, SYN), Settings::STRICT, XDP_DROP),
        Path {
            is_looked_up: true,
            ..path(
                "stranger_syn_dropped_looked_up",
                segments::with_flags(STRANGER, SYN),
                Settings::STRICT,
                XDP_DROP,
            )
        },
        Path { is_looked_up: true, ..first("stranger_first_syn_looked_up", STRANGER) },
        path("stranger_dropped", segments::ack(STRANGER), Settings::STRICT, XDP_DROP),
        path("other_port", other_port, Settings::OBSERVE, XDP_PASS),
        path("non_ip", arp, Settings::OBSERVE, XDP_PASS),
    ]
}

/// Every path of every program, `rounds` times; `repeat` packets at a time.
pub fn measure(programs: &mut [(&str, Program)], rounds: usize, repeat: u32) -> Result<Vec<Value>> {
    let mut samples = Vec::new();
    for round in 0..rounds {
        for path in paths() {
            // The first program meets a cooler cache: each round begins with another one.
            for place in 0..programs.len() {
                let count = programs.len();
                let (name, program) = &mut programs[(round + place) % count];
                if program.has(abi::SETTINGS) {
                    program.set_mode(path.mode)?;
                    let generation = if path.is_looked_up { 3 } else { 2 };
                    let settings = program.settings()?;
                    let has_allowed = path.is_looked_up.into();
                    program.set(Settings { generation_v4: generation, has_allowed, ..settings })?;
                }
                let (verdict, nanoseconds) = match path.is_first {
                    true => run_each(
                        program,
                        &path.frame,
                        u32::try_from(2 * round)? * FIRST_SYNS
                            + if path.is_looked_up { FIRST_SYNS } else { 0 },
                    )?,
                    false => run(program, &path.frame, repeat)?,
                };
                let expected = if program.has(abi::SETTINGS) { path.verdict } else { XDP_PASS };
                ensure!(verdict == expected, "{name} said {verdict} to {}", path.name);
                samples
                    .push(json!({ "round": round, "program": name, "path": path.name, "ns": nanoseconds }));
            }
        }
    }
    Ok(samples)
}

/// What the program says to a frame, and how many nanoseconds it takes for it when there are many.
fn run(program: &mut Program, frame: &[u8], repeat: u32) -> Result<(u32, f64)> {
    let before = processor_time();
    let (verdict, _) = run_repeatedly(program, frame, repeat)?;
    // The kernel's own figure knows no fractions, and counts whatever else ran meanwhile.
    Ok((verdict, (processor_time() - before) * 1e9 / f64::from(repeat)))
}

/// The same where each frame has a sequence number of its own, from `first` on: one at a time, by
/// the kernel's clock, which takes a part of it.
fn run_each(program: &mut Program, frame: &[u8], first: u32) -> Result<(u32, f64)> {
    let (mut frame, mut last, mut took) = (frame.to_vec(), 0, Vec::new());
    for number in first..first + FIRST_SYNS {
        frame[SEQUENCE].copy_from_slice(&number.to_be_bytes());
        let (verdict, duration) = run_repeatedly(program, &frame, 1)?;
        last = verdict;
        took.push(duration.as_nanos() as f64);
    }
    // What else ran meanwhile is in a few of them.
    took.sort_by(f64::total_cmp);
    Ok((last, took[took.len() / 2]))
}

/// The verdict as XDP says it, and the kernel's own measure of one run.
fn run_repeatedly(program: &mut Program, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
    if program.is_tc() {
        let result = program.tc_program(tc::INCOMING[0])?.test_run(options)?;
        return Ok((of_tc(result.return_value.cast_signed())?, result.duration));
    }
    let result = program.xdp()?.test_run(options)?;
    Ok((result.return_value, result.duration))
}

/// Of this thread, in seconds.
pub fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
