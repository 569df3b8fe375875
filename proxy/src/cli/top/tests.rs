use std::time::Duration;

use super::screen::{Order, View, draw};
use crate::config::Mode;
use crate::insight::{Chart, Point};
use crate::stats::{Counts, Document, Funnel, Guard, Interface, Live, Prefix, State};

/// What prefixes have after `seconds`: the first one 10 SYNs a second, of which one in five is
/// repeated.
fn document(seconds: u64) -> Document {
    let counts = |scale: u64| Counts {
        packets: seconds * 100 * scale,
        bytes: seconds * 9_000 * scale,
        syns: seconds * 10 * scale,
        syns_retransmitted: Some(seconds * 2 * scale),
        handshakes: Some(seconds * 7 * scale),
        handshakes_failed: Some(seconds * scale),
        failed_by: None,
        unproven: None,
        suspect: None,
        rtt_seconds: None,
        established_seconds: None,
        segments_retransmitted: None,
        rtos: None,
        kernel_drops: None,
        untracked: Some(0),
        fins: Some(0),
        rsts: Some(0),
        dropped: Some(0),
        dropped_by: None,
        last_seen: Some("2026-11-24T16:00:00Z".into()),
        funnel: Some(Funnel {
            accepted: seconds * 7 * scale,
            tls: seconds * 7 * scale,
            requests: seconds * 20 * scale,
            delivered: seconds * 19 * scale,
            failed: seconds * scale,
            ..Funnel::default()
        }),
    };
    let row = |text: &str, scale| Prefix { prefix: text.parse().unwrap(), counts: counts(scale) };
    Document {
        version: 1,
        taken: "2026-11-24T16:00:00Z".into(),
        from: None,
        to: None,
        guard: Guard {
            state: State::Attached,
            mode: Mode::Observe,
            since: Some("2026-11-24T09:00:00Z".into()),
            interfaces: vec![Interface { name: "eth0".into(), xdp: "native".into(), reason: None }],
            handshakes_uncounted: None,
            failures_unclassified: None,
            kernel_drops_uncounted: None,
            sampled: Vec::new(),
        },
        prefixes: (0..40)
            .map(|n| row(&format!("57.{}.0.0/16", 100 + n), n))
            .chain([row("2a03:2880:f123::/48", 100)])
            .collect(),
        other: counts(0),
        seen: None,
        hidden_sources: None,
        tls_groups: None,
        kernel: None,
    }
}

fn live() -> Live {
    let mut live = Live::default();
    for second in 0..20 {
        live.push(document(second), Duration::from_secs(1));
    }
    live
}

fn text(view: &View, width: usize, height: usize) -> Vec<String> {
    draw(&live(), view, width, height).into_iter().map(|line| line.text).collect()
}

#[test]
fn every_size_is_filled_and_never_exceeded() {
    for funnel in [false, true] {
        for (width, height) in [(80, 24), (80, 1), (1, 24), (20, 5), (200, 60), (0, 0)] {
            let view = View { funnel, ..View::default() };
            let lines = text(&view, width, height);
            assert_eq!(lines.len(), height.max(1));
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
        }
    }
}

#[test]
fn a_terminal_of_80_by_24_shows_rates_and_sparklines() {
    let lines = text(&View::default(), 80, 24);
    assert!(lines[0].contains("attached to eth0 (native)"), "{}", lines[0]);
    let first = &lines[3];
    assert!(first.starts_with("2a03:2880:f123::/48   1000.0 █████████████   88%"), "{first}");
    assert!(first.ends_with("2000.0     95%"), "{first}");
    assert!(lines[23].starts_with("q quit"));
}

#[test]
fn the_chosen_row_is_marked_and_always_on_the_screen() {
    for chosen in [0, 7, 39, 1000] {
        let view = View { chosen, ..View::default() };
        let lines = draw(&live(), &view, 80, 24);
        assert_eq!(lines.iter().filter(|line| line.marked).count(), 1, "{chosen}");
    }
}

#[test]
fn the_funnel_shows_every_step_with_its_share() {
    let lines = text(&View { funnel: true, ..View::default() }, 80, 24);
    let of = |name: &str| lines.iter().find(|line| line.trim_start().starts_with(name)).unwrap().clone();
    for (name, count, share) in [
        ("SYNs", "19000", "-"),
        ("- retransmitted", "3800", "20%"),
        ("handshakes", "13300", "88%"),
        ("- never completed", "1900", "12%"),
        ("delivered", "36100", "95%"),
        ("- failed", "1900", "5%"),
    ] {
        let line = of(name);
        let mut words = line.split_whitespace().skip(name.split(' ').count());
        assert_eq!((words.next(), words.next()), (Some(count), Some(share)), "{line}");
    }
}

#[test]
fn rows_come_in_the_chosen_order() {
    for (order, first) in [
        (Order::Syns, "2a03:2880:f123::/48"),
        (Order::Bytes, "2a03:2880:f123::/48"),
        (Order::Lost, "2a03:2880:f123::/48"),
        (Order::Prefix, "57.101.0.0/16"),
    ] {
        let lines = text(&View { order, ..View::default() }, 80, 24);
        assert!(lines[3].starts_with(first), "{order:?}: {}", lines[3]);
    }
}

#[test]
fn the_last_hour_has_a_line() {
    let point = |attempts_lost| Point { attempts: 20, attempts_lost, posts: 100, ..Point::default() };
    let hour = Chart {
        version: 1,
        from: "2026-11-24T15:00:00Z".into(),
        to: "2026-11-24T16:00:00Z".into(),
        step_seconds: 60,
        points: vec![point(0), point(20), point(0)],
    };
    let mut live = Live::default();
    live.push(document(1), Duration::ZERO);
    let lines = draw(&live, &View { hour: Some(hour), ..View::default() }, 200, 20);
    let line = lines.iter().find(|line| line.text.starts_with("last hour")).unwrap();
    assert!(line.text.starts_with("last hour  lost 20 of 60 attempts, 0 of 300 POSTs"), "{line:?}");
}
