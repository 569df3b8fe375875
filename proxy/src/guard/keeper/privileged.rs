use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::message::{self, Reply, Request};
use crate::guard::{self, Error};

/// The longest request, in bytes: room for every prefix that there may be.
const LONGEST: u64 = 1 << 20;

/// Answers the proxy at the other end of `socket` until it has gone. `pin`: the guard's folder.
///
/// Errors: what comes is no request; whoever sends such a thing is not to be trusted with more.
pub async fn keep(socket: std::os::unix::net::UnixStream, pin: &str) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = BufReader::new(UnixStream::from_std(socket)?);
    loop {
        let mut line = String::new();
        if (&mut socket).take(LONGEST).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = act(message::parse(&line)?, pin).unwrap_or_else(refusal);
        socket.write_all(message::line(&reply).as_bytes()).await?;
    }
}

fn act(request: Request, pin: &str) -> Result<Reply, Error> {
    match request {
        Request::Stats => Ok(Reply::Stats(guard::read(pin)?.map(Box::new))),
    }
}

fn refusal(error: Error) -> Reply {
    Reply::Refused(format!("{:#}", anyhow::Error::from(error)))
}
