use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_ops};
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::programs::SockOpsContext;
use hookgate_ebpf::attempt::AttemptKey;
use hookgate_ebpf::packet::Address;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// A TCP socket of this machine, as sock_ops shows it.
pub struct Socket {
    ctx: SockOpsContext,
}

impl Socket {
    pub fn new(ctx: SockOpsContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    pub fn local_port(&self) -> u16 {
        self.ctx.local_port() as u16 // in host order, unlike the remote one
    }

    /// Its network namespace, as SO_NETNS_COOKIE names it.
    #[inline(always)]
    pub fn netns(&self) -> u64 {
        // SAFETY: the context that the kernel gave.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    /// The kernel's own socket; null where this is not yet one.
    #[inline(always)]
    pub fn socket(&self) -> *mut bpf_sock {
        // SAFETY: a field of the context that the kernel gave.
        unsafe { (*self.ctx.ops).__bindgen_anon_2.sk }
    }

    /// What the kernel hands over with a callback.
    #[inline(always)]
    pub fn argument(&self, nth: usize) -> u32 {
        self.ctx.arg(nth)
    }

    /// Asks for callbacks, beside those that other programs have asked for. Where the kernel has
    /// one of them not, it does without that.
    #[inline(always)]
    pub fn call_back(&self, flags: u32) {
        self.ctx.set_cb_flags((self.ctx.cb_flags() | flags).cast_signed()).ok();
    }

    /// Of the handshake that it has just completed: the peer is the source. `None` for a family
    /// that is not IP's.
    #[inline(always)]
    pub fn attempt(&self) -> Option<AttemptKey> {
        let ops: *const bpf_sock_ops = self.ctx.ops;
        let source = match self.ctx.family() {
            AF_INET => v4(self.ctx.remote_ip4()),
            // Also IPv4's, mapped, where an IPv6 socket listens for both.
            AF_INET6 => self.remote_ip6(),
            _ => return None,
        };
        Some(AttemptKey {
            source,
            // What came so far is the SYN, which takes one number.
            // SAFETY: a field of the context that the kernel gave.
            sequence: unsafe { (&raw const (*ops).rcv_nxt).read_volatile() }.wrapping_sub(1),
            source_port: u32::from_be(self.ctx.remote_port()) as u16,
            reserved: 0,
        })
    }

    #[inline(always)]
    fn remote_ip6(&self) -> [u8; 16] {
        let ops: *const bpf_sock_ops = self.ctx.ops;
        // SAFETY: an address within the context; nothing is read.
        let remote = unsafe { &raw const (*ops).remote_ip6 }.cast::<u32>();
        // Word by word: the kernel allows no other access, and the compiler would make it one.
        // SAFETY: fields of the context that the kernel gave.
        bytes([0, 1, 2, 3].map(|nth| unsafe { remote.add(nth).read_volatile() }))
    }
}

#[inline(always)]
fn v4(address: u32) -> [u8; 16] {
    Address::V4(address.to_ne_bytes()).mapped()
}

#[inline(always)]
fn bytes(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&a);
    bytes[4..8].copy_from_slice(&b);
    bytes[8..12].copy_from_slice(&c);
    bytes[12..].copy_from_slice(&d);
    bytes
}
