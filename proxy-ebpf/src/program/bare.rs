use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::bpf_skb_load_bytes_relative;
use aya_ebpf::programs::TcContext;
use hookgate_ebpf::packet::{self, ETHERNET_HEADER, Packet, Wire};

use super::hide::hide;
use super::scratch::Scratch;
use super::skb;

const IPV6_HEADER: u64 = 40;

/// A frame without Ethernet as tc hands it over. Its offsets count from the IP header: what GRE has
/// before it, the kernel takes for a link-layer header.
pub struct Bare {
    ctx: TcContext,
    scratch: Scratch,
}

impl Bare {
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Option<Self> {
        Some(Self { ctx, scratch: Scratch::find()? })
    }

    /// What it begins with, as Ethernet would name it.
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        skb::ethertype(&self.ctx)
    }
}

impl Packet for Bare {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let skb = self.ctx.as_ptr().cast_const();
        self.scratch.read(|to| {
            // SAFETY: the context that the kernel gave, and room for N bytes.
            let read = unsafe {
                bpf_skb_load_bytes_relative(skb, at as u32, to.cast(), N as u32, BPF_HDR_START_NET)
            };
            read == 0
        })
    }

    /// By the IP header, which says 0 for more than it has room for.
    #[inline(always)]
    fn bytes(&self) -> u64 {
        let own_bytes = match self.read::<6>(0) {
            Some([first, _, high, low, ..]) if first >> 4 == 4 => u64::from(u16::from_be_bytes([high, low])),
            Some([_, _, _, _, high, low]) if [high, low] != [0; 2] => {
                u64::from(u16::from_be_bytes([high, low])) + IPV6_HEADER
            }
            _ => 0,
        };
        if own_bytes == 0 { u64::from(self.ctx.len()) } else { own_bytes }
    }

    /// The first fragment alone can be read.
    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        self.bytes() >= end as u64
    }

    /// The mask is beyond all that the parser follows.
    #[inline(always)]
    fn hide(&self, at: usize) -> usize {
        hide::<0x7fff>(at as u64, self.ctx.skb.skb as u64) as usize
    }

    #[inline(always)]
    fn on_wire(&self, headers: u32) -> Wire {
        skb::on_wire(&self.ctx, self.bytes(), headers.into())
    }

    #[inline(always)]
    fn snap(&self, at: usize) -> Option<[u8; 2]> {
        packet::snap_bare(self, self.ethertype(), at)
    }

    #[inline(always)]
    fn snap_bytes(&self) -> u64 {
        self.bytes() + ETHERNET_HEADER as u64
    }
}
