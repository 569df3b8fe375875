use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::admit::Admission;
use crate::config::{Limits, Timeouts, Token};
use crate::http::head::HeadLimits;
use crate::net::KernelTls;
use crate::observe::{Log, Metrics};
use crate::prefixes::{Classifier, Network};
use crate::tls::ClientAuthority;
use crate::upstream::{Directory, Dns};

/// What every connection works with: one snapshot of the configuration, made ready for use.
pub struct Context {
    /// This proxy's name in Via and Proxy-Status.
    pub name: Token,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub admission: Admission,
    /// Networks that must send a PROXY header and are believed.
    pub proxy_protocol_from: Vec<Network>,
    pub directory: Directory,
    pub dns: Arc<Dns>,
    /// Which client certificates count; `None`: there is no TLS.
    pub client_authority: Option<Arc<ClientAuthority>>,
    /// `None`: sessions stay with the proxy.
    pub kernel_tls: Option<KernelTls>,
    pub log: Log,
    pub metrics: Arc<Metrics>,
    pub classifier: Arc<Classifier>,
}

/// A context in one worker. In an `Rc`, so that taking it for a request touches no memory that
/// other cores write.
pub struct WorkerContext(Arc<Context>);

impl WorkerContext {
    pub(super) fn new(context: Arc<Context>) -> Rc<Self> {
        Rc::new(Self(context))
    }
}

impl Deref for WorkerContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}

impl Context {
    pub(super) fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.limits.head_bytes,
            target_bytes: self.limits.uri_bytes,
            field_lines: self.limits.headers,
        }
    }
}
