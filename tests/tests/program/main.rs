//! The XDP program in the real kernel, fed frame by frame through BPF_PROG_TEST_RUN; attached to
//! nothing.

mod answers;
mod attempts;
mod kernel;
mod log;
mod modes;
mod parsing;
mod segments;
mod suspects;
mod tc;

#[path = "../../../proxy-ebpf/src/packet/frames.rs"]
mod frames;
#[path = "../../fuzz/src/packet/reference.rs"]
mod reference;

// What `frames` takes from where it stands.
use hookgate_ebpf::packet::{Address, Flags, Found, Packet, Segment, Unparsed};
