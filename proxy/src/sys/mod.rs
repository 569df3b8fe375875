//! What needs `unsafe`: the kernel's interfaces that Rust's types cannot speak for.
#![allow(unsafe_code, reason = "the only module of the proxy that may")]

#[cfg(feature = "count-allocations")]
mod allocations;
pub mod bpf;
mod byte_lock;
mod clock;
mod fork;
mod heap;
mod inherited;
mod interfaces;
mod kernel_tls;
mod netlink;
mod netns;
mod pages;
mod register_async;
mod shared;
mod slabs;
mod tcp;
#[cfg(test)]
mod thread_signal;

#[cfg(feature = "count-allocations")]
pub use allocations::{allocations, count_on_this_thread};
pub use byte_lock::{is_byte_locked, lock_byte};
pub use clock::clock_is_synchronised;
pub use fork::{ForkResult, fork};
pub use heap::give_back_free_memory;
pub use inherited::inherited;
pub use interfaces::interface_addresses;
pub use kernel_tls::{KeyUse, Received, receive_record, send_record, set_kernel_tls_keys, start_kernel_tls};
pub use netlink::enable_extended_acks;
pub use netns::netns_cookie;
pub use pages::Pages;
pub use register_async::register_async;
pub use shared::Shared;
pub use tcp::{acknowledged, send_queue_bytes};
#[cfg(test)]
pub use thread_signal::signal_thread;
