//! The XDP program in the real kernel, fed frame by frame through BPF_PROG_TEST_RUN; attached to nothing. What it must
//! count of a frame cut short is what the parser, run here on the same bytes, finds.

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use harness::{Need, require};
use hookgate_ebpf::abi::{self, Counters};
use hookgate_ebpf::packet::{Flags, Packet, Segment, Source, parse};

#[path = "../../proxy-ebpf/src/packet/frames.rs"]
mod frames;

const XDP_PASS: u32 = 2;
/// The least that the kernel lets a test feed.
const ETHERNET_HEADER: usize = 14;

struct Program {
    ebpf: Ebpf,
}

impl Program {
    /// Looks at port 443.
    fn load() -> Result<Self> {
        let binary = harness::binary()?;
        let target = binary.ancestors().nth(2).context("a binary without a target directory")?;
        let object = std::fs::read(target.join("bpf/hookgate-guard.o"))?;
        let mut ebpf = EbpfLoader::new().load(&object)?;
        let xdp: &mut Xdp = ebpf.program_mut(abi::PROGRAM).context("no program")?.try_into()?;
        xdp.load()?;
        let mut ports = Array::<_, u64>::try_from(ebpf.map_mut(abi::PORTS).context("no ports")?)?;
        ports.set(443 / abi::PORTS_PER_WORD, 1 << (443 % abi::PORTS_PER_WORD), 0)?;
        Ok(Self { ebpf })
    }

    fn add_v4(&mut self, address: [u8; 4], length: u32, index: u32) -> Result<()> {
        let map = self.ebpf.map_mut(abi::PREFIXES_V4).context("no prefixes")?;
        Ok(LpmTrie::try_from(map)?.insert(&Key::new(length, address), index, 0)?)
    }

    fn add_v6(&mut self, address: [u8; 16], length: u32, index: u32) -> Result<()> {
        let map = self.ebpf.map_mut(abi::PREFIXES_V6).context("no prefixes")?;
        Ok(LpmTrie::try_from(map)?.insert(&Key::new(length, address), index, 0)?)
    }

    /// What the program says to a frame. It must not have changed it.
    fn run(&mut self, frame: &[u8]) -> Result<u32> {
        let mut out = vec![0; frame.len()];
        let xdp: &mut Xdp = self.ebpf.program_mut(abi::PROGRAM).context("no program")?.try_into()?;
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = xdp.test_run(options)?;
        assert_eq!(out, frame);
        Ok(result.return_value)
    }

    /// The counters of indices 0 to 3, last seen left out.
    fn counts(&self) -> Result<[[u64; 3]; 4]> {
        let map = PerCpuArray::<_, Counters>::try_from(self.ebpf.map(abi::COUNTERS).context("no counters")?)?;
        let mut counts = [[0; 3]; 4];
        for (index, counts) in (0..).zip(&mut counts) {
            for cpu in map.get(&index, 0)?.iter() {
                assert_eq!(cpu.packets > 0, cpu.last_seen > 0);
                for (sum, more) in counts.iter_mut().zip([cpu.packets, cpu.bytes, cpu.syns]) {
                    *sum += more;
                }
            }
        }
        Ok(counts)
    }

    /// What one frame adds to the counters.
    fn added_by(&mut self, frame: &[u8]) -> Result<[[u64; 3]; 4]> {
        let before = self.counts()?;
        assert_eq!(self.run(frame)?, XDP_PASS);
        let mut added = self.counts()?;
        for (after, before) in added.iter_mut().flatten().zip(before.iter().flatten()) {
            *after -= before;
        }
        Ok(added)
    }
}

struct Bytes<'a>(&'a [u8]);

impl Packet for Bytes<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

fn only(index: usize, frame: &[u8], syns: u64) -> [[u64; 3]; 4] {
    let mut counts = [[0; 3]; 4];
    counts[index] = [1, frame.len() as u64, syns];
    counts
}

#[test]
fn counts_what_the_parser_finds_at_every_length() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut program = Program::load()?;
    program.add_v4(frames::SOURCE_V4, 32, 1)?;
    program.add_v6(frames::SOURCE_V6, 128, 2)?;
    let mut counted = 0;
    for (name, whole, segment) in frames::cases() {
        for length in ETHERNET_HEADER..=whole.len() {
            let frame = &whole[..length];
            let found = if length == whole.len() { segment } else { parse(&Bytes(frame)) };
            let expected = match found {
                None => [[0; 3]; 4],
                Some(segment) => {
                    counted += 1;
                    let index = if matches!(segment.source, Source::V4(_)) { 1 } else { 2 };
                    only(index, frame, u64::from(segment.flags.opens()))
                }
            };
            assert_eq!(program.added_by(frame)?, expected, "{name}, {length} bytes");
        }
    }
    let whole = frames::cases().iter().filter(|(_, _, segment)| segment.is_some()).count();
    assert_eq!(counted, whole);
    Ok(())
}

#[test]
fn a_packet_counts_once_at_its_longest_match() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let [a, b, c, _] = frames::SOURCE_V4;
    let (_, frame, _) = &frames::cases()[0];
    let mut program = Program::load()?;
    assert_eq!(program.added_by(frame)?, only(0, frame, 1), "in no prefix");
    program.add_v4([a, b, 0, 0], 16, 1)?;
    assert_eq!(program.added_by(frame)?, only(1, frame, 1));
    program.add_v4([a, b, c, 0], 24, 2)?;
    program.add_v4([a, b, c ^ 1, 0], 24, 3)?;
    assert_eq!(program.added_by(frame)?, only(2, frame, 1));
    Ok(())
}

#[test]
fn other_ports_are_not_looked_at() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let (_, frame, _) = &frames::cases()[0];
    let mut program = Program::load()?;
    let port_at = ETHERNET_HEADER + 20 + 2;
    for port in [0, 22, 442, 444, 443 + 64, 443 ^ 0x8000, u16::MAX] {
        let mut frame = frame.clone();
        frame[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
        assert_eq!(program.added_by(&frame)?, [[0; 3]; 4], "port {port}");
    }
    assert_eq!(program.added_by(frame)?, only(0, frame, 1));
    Ok(())
}

#[test]
fn a_frame_in_fragments_counts_whole() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let (_, frame, _) = &frames::cases()[0];
    let mut frame = frame.clone();
    frame.resize(9014, 0xaa);
    let mut program = Program::load()?;
    assert_eq!(program.added_by(&frame)?, only(0, &frame, 1));
    Ok(())
}
