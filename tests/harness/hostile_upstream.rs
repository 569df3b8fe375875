use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::priority::Priority;

/// An upstream that attacks: many connections on one thread, each left to a script. Without TLS.
pub struct HostileUpstream {
    address: SocketAddr,
}

impl HostileUpstream {
    /// On a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port.
    pub fn start<S: Future<Output = io::Result<()>> + 'static>(
        script: impl Fn(TcpStream) -> S + Send + 'static,
    ) -> Result<Self> {
        let (started, address) = mpsc::channel();
        // The listener lives as long as the process: an upstream costs a thread, and only tests
        // have one.
        thread::spawn(move || -> Result<()> {
            Priority::Attacker.take()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                // The receiver is gone when the test has failed.
                let _ = started.send(listener.local_addr()?);
                let script = Rc::new(script);
                loop {
                    let (tcp, _) = listener.accept().await?;
                    let script = script.clone();
                    // The proxy may go at any time.
                    drop(spawn_local(async move { script(tcp).await }));
                }
            })
        });
        Ok(Self { address: address.recv().context("a port for an upstream")? })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
