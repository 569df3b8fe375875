//! The paragraph on top: what was measured where, what it proves, and what it can't show.

use super::document::{Document, Reader};
use crate::insight::{Report, Stage, Unit};
use crate::stats::{Counts, State};

/// Fewer prove nothing.
const ENOUGH: u64 = 5;

pub(super) fn summary(document: &Document) -> String {
    let lost = &document.lost;
    let worst = lost.verdict.as_ref().map(|verdict| (verdict.stage, verdict.unit));
    let proofs = worst.into_iter().chain(on_the_way(lost, worst));
    let proofs = proofs.map(|(stage, unit)| format!("Stage `{stage}`, {}", proof(stage, unit)));
    let sentences = [
        "hookgate is the relay that receives the webhooks of Meta Platforms (AS32934) at the addresses below and \
         forwards each to its receiver."
            .to_owned(),
        place(document),
        arrived(document),
        verdict(lost),
    ];
    let sentences = sentences.into_iter().chain(others(lost, worst)).chain(proofs).chain([
        "Not visible here: a packet that is lost before it reaches this machine leaves no trace on it, so the number of \
         attempts may be higher than counted."
            .to_owned(),
    ]);
    sentences.chain(forward_proxy(document)).collect::<Vec<_>>().join(" ")
}

/// Stages outside of this machine that lost attempts, beside the worst one.
fn on_the_way(lost: &Report, worst: Option<(Stage, Unit)>) -> impl Iterator<Item = (Stage, Unit)> {
    let stages = lost.stages.iter().filter(|stage| stage.sum() >= ENOUGH);
    let stages = stages.map(|stage| (stage.stage, stage.unit)).filter(move |stage| Some(*stage) != worst);
    stages.filter(|stage| matches!(stage, (Stage::Outbound | Stage::Inbound, Unit::Attempts)))
}

/// The other stages with losses.
fn others(lost: &Report, worst: Option<(Stage, Unit)>) -> Option<String> {
    let stages = lost.stages.iter().filter(|stage| {
        stage.sum() > 0 && Some((stage.stage, stage.unit)) != worst && stage.stage != Stage::After
    });
    let stages = stages.map(|stage| {
        let share = percent(stage.share());
        format!("`{}` ({} of {} {}, {share})", stage.stage, stage.sum(), stage.of, stage.unit.name())
    });
    let stages = stages.collect::<Vec<_>>().join(", ");
    (!stages.is_empty()).then(|| match worst {
        Some(_) => format!("Other stages with losses: {stages}."),
        None => format!("Stages with losses: {stages}."),
    })
}

/// Who counted what.
fn place(document: &Document) -> String {
    match document.guard.as_ref().filter(|guard| guard.state == State::Attached) {
        Some(guard) => {
            let names: Vec<_> =
                guard.interfaces.iter().map(|interface| format!("`{}`", interface.name)).collect();
            format!(
                "Packets from Meta's prefixes were counted at the network interface {}, before this machine's \
                 firewall; established connections by the kernel's TCP, requests by the relay itself.",
                names.join(", ")
            )
        }
        None => "Packets were not counted, since hookgate's guard is not attached: connections and requests \
                 were counted by the relay itself, once the kernel had established the connection."
            .into(),
    }
}

/// What came in the window.
fn arrived(document: &Document) -> String {
    let lost = &document.lost;
    let mut parts = Vec::new();
    let rows = document.window.iter().flat_map(|window| &window.prefixes);
    let counts: Vec<&Counts> = rows.map(|row| &row.counts).collect();
    let sum = |of: fn(&Counts) -> Option<u64>| counts.iter().filter_map(|counts| of(counts)).sum::<u64>();
    if counts.iter().any(|counts| counts.handshakes.is_some()) {
        parts.push(format!(
            "{} SYNs ({} of them repeated) arrived from Meta's prefixes, {} connections were established, and {} \
             attempts failed",
            sum(|counts| Some(counts.syns)),
            sum(|counts| counts.syns_retransmitted),
            sum(|counts| counts.handshakes),
            sum(|counts| counts.handshakes_failed)
        ));
    }
    let (posts, failed) = posts(lost);
    parts.push(format!(
        "{posts} POST requests arrived from Meta and from addresses that the operator allows, of which {failed} were \
         not answered with 200 in full"
    ));
    format!("Between {} and {} (UTC), {}.", lost.from, lost.to, parts.join("; "))
}

