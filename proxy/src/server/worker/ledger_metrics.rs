//! What messages tell, as metrics.

use super::ledger::Figures;
use crate::messages::{BOUNDS, ChainEnd, Histogram, Kind, Outcome, Product, Unscanned};
use crate::observe::Exposition;

/// Appends what the process has counted; series appear at first use.
pub(super) fn expose(figures: &Figures, to: &mut Exposition) {
    to.family(
        "hookgate_messages_total",
        "counter",
        "Events of Meta's messages by how they ended: delivered at first sight, recovered by a later POST, lost, unknown, \
         duplicate after a 200",
    );
    for (upstream, of) in &figures.upstreams {
        for (kind, outcomes) in Kind::ALL.iter().zip(of.outcomes) {
            for (outcome, count) in Outcome::ALL.iter().zip(outcomes).filter(|(_, count)| *count > 0) {
                let labels = [("upstream", &**upstream), ("kind", kind.name()), ("outcome", outcome.name())];
                to.sample(&labels, count);
            }
        }
    }
    to.family(
        "hookgate_messages_outstanding",
        "gauge",
        "Events whose POSTs have failed so far and that Meta may send again",
    );
    for (upstream, of) in &figures.upstreams {
        to.sample(&[("upstream", upstream)], of.outstanding);
    }
    to.family(
        "hookgate_status_chains_total",
        "counter",
        "Messages that upstreams have sent, by whether their status sent came: sent_missing estimates what is lost before \
         this machine",
    );
    for (upstream, of) in &figures.upstreams {
        for (end, count) in ChainEnd::ALL.iter().zip(of.chains).filter(|(_, count)| *count > 0) {
            to.sample(&[("upstream", upstream), ("outcome", end.name())], count);
        }
    }
    let help = "From when an event happened to the arrival of its first POST";
    to.family("hookgate_delivery_lag_seconds", "histogram", help);
    for (upstream, of) in &figures.upstreams {
        histogram(("upstream", upstream), &of.lag, to);
    }
    let help = "From when an event happened to the send time that its entry tells";
    to.family("hookgate_meta_queue_seconds", "histogram", help);
    for (product, histogram) in Product::ALL.iter().zip(&figures.shared.queue) {
        self::histogram(("product", product.name()), histogram, to);
    }
    let help = "From the send time that an entry tells to its arrival, for each POST";
    to.family("hookgate_wire_seconds", "histogram", help);
    for (product, histogram) in Product::ALL.iter().zip(&figures.shared.wire) {
        self::histogram(("product", product.name()), histogram, to);
    }
    let help = "Times in messages that lie more than 2 s in the future";
    to.family("hookgate_lag_negative_total", "counter", help);
    to.sample(&[], figures.shared.negative);
    let help = "POSTs of Meta that made no events, by why their bodies were not scanned";
    to.family("hookgate_bodies_unscanned_total", "counter", help);
    for (reason, count) in Unscanned::ALL.iter().zip(figures.shared.unscanned).filter(|(_, count)| *count > 0)
    {
        to.sample(&[("reason", reason.name())], count);
    }
}

fn histogram(label: (&str, &str), histogram: &Histogram, to: &mut Exposition) {
    if histogram.count() == 0 {
        return;
    }
    let mut so_far = 0;
    for (bound, count) in BOUNDS.iter().zip(histogram.counts) {
        so_far += count;
        to.suffixed_sample("_bucket", &[label, ("le", &bound.to_string())], so_far);
    }
    to.suffixed_sample("_bucket", &[label, ("le", "+Inf")], histogram.count());
    to.suffixed_sample("_sum", &[label], histogram.milliseconds as f64 / 1e3);
    to.suffixed_sample("_count", &[label], histogram.count());
}
