//! The loaded program and its maps.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfLoader};
use harness::wait_until;
use hookgate_ebpf::abi::{self, Counters, Seen, Settings, Stranger};
use hookgate_ebpf::attempt::{Attempt, AttemptKey};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::event::{self, Cause, EventHead, Reader};
use hookgate_ebpf::fingerprint::Variants;
use hookgate_ebpf::limit::Limit;
use hookgate_ebpf::packet::Address;
use hookgate_ebpf::tc;
use hookgate_ebpf::verdict::Reason;

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
/// The least that the kernel lets a test feed.
pub const ETHERNET_HEADER: usize = 14;
/// Guarded.
pub const PORT: u16 = 443;
/// The first prefix's index.
pub const FIRST: u32 = abi::FIRST_PREFIX;

pub struct Program {
    ebpf: Ebpf,
    /// The name of the program that filters.
    name: &'static str,
}

impl Program {
    /// Looks at port 443, in mode `observe`, without a prefix. Handshakes could be reported, and
    /// never are.
    pub fn load() -> Result<Self> {
        Self::of(&object()?, if hands_over_fragments()? { abi::PROGRAM } else { abi::PROGRAM_LINEAR })
    }

    /// The one for kernels that hand over no frames in fragments.
    pub fn linear() -> Result<Self> {
        Self::of(&object()?, abi::PROGRAM_LINEAR)
    }

    /// tc's.
    pub fn tc() -> Result<Self> {
        Self::of(&object()?, tc::INCOMING[0])
    }

    /// tc's for interfaces without Ethernet.
    pub fn bare() -> Result<Self> {
        Self::of(&object()?, tc::INCOMING[1])
    }

    /// Where the timer could not be set.
    pub fn without_sweeps() -> Result<Self> {
        Self::prepared(&object()?, abi::PROGRAM_LINEAR)
    }

    /// The program `name` of an object file, with as much as it has of what there is to set.
    pub fn of(object: &[u8], name: &'static str) -> Result<Self> {
        let mut program = Self::prepared(object, name)?;
        if program.ebpf.program(abi::SWEEPS).is_some() {
            program.begin_sweeps(abi::SWEEPS)?;
        }
        Ok(program)
    }

    fn prepared(object: &[u8], name: &'static str) -> Result<Self> {
        let mut program = Self { ebpf: EbpfLoader::new().load(object)?, name };
        if tc::INCOMING.contains(&name) {
            program.tc_program(name)?.load()?;
        } else {
            program.xdp()?.load()?;
        }
        if program.has(abi::PORTS) {
            let word = u32::from(PORT) / abi::PORTS_PER_WORD;
            let mut ports = Array::<_, u64>::try_from(program.map_mut(abi::PORTS)?)?;
            ports.set(word, 1 << (u32::from(PORT) % abi::PORTS_PER_WORD), 0)?;
        }
        if program.has(abi::SETTINGS) {
            let generations = Settings { generation_v4: 2, generation_v6: 2, ..Settings::default() };
            program.set(Settings { netns: 1, sees_answers: 1, ..generations })?;
        }
        Ok(program)
    }

    pub fn has(&self, map: &str) -> bool {
        self.ebpf.map(map).is_some()
    }

    /// As user space does: the kernel may be short of memory for the moment.
    pub fn begin_sweeps(&mut self, name: &str) -> Result<()> {
        let sweeps: &mut Xdp = self.ebpf.program_mut(name).context("no program")?.try_into()?;
        sweeps.load()?;
        let mut begun = || {
            let options = TestRunOptions { data_in: Some(&[0; ETHERNET_HEADER]), ..TestRunOptions::new() };
            Ok(sweeps.test_run(options)?.return_value == XDP_PASS)
        };
        wait_until("there is memory for a timer", Duration::from_secs(5), &mut begun)?;
        Ok(())
    }

    pub fn set(&mut self, settings: Settings) -> Result<()> {
        let settings = Settings { version: abi::VERSION, ..settings };
        Ok(Array::<_, Settings>::try_from(self.map_mut(abi::SETTINGS)?)?.set(0, settings, 0)?)
    }

    pub fn settings(&self) -> Result<Settings> {
        Ok(Array::<_, Settings>::try_from(self.map(abi::SETTINGS)?)?.get(&0, 0)?)
    }

    pub fn set_mode(&mut self, mode: u32) -> Result<()> {
        self.set(Settings { mode, limit: Limit::new(1, 3), ..self.settings()? })
    }

