use super::*;
use crate::observe::clock;
use crate::observe::words::CUT;

fn add(deliveries: &Deliveries, path: &str) {
    deliveries.add(["id", "POST", path, "157.240.1.1"], clock::now(), |record| record.end = Step::Delivered);
}

#[test]
fn the_latest_are_kept_in_order() {
    let deliveries = Deliveries::default();
    for n in 1..=KEPT + 5 {
        Deliveries::use_part(n);
        add(&deliveries, &format!("/{n}"));
    }
    Deliveries::use_part(0);
    let told = deliveries.after(0, |_| None);
    assert_eq!(told.len(), KEPT);
    assert!(told.windows(2).all(|two| two[0].number + 1 == two[1].number));
    assert_eq!(told.last().map(|last| last.path.clone()), Some(format!("/{}", KEPT + 5)));
    let last = told[KEPT - 3].number;
    assert_eq!(deliveries.after(last, |_| None).len(), 2);
}

#[test]
fn who_follows_misses_none() {
    const EACH: usize = 2000;
    let deliveries = Deliveries::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let deliveries = &deliveries;
            scope.spawn(move || {
                Deliveries::use_part(thread);
                for _ in 0..EACH {
                    add(deliveries, "/");
                    std::thread::yield_now();
                }
            });
        }
        let mut last = 0;
        while last < 4 * EACH as u64 {
            for delivery in deliveries.after(last, |_| None) {
                assert_eq!(delivery.number, last + 1, "one is left out");
                last = delivery.number;
            }
        }
    });
    assert_eq!(deliveries.after(4 * EACH as u64, |_| None), []);
    assert_eq!(deliveries.after(u64::MAX, |_| None).len(), 4 * EACH, "a number from an earlier process");
}

#[test]
fn words_are_told_apart_and_long_paths_cut() {
    let deliveries = Deliveries::default();
    add(&deliveries, "/a");
    add(&deliveries, &"/ü".repeat(400));
    let told = deliveries.after(0, |_| Some("157.240.0.0/17".into()));
    let first = &told[0];
    assert_eq!((&*first.id, &*first.method, &*first.path), ("id", "POST", "/a"));
    assert_eq!((&*first.source, first.prefix.as_deref()), ("157.240.1.1", Some("157.240.0.0/17")));
    assert_eq!(first.outcome, Outcome::Delivered);
    assert!(told[1].path.len() <= MAX_PATH_BYTES + CUT.len() && told[1].path.ends_with(CUT));
}

#[test]
fn whatever_a_request_says_its_record_is_small() {
    let deliveries = Deliveries::default();
    for word in ["a", "ü", "\u{10ffff}"] {
        let long = word.repeat(40_000);
        deliveries.add([&long; 4], clock::now(), |_| {});
        let told = deliveries.after(0, |_| None).pop().unwrap();
        let most = [MAX_ID_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, MAX_SOURCE_BYTES];
        for (word, most) in [&told.id, &told.method, &told.path, &told.source].into_iter().zip(most) {
            assert!(word.len() <= most + CUT.len() && word.ends_with(CUT), "{}", word.len());
        }
        let part = deliveries.parts[0].lock().unwrap();
        let most = most.iter().map(|most| most + CUT.len()).sum();
        let rings = [&part.all, &part.failures_of_others];
        let records = rings.iter().flat_map(|ring| &ring.records);
        assert!(records.into_iter().all(|record| record.words.capacity() <= most));
    }
}

#[test]
fn failures_outlast_what_went_well_and_metas_the_strangers() {
    let deliveries = Deliveries::default();
    let up = Arc::new(UpstreamMetrics::new("up.example"));
    let add = |end, row, path: &str| {
        deliveries.add(["id", "POST", path, "192.0.2.1"], clock::now(), |record| {
            (record.end, record.counter, record.upstream) = (end, row, Some(Arc::clone(&up)));
        });
    };
    let meta = CounterIndex::numbered(7);
    add(Step::Failed, meta, "/lost");
    for n in 0..KEPT + 5 {
        Deliveries::use_part(n);
        add(Step::Delivered, meta, "/");
        if n < 3 * KEPT_FAILURES {
            add(Step::Refused, CounterIndex::OTHER, &format!("/stranger/{n}"));
        }
    }
    Deliveries::use_part(0);
    let paths = |told: Vec<Delivery>| told.into_iter().map(|told| told.path).collect::<Vec<_>>();
    let failures = paths(deliveries.failures(|_| None));
    assert_eq!(failures.len(), 1 + KEPT_FAILURES);
    assert_eq!(failures[0], format!("/stranger/{}", 3 * KEPT_FAILURES - 1), "the newest first");
    assert_eq!(failures.last().map(String::as_str), Some("/lost"));
    assert_eq!(deliveries.failures_of(&up, |_| None).len(), KEPT_FAILURES);
    assert_eq!(deliveries.failures_of(&UpstreamMetrics::new("up.example"), |_| None), []);
}
