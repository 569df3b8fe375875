//! Each way through a program, by BPF_PROG_TEST_RUN: no wire, no kernel around it.

use anyhow::{Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use hookgate_ebpf::abi::{self, Settings};
use hookgate_ebpf::packet::{Address, Flags};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::kernel::{PORT, Program, XDP_DROP, XDP_PASS};
use super::{frames, segments};

const META: Address = Address::V4(frames::SOURCE_V4);
const META_V6: Address = Address::V6(frames::SOURCE_V6);
const STRANGER: Address = Address::V4([203, 0, 113, 7]);
const SYN: u8 = Flags::SYN;

/// One way through a program.
struct Path {
    name: &'static str,
    frame: Vec<u8>,
    mode: u32,
    verdict: u32,
}

fn paths() -> Vec<Path> {
    let path = |name, frame, mode, verdict| Path { name, frame, mode, verdict };
    let mut other_port = segments::ack(META);
    other_port[14 + 20 + 2..14 + 20 + 4].copy_from_slice(&(PORT + 1).to_be_bytes());
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    vec![
        path("meta_established", segments::ack(META), Settings::OBSERVE, XDP_PASS),
        path("meta_established_v6", segments::ack(META_V6), Settings::OBSERVE, XDP_PASS),
        path("meta_syn", segments::with_flags(META, SYN), Settings::OBSERVE, XDP_PASS),
        path("stranger_established", segments::ack(STRANGER), Settings::OBSERVE, XDP_PASS),
        path("stranger_syn", segments::with_flags(STRANGER, SYN), Settings::OBSERVE, XDP_PASS),
        path("stranger_syn_dropped", segments::with_flags(STRANGER, SYN), Settings::STRICT, XDP_DROP),
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
                }
                let (verdict, nanoseconds) = run(program, &path.frame, repeat)?;
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
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
    let xdp = program.xdp()?;
    let before = processor_time();
    let verdict = xdp.test_run(options)?.return_value;
    // The kernel's own figure knows no fractions, and counts whatever else ran meanwhile.
    Ok((verdict, (processor_time() - before) * 1e9 / f64::from(repeat)))
}

/// Of this thread, in seconds.
pub fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
