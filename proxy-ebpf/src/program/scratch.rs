use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;

/// The longest that a parser reads at once: an IPv6 header.
const SCRATCH_BYTES: usize = 40;

/// Where helpers copy to what is read of a frame. It is no place on the stack, which has 512 bytes
/// for a program and all that it calls.
#[btf_map]
static SCRATCH: PerCpuArray<[u64; SCRATCH_BYTES / 8], 1> = PerCpuArray::new();

/// The scratch memory of this CPU, while the program runs.
pub struct Scratch(*mut u8);

impl Scratch {
    #[inline(always)]
    pub fn find() -> Option<Self> {
        SCRATCH.get_ptr_mut(0).map(|memory| Self(memory.cast()))
    }

    /// What `load` has written to where it is told, unless it says that it has failed.
    #[inline(always)]
    pub fn read<const N: usize>(&self, load: impl FnOnce(*mut u8) -> bool) -> Option<[u8; N]> {
        const { assert!(N <= SCRATCH_BYTES) };
        if !load(self.0) {
            return None;
        }
        // SAFETY: N bytes of the map's own memory, this CPU's alone while the program runs.
        Some(unsafe { *self.0.cast::<[u8; N]>() })
    }
}
