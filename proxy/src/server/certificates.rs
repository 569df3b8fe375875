//! Follows the certificate files: whoever renews them need not tell.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::time::sleep;

use super::stamp::{INTERVAL, Stamp};
use crate::config;
use crate::observe::Log;
use crate::tls::{self, BadTls, Resolver};

/// The certificates in force and the files that they came from.
pub(super) struct Certificates {
    tls: config::Tls,
    server_config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    seen: Vec<Option<Stamp>>,
}

impl Certificates {
    /// Loads them, and what TLS towards clients needs besides.
    pub(super) fn load(tls: &config::Tls) -> Result<Self, BadTls> {
        // Before the files are read: a change in between is then seen as one.
        let seen = stamps(tls);
        let (server_config, resolver) = tls::server_config(tls)?;
        Ok(Self { tls: tls.clone(), server_config, resolver, seen })
    }

    /// What handshakes are made with.
    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server_config)
    }

    /// Where the certificates in force are found.
    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::clone(&self.resolver)
    }

    /// Whether they are what is configured, and reading their files again is all that there is to do.
    pub(super) fn serve(&self, tls: &config::Tls) -> bool {
        self.tls == *tls && tls.client_ca.is_none()
    }

    /// Reads the files; those that do not work leave the old certificates in force.
    pub(super) fn read_again(&self) -> Result<(), BadTls> {
        tls::reload(&self.tls, &self.resolver)
    }

    /// Reads the files whenever they have changed, for ever.
    pub(super) fn follow(&self, log: Log) -> impl Future<Output = ()> + Send + use<> {
        let (tls, resolver, mut seen) = (self.tls.clone(), self.resolver(), self.seen.clone());
        async move {
            loop {
                sleep(INTERVAL).await;
                let now = stamps(&tls);
                if now == seen {
                    continue;
                }
                seen = now;
                match tls::reload(&tls, &resolver) {
                    Ok(()) => log.note("the certificate files have changed: the new certificates are in force"),
                    Err(error) => log.note(&format!(
                        "the certificate files have changed and cannot be used: {error}; the old certificates stay in force"
                    )),
                }
            }
        }
    }
}

fn stamps(tls: &config::Tls) -> Vec<Option<Stamp>> {
    tls.pairs.iter().flat_map(|pair| [Stamp::of(&pair.cert), Stamp::of(&pair.key)]).collect()
}
