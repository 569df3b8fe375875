//! What tc knows of a frame beside its bytes.

use aya_ebpf::programs::TcContext;
use hookgate_ebpf::packet::Wire;

/// What the frame carries, behind a VLAN tag that the kernel has taken out.
#[inline(always)]
pub fn ethertype(ctx: &TcContext) -> u16 {
    // SAFETY: the context that the kernel gave.
    u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16)
}

/// Whether the kernel has taken a VLAN tag out of the frame.
#[inline(always)]
pub fn is_tagged(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).vlan_present != 0 }
}

/// What came over the wire as a frame of `bytes`, of which the first `headers` come before data.
/// Each further segment had headers of the same length.
///
/// A frame is a bundle of segments where the kernel (GRO) or the network card (LRO) has made one.
#[inline(always)]
pub fn on_wire(ctx: &TcContext, bytes: u64, headers: u64) -> Wire {
    // SAFETY: the context that the kernel gave.
    let (segments, data_bytes) = unsafe { ((*ctx.skb.skb).gso_segs, (*ctx.skb.skb).gso_size) };
    let packets = match (segments, data_bytes) {
        (0, 0) => 1,
        // Virtual network cards and tun devices tell how much data a segment had, and no more.
        (0, data_bytes) => bytes.saturating_sub(headers).div_ceil(u64::from(data_bytes)).max(1),
        (segments, _) => u64::from(segments),
    };
    Wire { packets, bytes: bytes + (packets - 1) * headers }
}
