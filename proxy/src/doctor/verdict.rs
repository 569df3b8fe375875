//! Where connections from one prefix are lost, in words, from how many got how far.

use super::finding::{Finding, Level};
use crate::guard::FailedBy;

/// What was counted of one prefix since the guard was attached; `None`: not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub syns: Option<u64>,
    pub syns_retransmitted: Option<u64>,
    pub handshakes: Option<u64>,
    pub handshakes_failed: Option<u64>,
    /// The same by reason, where that is known.
    pub failed_by: Option<FailedBy>,
    pub accepted: Option<u64>,
    pub tls_failed: Option<u64>,
    pub requests: Option<u64>,
    pub delivered: Option<u64>,
    pub refused: Option<u64>,
    pub failed: Option<u64>,
}

/// From here on a share is no accident.
const MANY_PERCENT: u64 = 5;
/// Fewer than these prove nothing.
const ENOUGH: u64 = 5;

/// The first step of the way at which a good part of the connections is lost. `None`: nothing came
/// from there.
pub fn verdict(prefix: &str, counts: &Counts) -> Option<Finding> {
    let came = counts.syns.unwrap_or(0) + counts.accepted.unwrap_or(0) + counts.requests.unwrap_or(0);
    if came == 0 {
        return None;
    }
    let steps = [network, acceptance, handshake_tls, relay];
    let lost = steps.iter().find_map(|step| step(counts));
    let seen = seen(counts);
    Some(match lost {
        None => Finding::ok(prefix, seen),
        Some(Lost { level, where_to, next }) => {
            Finding::wrong(level, prefix, format!("{seen}: {where_to}"), next)
        }
    })
}

struct Lost {
    level: Level,
    where_to: &'static str,
    next: &'static str,
}

/// `212 SYNs, 40 % retransmitted, 31 handshakes never completed`, and how far the others came.
fn seen(counts: &Counts) -> String {
    let syns = counts.syns.unwrap_or(0);
    let mut parts = Vec::new();
    if syns > 0 {
        parts.push(count(syns, "SYN", "SYNs"));
    }
    if let Some(retransmitted) = counts.syns_retransmitted.filter(|n| *n > 0) {
        parts.push(format!("{} % retransmitted", percent(retransmitted, syns)));
    }
    match (counts.handshakes, unfinished(counts)) {
        (_, Some(failed)) if failed > 0 => {
            parts.push(format!("{} never completed", count(failed, "handshake", "handshakes")));
        }
        (Some(completed), _) if completed > 0 => {
            parts.push(format!("{} completed", count(completed, "handshake", "handshakes")))
        }
        _ => {}
    }
    if let Some(reset) = counts.failed_by.map(|by| by.reset).filter(|n| *n > 0) {
        parts.push(format!("{} reset by the other end", count(reset, "attempt", "attempts")));
    }
    if let Some(failed) = counts.tls_failed.filter(|n| *n > 0) {
        parts.push(format!("{} failed in TLS", count(failed, "connection", "connections")));
    }
    if let Some(requests) = counts.requests {
        parts.push(count(requests, "request", "requests"));
    }
    for (number, what) in
        [(counts.delivered, "delivered"), (counts.refused, "refused"), (counts.failed, "failed")]
    {
        parts.extend(number.filter(|n| *n > 0 || what == "delivered").map(|n| format!("{n} {what}")));
    }
    parts.join(", ")
}

