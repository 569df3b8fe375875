//! The XDP program: frame → segment → count. Whatever it does not understand passes.
#![no_std]
#![no_main]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, LpmTrie, PerCpuArray};
use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_xdp_get_buff_len};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use hookgate_ebpf::abi::{self, Counters, Row, Settings};
use hookgate_ebpf::packet::{self, Packet, Segment, Source};

const CAPACITY: usize = abi::CAPACITY as usize;

#[btf_map]
static COUNTERS: PerCpuArray<Counters, CAPACITY> = PerCpuArray::new();
#[btf_map]
static PREFIXES_V4: LpmTrie<[u8; 4], u32, CAPACITY> = LpmTrie::new();
#[btf_map]
static PREFIXES_V6: LpmTrie<[u8; 16], u32, CAPACITY> = LpmTrie::new();
#[btf_map]
static PORTS: Array<u64, { abi::PORT_WORDS as usize }> = Array::new();
/// User space's own, declared here so that all maps come from one place, with types.
#[btf_map]
static ROWS: Array<Row, CAPACITY> = Array::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

#[xdp(frags)]
pub fn hookgate(ctx: XdpContext) -> u32 {
    let frame = Frame { ctx };
    if let Some(segment) = packet::parse(&frame)
        && is_guarded(segment.destination_port)
    {
        count(&frame, &segment);
    }
    XDP_PASS
}

fn is_guarded(port: u16) -> bool {
    let port = u32::from(port);
    PORTS.get(port / abi::PORTS_PER_WORD).is_some_and(|word| word >> (port % abi::PORTS_PER_WORD) & 1 == 1)
}

fn count(frame: &Frame, segment: &Segment) {
    let Some(counters) = COUNTERS.get_ptr_mut(index(segment.source)) else { return };
    // SAFETY: the map's own memory, this CPU's alone while the program runs.
    let counters = unsafe { &mut *counters };
    counters.packets += 1;
    counters.bytes += frame.bytes();
    counters.syns += u64::from(segment.flags.opens());
    // SAFETY: a helper without arguments.
    counters.last_seen = unsafe { bpf_ktime_get_coarse_ns() };
}

/// Of the longest prefix that holds the source.
fn index(source: Source) -> u32 {
    let index = match source {
        Source::V4(address) => PREFIXES_V4.get(&Key::new(32, address)),
        Source::V6(address) => PREFIXES_V6.get(&Key::new(128, address)),
    };
    index.copied().unwrap_or(abi::OTHER)
}

/// A frame as XDP hands it over: its first part is readable, the rest may lie in fragments.
struct Frame {
    ctx: XdpContext,
}

impl Frame {
    /// The whole frame's length, fragments included.
    fn bytes(&self) -> u64 {
        // SAFETY: the context that the kernel gave.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let bytes = self.ctx.data() + at;
        if bytes + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: N bytes from `bytes` on lie before the packet's end, as just checked.
        Some(unsafe { *(bytes as *const [u8; N]) })
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
