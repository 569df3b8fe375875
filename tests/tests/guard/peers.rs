//! TCP that behaves: a server on the one machine, clients on the other, of the kernel's own making.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{NetNs, pace};
use socket2::{Domain, Protocol, Socket, Type};

const MAX_WAIT: Duration = Duration::from_secs(5);

/// Accepts, reads until the client has closed, then closes too.
pub struct Server {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// On `[::]` it serves IPv4 as well.
    pub fn start(ns: &NetNs, address: &str) -> Result<Self> {
        let address: SocketAddr = address.parse()?;
        let listener = ns.inside(|| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(4096)?;
            Ok(TcpListener::from(socket))
        })?;
        listener.set_nonblocking(true)?;
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let serve = {
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            thread::spawn(move || read_to_end(stream));
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            pace(Duration::from_millis(1));
                        }
                        Err(error) => panic!("accepting: {error}"),
                    }
                }
            }
        };
        Ok(Self { stop, accepted, thread: Some(thread::spawn(serve)) })
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the server panicked");
        }
    }
}

fn read_to_end(mut stream: TcpStream) {
    let mut everything = Vec::new();
    // How it ends is the client's matter.
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(MAX_WAIT));
    let _ = stream.read_to_end(&mut everything);
}

/// A connection from one address of `ns`.
pub fn connect(ns: &NetNs, from: &str, to: &str, port: u16) -> Result<TcpStream> {
    connect_within(ns, from, to, port, MAX_WAIT)
}

pub fn connect_within(ns: &NetNs, from: &str, to: &str, port: u16, limit: Duration) -> Result<TcpStream> {
    let (from, to): (IpAddr, IpAddr) = (from.parse()?, to.parse()?);
    let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
    let socket = ns.inside(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&from.into())?;
        Ok(socket)
    })?;
    socket.connect_timeout(&to.into(), limit).with_context(|| format!("connecting from {from} to {to}"))?;
    Ok(socket.into())
}

/// Says a word and closes.
pub fn visit(ns: &NetNs, from: &str, to: &str, port: u16) -> Result<()> {
    let mut stream = connect(ns, from, to, port)?;
    stream.write_all(b"hello")?;
    Ok(())
}