/// SYNs that come again, and handshakes that are not completed.
fn network(counts: &Counts) -> Option<Lost> {
    let syns = counts.syns?;
    let again = is_many(counts.syns_retransmitted, syns);
    let completed = counts.handshakes.unwrap_or(0);
    let unfinished = unfinished(counts).is_some_and(|failed| is_many(Some(failed), failed + completed));
    if let Some(by) = counts.failed_by.filter(|_| unfinished) {
        return Some(largest(&by));
    }
    let silent = counts.handshakes == Some(0) && unfinished;
    if silent {
        return Some(Lost {
            level: Level::Fail,
            where_to: "no handshake completes: this machine does not answer, or its answers never reach Meta",
            next: "does the proxy run, and does a firewall here or at the provider drop the answers?",
        });
    }
    match (again, unfinished) {
        (_, true) => Some(Lost {
            level: Level::Fail,
            // A SYN that was counted has arrived: what follows it is lost here or on the way back.
            where_to: "SYNs arrive here whose handshakes are not completed: this machine does not answer them, or its \
                       answers do not reach Meta",
            next: "does this machine drop them (`nstat -az TcpExtListenOverflows TcpExtListenDrops`, `nft list ruleset`, \
                   `dmesg | grep conntrack`)? if not, its answers are lost behind it: show this to your provider",
        }),
        (true, false) => Some(Lost {
            level: Level::Warn,
            where_to: "SYNs come again before they are answered, or their answers are lost on the way to Meta; the \
                       handshakes complete in the end",
            next: "watch it with `hookgate stats`; deliveries are late, not lost",
        }),
        (false, false) => None,
    }
}

/// Handshakes that failed, without those that the other end has reset: a client that tries two
/// addresses at once resets the slower attempt, and a forged address resets the answer.
fn unfinished(counts: &Counts) -> Option<u64> {
    let reset = counts.failed_by.map_or(0, |by| by.reset);
    counts.handshakes_failed.map(|failed| failed.saturating_sub(reset))
}

/// What most failed handshakes have in common. Every SYN among them has arrived: nothing is said of
/// what lies before this machine but where an answer was.
fn largest(by: &FailedBy) -> Lost {
    let refused = Lost {
        level: Level::Fail,
        where_to: "most failed handshakes were refused by this machine, with a RST",
        next: "does the proxy listen there (`ss -ltn`)? otherwise a firewall of this machine rejects them (`nft list ruleset`)",
    };
    let uncompleted = Lost {
        level: Level::Fail,
        where_to: "in most failed handshakes Meta's last packet arrived, and this machine did not complete them",
        next: "is the proxy's queue full (`nstat -az TcpExtListenOverflows TcpExtListenDrops`, `hookgate health`), or does \
               a firewall of this machine drop the packet (`nft list ruleset`, `dmesg | grep conntrack`)?",
    };
    let unheard = Lost {
        level: Level::Fail,
        where_to: "most failed handshakes were answered, and Meta sent its SYN again: the answers are lost on the way \
                   out, behind this machine's interface",
        next: "look for the answers (SYN-ACK) one step further out: at the router, NAT or firewall before this machine, \
               then ask the operator of the next network",
    };
    let silent = Lost {
        // Forged addresses look the same.
        level: Level::Warn,
        where_to: "most failed handshakes were answered, and nothing came after: the answer or what follows it is lost \
                   outside, or the senders' addresses are forged",
        next: "are deliveries missing (`hookgate deliveries`)? if so, look for the answers (SYN-ACK) one step further out; if \
               not, nothing is lost",
    };
    let unanswered = Lost {
        level: Level::Fail,
        where_to: "the SYNs of most failed handshakes arrived here, and this machine sent no answer",
        next: "does a firewall of this machine drop them (`nft list ruleset`, `dmesg | grep conntrack`), or is the proxy's \
               queue full (`nstat -az TcpExtListenOverflows TcpExtListenDrops`)?",
    };
    let classes = [
        (by.refused, refused),
        (by.uncompleted, uncompleted),
        (by.unheard, unheard),
        (by.silent, silent),
        (by.unanswered, unanswered),
    ];
    let first = Lost { level: Level::Ok, where_to: "", next: "" };
    // Of equal ones the first.
    let most = |most: (u64, Lost), next: (u64, Lost)| if next.0 > most.0 { next } else { most };
    classes.into_iter().fold((0, first), most).1
}

/// Connections that the kernel has and the proxy never took.
fn acceptance(counts: &Counts) -> Option<Lost> {
    let (handshakes, accepted) = (counts.handshakes?, counts.accepted?);
    is_many(Some(handshakes.saturating_sub(accepted)), handshakes).then_some(Lost {
        level: Level::Fail,
        where_to: "connections complete that the proxy never accepts",
        next: "does it run? `hookgate_refused_total` in the metrics says what it turned away and why",
    })
}

