use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::try_join;

/// `/proc/sys/fs/pipe-max-size` as shipped.
const PIPE_BYTES: usize = 1 << 20;

/// A connection of the client's, and one to the upstream that is its own.
///
/// # Errors
/// One of the two fails, or there are no pipes of this size to be had.
pub async fn run(client: TcpStream, upstream: SocketAddr) -> Result<()> {
    let upstream = crate::connect(upstream).await?;
    try_join!(one_way(&client, &upstream), one_way(&upstream, &client)).context("splicing")?;
    Ok(())
}

/// Fills the pipe only while it is empty and drains it wholly before the next time: so "would
/// block" can only mean the socket.
async fn one_way(from: &TcpStream, to: &TcpStream) -> Result<()> {
    let pipe = Pipe::new()?;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let fill = || Ok(splice(from.as_fd(), None, &pipe.write, None, pipe.bytes, flags)?);
        let mut left = from.async_io(Interest::READABLE, fill).await?;
        if left == 0 {
            return match shutdown(to, Shutdown::Write).map_err(io::Error::from) {
                Err(e) if e.kind() != io::ErrorKind::NotConnected => Err(e).context("passing on an end"),
                _ => Ok(()),
            };
        }
        while left > 0 {
            let drain = || Ok(splice(&pipe.read, None, to.as_fd(), None, left, flags)?);
            left -= to.async_io(Interest::WRITABLE, drain).await?;
        }
    }
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    bytes: usize,
}

impl Pipe {
    fn new() -> Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).context("making a pipe")?;
        let bytes = fcntl_setpipe_size(&write, PIPE_BYTES)
            .with_context(|| format!("a pipe of {PIPE_BYTES} bytes"))?;
        Ok(Self { read, write, bytes })
    }
}
