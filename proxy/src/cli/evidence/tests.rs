use serde_json::{Value, json};

use super::document::{
    Document, Interface, Listener, Messages, MessagesWindow, Name, Reader, Source, Upstream,
};
use super::markdown::text;
use crate::insight::Report;
use crate::messages::{NumberRow, ProductRow};
use crate::stats::Document as Stats;

const UPSTREAM: &str = "tenant.example";
const PAGE_ID: &str = "104999000111222";

fn counts(more: Value) -> Value {
    let mut counts = json!({
        "packets": 212, "bytes": 31004, "syns": 12, "syns_retransmitted": 1, "handshakes": 10, "handshakes_failed": 2,
        "failed_by": { "reset": 0, "refused": 0, "uncompleted": 0, "unheard": 2, "silent": 0, "unanswered": 0 },
        "rtt_seconds": { "p50": 0.131072, "p90": 0.131072, "p99": null }, "segments_retransmitted": 3, "rtos": 1,
        "kernel_drops": { "netfilter_drop": 2 }, "last_seen": "2026-11-24T15:59:58Z",
        "accepted": 10, "tls": 10, "tls_failed": 0, "requests": 31, "delivered": 30, "refused": 0, "failed": 1
    });
    let fields = counts.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    counts
}

fn stats() -> Stats {
    let stats = json!({
        "version": 1, "taken": "2026-11-24T16:00:00Z",
        "guard": { "state": "attached", "mode": "observe", "since": "2026-11-24T09:00:00Z",
                   "interfaces": [{ "name": "eth0", "xdp": "native" }] },
        "prefixes": [counts(json!({ "prefix": "157.240.0.0/17" }))],
        "other": counts(json!({})),
        "seen": [counts(json!({ "network": "157.240.1.0/24", "prefix": "157.240.0.0/17", "proven": true }))],
        "kernel": { "listen_overflows": 0, "listen_drops": 4 }
    });
    serde_json::from_value(stats).unwrap()
}

fn lost() -> Report {
    let report = json!({
        "version": 1, "taken": "2026-11-24T16:00:00Z", "from": "2026-11-24T15:00:00Z", "to": "2026-11-24T16:00:00Z",
        "verdict": { "stage": "outbound", "unit": "attempts", "share": 0.2, "lost": 2, "late": 0, "of": 10,
                     "cause": "unheard", "since": "2026-11-24T15:30:00Z", "text": "outbound: 2 of 10", "next": "look" },
        "stages": [
            { "stage": "outbound", "unit": "attempts", "lost": 2, "late": 0, "of": 10, "causes": { "unheard": 2 } },
            { "stage": "upstream", "unit": "posts", "lost": 3, "late": 0, "of": 31, "causes": { "500": 3 } }
        ],
        "not_counted": { "reset": 7, "unproven": 0 },
        "limits": [{ "code": "sampled", "text": "some were not counted" }]
    });
    serde_json::from_value(report).unwrap()
}

fn messages() -> Messages {
    let product = json!({
        "product": "whatsapp", "outcomes": { "delivered": 30, "recovered": 2 }, "outstanding": 1, "fwdproxy": 4,
        "recovered_seconds": { "p50": 60, "p90": 60, "p99": 300 }, "lag_seconds": { "p50": 1, "p90": 2, "p99": null },
        "chains": { "complete": 9, "sent_missing": 1 }
    });
    let product: ProductRow = serde_json::from_value(product).unwrap();
    let window =
        MessagesWindow { events: 32, lag_seconds: Some(1.25), lagged: 30, ..MessagesWindow::default() };
    Messages { window, products: Some(vec![product]) }
}

fn document(reader: Reader, upstream: Option<Upstream>) -> Document {
    let counted = |stats: Stats| super::gather::counted(Some("2026-11-24T15:00:00Z".into()), stats);
    let status = json!({
        "since": "2026-11-24T09:00:00Z", "listeners": [], "certificates": [],
        "failures": [{ "path": "/tenant.example/secret?hub.verify_token=t0ken" }],
        "upstreams": { "unlisted": 2, "list": [
            { "upstream": UPSTREAM, "codes": { "200": 28, "500": 2 } },
            { "upstream": "other.example", "codes": { "200": 1 } }
        ] }
    });
    Document {
        version: Document::VERSION,
        reader,
        hookgate: "0.2.0".into(),
        taken: "2026-11-24T16:00:00Z".into(),
        from: "2026-11-24T15:00:00Z".into(),
        to: "2026-11-24T16:00:00Z".into(),
        source: Source::Proxy,
        clock_synchronised: Some(false),
        listeners: vec![Listener { address: "0.0.0.0:443".into(), protocol: "https".into() }],
        interfaces: vec![Interface { name: "eth0".into(), addresses: vec!["9.9.9.9".into()] }],
        names: vec![Name {
            name: "proxy.example.com".into(),
            addresses: vec!["9.9.9.9".into()],
            error: None,
        }],
        guard: Some(stats().guard),
        window: Some(counted(stats())),
        since_attach: Some(counted(stats())),
        lost: lost(),
        upstream,
        messages: (reader == Reader::Meta).then(messages),
        answers: (reader == Reader::Meta).then(|| super::gather::answers_of(status)),
        unavailable: vec!["the weather: a | b".into()],
    }
}

