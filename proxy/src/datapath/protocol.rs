//! What a listener speaks with its clients.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;

use super::redirect::Redirect;
use crate::config::Scheme;
use crate::tls::ClientAuthority;

/// What a listener speaks with its clients.
#[derive(Clone)]
pub enum Protocol {
    Https(Arc<ServerConfig>, Arc<ClientAuthority>),
    /// HTTP without TLS here; the scheme is what clients are taken to have used.
    Plain(Scheme),
    /// HTTP that only leads to https.
    Redirect(Redirect),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https(..) => "https",
            Self::Plain(_) => "plain http",
            Self::Redirect(_) => "http, leads to https",
        })
    }
}

impl Protocol {
    /// `tls_before`: whether a load balancer says that its client used TLS.
    pub(super) fn scheme(&self, tls_before: Option<bool>) -> Scheme {
        match (self, tls_before) {
            (Self::Https(..), _) | (Self::Plain(_), Some(true)) => Scheme::Https,
            (Self::Plain(_), Some(false)) | (Self::Redirect(_), _) => Scheme::Http,
            (Self::Plain(configured), None) => *configured,
        }
    }
}
