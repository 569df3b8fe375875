use std::sync::Arc;

use crate::admin::Pages;
use crate::config::Mode;
use crate::datapath::{Class, Context, Event};
use crate::guard::{self, keeper::Keeper};
use crate::observe::{Exposition, UpstreamMetrics, clock};
use crate::stats::Document;
use crate::tls::Resolver;

/// What the admin listener tells of a running proxy.
pub(super) struct Status {
    pub(super) context: Arc<Context>,
    pub(super) certificates: Option<Arc<Resolver>>,
    /// Who reads the guard's counters, where it is attached.
    pub(super) keeper: Option<Keeper>,
    /// The guard's, as configured.
    pub(super) mode: Mode,
    pub(super) drain: Event,
}

impl Pages for Status {
    fn metrics(&self) -> Exposition {
        let mut to = Exposition::default();
        to.family("hookgate_build_info", "gauge", "Which hookgate this is");
        to.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.context.metrics.expose(&mut to);
        self.connections(&mut to);
        self.upstreams(&mut to);
        self.prefixes(&mut to);
        if let Some(expiry) = self.expiry() {
            to.family(
                "hookgate_certificate_expiry_seconds",
                "gauge",
                "When the first certificate ends, in Unix time",
            );
            to.sample(&[], expiry);
        }
        to
    }

    fn stats(&self) -> Document {
        let mut document = match self.counted() {
            Some(stats) => Document::attached(&stats),
            None => Document::without_guard(clock::now(), self.mode, self.context.metrics.funnel.networks()),
        };
        document.add_funnel(&self.context.metrics.funnel);
        document
    }

    fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.has_happened() {
            reasons.push("draining".to_owned());
        }
        if self.expiry().is_some_and(|expiry| expiry <= clock::now().as_second()) {
            reasons.push("a certificate has expired".to_owned());
        }
        reasons
    }
}

impl Status {
    fn connections(&self, to: &mut Exposition) {
        to.family("hookgate_connections", "gauge", "Client connections, by whose they are");
        for (class, label) in Class::ALL {
            to.sample(&[("class", label)], self.context.admission.count(class));
        }
    }

    fn upstreams(&self, to: &mut Exposition) {
        let metrics = |show: &mut dyn FnMut(&UpstreamMetrics)| {
            show(&self.context.metrics.without_upstream);
            self.context.directory.iter().for_each(|upstream| show(&upstream.metrics));
        };
        to.family(
            "hookgate_requests_total",
            "counter",
            "Requests that have ended, by what the client was answered",
        );
        metrics(&mut |upstream| upstream.expose_requests(to));
        to.family(
            "hookgate_upstream_errors_total",
            "counter",
            "Requests for which the upstream was asked in vain",
        );
        metrics(&mut |upstream| upstream.expose_errors(to));
        to.family("hookgate_request_duration_seconds", "histogram", "From a request's head to its end");
        metrics(&mut |upstream| upstream.expose_durations(to));
        to.family("hookgate_in_flight", "gauge", "Requests under way");
        for upstream in self.context.directory.iter() {
            // The counts begin when the first request ends, which with an upstream that hangs is late.
            let in_flight = upstream.in_flight();
            if in_flight > 0 || upstream.metrics.is_used() {
                to.sample(&[("upstream", &upstream.name)], in_flight);
            }
        }
    }

    /// What the guard has counted, where it can be read.
    fn prefixes(&self, to: &mut Exposition) {
        let Some(stats) = self.counted() else { return };
        let families = [
            ("hookgate_prefix_packets_total", "Packets to guarded ports, by the prefix they came from"),
            ("hookgate_prefix_bytes_total", "Their bytes, as frames"),
            ("hookgate_prefix_syns_total", "Packets that open a connection"),
        ];
        let counts = |counts: &guard::Counts| [counts.packets, counts.bytes, counts.syns];
        for (index, (name, help)) in families.into_iter().enumerate() {
            to.family(name, "counter", help);
            for (prefix, row) in &stats.prefixes {
                if counts(row)[index] > 0 {
                    to.sample(&[("prefix", &prefix.to_string())], counts(row)[index]);
                }
            }
            to.sample(&[("prefix", "other")], counts(&stats.other)[index]);
        }
    }

    /// `None`: the guard is not attached, or does not say.
    fn counted(&self) -> Option<guard::Stats> {
        self.keeper.as_ref()?.stats().ok()?
    }

    /// When the first certificate ends, in Unix time.
    fn expiry(&self) -> Option<i64> {
        let certificates = self.certificates.as_ref()?.current();
        certificates.iter().map(|certificate| certificate.not_after).min()
    }
}
