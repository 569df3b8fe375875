mod plan;

use std::fs::File;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::file::MAX_UNSEEN_SECONDS;
use super::*;
use crate::messages::{ChainStep, Number, Observation, ProductRow};

const EVENTS: usize = 1000;
const BEGIN: i64 = 1_790_000_000;
const UPSTREAM: &str = "a.example";

fn file(events: usize) -> File {
    let file = memfd_create("ledger", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, ledger_bytes(events)).unwrap();
    file.into()
}

fn open(file: &File, events: usize, now: i64) -> Ledger {
    let ledger = LedgerFile::open(file, events).unwrap();
    assert!(ledger.claim(7, now));
    ledger.read(7, now).unwrap()
}

fn key(number: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    key[8..].copy_from_slice(&number.to_le_bytes());
    Key(key)
}

fn event(number: u64) -> Event {
    Event {
        key: key(number),
        kind: Kind::Message,
        has_id: true,
        chain: None,
        happened: None,
        sent: None,
        number: None,
        without_number: false,
    }
}

fn report(events: Vec<Event>, is_delivered: bool, now: i64) -> Report {
    let observation = Observation { product: Product::WhatsApp, events, ..Observation::default() };
    let (arrived, ended) = (now * 1000, now * 1000);
    Report { upstream: UPSTREAM.into(), observation, is_delivered, arrived, ended, ..Report::default() }
}

fn status(number: u64, step: ChainStep) -> Event {
    let chain = Some(Chain { key: key(number), step });
    let kind = Kind::Status;
    Event { kind, chain, number: Some(0), ..event(number * 10 + u64::from(step == ChainStep::Later)) }
}

fn status_report(event: Event, is_delivered: bool, now: i64) -> Report {
    let mut report = report(vec![event], is_delivered, now);
    report.observation.numbers = vec![Number::new(b"551").unwrap()];
    report
}

/// Of the one upstream: how its events ended, and how many are outstanding.
fn outcomes(ledger: &Ledger) -> ([u64; 5], u64) {
    let document = ledger.document(None, jiff::Timestamp::from_second(BEGIN).unwrap());
    let row = &document.upstreams[0];
    (Outcome::ALL.map(|outcome| row.outcomes[outcome.name()]), row.outstanding)
}

fn chains(ledger: &Ledger) -> [u64; 3] {
    let document = ledger.document(None, jiff::Timestamp::from_second(BEGIN).unwrap());
    ChainEnd::ALL.map(|end| document.upstreams[0].chains[end.name()])
}

/// As the ledger's owner does it, without a gap.
fn pass(ledger: &mut Ledger, from: i64, to: i64) {
    (from..=to).step_by(600).for_each(|now| ledger.pass(now));
    ledger.pass(to);
}

#[test]
fn an_event_has_the_outcome_of_its_posts() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    ledger.add(&report(vec![event(1), event(1), event(2)], true, BEGIN), 0);
    ledger.add(&report(vec![event(3), event(4)], false, BEGIN), 0);
    ledger.add(&report(vec![event(3)], false, BEGIN + 10), 0);
    assert_eq!(outcomes(&ledger), ([2, 0, 0, 0, 0], 2));
    ledger.add(&report(vec![event(3)], true, BEGIN + 70), 0);
    ledger.add(&report(vec![event(3)], true, BEGIN + 80), 0);
    ledger.add(&report(vec![event(1)], false, BEGIN + 80), 0);
    assert_eq!(outcomes(&ledger), ([2, 1, 0, 0, 2], 1));
    let document = ledger.document(Some(UPSTREAM), jiff::Timestamp::from_second(BEGIN).unwrap());
    assert_eq!(document.upstreams[0].batches, 2);
    assert_eq!(document.upstreams[0].recovered_seconds.p50, Some(300));
    assert!(ledger.document(Some("b.example"), document.taken).upstreams.is_empty());
}

#[test]
fn nothing_is_forgotten_with_the_process() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    ledger.add(&report(vec![event(1)], true, BEGIN), 0);
    ledger.add(&report(vec![event(2)], false, BEGIN), 0);
    // Killed: nothing is written when it goes.
    drop(ledger);
    let mut ledger = open(&file, EVENTS, BEGIN + 2);
    assert_eq!(outcomes(&ledger), ([1, 0, 0, 0, 0], 1));
    ledger.add(&report(vec![event(1), event(2)], true, BEGIN + 2), 0);
    assert_eq!(outcomes(&ledger), ([1, 1, 0, 0, 1], 0));
}

