//! Packets that the kernel dropped, whichever part of it did. All are shown, those of all
//! namespaces and protocols: what is not Meta's TCP to or from a guarded port is told soon.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use hookgate_ebpf::kernel_drops::{Dropped, Layout};
use hookgate_ebpf::packet::Address;

use super::maps::{KERNEL_DROPS, SKB_LAYOUT};
use super::{atomic, is_guarded, sources};

const TCP: u8 = 6;
/// Beside what the address of a route says of its owner.
const ROUTE_FLAGS: u64 = 7;

/// A packet was dropped.
#[inline(always)]
pub fn dropped(packet: u64, reason: u32) {
    let Some(layout) = SKB_LAYOUT.get(0) else { return };
    if layout.head == 0 {
        return;
    }
    let Some(index) = index(packet, layout) else { return };
    if netns(packet, layout).is_some_and(|netns| netns != layout.netns) {
        return;
    }
    let key = Dropped { index, reason };
    if let Some(count) = KERNEL_DROPS.get_ptr_mut(key) {
        // SAFETY: the map's own memory. Other CPUs write it too, in one step.
        atomic::add(unsafe { &mut *count }, 1);
    } else if KERNEL_DROPS.insert(key, 1, NOEXIST).is_err()
        && let Some(count) = KERNEL_DROPS.get_ptr_mut(key)
    {
        // Another CPU was faster.
        // SAFETY: as above.
        atomic::add(unsafe { &mut *count }, 1);
    }
}

const NOEXIST: u64 = 1;

/// Whose it is: Meta's, to or from a guarded port.
#[inline(always)]
fn index(packet: u64, layout: &Layout) -> Option<u32> {
    let start = u64::from(read::<u16>(packet, layout.network_header)?);
    let head: u64 = read(packet, layout.head)?;
    let ip = head.wrapping_add(start);
    // IPv4's header, or the beginning of IPv6's.
    let header: [u8; 20] = read(ip, 0)?;
    let (tcp, source, destination) = match header[0] >> 4 {
        4 => {
            let is_first = header[6] & 0x1f == 0 && header[7] == 0;
            if header[9] != TCP || !is_first {
                return None;
            }
            let [.., a, b, c, d, e, f, g, h] = header;
            (4 * u64::from(header[0] & 0x0f), Address::V4([a, b, c, d]), Address::V4([e, f, g, h]))
        }
        6 => {
            // Behind extension headers, which Meta's have not, it is not looked for.
            if header[6] != TCP {
                return None;
            }
            (40, Address::V6(read(ip, 8)?), Address::V6(read(ip, 24)?))
        }
        _ => return None,
    };
    // What lies behind the end of this part of the packet is something else's.
    let end = u64::from(read::<u32>(packet, layout.tail)?);
    if start + tcp + 4 > end {
        return None;
    }
    let [from, from_low, to, to_low]: [u8; 4] = read(ip.wrapping_add(tcp), 0)?;
    let (from, to) = (u16::from_be_bytes([from, from_low]), u16::from_be_bytes([to, to_low]));
    if is_guarded(to) {
        sources::prefix(source)
    } else if is_guarded(from) {
        sources::prefix(destination)
    } else {
        None
    }
}

/// The namespace that had the packet: its device's, its route's, or its socket's. `None`: it had
/// none of them any more.
#[inline(always)]
fn netns(packet: u64, layout: &Layout) -> Option<u64> {
    let of_device = |device: u64| pointer(device, layout.device_netns);
    let netns = pointer(packet, layout.device)
        .and_then(of_device)
        .or_else(|| {
            let route = pointer(packet, layout.route)? & !ROUTE_FLAGS;
            pointer(route, layout.route_device).and_then(of_device)
        })
        .or_else(|| pointer(packet, layout.socket).and_then(|socket| pointer(socket, layout.socket_netns)))?;
    read(netns, layout.netns_cookie)
}

#[inline(always)]
fn pointer(from: u64, offset: u32) -> Option<u64> {
    read(from, offset).filter(|pointer| *pointer != 0)
}

/// What the kernel has there. `None`: it can't be read.
#[inline(always)]
fn read<T>(from: u64, offset: u32) -> Option<T> {
    let place = from.wrapping_add(offset.into()) as *const T;
    // SAFETY: the helper reads any address, or fails. T is of bytes or an integer.
    unsafe { bpf_probe_read_kernel(place) }.ok()
}
