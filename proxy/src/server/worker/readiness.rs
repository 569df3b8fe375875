//! Whether the proxy can do what it is there for.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::generation::Generation;
use super::running::RunningProxy;
use crate::datapath::Stage;
use crate::observe::clock;
use crate::upstream::dns::DnsState;

/// What keeps the proxy from serving, a reason each. To be called within a runtime, in which the
/// DNS is asked for the next time.
pub(super) fn reasons(status: &RunningProxy) -> Vec<String> {
    let now = status.now();
    let mut reasons = Vec::new();
    if status.lifecycle.has_reached(Stage::Replaced) {
        reasons.push("draining".to_owned());
    } else if now.listeners.is_empty() {
        reasons.push("no listener is open".to_owned());
    }
    if expiry(&now).is_some_and(|expiry| expiry <= clock::now().as_second()) {
        reasons.push("a certificate has expired".to_owned());
    }
    reasons.extend(without_certificate(&now));
    reasons.extend(dns(&now).and_then(|dns| without_dns(&dns)));
    reasons
}

/// When the first certificate ends, in Unix time.
pub(super) fn expiry(now: &Generation) -> Option<i64> {
    let certificates = now.certificates.as_ref()?.resolver().current();
    let given = certificates.iter().filter(|certificate| !certificate.is_placeholder);
    given.map(|certificate| certificate.not_after).min()
}

/// Why there is only a placeholder, where that is so.
fn without_certificate(now: &Generation) -> Option<String> {
    let certificates = now.certificates.as_ref()?;
    let renewal = certificates.renewal()?;
    certificates.resolver().automatic().filter(|certificate| certificate.is_placeholder)?;
    let progress = renewal.progress();
    let why = progress.failure.unwrap_or_else(|| "it has just begun".into());
    let next = progress.next.map_or("the authority is being asked".into(), |next| {
        format!("the authority is asked again at {}", clock::date(next))
    });
    Some(format!("no certificate for {} yet: {why}; {next}", renewal.domains().join(", ")))
}

/// The state of the DNS; `None`: no upstream needs it. Without a recent answer a query is begun,
/// for the next call: an idle proxy has no other way to notice that the DNS is gone.
pub(super) fn dns(now: &Generation) -> Option<DnsState> {
    let mut upstreams = now.context.directory.iter();
    upstreams.find(|upstream| upstream.settings().address.is_none())?;
    let dns = &now.context.dns;
    if dns.begin_query() {
        drop(Handle::current().spawn(Arc::clone(dns).ask_servers()));
    }
    Some(dns.state())
}

fn without_dns(dns: &DnsState) -> Option<String> {
    let since = clock::rfc3339(dns.silent_since?);
    Some(format!("no DNS server has answered since {since}: {}", dns.servers.join(", ")))
}
