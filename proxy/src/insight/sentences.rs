//! The verdict in words that an operator can act on.

use super::document::{StageReport, Verdict};
use super::limit::LimitCode;
use super::stage::{Stage, Unit};
use super::sums::Sums;
use crate::observe::clock;

pub fn verdict(worst: &StageReport, since: Option<i64>, sums: &Sums) -> Verdict {
    let StageReport { stage, unit, lost, late, of, causes } = worst.clone();
    let cause =
        causes.iter().max_by_key(|(_, count)| **count).map_or_else(String::new, |(cause, _)| cause.clone());
    let share = worst.share();
    let since = since.map(clock::date);
    let (why, next) = explain(stage, unit, &cause, sums);
    let when = since
        .as_ref()
        .map_or_else(|| "since before the figures begin".into(), |time| format!("since {time}"));
    let what = match unit {
        Unit::Attempts => "attempts to connect",
        Unit::Posts => "messages' requests",
        Unit::Events if stage == Stage::Inbound => "`sent` statuses",
        Unit::Events => "events",
    };
    // What was never sent was not lost on the way.
    let loss = if stage == Stage::Meta { "did not come" } else { "were lost" };
    let fate = match (lost, late) {
        (lost, 0) => format!("{lost} of {of} {what} {loss}"),
        (0, late) => format!("{late} of {of} {what} came late"),
        (lost, late) => format!("{lost} of {of} {what} {loss} and {late} came late"),
    };
    let text =
        format!("{stage}: {fate} ({:.1} %), most of them ({cause}) because {why}, {when}", share * 100.0);
    Verdict { stage, unit, share, lost, late, of, cause, since, text, next: next.into() }
}

/// Why, as the end of a sentence, and what to do.
fn explain(stage: Stage, unit: Unit, cause: &str, sums: &Sums) -> (&'static str, &'static str) {
    match (stage, unit, cause) {
        (Stage::Machine, Unit::Posts, "killed") => (
            "hookgate was killed or crashed while they were under way",
            "see what ended it: `journalctl -u hookgate`, and `dmesg | grep -i oom` (too little memory)",
        ),
        (Stage::Machine, Unit::Posts, _) => (
            "hookgate ended while they were under way",
            "see why it ended (`journalctl -u hookgate`); a longer [timeouts] drain lets requests finish",
        ),
        (Stage::Machine, _, "accept_queue") => (
            "hookgate's queue of new connections was full",
            "is hookgate busy or hung (`hookgate health`, `hookgate top`)? it needs more CPU, or a restart",
        ),
        (Stage::Machine, _, "refused") => (
            "this machine answered them with a reset",
            "does hookgate listen there (`ss -ltn`)? otherwise a firewall here rejects them (`nft list ruleset`)",
        ),
        (Stage::Machine, _, "uncompleted") => (
            "their last packet arrived and this machine did not complete the handshake",
            "does a firewall here drop it (`nft list ruleset`, `dmesg | grep conntrack`)?",
        ),
        (Stage::Machine, ..) if sums.conntrack_drops > 0 => (
            "this machine's table of connections was full",
            "raise it: `sysctl net.netfilter.nf_conntrack_max`, or exempt the ports from tracking",
        ),
        (Stage::Machine, _, "unanswered") => (
            "their first packet arrived here and no answer left",
            "does a firewall here drop them (`nft list ruleset`)? `hookgate stats --json` has the kernel's own reasons",
        ),
        (Stage::Machine, ..) => (
            "the kernel of this machine dropped them",
            "that is the kernel's own reason; for netfilter_drop see `nft list ruleset`",
        ),
        (Stage::Meta, _, "quiet") => (
            "a number, page or account is quiet while others go on (estimated from what is usual at these hours)",
            "`hookgate messages` names it: does its callback URL lead elsewhere (override), is its subscription lost, or \
             is it on standby? send it a message",
        ),
        (Stage::Meta, ..) => (
            "they came more than 5 minutes after they happened, although nothing of Meta's failed here in between",
            "does Meta's status page tell of a delay? `hookgate messages` shows the lag of each upstream; a number that was \
             just moved or subscribed gets old events",
        ),
        (Stage::Inbound, Unit::Events, _) => (
            "a later status of the same message came and `sent` did not (an estimate of what is lost before this machine)",
            "compare `hookgate stats` by prefix; `hookgate evidence --for meta` writes a file for a ticket",
        ),
        (Stage::After, ..) => (
            "they were answered 200 and may be lost behind it",
            "does the receiver read every update of a body? `hookgate send --batch 3` shows",
        ),
        (Stage::Outbound, ..) => (
            "our answers left this machine and Meta did not hear them",
            "does a firewall here drop answers (`nft list ruleset`, chain output)? if not, look for them (SYN-ACK) one \
             step further out: router, NAT, then the provider",
        ),
        (Stage::Inbound, ..) => (
            "nothing came after our answer",
            "our answer, or what Meta sent after it, is lost outside of this machine: compare with another network, \
             and show `hookgate stats` to the provider",
        ),
        (Stage::Tls, _, "closed" | "timed_out") => (
            "the client ended the TLS handshake without a word",
            "is the certificate's chain complete (`hookgate check`), and the way free for large packets (path MTU)?",
        ),
        (Stage::Tls, _, "protocol" | "client_certificate") => (
            "hookgate refused the client's TLS",
            "`hookgate doctor` says what it asks for ([tls] client_ca, versions)",
        ),
        (Stage::Tls, ..) => (
            "the client ended the TLS handshake with this alert",
            "is the certificate valid for the callback URL's name, with its whole chain (`hookgate check`)?",
        ),
        (Stage::Request, _, "403") => (
            "their path names an upstream that is not allowed",
            "`hookgate deliveries --failed` shows them; add the host: `hookgate upstream add HOST`",
        ),
        (Stage::Request, ..) => {
            ("hookgate refused them", "`hookgate deliveries --failed` shows the requests and why")
        }
        (Stage::Dns, ..) => {
            ("their upstream's name led to no address", "`hookgate probe HOST` shows what the DNS says")
        }
        (Stage::Connect, ..) => (
            "no connection to their upstream could be made",
            "does it run, and does a firewall let this machine in? `hookgate probe HOST` tries it",
        ),
        (Stage::UpstreamTls, ..) => (
            "TLS with their upstream failed",
            "`hookgate probe HOST` shows its certificate and what is wrong with it",
        ),
        (Stage::Upstream, _, "connection_limit_reached") => (
            "their upstream had as many requests under way as it may",
            "it is slow, or [upstreams] in_flight is too low for it",
        ),
        (Stage::Upstream, ..) => (
            "their upstream did not answer 200",
            "see the upstream's own log; `hookgate deliveries --failed` has each request",
        ),
        (Stage::Client, _, "408") => (
            "the client sent them too slowly",
            "is the way to Meta lossy (`hookgate stats`), or [timeouts] body_idle too short?",
        ),
        (Stage::Client, ..) => (
            "Meta hung up before our answer was written",
            "upstreams that answer late are the usual cause: `hookgate deliveries` shows durations",
        ),
    }
}

