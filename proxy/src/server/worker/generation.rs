//! A configuration ready to serve with. A reload replaces it as a whole.

use std::net::SocketAddr;
use std::sync::Arc;

use super::certificates::{Certificates, challenges};
use crate::access::Access;
use crate::config::{self, Config, HostName, Ktls, Mode};
use crate::datapath::{Admission, Context, Protocol, Redirect};
use crate::net::{KernelTls, NoKernelTls};
use crate::observe::{Format, Log, Metrics};
use crate::prefixes::Classifier;
use crate::server::listen::{Listener, is_optional};
use crate::server::{Machine, StartError};
use crate::upstream::{Directory, Dns};

/// Everything that threads serve with.
#[derive(Clone)]
pub(super) struct Generation {
    pub(super) context: Arc<Context>,
    pub(super) listeners: Vec<BoundListener>,
    pub(super) certificates: Option<Arc<Certificates>>,
    /// The guard's, as configured.
    pub(super) mode: Mode,
    /// Names by which the admin listener may be asked.
    pub(super) admin_hosts: Vec<HostName>,
}

/// A listener, and the protocol of its connections.
#[derive(Clone)]
pub(super) struct BoundListener {
    pub(super) listener: Arc<Listener>,
    pub(super) protocol: Protocol,
}

/// The protocol at each address. Addresses that this machine can do without are left out and
/// logged: the shipped configuration is for machines with IPv6 and for those without.
pub(super) fn protocols(
    config: &Config,
    certificates: Option<&Certificates>,
    access: &Arc<dyn Access>,
    machine: &Machine,
    log: &Log,
) -> Vec<(SocketAddr, Protocol)> {
    let listen = &config.listen;
    let mut protocols = Vec::new();
    if let Some(certificates) = certificates {
        let https = Protocol::Https(certificates.server_config(), certificates.client_authority());
        protocols.extend(listen.https.iter().map(|address| (*address, https.clone())));
    }
    let redirect = Protocol::Redirect(Redirect {
        certificates: certificates.map(Certificates::resolver),
        https_port: listen.https.first().map_or(443, |address| address.port()),
        challenges: challenges(config, certificates, access),
    });
    protocols.extend(listen.http.iter().map(|address| (*address, redirect.clone())));
    let plain = Protocol::Plain(listen.plain_scheme);
    protocols.extend(listen.plain.iter().map(|address| (*address, plain.clone())));
    if !machine.has_ipv6 {
        let all: Vec<SocketAddr> = protocols.iter().map(|(address, _)| *address).collect();
        protocols.retain(|(address, _)| {
            let is_kept = !is_optional(*address, &all);
            if !is_kept {
                log.note(&format!("not listening on {address}: this machine has no IPv6"));
            }
            is_kept
        });
    }
    protocols
}

/// What a context is made of that may fail, or that stays while other things change.
pub(super) struct Parts {
    pub(super) directory: Directory,
    pub(super) dns: Arc<Dns>,
    pub(super) admission: Admission,
}

impl Parts {
    pub(super) fn new(config: &Config, machine: &Machine, access: &dyn Access) -> Result<Self, StartError> {
        Ok(Self {
            directory: Directory::new(&config.upstreams, access)?,
            dns: Arc::new(Dns::new(&config.dns, access)?),
            admission: admission(config, machine),
        })
    }

    /// The same for another configuration: upstreams that stay keep their connections, connections
    /// their places, the DNS what it knows.
    pub(super) fn renewed(
        former: &Context,
        config: &Config,
        machine: &Machine,
        access: &dyn Access,
    ) -> Result<Self, StartError> {
        Ok(Self {
            directory: former.directory.renewed(&config.upstreams, access)?,
            dns: former.dns.renewed(&config.dns, access)?,
            admission: admission(config, machine).after(&former.admission),
        })
    }

    pub(super) fn context(
        self,
        config: &Config,
        certificates: Option<&Certificates>,
        kernel_tls: Option<KernelTls>,
        log: Log,
        metrics: Arc<Metrics>,
        classifier: Arc<Classifier>,
    ) -> Context {
        Context {
            name: config.relay.name.clone(),
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            admission: self.admission,
            proxy_protocol_from: config.listen.proxy_protocol_from.clone(),
            directory: self.directory,
            dns: self.dns,
            client_authority: certificates.map(Certificates::client_authority),
            kernel_tls,
            log,
            metrics,
            classifier,
        }
    }
}

fn admission(config: &Config, machine: &Machine) -> Admission {
    let limits = &config.limits;
    let most = limits.connections.unwrap_or(machine.connections);
    Admission::new(most, limits.reserved_for_meta, limits.per_source)
}

/// As the log knows it.
pub fn log_format(format: config::LogFormat) -> Format {
    match format {
        config::LogFormat::Text => Format::Text,
        config::LogFormat::Json => Format::Json,
    }
}

/// What the kernel's TLS does from now on, and says so.
pub(super) fn kernel_tls(ktls: Ktls, machine: &Machine, log: &Log) -> Option<KernelTls> {
    let found = match ktls {
        Ktls::Off => {
            log.note("kernel TLS: off, by [tls] ktls");
            return None;
        }
        Ktls::Auto => machine.kernel_tls.clone(),
        Ktls::Always => machine.kernel_tls.clone().map(KernelTls::at_once),
    };
    log.note(&match &found {
        Ok(found) => format!("kernel TLS: {found}"),
        Err(error @ NoKernelTls::Absent) => {
            format!("kernel TLS: not used: {error}, or `modprobe tls` is needed")
        }
        Err(error) => format!("kernel TLS: not used: {error}"),
    });
    found.ok()
}

pub(super) fn mode(config: &Config) -> Mode {
    config.guard.as_ref().map_or(Mode::Observe, |guard| guard.mode)
}

/// Says what the operator may have overlooked; what a check says before a start, a reload says
/// here.
pub(super) fn note_what_is_missing(context: &Context) {
    if context.directory.is_empty() {
        context.log.note("[upstreams] is empty: every request will be answered 403");
    }
    for name in context.directory.unverified() {
        context.log.note(&format!(
            "WARNING: upstream {name}: verify = false: anyone on the way to it can read and change its messages"
        ));
    }
    note_missing_roots(context);
}

pub(super) fn note_missing_roots(context: &Context) {
    if let Some(fault) = context.directory.roots_fault() {
        context.log.note(&format!("this machine's root certificates are not whole: {fault}"));
    }
    if context.directory.lacks_roots() {
        let message = "no root certificates on this machine: upstreams without `ca` will fail; \
                       install the package ca-certificates";
        context.log.note(message);
    }
}