#[test]
fn what_does_not_come_again_is_lost_or_unknown() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    let failed = BEGIN + 60;
    let without_id = Event { has_id: false, ..event(2) };
    ledger.add(&report(vec![event(1), without_id], false, failed), 0);
    pass(&mut ledger, failed, failed + WHATSAPP_RETRIES - 60);
    assert_eq!(outcomes(&ledger), ([0; 5], 2));
    pass(&mut ledger, failed + WHATSAPP_RETRIES - 60, failed + WHATSAPP_RETRIES + 60);
    assert_eq!(outcomes(&ledger), ([0, 0, 1, 1, 0], 0));
    // Too late to change what was told.
    ledger.add(&report(vec![event(1)], true, failed + WHATSAPP_RETRIES + 60), 0);
    assert_eq!(outcomes(&ledger), ([0, 0, 1, 1, 0], 0));
}

#[test]
fn a_gap_makes_what_is_missing_unknown() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    ledger.add(&report(vec![event(1)], false, BEGIN), 0);
    drop(ledger);
    let back = BEGIN + 100;
    let mut ledger = open(&file, EVENTS, back);
    pass(&mut ledger, back, back + WHATSAPP_RETRIES);
    assert_eq!(outcomes(&ledger), ([0, 0, 0, 1, 0], 0));
}

#[test]
fn the_oldest_settled_event_gives_way_and_outstanding_ones_stay() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    for number in 0..100 {
        ledger.add(&report(vec![event(number)], false, BEGIN), 0);
    }
    let later = BEGIN + 1000;
    for number in 100..100 + 3 * EVENTS as u64 {
        ledger.add(&report(vec![event(number)], true, later + number as i64), 0);
    }
    assert_eq!(outcomes(&ledger), ([3 * EVENTS as u64, 0, 0, 0, 0], 100));
    let now = later + 100 + 3 * EVENTS as i64;
    let document = ledger.document(None, jiff::Timestamp::from_second(now).unwrap());
    assert_eq!(document.horizon_seconds, EVENTS as i64 - 100);
    // The last that is kept is a duplicate, the one before is not known any more.
    ledger.add(&report(vec![event(3 * EVENTS as u64 + 99)], true, now), 0);
    ledger.add(&report(vec![event(100)], true, now), 0);
    ledger.add(&report((0..100).map(event).collect(), true, now), 0);
    assert_eq!(outcomes(&ledger), ([3 * EVENTS as u64 + 1, 100, 0, 0, 1], 0));
}

#[test]
fn a_ledger_that_is_full_of_outstanding_events_gives_up_the_oldest() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    for number in 0..2 * EVENTS as u64 {
        ledger.add(&report(vec![event(number)], false, BEGIN), 0);
    }
    let (counts, outstanding) = outcomes(&ledger);
    assert_eq!(counts[Outcome::Unknown as usize] + outstanding, 2 * EVENTS as u64);
    assert!(outstanding as usize > EVENTS * 9 / 10, "{outstanding}");
    let reread = open(&file, EVENTS, BEGIN);
    assert_eq!(outcomes(&reread), (counts, outstanding));
}

#[test]
fn a_later_status_without_sent_is_missing_after_two_hours() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    // The number's first hours here say nothing.
    ledger.add(&status_report(status(1, ChainStep::Later), true, BEGIN), 0);
    let known = BEGIN + CHAIN_SECONDS + 60;
    pass(&mut ledger, BEGIN, known);
    assert_eq!(chains(&ledger), [0, 0, 1]);
    for number in 2..6 {
        ledger.add(&status_report(status(number, ChainStep::Later), true, known), 0);
    }
    // Before or after, delivered or not.
    ledger.add(&status_report(status(2, ChainStep::Sent), false, known + 60), 0);
    ledger.add(&status_report(status(6, ChainStep::Sent), true, known), 0);
    ledger.add(&status_report(status(6, ChainStep::Later), true, known + 5), 0);
    pass(&mut ledger, known, known + CHAIN_SECONDS);
    assert_eq!(chains(&ledger), [2, 3, 1]);
    ledger.add(&status_report(status(3, ChainStep::Sent), true, known + CHAIN_SECONDS), 0);
    assert_eq!(chains(&ledger), [2, 3, 1]);
    // Beside a body that was not scanned nothing is concluded.
    let later = known + CHAIN_SECONDS + 60;
    ledger.add(&status_report(status(7, ChainStep::Later), true, later), 0);
    let unscanned = Report { unscanned: Some(Unscanned::TooDeep), ..report(vec![], true, later + 60) };
    ledger.add(&unscanned, 0);
    pass(&mut ledger, later, later + CHAIN_SECONDS);
    assert_eq!(chains(&ledger), [2, 3, 2]);
}