    /// A prefix of Meta's.
    pub fn add(&mut self, address: Address, length: u32, index: u32) -> Result<()> {
        if self.has(abi::SETTINGS) {
            let mut settings = self.settings()?;
            settings.senders.add(address, u8::try_from(length)?);
            self.set(settings)?;
        }
        self.add_to([abi::PREFIXES_V4, abi::PREFIXES_V6], address, length, index)
    }

    pub fn allow(&mut self, address: Address, length: u32) -> Result<()> {
        self.set(Settings { has_allowed: 1, ..self.settings()? })?;
        self.add_to([abi::ALLOWED_V4, abi::ALLOWED_V6], address, length, abi::ALLOWED)
    }

    fn add_to(&mut self, [v4, v6]: [&str; 2], address: Address, length: u32, index: u32) -> Result<()> {
        match address {
            Address::V4(octets) => {
                LpmTrie::try_from(self.map_mut(v4)?)?.insert(&Key::new(length, octets), index, 0)?;
            }
            Address::V6(octets) => {
                LpmTrie::try_from(self.map_mut(v6)?)?.insert(&Key::new(length, octets), index, 0)?;
            }
        }
        Ok(())
    }

    /// What the program says to a frame, as XDP says it. It must not have changed it.
    pub fn run(&mut self, frame: &[u8]) -> Result<u32> {
        match self.is_tc() {
            true => self.run_bundle(frame, [0, 0]),
            false => run(self.xdp()?, frame, None),
        }
    }

    /// Whether the program that filters is one of tc's.
    pub fn is_tc(&self) -> bool {
        tc::INCOMING.contains(&self.name)
    }

    /// The same of tc's program and a frame of several segments: the number of these, and the data
    /// in each, as the kernel tells them.
    pub fn run_bundle(&mut self, frame: &[u8], [segments, data_bytes]: [u32; 2]) -> Result<u32> {
        // `struct __sk_buff`.
        let mut skb = [0; 192];
        skb[164..168].copy_from_slice(&segments.to_ne_bytes());
        skb[176..180].copy_from_slice(&data_bytes.to_ne_bytes());
        let name = self.name;
        of_tc(run(self.tc_program(name)?, frame, Some(&skb))?.cast_signed())
    }

    /// What the program for frames that leave says to one. It must not have changed it.
    pub fn run_leaving(&mut self, frame: &[u8]) -> Result<i32> {
        self.run_leaving_by(abi::ANSWERS, frame)
    }

    pub fn run_leaving_by(&mut self, name: &str, frame: &[u8]) -> Result<i32> {
        let answers = self.tc_program(name)?;
        if answers.fd().is_err() {
            answers.load()?;
        }
        Ok(run(answers, frame, None)?.cast_signed())
    }

    pub fn tc_program(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        Ok(self.ebpf.program_mut(name).context("no program")?.try_into()?)
    }

    /// How many attempts are answered and open, by slots.
    pub fn waiting(&self) -> Result<u64> {
        let map = Array::<_, u64>::try_from(self.map(abi::WAITING)?)?;
        let counts = map.iter().collect::<Result<Vec<_>, _>>()?;
        Ok(counts.iter().sum())
    }

    /// What one frame adds to the counters of an index, `last_seen` left out.
    pub fn added_by(&mut self, frame: &[u8], index: u32) -> Result<Counters> {
        let before = self.counters(index)?;
        self.run(frame)?;
        Ok(difference(self.counters(index)?, before))
    }

    /// What all CPUs counted at an index, `last_seen` checked and left out.
    pub fn counters(&self, index: u32) -> Result<Counters> {
        let map = PerCpuArray::<_, Counters>::try_from(self.map(abi::COUNTERS)?)?;
        Ok(sum(map.get(&index, 0)?.iter()))
    }

    pub fn drops(&self, reason: Reason) -> Result<u64> {
        let map = PerCpuArray::<_, u64>::try_from(self.map(abi::DROPS)?)?;
        Ok(map.get(&(reason as u32), 0)?.iter().sum())
    }

    /// A reader of the log.
    pub fn set_reader(&mut self, until: u64, session: u32) -> Result<()> {
        let mut map = Array::<_, [u64; 2]>::try_from(self.map_mut(event::LOG_READER)?)?;
        Ok(map.set(0, Reader { until, ..Reader::new(1, session) }.words(), 0)?)
    }

    /// What was logged since the last call.
    pub fn take_events(&mut self) -> Result<Vec<(EventHead, Vec<u8>)>> {
        let mut ring = RingBuf::try_from(self.map_mut(event::LOG)?)?;
        let mut events = Vec::new();
        while let Some(record) = ring.next() {
            let (head, start) = EventHead::parse(&record).context("no event")?;
            events.push((head, start.to_vec()));
        }
        Ok(events)
    }

