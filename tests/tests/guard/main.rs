//! The guard on a real link, between two machines of which one has Meta's addresses.

mod answers;
mod attach;
mod bundles;
mod counting;
mod crashes;
mod device;
mod diagnostics;
mod faults;
mod flood;
mod handshakes;
mod hidden;
mod interfaces;
mod kernel;
mod log;
mod lost;
mod modes;
mod peers;
mod published;
mod raw;
mod sampling;
mod suspects;
mod tc;
mod testbed;
mod traffic;
mod transport;
mod tunnels;
