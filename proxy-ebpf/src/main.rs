//! The guard's programs in the kernel. XDP sees each frame before anything else does: frame →
//! segment → whose → verdict → count. Where XDP can't be, tc does the same a little later. tc also
//! sees each frame that leaves, for what answers a SYN.
//! sock_ops is told of each handshake that the kernel's TCP completes. A timer sweeps out what
//! never was. A tracepoint tells what the kernel drops. None needs a process.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod program;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RTO_CB, TC_ACT_SHOT,
    TC_ACT_UNSPEC,
};
use aya_ebpf::macros::{classifier, raw_tracepoint, sock_ops, xdp};
use aya_ebpf::programs::{RawTracePointContext, SockOpsContext, TcContext, XdpContext};
use hookgate_ebpf::packet::{self, Found, Judge, Packet};
use hookgate_ebpf::verdict::Reason;

use program::{
    Bare, Frame, Incoming, Outgoing, Socket, admit, admit_hidden, answered, completed, dropped, is_guarded,
    retransmitted, timed_out, unparsed,
};

#[xdp(frags)]
pub fn hookgate(ctx: XdpContext) -> u32 {
    filter(&Frame::<true>::new(ctx))
}

/// For kernels before 5.18, which hand over no frames in fragments.
#[xdp]
pub fn hookgate_linear(ctx: XdpContext) -> u32 {
    filter(&Frame::<false>::new(ctx))
}

#[inline(always)]
fn filter(frame: &impl Packet) -> u32 {
    packet::parse_and_judge(frame, &Filter(frame))
}

struct Filter<'f, F>(&'f F);

impl<F: Packet> Judge for Filter<'_, F> {
    type Verdict = u32;

    #[inline(always)]
    fn judge(&self, found: Found) -> u32 {
        match found {
            Found::Segment(segment) if is_guarded(segment.destination_port) => admit(self.0, &segment),
            Found::ShortFragment { source, destination_port } if is_guarded(destination_port) => {
                admit_hidden(self.0, source, destination_port, Reason::Fragment)
            }
            Found::LongChain { source } => admit_hidden(self.0, source, 0, Reason::Extensions),
            Found::Unparsed(why) => {
                unparsed(self.0, why);
                XDP_PASS
            }
            _ => XDP_PASS,
        }
    }
}

/// What XDP does, for what comes in at interfaces with Ethernet.
#[classifier]
pub fn incoming(ctx: TcContext) -> i32 {
    let Some(frame) = Incoming::new(ctx) else { return TC_ACT_UNSPEC };
    let (ethertype, at) = frame.payload();
    tc_action(packet::parse_payload_and_judge(&frame, ethertype, at, &Filter(&frame)))
}

/// The same for interfaces without Ethernet.
#[classifier]
pub fn incoming_bare(ctx: TcContext) -> i32 {
    let Some(frame) = Bare::new(ctx) else { return TC_ACT_UNSPEC };
    tc_action(packet::parse_payload_and_judge(&frame, frame.ethertype(), 0, &Filter(&frame)))
}

/// What passes is left to whatever program comes next.
#[inline(always)]
fn tc_action(xdp_action: u32) -> i32 {
    if xdp_action == XDP_DROP { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// Changes no frame, and leaves each to whatever program comes next.
#[classifier]
pub fn answers(ctx: TcContext) -> i32 {
    packet::parse_and_judge(&Outgoing::new(ctx), &Watch);
    TC_ACT_UNSPEC
}

/// The same for interfaces without Ethernet.
#[classifier]
pub fn answers_bare(ctx: TcContext) -> i32 {
    let Some(frame) = Bare::new(ctx) else { return TC_ACT_UNSPEC };
    packet::parse_payload_and_judge(&frame, frame.ethertype(), 0, &Watch);
    TC_ACT_UNSPEC
}

struct Watch;

impl Judge for Watch {
    type Verdict = ();

    #[inline(always)]
    fn judge(&self, found: Found) {
        if let Found::Segment(segment) = found
            && segment.flags.answers()
            && is_guarded(segment.source_port)
        {
            answered(&segment);
        }
    }
}

/// Run once and by hand, never attached: XDP_PASS when it could do what it is for.
#[xdp]
pub fn begin_sweeps(_: XdpContext) -> u32 {
    if program::begin_sweeps(program::swept) { XDP_PASS } else { XDP_ABORTED }
}

/// The same without diagnostics.
#[xdp]
pub fn begin_quiet(_: XdpContext) -> u32 {
    if program::begin_sweeps(program::swept_quietly) { XDP_PASS } else { XDP_ABORTED }
}

#[sock_ops]
pub fn handshakes(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    let socket = Socket::new(ctx);
    if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        completed(&socket);
    } else if op == BPF_SOCK_OPS_RETRANS_CB {
        retransmitted(&socket);
    } else if op == BPF_SOCK_OPS_RTO_CB {
        timed_out(&socket);
    }
    1 // and no reply: whatever other programs replied stays
}

#[raw_tracepoint]
pub fn kernel_drops(ctx: RawTracePointContext) {
    dropped(ctx.arg(0), ctx.arg(2));
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