    /// How many events of a cause there were, logged or not.
    pub fn counted(&self, cause: Cause) -> Result<u64> {
        let map = PerCpuArray::<_, [u64; 2]>::try_from(self.map(event::EVENTS)?)?;
        Ok(map.get(&cause.number(), 0)?.iter().map(|[counted, _]| counted).sum())
    }

    /// What was counted of a block of Meta's.
    pub fn seen(&self, address: Address) -> Result<Counters> {
        self.in_block(abi::SEEN, address)
    }

    /// The same of one that has completed a handshake.
    pub fn proven(&self, address: Address) -> Result<Counters> {
        self.in_block(abi::PROVEN, address)
    }

    fn in_block(&self, map: &str, address: Address) -> Result<Counters> {
        let map = HashMap::<_, Block, Seen>::try_from(self.map(map)?)?;
        Ok(sum([&map.get(&Block::of(address), 0)?.counters].into_iter()))
    }

    /// As if a handshake were completed from there.
    pub fn prove(&mut self, address: Address) -> Result<()> {
        let mut map = HashMap::<_, Block, Seen>::try_from(self.map_mut(abi::PROVEN)?)?;
        Ok(map.insert(Block::of(address), Seen::default(), 0)?)
    }

    /// As if one were completed just now, and SYNs there had looked like these.
    pub fn prove_with(&mut self, address: Address, variants: Variants) -> Result<()> {
        let mut seen = Seen::default();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        (seen.variants, seen.proven_at) = (variants, u64::try_from(now.tv_sec)? * 1_000_000_000);
        let mut map = HashMap::<_, Block, Seen>::try_from(self.map_mut(abi::PROVEN)?)?;
        Ok(map.insert(Block::of(address), seen, 0)?)
    }

    /// Packets and SYNs of a stranger's block.
    pub fn stranger(&self, address: Address) -> Result<(u64, u64)> {
        let map = HashMap::<_, Block, Stranger>::try_from(self.map(abi::STRANGERS)?)?;
        let Stranger { packets, syns, .. } = map.get(&Block::of(address), 0)?;
        Ok((packets, syns))
    }

    /// How many attempts are in a map.
    pub fn attempts(&self, name: &str) -> Result<usize> {
        let map = HashMap::<_, AttemptKey, Attempt>::try_from(self.map(name)?)?;
        Ok(map.keys().collect::<Result<Vec<_>, _>>()?.len())
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        Ok(self.ebpf.program_mut(self.name).context("no program")?.try_into()?)
    }

    fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf.map(name).with_context(|| format!("no map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}

/// tc's verdict as XDP says it.
pub fn of_tc(verdict: i32) -> Result<u32> {
    match verdict {
        TC_ACT_UNSPEC => Ok(XDP_PASS),
        TC_ACT_SHOT => Ok(XDP_DROP),
        other => bail!("verdict {other}"),
    }
}

fn run<P>(program: &P, frame: &[u8], context: Option<&[u8]>) -> Result<u32>
where
    P: for<'o> TestRun<Opts<'o> = TestRunOptions<'o>, Result = TestRunResult>,
{
    let mut out = vec![0; frame.len()];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: context,
        ..TestRunOptions::new()
    };
    let verdict = program.test_run(options)?.return_value;
    assert_eq!(out, frame);
    Ok(verdict)
}

/// Whether this kernel's XDP knows frames in fragments: since Linux 5.18.
pub fn hands_over_fragments() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { bail!("{release:?}") };
    Ok((major, minor) >= (5, 18))
}

/// The object file that the binary under test embeds.
fn object() -> Result<Vec<u8>> {
    let binary = harness::binary()?;
    let target = binary.ancestors().nth(2).context("a binary without a target directory")?;
    Ok(std::fs::read(target.join("bpf/hookgate-guard.o"))?)
}

fn sum<'a>(per_cpu: impl Iterator<Item = &'a Counters>) -> Counters {
    let mut sum = Counters::default();
    for cpu in per_cpu {
        assert!(cpu.packets == 0 || cpu.last_seen > 0);
        sum.add(cpu);
    }
    Counters { last_seen: 0, ..sum }
}

fn difference(mut after: Counters, mut before: Counters) -> Counters {
    for (count, before) in after.counts_mut().into_iter().zip(before.counts_mut()) {
        *count -= *before;
    }
    Counters { last_seen: 0, ..after }
}