/// `begun`: where the figures of the window begin.
pub fn limit(code: LimitCode, begun: &str) -> String {
    match code {
        LimitCode::NoGuard => {
            "without the guard nothing before TLS is seen; `hookgate doctor` says what it lacks".into()
        }
        LimitCode::NoHistory => format!("there are no figures before {begun}"),
        LimitCode::NoMessages => {
            "bodies were not scanned ([insight] messages): the stages meta and after, and missing statuses, are not seen".into()
        }
        LimitCode::AnswersElsewhere => {
            "what leaves is not seen on each guarded interface: it is not told where attempts fail".into()
        }
        LimitCode::Snat => {
            "something before this machine rewrites sources: Meta's connections can't be told from others"
                .into()
        }
        LimitCode::Proxy => {
            "connections come from a load balancer: what is lost before it is not seen".into()
        }
        LimitCode::Clock => {
            "times in messages lie in the future, or this machine's clock is not synchronised (`timedatectl`): do not rely on \
             lag"
                .into()
        }
        LimitCode::OneNumber => {
            "only one number, page or account is known: if it is quiet there is none to compare it with, and that is no stage"
                .into()
        }
        LimitCode::Sampled => "there were more attempts than can be followed: some were not counted".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn verdicts_on_events_are_estimates_in_words() {
        let text = |stage, cause: &str, lost, late| {
            let causes = BTreeMap::from([(cause.to_owned(), lost + late)]);
            let worst = StageReport { stage, unit: Unit::Events, lost, late, of: 100, causes };
            verdict(&worst, Some(0), &Sums::default()).text
        };
        for (text, begin, estimate) in [
            (
                text(Stage::Meta, "quiet", 40, 0),
                "meta: 40 of 100 events did not come (40.0 %), most of them (quiet) because a number, page or account is quiet",
                "(estimated",
            ),
            (
                text(Stage::Meta, "lag", 0, 7),
                "meta: 7 of 100 events came late (7.0 %), most of them (lag) because they came more than 5 minutes after",
                "although nothing of Meta's failed here in between, since 1970",
            ),
            (
                text(Stage::Inbound, "sent_missing", 7, 0),
                "inbound: 7 of 100 `sent` statuses were lost (7.0 %), most of them (sent_missing) because a later status",
                "(an estimate",
            ),
        ] {
            assert!(text.starts_with(begin) && text.contains(estimate), "{text}");
        }
    }
}