fn handshake_tls(counts: &Counts) -> Option<Lost> {
    let (accepted, failed) = (counts.accepted?, counts.tls_failed?);
    is_many(Some(failed), accepted).then_some(Lost {
        level: Level::Fail,
        where_to: "TLS fails",
        next: "is the certificate valid for the callback URL's name, with its whole chain (fullchain.pem)?",
    })
}

fn relay(counts: &Counts) -> Option<Lost> {
    let requests = counts.requests?;
    if is_many(counts.failed, requests) {
        return Some(Lost {
            level: Level::Fail,
            where_to: "requests arrive, but their upstream does not take them with 200",
            next: "`hookgate deliveries --failed` and `hookgate probe HOST` show which and why",
        });
    }
    is_many(counts.refused, requests).then_some(Lost {
        level: Level::Warn,
        where_to: "requests arrive that hookgate refuses",
        next: "is the callback URL's host in [upstreams]? `hookgate deliveries --failed` shows them",
    })
}

fn is_many(part: Option<u64>, whole: u64) -> bool {
    part.is_some_and(|part| whole >= ENOUGH && percent(part, whole) >= MANY_PERCENT)
}

/// Rounded down, but never to 0 what is not nothing.
fn percent(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    if part > 0 { share.max(1) } else { 0 }
}

fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "57.144.0.0/14";

    /// By field, in the order of the way; `-` is not counted.
    fn counts(text: &str) -> Counts {
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Counts {
            syns: next(),
            syns_retransmitted: next(),
            handshakes: next(),
            handshakes_failed: next(),
            failed_by: None,
            accepted: next(),
            tls_failed: next(),
            requests: next(),
            delivered: next(),
            refused: next(),
            failed: next(),
        }
    }

    #[test]
    fn the_first_step_with_losses_is_named() {
        const LOST: &str = "SYNs arrive here whose handshakes are not completed: this machine does not answer them, or \
                            its answers do not reach Meta";
        const LATE: &str = "SYNs come again before they are answered, or their answers are lost on the way to Meta; the \
                            handshakes complete in the end";
        // SYNs, again, handshakes, failed; accepted, failed in TLS; requests, delivered, refused,
        // failed
        for (numbers, level, expected) in [
            ("212 85 96 31", Level::Fail, format!("212 SYNs, 40 % retransmitted, 31 handshakes never completed: {LOST}")),
            ("212 85 127 0", Level::Warn, format!("212 SYNs, 40 % retransmitted, 127 handshakes completed: {LATE}")),
            (
                "90 60 0 30",
                Level::Fail,
                "90 SYNs, 66 % retransmitted, 30 handshakes never completed: no handshake completes: this machine \
                 does not answer, or its answers never reach Meta"
                    .into(),
            ),
            (
                "100 0 100 0 60 0 60 60 0 0",
                Level::Fail,
                "100 SYNs, 100 handshakes completed, 60 requests, 60 delivered: connections complete that the proxy \
                 never accepts"
                    .into(),
            ),
            (
                "100 0 100 0 100 20 80 80 0 0",
                Level::Fail,
                "100 SYNs, 100 handshakes completed, 20 connections failed in TLS, 80 requests, 80 delivered: TLS \
                 fails"
                    .into(),
            ),
            (
                "100 0 100 0 100 0 200 150 0 50",
                Level::Fail,
                "100 SYNs, 100 handshakes completed, 200 requests, 150 delivered, 50 failed: requests arrive, but \
                 their upstream does not take them with 200"
                    .into(),
            ),
            (
                "100 0 100 0 100 0 200 150 50 0",
                Level::Warn,
                "100 SYNs, 100 handshakes completed, 200 requests, 150 delivered, 50 refused: requests arrive that \
                 hookgate refuses"
                    .into(),
            ),
            // Nothing to complain of: all is well, or too little to tell.
            (
                "100 2 99 1 99 0 990 988 1 1",
                Level::Ok,
                "100 SYNs, 2 % retransmitted, 1 handshake never completed, 990 requests, 988 delivered, 1 refused, 1 \
                 failed"
                    .into(),
            ),
            ("1 0 1 0 1 0 1 1 0 0", Level::Ok, "1 SYN, 1 handshake completed, 1 request, 1 delivered".into()),
            ("4 3 1 0", Level::Ok, "4 SYNs, 75 % retransmitted, 1 handshake completed".into()),
            ("1000 1 - -", Level::Ok, "1000 SYNs, 1 % retransmitted".into()),
            // Without a guard the proxy's counts are all there is.
            (
                "0 - - - 20 0 20 20 0 0",
                Level::Ok,
                "20 requests, 20 delivered".into(),
            ),
            // What is not counted is not held against anybody.
            ("50 - - - - - - - - -", Level::Ok, "50 SYNs".into()),
            ("50 0 50 0 - - 50 0 0 50", Level::Fail, "50 SYNs, 50 handshakes completed, 50 requests, 0 delivered, 50 \
                 failed: requests arrive, but their upstream does not take them with 200".into()),
        ] {
            let finding = verdict(PREFIX, &counts(numbers)).unwrap();
            assert_eq!((finding.level, &*finding.text), (level, &*expected), "{numbers}");
            assert_eq!(finding.next.is_some(), level != Level::Ok);
        }
        let finding = verdict(PREFIX, &counts("212 85 96 31")).unwrap();
        let line = "fail  57.144.0.0/14: 212 SYNs, 40 % retransmitted, 31 handshakes never completed: ";
        assert!(finding.to_string().starts_with(line), "{finding}");
    }

    #[test]
    fn the_largest_class_of_failed_handshakes_is_named() {
        let classes = |counts: [u64; 6]| {
            let [reset, refused, uncompleted, unheard, silent, unanswered] = counts;
            FailedBy { reset, refused, uncompleted, unheard, silent, unanswered }
        };
        for (by, level, expected, next) in [
            ([0, 20, 1, 1, 1, 1], Level::Fail, "refused by this machine", "ss -ltn"),
            ([0, 1, 20, 1, 1, 1], Level::Fail, "did not complete them", "ListenOverflows"),
            ([0, 1, 1, 20, 1, 1], Level::Fail, "answers are lost on the way out", "one step further out"),
            ([0, 1, 1, 1, 20, 1], Level::Warn, "nothing came after", "deliveries"),
            ([0, 1, 1, 1, 1, 20], Level::Fail, "this machine sent no answer", "nft list ruleset"),
            (
                [50, 20, 1, 1, 1, 1],
                Level::Fail,
                "24 handshakes never completed, 50 attempts reset by",
                "ss -ltn",
            ),
        ] {
            let failed = Some(by.iter().sum());
            let counts = Counts {
                handshakes_failed: failed,
                failed_by: Some(classes(by)),
                ..counts("200 0 100 - 100 0 100 100 0 0")
            };
            let finding = verdict(PREFIX, &counts).unwrap();
            assert_eq!(finding.level, level, "{finding}");
            assert!(finding.text.contains(expected), "{finding}");
            assert!(finding.next.as_deref().unwrap_or_default().contains(next), "{finding}");
            assert!(!finding.to_string().contains("provider"), "{finding}");
        }
        // The slower of two attempts each is no loss.
        let reset = Counts {
            handshakes_failed: Some(100),
            failed_by: Some(classes([100, 0, 0, 0, 0, 0])),
            ..counts("200 0 100 - 100 0 100 100 0 0")
        };
        let finding = verdict(PREFIX, &reset).unwrap();
        assert_eq!(finding.level, Level::Ok, "{finding}");
        assert!(finding.text.contains("100 attempts reset by the other end"), "{finding}");
    }

    #[test]
    fn without_traffic_there_is_no_verdict() {
        assert_eq!(verdict(PREFIX, &counts("0 0 0 0")), None);
        assert_eq!(verdict(PREFIX, &Counts::default()), None);
    }
}
