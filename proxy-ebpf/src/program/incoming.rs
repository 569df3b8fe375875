use aya_ebpf::programs::TcContext;
use hookgate_ebpf::packet::{ETHERNET_HEADER, Packet, Wire};

use super::skb;

/// Of a tag that the kernel has taken out of the frame.
const VLAN_TAG: u64 = 4;

/// An Ethernet frame as tc hands it over. Reading copies, so that it does not matter in which
/// fragment the bytes are.
pub struct Incoming {
    ctx: TcContext,
    /// The length of the Ethernet header, or 0 where it is out of sight: since Linux 6.9 the kernel
    /// forgets where it is when an XDP program of others has seen the frame in generic mode.
    link_header: usize,
}

impl Incoming {
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        let in_header = ctx.load::<[u8; 2]>(ETHERNET_HEADER - 2).map(u16::from_be_bytes);
        let has_header = in_header == Ok(skb::ethertype(&ctx));
        Self { ctx, link_header: if has_header { ETHERNET_HEADER } else { 0 } }
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
        self.ctx.load(at).ok()
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

    #[inline(always)]
    fn on_wire(&self, headers: u32) -> Wire {
        let tag = if skb::is_tagged(&self.ctx) { VLAN_TAG } else { 0 };
        let out_of_sight = (ETHERNET_HEADER - self.link_header) as u64 + tag;
        skb::on_wire(&self.ctx, self.bytes() + out_of_sight, u64::from(headers) + out_of_sight)
    }
}