#[test]
fn lag_is_measured_at_first_sight() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN - 4000);
    let happened = |ago: i64| Some((BEGIN - ago) * 1000);
    let late = Event { happened: happened(400), sent: happened(-1), ..event(1) };
    for is_delivered in [false, true] {
        ledger.add(&report(vec![late.clone()], is_delivered, BEGIN), BEGIN - 1000);
    }
    // A sample that is sent again and again.
    ledger.add(&report(vec![Event { happened: happened(8 * DAY), ..event(9) }], true, BEGIN), 0);
    // Something had failed here since; and one from the future.
    ledger.add(&report(vec![Event { happened: happened(400), ..event(2) }], true, BEGIN), BEGIN - 300);
    ledger.add(&report(vec![Event { happened: happened(-3), ..event(3) }], true, BEGIN), 0);
    ledger.add(&report(vec![Event { happened: happened(-2), ..event(4) }], true, BEGIN), 0);
    let figures = &ledger.by_upstream()[UPSTREAM];
    assert_eq!((figures.lag.count(), figures.lag.milliseconds), (4, 800_000 + 8 * 86_400_000));
    assert_eq!(ledger.shared_figures().negative, 1);
    assert_eq!(ledger.shared_figures().queue[Product::WhatsApp as usize].milliseconds, 401_000);
    assert!(ledger.doubts_clock());
    assert_eq!(ledger.take_changes()[UPSTREAM].late, 1);
    assert!(ledger.take_changes().is_empty());
}

#[test]
fn a_number_that_is_usually_busy_becomes_quiet() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    let mut now = BEGIN;
    let add = |ledger: &mut Ledger, id: &str, now| {
        let mut report = report(vec![Event { number: Some(0), ..event(now as u64) }], true, now);
        report.observation.numbers = vec![Number::new(id.as_bytes()).unwrap()];
        ledger.add(&report, 0);
    };
    while now < BEGIN + 15 * DAY {
        add(&mut ledger, "551", now);
        add(&mut ledger, "552", now);
        ledger.pass(now);
        now += 60;
    }
    ledger.take_changes();
    let quiet = now;
    while now < quiet + HOUR {
        add(&mut ledger, "552", now);
        ledger.pass(now);
        now += 60;
        let is_quiet = ledger.gauges(now)[1] == 1;
        assert_eq!(is_quiet, now - (quiet - 60) >= MIN_SILENCE, "{}", now - quiet);
    }
    let document = ledger.document(None, jiff::Timestamp::from_second(now).unwrap());
    let since: Vec<_> = document.upstreams[0].numbers.iter().map(|row| (&*row.id, row.quiet_since)).collect();
    assert_eq!(since, [("551", jiff::Timestamp::from_second(quiet - 60).ok()), ("552", None)]);
    let missed = ledger.take_changes()[UPSTREAM].quiet;
    assert!((missed - 60.0).abs() < 3.0, "{missed}");
}

const MIN_SILENCE: i64 = 30 * 60;

#[test]
fn another_size_keeps_what_it_has_room_for() {
    let before = file(EVENTS);
    let mut ledger = open(&before, EVENTS, BEGIN);
    ledger.add(&report(vec![event(9999)], false, BEGIN), 0);
    ledger.add(&status_report(status(1, ChainStep::Sent), true, BEGIN), 0);
    for number in 100..1100 {
        ledger.add(&report(vec![event(number)], true, BEGIN + number as i64), 0);
    }
    drop(ledger);
    let now = BEGIN + 2000;
    for events in [500, 3000] {
        let after = file(events);
        let old = LedgerFile::open(&before, EVENTS).unwrap();
        assert!(matches!(LedgerFile::open(&before, events), Err(LedgerError::Resized(EVENTS))));
        let new = LedgerFile::open(&after, events).unwrap();
        new.take(7);
        let key = old.key().unwrap();
        new.import(&old).unwrap();
        assert_eq!(new.key().unwrap(), key);
        let mut ledger = new.read(7, now).unwrap();
        assert_eq!(outcomes(&ledger), ([1001, 0, 0, 0, 0], 1), "{events}");
        let known = |ledger: &mut Ledger, number| {
            let before = outcomes(ledger).0[Outcome::Duplicate as usize];
            ledger.add(&report(vec![event(number)], true, now), 0);
            outcomes(ledger).0[Outcome::Duplicate as usize] > before
        };
        assert!(known(&mut ledger, 1099) && known(&mut ledger, 700), "{events}");
        assert_eq!(known(&mut ledger, 300), events > EVENTS, "{events}");
        ledger.add(&status_report(status(1, ChainStep::Later), true, now), 0);
        assert_eq!(chains(&ledger), [1, 0, 0], "{events}");
        ledger.add(&report(vec![event(9999)], true, now), 0);
        assert_eq!(outcomes(&ledger).0[Outcome::Recovered as usize], 1, "{events}");
    }
}

