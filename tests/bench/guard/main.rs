//! Nanoseconds a packet in the kernel, path by path, of the guard's program and of others in C.
//! Prints JSON; `cargo xtask bench` compiles those others, and makes a table of it.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Parser;
use hookgate_ebpf::abi;
use hookgate_ebpf::packet::{Address, Flags, Found, Packet, Segment, Unparsed};
use hookgate_ebpf::tc;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use kernel::{FIRST, Program};

#[path = "../../../proxy-ebpf/src/packet/frames.rs"]
#[expect(dead_code, reason = "of the tests' frames a few are measured")]
mod frames;
#[path = "../../tests/program/kernel.rs"]
#[expect(dead_code, reason = "of what the tests need of a program, this is a part")]
mod kernel;
mod paths;
#[path = "../../tests/guard/raw.rs"]
#[expect(dead_code, reason = "of what the tests send, this is a part")]
mod raw;
#[path = "../../tests/program/segments.rs"]
mod segments;
mod wire;

/// The name of the guard's program for tc.
const TC: &str = "tc";

#[derive(Parser)]
struct Args {
    /// Object files with a program `hookgate`, by name
    #[arg(long = "program", value_name = "NAME=FILE", required = true)]
    programs: Vec<String>,
    /// How often each path of each program is measured
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How many packets at a time
    #[arg(long, default_value_t = 200_000)]
    repeat: u32,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut core = CpuSet::new();
    core.set(0);
    sched_setaffinity(None, &core).context("moving to core 0")?;
    let mut programs = Vec::new();
    for named in &args.programs {
        let (name, file) = named.split_once('=').context("--program NAME=FILE")?;
        let object = std::fs::read(file).with_context(|| format!("reading {file}"))?;
        let function = if name == TC { tc::INCOMING[0] } else { abi::PROGRAM };
        programs.push((name, set_up(&object, function).with_context(|| name.to_owned())?));
    }
    let paths = paths::measure(&mut programs, args.rounds, args.repeat)?;
    programs.retain(|(name, _)| matches!(*name, "empty" | "hookgate"));
    let wire = wire::measure(&mut programs, args.rounds.min(5))?;
    println!("{}", json!({ "paths": paths, "wire": wire }));
    Ok(())
}

/// Meta's prefixes as they are, so that the tries are as deep as in earnest.
fn set_up(object: &[u8], function: &'static str) -> Result<Program> {
    let mut program = Program::of(object, function)?;
    if program.has(abi::PREFIXES_V4) {
        let list = include_str!("../../../proxy/src/prefixes/as32934.txt");
        let networks = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for (network, index) in networks.filter(|network| !network.is_empty()).zip(FIRST..) {
            let (address, length) = network.split_once('/').context("a prefix")?;
            let address = match address.parse()? {
                IpAddr::V4(v4) => Address::V4(v4.octets()),
                IpAddr::V6(v6) => Address::V6(v6.octets()),
            };
            program.add(address, length.parse()?, index)?;
        }
    }
    Ok(program)
}
