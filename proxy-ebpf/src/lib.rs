//! What the XDP program and user space agree on, and the parts of the program that need no kernel.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod packet;