#[test]
fn damage_is_noticed() {
    use std::os::unix::fs::FileExt as _;
    let damaged = |at: usize, bytes: &[u8]| {
        let file = file(EVENTS);
        let mut ledger = open(&file, EVENTS, BEGIN);
        ledger.add(&status_report(status(1, ChainStep::Sent), true, BEGIN), 0);
        file.write_all_at(bytes, at as u64).unwrap();
        let reopened = LedgerFile::open(&file, EVENTS);
        reopened.and_then(|file| file.read(7, BEGIN)).is_err()
    };
    let layout = Layout::new(EVENTS);
    assert!(!damaged(0, b""));
    let places = [0, 1, 2, layout.event(0), layout.chain(0), layout.row(0) + 1, layout.number(0)];
    for place in places {
        assert!(damaged(place * 8, &[0xff; 8]), "{place}");
    }
    assert!(matches!(LedgerFile::open(&file(EVENTS), EVENTS + 1), Err(LedgerError::Io(_))), "it is shorter");
}

#[test]
fn the_one_that_drains_reports_to_its_successor() {
    let file = file(EVENTS);
    let mut old = open(&file, EVENTS, BEGIN);
    old.add(&report(vec![event(1)], false, BEGIN), 0);
    let new = LedgerFile::open(&file, EVENTS).unwrap();
    assert!(!new.claim(8, BEGIN));
    assert!(!old.is_owned());
    let old = old.release(BEGIN);
    assert!(new.claim(8, BEGIN));
    let mut new = new.read(8, BEGIN).unwrap();
    old.report(&report(vec![event(1)], true, BEGIN + 1)).unwrap();
    let reports = new.read_reports();
    assert_eq!(reports.len(), 1);
    reports.iter().for_each(|report| new.add(report, 0));
    assert_eq!(outcomes(&new), ([0, 1, 0, 0, 0], 0));
    // The ring goes round, and says when it is full.
    let many = report((0..1000).map(event).collect(), true, BEGIN);
    for _ in 0..50 {
        while old.report(&many).is_ok() {}
        assert!(new.read_reports().iter().all(|report| report.observation == many.observation));
    }
    // A successor that is gone.
    assert!(!old.is_ownerless(BEGIN + MAX_UNSEEN_SECONDS));
    assert!(old.is_ownerless(BEGIN + MAX_UNSEEN_SECONDS + 1));
    assert!(old.claim(7, BEGIN + MAX_UNSEEN_SECONDS + 1));
}

#[test]
fn upstreams_are_added_up_by_product() {
    let file = file(EVENTS);
    let mut ledger = open(&file, EVENTS, BEGIN);
    for (number, upstream, product) in [
        (1, UPSTREAM, Product::WhatsApp),
        (2, "b.example", Product::WhatsApp),
        (3, "b.example", Product::Messenger),
    ] {
        let mut report = report(vec![event(number)], number != 2, BEGIN);
        report.upstream = upstream.into();
        report.observation.product = product;
        report.observation.names_fwdproxy = number == 2;
        ledger.add(&report, 0);
    }
    let now = jiff::Timestamp::from_second(BEGIN).unwrap();
    let rows = |upstream| {
        let products = ledger.document(upstream, now).products;
        let row = |row: ProductRow| (row.product, row.outcomes["delivered"], row.outstanding, row.fwdproxy);
        products.into_iter().map(row).collect::<Vec<_>>()
    };
    let [whatsapp, messenger] = ["whatsapp", "messenger"].map(str::to_owned);
    assert_eq!(rows(None), [(whatsapp.clone(), 1, 1, 1), (messenger, 1, 0, 0)]);
    assert_eq!(rows(Some(UPSTREAM)), [(whatsapp, 1, 0, 0)]);
}
