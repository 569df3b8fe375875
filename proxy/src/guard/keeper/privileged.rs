use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::message::{self, Reply, Request};
use crate::config::{self, Config};
use crate::guard;
use crate::observe::clock;
use crate::prefixes::{Network, Registered, Standing};

/// The longest request, in bytes: room for every prefix that there may be.
const LONGEST: u64 = 1 << 20;

/// What the keeper sees to.
pub struct Kept {
    /// The configuration's file.
    pub file: PathBuf,
    /// The guard's folder.
    pub pin: String,
    /// Where prefixes come from, and are stored.
    pub prefixes: config::Prefixes,
    /// The prefixes as they stand.
    pub standing: Standing,
}

/// Answers the proxy at the other end of `socket` until it has gone.
///
/// Errors: what comes is no request; whoever sends such a thing is not to be trusted with more.
pub async fn keep(socket: std::os::unix::net::UnixStream, mut kept: Kept) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = BufReader::new(UnixStream::from_std(socket)?);
    loop {
        let mut line = String::new();
        if (&mut socket).take(LONGEST).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = kept.act(message::parse(&line)?);
        let reply = reply.unwrap_or_else(|error| Reply::Refused(format!("{error:#}")));
        socket.write_all(message::line(&reply).as_bytes()).await?;
    }
}

impl Kept {
    fn act(&mut self, request: Request) -> anyhow::Result<Reply> {
        match request {
            Request::Stats => Ok(Reply::Stats(guard::read(&self.pin)?.map(Box::new))),
            Request::Refreshed(networks) => self.refresh(networks),
            Request::Reload => self.reload(),
            Request::Stored => {
                let (standing, bad) = self.prefixes.load()?;
                match bad {
                    Some(bad) => Err(bad.into()),
                    None => self.put_in_force(standing),
                }
            }
        }
    }

    fn reload(&mut self) -> anyhow::Result<Reply> {
        let guard = Config::load(&self.file)?.guard;
        let guard = guard.context("[guard] is gone: `hookgate guard detach` takes the program off")?;
        ensure!(guard.pin == self.pin, "[guard] pin changed, and needs a restart");
        let table = self.standing.table();
        guard::locks_nobody_out(&guard, &table)?;
        let attached = guard::start(&guard, &table)?;
        let words = format!("attached to {}, mode {}", guard.interfaces.join(", "), guard.mode);
        Ok(Reply::Attached(attached.rows, words))
    }

    /// The same checks as the proxy has made: what it says is not believed.
    fn refresh(&mut self, networks: BTreeSet<Network>) -> anyhow::Result<Reply> {
        let registered = Registered::checked(networks)?;
        let registry = self.prefixes.registry.to_string();
        let next = self.standing.refreshed(&registered, clock::now(), &registry)?;
        if let Some(refresh) = &next.refresh {
            refresh.store(&self.prefixes.state)?;
        }
        self.put_in_force(next)
    }

    fn put_in_force(&mut self, standing: Standing) -> anyhow::Result<Reply> {
        let rows = guard::set_prefixes(&self.pin, &standing.table())?;
        self.standing = standing;
        Ok(Reply::Rows(rows))
    }
}
