//! What the guard's programs and user space agree on, and the parts of the programs that need no
//! kernel.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod attempt;
pub mod block;
pub mod diagnostic;
pub mod event;
pub mod fingerprint;
pub mod kernel_drops;
pub mod limit;
pub mod packet;
pub mod sampling;
pub mod senders;
pub mod tc;
pub mod transport;
pub mod verdict;
pub mod waiting;