/// How many came, and how many of them were lost.
pub(super) fn posts(report: &Report) -> (u64, u64) {
    let stages = report.stages.iter().filter(|stage| stage.unit == Unit::Posts);
    let (all, lost): (Vec<u64>, Vec<u64>) = stages.map(|stage| (stage.of, stage.sum())).unzip();
    (all.into_iter().max().unwrap_or(0), lost.into_iter().sum())
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn verdict(lost: &Report) -> String {
    let Some(verdict) = &lost.verdict else {
        return "Of what arrived here, no stage lost a notable share.".into();
    };
    let since = verdict
        .since
        .as_ref()
        .map_or_else(|| "since before the figures begin".into(), |time| format!("since {time}"));
    format!(
        "The stage with the greatest share of losses is `{}`: {} of {} {} were lost and {} came late ({}), most \
         often with the cause `{}`, {since}.",
        verdict.stage,
        verdict.lost,
        verdict.of,
        verdict.unit.name(),
        verdict.late,
        percent(verdict.share),
        verdict.cause
    )
}

/// What the figures of a stage prove, and what they leave open.
fn proof(stage: Stage, unit: Unit) -> &'static str {
    match (stage, unit) {
        (Stage::Outbound, _) => {
            "proven: the SYNs reached this machine, its SYN-ACKs left through the interface, and the SYNs came again, so \
             Meta did not receive the answers in time. Not visible: at which hop behind the interface they were lost."
        }
        (Stage::Inbound, Unit::Attempts) => {
            "proven: the SYNs reached this machine and its SYN-ACKs left through the interface; nothing came after them. \
             Not visible: whether the SYN-ACK or what followed it was lost, and whether some of the source addresses \
             were forged."
        }
        (Stage::Inbound, _) => {
            "measured: a later status of a message arrived here and its status `sent` did not. That is an estimate: the \
             request with `sent` was lost before this machine, or never sent."
        }
        (Stage::Machine, Unit::Attempts) => {
            "proven: the packets reached the interface, and this machine itself did not complete the connections; the \
             network before it is not the cause of these."
        }
        (Stage::Machine, _) => {
            "proven: the requests reached this machine, and the relay ended while they were under way; the network is \
             not the cause of these."
        }
        (Stage::Tls, _) => {
            "proven: the connections were established, and their TLS handshakes ended without success. Not visible: \
             whether large packets are lost on the way, where a handshake ends without an alert."
        }
        (Stage::Client, _) => {
            "proven: the connections were established, and Meta's end closed them, or sent nothing more, before the \
             answer was written. Not visible: why."
        }
        (Stage::Meta, _) => {
            "measured: events came late although no request of Meta's had failed here since they happened, or the usual \
             events of a number did not come. Not visible: whether the delay arose inside Meta or on the way."
        }
        (Stage::Request, _) => {
            "proven: these requests arrived here, and the relay refused them; the network before this machine is not \
             the cause of these."
        }
        (Stage::Dns | Stage::Connect | Stage::UpstreamTls | Stage::Upstream | Stage::After, _) => {
            "proven: these requests arrived here, and failed on the way to the receiver behind the relay, or at it; \
             neither Meta nor the network before this machine is the cause of these."
        }
    }
}

fn forward_proxy(document: &Document) -> Option<String> {
    let products = document.messages.as_ref()?.products.as_ref()?;
    let named: u64 = products.iter().map(|row| row.fwdproxy).sum();
    (document.reader == Reader::Meta && named > 0).then(|| {
        format!(
            "Since the relay's ledger began, {named} POSTs of Meta's carried errors in which Meta itself names its forward proxy (fwdproxy)."
        )
    })
}
