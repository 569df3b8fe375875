use aya_ebpf::programs::TcContext;
use hookgate_ebpf::packet::Packet;

/// A frame as tc hands it over. Its headers are readable; data may be in fragments behind them.
pub struct Outgoing {
    ctx: TcContext,
}

impl Outgoing {
    pub fn new(ctx: TcContext) -> Self {
        Self { ctx }
    }
}

impl Packet for Outgoing {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let bytes = self.ctx.data() + at;
        if bytes + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: N bytes from `bytes` on lie before the end of what is readable, as just checked.
        Some(unsafe { *(bytes as *const [u8; N]) })
    }

    #[inline(always)]
    fn bytes(&self) -> u64 {
        u64::from(self.ctx.len())
    }

    /// No answer to a SYN is out of sight.
    #[inline(always)]
    fn reaches(&self, _: usize) -> bool {
        false
    }
}
