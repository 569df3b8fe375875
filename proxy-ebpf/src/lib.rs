//! What the XDP program and user space agree on.
#![no_std]
