use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use hookgate_ebpf::packet::Packet;

use super::hide::hide;

/// A frame as XDP hands it over. With `FRAGMENTS` its first part is readable, and the rest may be
/// in fragments; without, all of it is.
pub struct Frame<const FRAGMENTS: bool> {
    ctx: XdpContext,
}

impl<const FRAGMENTS: bool> Frame<FRAGMENTS> {
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }
}

impl<const FRAGMENTS: bool> Packet for Frame<FRAGMENTS> {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let bytes = self.ctx.data() + at;
        if bytes + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: N bytes from `bytes` on lie before the packet's end, as just checked.
        Some(unsafe { *(bytes as *const [u8; N]) })
    }

    #[inline(always)]
    fn bytes(&self) -> u64 {
        if !FRAGMENTS {
            return (self.ctx.data_end() - self.ctx.data()) as u64;
        }
        // SAFETY: the context that the kernel gave.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) }
    }

    /// The mask is beyond all that the parser follows.
    #[inline(always)]
    fn hide(&self, at: usize) -> usize {
        hide::<0x7fff>(at as u64, self.ctx.ctx as u64) as usize
    }

    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        FRAGMENTS && self.bytes() >= end as u64
    }
}
