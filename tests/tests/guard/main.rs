//! The guard on a real link, between two machines of which one has Meta's addresses.

mod answers;
mod attach;
mod counting;
mod crashes;
mod diagnostics;
mod flood;
mod handshakes;
mod hidden;
mod interfaces;
mod log;
mod modes;
mod peers;
mod published;
mod raw;
mod sampling;
mod testbed;
mod traffic;