fn tenant() -> Upstream {
    let numbers = vec![NumberRow::new(PAGE_ID, 1_790_000_000, None)];
    Upstream { host: UPSTREAM.into(), lost: Some(lost()), numbers }
}

#[test]
fn a_tenant_is_named_only_where_it_is_asked_for() {
    for reader in [Reader::Provider, Reader::Meta] {
        let unnamed = document(reader, None);
        let named = document(reader, Some(tenant()));
        let all = |document: &Document| text(document) + &serde_json::to_string(document).unwrap();
        for secret in [UPSTREAM, PAGE_ID, "other.example", "secret", "t0ken"] {
            assert!(!all(&unnamed).contains(secret), "{secret}");
        }
        assert!(all(&named).contains(UPSTREAM) && all(&named).contains(PAGE_ID));
        assert!(!all(&named).contains("other.example") && !all(&named).contains("t0ken"));
    }
}

#[test]
fn the_text_begins_with_what_a_reader_has_to_know() {
    let text = text(&document(Reader::Meta, None));
    let summary = text.lines().nth(2).unwrap();
    for part in [
        "Meta Platforms (AS32934)",
        "at the network interface `eth0`",
        "Between 2026-11-24T15:00:00Z and 2026-11-24T16:00:00Z (UTC), 12 SYNs (1 of them repeated)",
        "10 connections were established, and 2 attempts failed; 31 POST requests arrived",
        "of which 3 were not answered with 200",
        "`outbound`: 2 of 10 attempts were lost and 0 came late (20.0 %), most often with the cause `unheard`, since \
         2026-11-24T15:30:00Z.",
        "Stage `outbound`, proven: the SYNs reached this machine",
        "Other stages with losses: `upstream` (3 of 31 posts, 9.7 %).",
        "Not visible here: ",
        "4 POSTs of Meta's carried errors in which Meta itself names its forward proxy (fwdproxy).",
    ] {
        assert!(summary.contains(part), "{part}\n{summary}");
    }
}

#[test]
fn figures_have_their_rows() {
    let text = text(&document(Reader::Meta, None));
    for part in [
        "| Clock of this machine | not synchronised: times may be off |",
        "| interface eth0 | `9.9.9.9` |",
        "| 157.240.0.0/17 | 12 | 1 | 10 | 2 | unheard: 2 | netfilter_drop: 2 | 31 | 30 |",
        "| 157.240.0.0/17 | 131.1 / 131.1 / - ms | - | 3 | 1 | netfilter_drop: 2 |",
        "| 157.240.1.0/24 | 12 | 1 | 10 | 2 | unheard: 2 | 2026-11-24T15:59:58Z |",
        "listen queue overflows 0, drops at listeners 4.\n",
        "| upstream | posts | 3 | 0 | 31 | 9.7 % | 500: 3 |",
        "| lag (arrival - time of the event) | 1.2 s in the mean of 30 events |",
        "| whatsapp | delivered: 30, recovered: 2 | 1 | 1 / 2 / - s | 60 / 60 / 300 s | complete: 9, sent_missing: 1 | 4 |",
        "28 of 31 POSTs were answered with 200 in full. The others, by status or cause: 500: 3.",
        "by status: 200: 29, 500: 2. 2 upstreams with few requests are left out.",
        "- some were not counted\n- the weather: a | b",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_provider_is_told_nothing_of_messages() {
    let text = text(&document(Reader::Provider, None));
    for part in ["fwdproxy", "## Our answers", "## Events"] {
        assert!(!text.contains(part), "{part}");
    }
}

#[test]
fn what_is_not_counted_is_no_zero() {
    let mut bare = document(Reader::Provider, None);
    bare.guard = None;
    bare.since_attach = None;
    let counts = &mut bare.window.as_mut().unwrap().prefixes[0].counts;
    (counts.handshakes, counts.handshakes_failed, counts.failed_by) = (None, None, None);
    (counts.syns_retransmitted, counts.kernel_drops) = (None, None);
    let text = text(&bare);
    assert!(text.contains("| 157.240.0.0/17 | - | - | - | - | - | - | 31 | 30 |"), "{text}");
    assert!(text.contains("Packets were not counted"), "{text}");
    assert!(!text.contains("12 SYNs"), "{text}");
}
