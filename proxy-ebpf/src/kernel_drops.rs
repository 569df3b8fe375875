//! Packets that the kernel dropped, by its own reasons: what the program and user space agree on.

/// The name of the program at the kernel's tracepoint.
pub const PROGRAM: &str = "kernel_drops";
/// The tracepoint. Its arguments are the packet, a place in the kernel's code, and the reason
/// (Linux 5.17; since 6.11 a socket follows).
pub const TRACEPOINT: &str = "kfree_skb";

/// [`Dropped`] → packets, as `u64`. What finds no room is not counted.
pub const MAP: &str = "KERNEL_DROPS";
pub const CAPACITY: u32 = 2048;
/// One [`Layout`].
pub const LAYOUT: &str = "SKB_LAYOUT";

/// Packets of one index, dropped for one reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub index: u32,
    /// As the running kernel numbers them.
    pub reason: u32,
}
const _: () = assert!(size_of::<Dropped>() == 8);

/// Where the running kernel keeps what the program reads: offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The namespace whose packets count, as SO_NETNS_COOKIE names it.
    pub netns: u64,
    /// Of `struct sk_buff`. 0: nothing was set.
    pub head: u32,
    pub tail: u32,
    pub network_header: u32,
    pub device: u32,
    pub route: u32,
    pub socket: u32,
    /// Of `struct dst_entry`.
    pub route_device: u32,
    /// Of `struct net_device`.
    pub device_netns: u32,
    /// Of `struct sock`.
    pub socket_netns: u32,
    /// Of `struct net`.
    pub netns_cookie: u32,
}
const _: () = assert!(size_of::<Layout>() == 48);
