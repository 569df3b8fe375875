//! What `/status.json` says, put together from what everybody knows.

mod upstreams;

use std::sync::Arc;
use std::time::Duration;

use super::generation::Generation;
use super::readiness;
use super::running::RunningProxy;
use crate::admin::status::{
    Acme, Certificate, Configuration, Connections, Dns, Document, Funnel, Limits, Listener, Source, Timeouts,
};
use crate::config::HostName;
use crate::guard::Detail;
use crate::messages::Document as Messages;
use crate::observe::clock::{self, rfc3339};
use crate::prefixes::Class;
use crate::stats::{Counts, Prefix};
use crate::upstream::dns::DnsState;

/// Numbers that are listed of each upstream.
const MAX_NUMBERS: usize = 20;
/// Prefixes that are listed.
const MAX_PREFIXES: usize = 100;

/// `only`: an upstream, and no others. `None`: that is not in the allowlist.
pub(super) fn document(status: &RunningProxy, only: Option<&[u8]>) -> Option<Document> {
    let now = status.now();
    let context = &now.context;
    let metrics = &context.metrics;
    let counted =
        status.stats_of(&now, Detail::Prefixes).unwrap_or_else(|_| RunningProxy::without_guard(&now));
    let reasons = readiness::reasons(status);
    let only = only.map(|name| context.directory.find(name).ok_or(())).transpose().ok()?;
    let prefix_of = context.classifier.prefix_of();
    Some(Document {
        version: Document::VERSION,
        taken: rfc3339(clock::now()),
        hookgate: env!("CARGO_PKG_VERSION").into(),
        name: context.name.to_string(),
        since: rfc3339(status.process.since),
        ready: reasons.is_empty(),
        reasons,
        listeners: listeners(&now),
        connections: connections(&now),
        guard: counted.guard,
        funnel: funnel(counted.prefixes, counted.other),
        tls_handshakes: metrics.handshakes().collect(),
        tls_groups: metrics.groups().collect(),
        refused: metrics.refused().collect(),
        upstreams: match only {
            Some(upstream) => upstreams::only(&context.directory, upstream),
            None => upstreams::worst_first(&context.directory),
        },
        certificates: certificates(&now),
        acme: acme(&now),
        dns: readiness::dns(&now).map(dns),
        failures: match only {
            Some(upstream) => metrics.deliveries.failures_of(upstream.metrics(), prefix_of),
            None => metrics.deliveries.failures(prefix_of),
        },
        configuration: Configuration {
            file: status.process.file.display().to_string(),
            reload: status.process.last_reload.get(),
        },
        limits: limits(&now),
        timeouts: timeouts(&now),
        messages: status.messages_of(only.map(|upstream| &*upstream.name)).ok().flatten().map(shortened),
    })
}

/// Without most of the numbers that are not quiet.
fn shortened(mut messages: Messages) -> Messages {
    for upstream in &mut messages.upstreams {
        upstream.numbers.sort_by_key(|number| (number.quiet_since.is_none(), std::cmp::Reverse(number.last)));
        upstream.numbers.truncate(MAX_NUMBERS);
    }
    messages
}

fn listeners(now: &Generation) -> Vec<Listener> {
    let listener = |door: &super::generation::BoundListener| Listener {
        address: door.listener.to_string(),
        protocol: door.protocol.to_string(),
    };
    now.listeners.iter().map(listener).collect()
}

fn connections(now: &Generation) -> Connections {
    let admission = &now.context.admission;
    Connections {
        by_class: Class::ALL.into_iter().map(|(class, label)| (label, admission.count(class))).collect(),
        most: admission.most,
        most_of_strangers: admission.most_of_strangers,
        most_per_source: admission.most_per_source,
    }
}

fn funnel(prefixes: Vec<Prefix>, other: Counts) -> Funnel {
    let in_force = prefixes.len();
    let meta = prefixes.iter().map(|row| &row.counts).sum();
    let mut used: Vec<_> = prefixes.into_iter().filter(|row| row.counts.is_used()).collect();
    let weight = |row: &Prefix| row.counts.packets + row.counts.funnel.map_or(0, |funnel| funnel.requests);
    used.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    let unlisted = used.len().saturating_sub(MAX_PREFIXES);
    used.truncate(MAX_PREFIXES);
    Funnel { meta, other, prefixes: used, unlisted, in_force }
}

fn certificates(now: &Generation) -> Vec<Certificate> {
    let Some(held) = &now.certificates else { return Vec::new() };
    let (all, automatic) = (held.resolver().current(), held.resolver().automatic());
    let certificate = |certificate: &Arc<crate::tls::Certificate>| Certificate {
        names: certificate.names().to_vec(),
        source: match &automatic {
            Some(own) if Arc::ptr_eq(own, certificate) && own.is_placeholder => Source::Placeholder,
            Some(own) if Arc::ptr_eq(own, certificate) => Source::Authority,
            _ => Source::Files,
        },
        not_before: clock::date(certificate.not_before),
        not_after: clock::date(certificate.not_after),
        self_signed: certificate.is_self_signed,
    };
    all.iter().map(certificate).collect()
}

fn acme(now: &Generation) -> Option<Acme> {
    let renewal = now.certificates.as_ref()?.renewal()?;
    let progress = renewal.progress();
    Some(Acme {
        domains: renewal.domains().iter().map(HostName::to_string).collect(),
        directory: renewal.directory().to_owned(),
        next_attempt: progress.next.map(clock::date),
        failure: progress.failure,
    })
}

fn dns(DnsState { servers, last_answer, silent_since }: DnsState) -> Dns {
    Dns { servers, last_answer: last_answer.map(rfc3339), silent_since: silent_since.map(rfc3339) }
}

fn limits(now: &Generation) -> Limits {
    let limits = &now.context.limits;
    Limits {
        head_bytes: limits.head_bytes,
        uri_bytes: limits.uri_bytes,
        headers: limits.headers,
        response_head_bytes: limits.response_head_bytes,
        body_bytes: limits.body_bytes.into(),
    }
}

fn timeouts(now: &Generation) -> Timeouts {
    let (timeouts, seconds) = (&now.context.timeouts, |time: Duration| time.as_secs_f64());
    Timeouts {
        request_head: seconds(timeouts.request_head),
        body_idle: seconds(timeouts.body_idle),
        connect: seconds(timeouts.connect),
        response: seconds(timeouts.response),
        keepalive: seconds(timeouts.keepalive),
        upstream_idle: seconds(timeouts.upstream_idle),
        drain: seconds(timeouts.drain),
    }
}
