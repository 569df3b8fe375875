use std::net::{TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the ports that the kernel gives to connections and for port 0.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that is free for TCP and UDP, and that no other call in this process
/// returns.
///
/// # Errors
/// All are taken.
pub fn free_port() -> Result<u16> {
    static USED: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time begin far from each other.
    let start = process::id().wrapping_mul(211) % u32::from(COUNT);
    for _ in 0..COUNT {
        let offset = (start + u32::from(USED.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset)?;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}
