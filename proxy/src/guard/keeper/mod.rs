//! The guard's privileged part: a process of its own, which changes the guard's tables and reads its counters, so that
//! the one that parses what peers send needs no privilege for it.

mod message;
mod privileged;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use privileged::{Kept, keep};
use rustix::process::Pid;

use super::Stats;
use crate::prefixes::Network;
use message::{Reply, Request};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The proxy's end of the way to the keeper.
pub struct Keeper {
    /// `None` once an answer has failed to come: a later one would answer another question.
    way: Mutex<Option<BufReader<UnixStream>>>,
    pid: Pid,
}

/// Why the keeper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// In the keeper's words, causes included.
    #[error("{0}")]
    Refused(String),
    #[error("the guard's keeper has ended; the guard goes on, and a restart of hookgate brings a new keeper")]
    Gone,
    #[error("cannot talk to the guard's keeper: {0}")]
    Talk(#[from] io::Error),
    #[error("the guard's keeper said what nobody asked for")]
    Unexpected,
}

impl Keeper {
    /// `socket`: the other end of the one that [`keep`] was given, in the process `pid`.
    ///
    /// Errors: setsockopt(2).
    pub fn new(socket: UnixStream, pid: Pid) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { way: Mutex::new(Some(BufReader::new(socket))), pid })
    }

    /// The keeper's process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What the guard has counted; `None` while it is attached to no interface. Blocks until the answer is there.
    pub fn stats(&self) -> Result<Option<Stats>, KeeperError> {
        match self.ask(&Request::Stats)? {
            Reply::Stats(stats) => Ok(stats.map(|stats| *stats)),
            reply => Err(refused(reply)),
        }
    }

    /// Puts in force what the routing registry has of Meta's own, and stores it. Whose counts are where from then on.
    pub fn refreshed(&self, registered: &BTreeSet<Network>) -> Result<Vec<(Network, u32)>, KeeperError> {
        self.rows(&Request::Refreshed(registered.clone()))
    }

    /// Puts in force what was stored. Whose counts are where from then on.
    pub fn stored(&self) -> Result<Vec<(Network, u32)>, KeeperError> {
        self.rows(&Request::Stored)
    }

    /// Puts in force what the configuration says of the guard. Whose counts are where from then on, and to what it is
    /// attached, in words.
    pub fn reload(&self) -> Result<(Vec<(Network, u32)>, String), KeeperError> {
        match self.ask(&Request::Reload)? {
            Reply::Attached(rows, attached) => Ok((rows, attached)),
            reply => Err(refused(reply)),
        }
    }

    fn rows(&self, request: &Request) -> Result<Vec<(Network, u32)>, KeeperError> {
        match self.ask(request)? {
            Reply::Rows(rows) => Ok(rows),
            reply => Err(refused(reply)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, KeeperError> {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let open = way.as_mut().ok_or(KeeperError::Gone)?;
        exchange(open, request).inspect_err(|_| *way = None)
    }
}

fn refused(reply: Reply) -> KeeperError {
    match reply {
        Reply::Refused(why) => KeeperError::Refused(why),
        Reply::Stats(_) | Reply::Rows(_) | Reply::Attached(..) => KeeperError::Unexpected,
    }
}

fn exchange(way: &mut BufReader<UnixStream>, request: &Request) -> Result<Reply, KeeperError> {
    way.get_ref().write_all(message::line(request).as_bytes())?;
    let mut line = String::new();
    match way.read_line(&mut line)? {
        0 => Err(KeeperError::Gone),
        _ => Ok(message::parse(&line)?),
    }
}
