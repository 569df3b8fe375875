use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use hookgate_ebpf::packet::{self, ETHERNET_HEADER, Packet, Wire};

use super::hide::hide;
use super::scratch::Scratch;
use super::skb;

/// Of a tag that the kernel has taken out of the frame.
const VLAN_TAG: u64 = 4;

/// An Ethernet frame as tc hands it over. Reading copies, so that it does not matter in which
/// fragment the bytes are.
pub struct Incoming {
    ctx: TcContext,
    scratch: Scratch,
    /// The length of the Ethernet header, or 0 where it is out of sight: since Linux 6.9 the kernel
    /// forgets where it is when an XDP program of others has seen the frame in generic mode.
    link_header: usize,
}

impl Incoming {
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Option<Self> {
        let frame = Self { ctx, scratch: Scratch::find()?, link_header: 0 };
        let in_header = frame.read(ETHERNET_HEADER - 2).map(u16::from_be_bytes);
        let has_header = in_header == Some(skb::ethertype(&frame.ctx));
        Some(Self { link_header: if has_header { ETHERNET_HEADER } else { 0 }, ..frame })
    }

    /// What the Ethernet frame carries, and where that begins.
    #[inline(always)]
    pub fn payload(&self) -> (u16, usize) {
        (skb::ethertype(&self.ctx), self.link_header)
    }
}

impl Packet for Incoming {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let skb = self.ctx.as_ptr().cast_const();
        self.scratch.read(|to| {
            // SAFETY: the context that the kernel gave, and room for N bytes.
            unsafe { bpf_skb_load_bytes(skb, at as u32, to.cast(), N as u32) == 0 }
        })
    }

    #[inline(always)]
    fn bytes(&self) -> u64 {
        u64::from(self.ctx.len())
    }

    /// What can't be read is not there.
    #[inline(always)]
    fn reaches(&self, _: usize) -> bool {
        false
    }

    /// The mask is beyond all that the parser follows.
    #[inline(always)]
    fn hide(&self, at: usize) -> usize {
        hide::<0x7fff>(at as u64, self.ctx.skb.skb as u64) as usize
    }

    #[inline(always)]
    fn on_wire(&self, headers: u32) -> Wire {
        let tag = if skb::is_tagged(&self.ctx) { VLAN_TAG } else { 0 };
        let out_of_sight = (ETHERNET_HEADER - self.link_header) as u64 + tag;
        skb::on_wire(&self.ctx, self.bytes() + out_of_sight, u64::from(headers) + out_of_sight)
    }

    #[inline(always)]
    fn snap(&self, at: usize) -> Option<[u8; 2]> {
        if self.link_header != 0 {
            return self.read(at);
        }
        packet::snap_bare(self, skb::ethertype(&self.ctx), at)
    }

    #[inline(always)]
    fn snap_bytes(&self) -> u64 {
        self.bytes() + (ETHERNET_HEADER - self.link_header) as u64
    }
}
