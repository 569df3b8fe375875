//! Where connections are being lost, from what the guard has counted.

use super::Finding;
use super::verdict::{Counts, verdict};
use crate::config::Config;
use crate::guard;

const SUBJECT: &str = "traffic";

pub fn findings(config: &Config) -> Vec<Finding> {
    let Some(settings) = &config.guard else { return Vec::new() };
    match guard::read(&settings.pin) {
        Err(error) => vec![Finding::warn(SUBJECT, error.to_string(), "run the doctor as root")],
        Ok(None) => vec![Finding::warn(
            SUBJECT,
            "the guard is not attached: nothing is counted",
            "start hookgate, or run `hookgate guard attach`: it says what is missing",
        )],
        Ok(Some(stats)) => {
            let rows =
                stats.prefixes.iter().map(|(network, counts)| (network.to_string(), Counts::from(counts)));
            let verdicts: Vec<Finding> =
                rows.filter_map(|(prefix, counts)| verdict(&prefix, &counts)).collect();
            if verdicts.is_empty() { vec![silence()] } else { verdicts }
        }
    }
}

fn silence() -> Finding {
    Finding::warn(
        SUBJECT,
        "not one SYN from Meta since the guard was attached",
        "is the callback URL this machine's? otherwise Meta has not tried, or its packets are lost on the way",
    )
}

impl From<&guard::Counts> for Counts {
    fn from(counts: &guard::Counts) -> Self {
        let [accepted, tls, tls_failed, requests, delivered, refused, failed] = counts.funnel.map(Some);
        Self {
            packets: Some(counts.packets),
            syns: Some(counts.syns),
            syns_retransmitted: Some(counts.syns_retransmitted),
            handshakes: counts.handshakes,
            handshakes_failed: counts.handshakes_failed,
            accepted,
            tls,
            tls_failed,
            requests,
            delivered,
            refused,
            failed,
        }
    }
}
