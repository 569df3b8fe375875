//! Follows the certificate files: whoever renews them need not tell.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::time::sleep;

use crate::config;
use crate::observe::Log;
use crate::tls::{self, BadTls, Resolver};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// The certificates in force and the files that they came from.
pub(super) struct Certificates {
    tls: config::Tls,
    resolver: Arc<Resolver>,
    seen: Vec<Option<Stamp>>,
}

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Certificates {
    /// Loads them, and what TLS towards clients needs besides.
    pub(super) fn load(tls: &config::Tls) -> Result<(Arc<ServerConfig>, Self), BadTls> {
        // Before the files are read: a change in between is then seen as one.
        let seen = stamps(tls);
        let (config, resolver) = tls::server_config(tls)?;
        Ok((config, Self { tls: tls.clone(), resolver, seen }))
    }

    /// Where the certificates in force are found.
    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::clone(&self.resolver)
    }

    /// Loads the files whenever they have changed, for ever. Files that do not work leave the old certificates
    /// in force.
    pub(super) async fn follow(mut self, log: Log) {
        loop {
            sleep(INTERVAL).await;
            let now = stamps(&self.tls);
            if now == self.seen {
                continue;
            }
            self.seen = now;
            match tls::reload(&self.tls, &self.resolver) {
                Ok(()) => log.note("the certificate files have changed: the new certificates are in force"),
                Err(error) => log.note(&format!(
                    "the certificate files have changed and cannot be used: {error}; the old certificates stay in force"
                )),
            }
        }
    }
}

fn stamps(tls: &config::Tls) -> Vec<Option<Stamp>> {
    tls.pairs.iter().flat_map(|pair| [stamp(&pair.cert), stamp(&pair.key)]).collect()
}

/// `None` while there is no such file, which is how some tools replace one.
fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}
