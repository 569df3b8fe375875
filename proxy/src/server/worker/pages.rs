//! The pages of the admin listener.

use tokio::sync::oneshot;

use super::running::RunningProxy;
use super::{ledger_metrics, readiness, status};
use crate::admin::{self, Pages};
use crate::config::HostName;
use crate::guard::Detail;
use crate::insight::{Chart, Query, Report};
use crate::messages::Document as Messages;
use crate::observe::{Delivery, Exposition, Trace, UpstreamMetrics};
use crate::prefixes::Class;
use crate::stats::{self, Document};
use crate::upstream::Upstream;

impl Pages for RunningProxy {
    fn metrics(&self) -> Exposition {
        let mut to = Exposition::default();
        to.family("hookgate_build_info", "gauge", "Which hookgate this is");
        to.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        to.family(
            "hookgate_worker_restarts_total",
            "counter",
            "Workers that have taken the place of a crashed one",
        );
        to.sample(&[], self.process.restarts);
        // Absent where the supervisor can't read them.
        let stats = self.supervisor.stats(Detail::Prefixes).ok().flatten();
        let lost_attempts = stats.as_ref().map_or_else(Vec::new, |stats| stats::lost_attempts(stats).into());
        self.context().metrics.expose(&self.context().classifier, &lost_attempts, &mut to);
        self.context().log.expose(&mut to);
        self.connections(&mut to);
        self.upstreams(&mut to);
        if let Some(ledger) = &self.ledger {
            ledger_metrics::expose(&ledger.figures(&self.context().metrics).unwrap_or_default(), &mut to);
        }
        if let Some(stats) = &stats {
            stats::expose(stats, &mut to);
        }
        self.interfaces.expose(&mut to);
        if let Some(renewal) = self.now().certificates.as_ref().and_then(|held| held.renewal()) {
            renewal.expose(&mut to);
        }
        if let Some(expiry) = readiness::expiry(&self.now()) {
            to.family(
                "hookgate_certificate_expiry_seconds",
                "gauge",
                "When the first certificate ends, in Unix time",
            );
            to.sample(&[], expiry);
        }
        to
    }

    fn stats(&self, within: Option<&Query>) -> Result<Document, String> {
        let Some(query) = within else {
            return self.stats_of(&self.now(), Detail::Blocks).map_err(|error| error.to_string());
        };
        let document = self.stats_of(&self.now(), Detail::Prefixes).map_err(|error| error.to_string())?;
        let window = self.insight.window(query).map_err(|error| error.to_string())?;
        window
            .map(|window| document.within(&window))
            .ok_or_else(|| "there are no figures of that time".into())
    }

    fn status(&self, upstream: Option<&[u8]>) -> Option<admin::status::Document> {
        status::document(self, upstream)
    }

    fn lost(&self, query: &Query) -> Result<Option<Report>, String> {
        self.insight.lost(query).map_err(|error| error.to_string())
    }

    fn messages(&self, upstream: Option<&str>) -> Result<Option<Messages>, String> {
        self.messages_of(upstream)
    }

    fn traces(&self, after: Option<u64>) -> (u64, Vec<Trace>) {
        self.context().metrics.tracer.follow(after)
    }

    fn chart(&self, query: &Query) -> Result<Chart, String> {
        self.insight.chart(query).map_err(|error| error.to_string())
    }

    fn hosts(&self) -> Vec<HostName> {
        self.now().admin_hosts.clone()
    }

    fn deliveries(&self, after: u64) -> Vec<Delivery> {
        let context = self.context();
        context.metrics.deliveries.after(after, context.classifier.prefix_of())
    }

    fn take_prefixes(&self) -> Result<usize, String> {
        self.prefixes.take_stored().map_err(|error| error.to_string())
    }

    fn reload(&self) -> Result<String, String> {
        let (reply, outcome) = oneshot::channel();
        let asked = self.reload.blocking_send(reply);
        asked
            .map_err(|_| ())
            .and_then(|()| outcome.blocking_recv().map_err(|_| ()))
            .unwrap_or_else(|()| Err("the proxy is ending".into()))
    }

    fn unready(&self) -> Vec<String> {
        readiness::reasons(self)
    }

    fn remarks(&self) -> Vec<String> {
        self.interfaces.remarks()
    }
}

impl RunningProxy {
    fn connections(&self, to: &mut Exposition) {
        to.family("hookgate_connections", "gauge", "Client connections, by whose they are");
        for (class, label) in Class::ALL {
            to.sample(&[("class", label)], self.context().admission.count(class));
        }
    }

    fn upstreams(&self, to: &mut Exposition) {
        let metrics = |show: &mut dyn FnMut(&UpstreamMetrics)| {
            show(&self.context().metrics.without_upstream);
            self.context().directory.iter().filter_map(Upstream::used_metrics).for_each(|used| show(used));
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
        for upstream in self.context().directory.iter() {
            // The counts begin when the first request ends, which with an upstream that hangs is
            // late.
            let in_flight = upstream.in_flight();
            if in_flight > 0 || upstream.used_metrics().is_some() {
                to.sample(&[("upstream", &upstream.name)], in_flight);
            }
        }
    }
}
