use super::*;

#[test]
fn a_second_body_takes_no_memory() {
    let bodies = payloads();
    let (key, mut scan) = (key(), Scan::new());
    let mut scan_all = || {
        for (_, body) in &bodies {
            scan.begin(&key, UPSTREAM, PATH);
            body.chunks(1000).for_each(|piece| scan.feed(piece));
            assert!(scan.end(Some(SIGNATURE)).is_ok());
        }
        let (found, observation) = (&scan.finder.found, &scan.report.observation);
        [
            found.updates.capacity(),
            found.entries.capacity(),
            found.changes.capacity(),
            observation.events.capacity(),
            observation.numbers.capacity(),
            observation.sent.capacity(),
        ]
    };
    let first = scan_all();
    #[cfg(feature = "count-allocations")]
    let taken = {
        crate::sys::count_on_this_thread();
        crate::sys::allocations()
    };
    let second = scan_all();
    #[cfg(feature = "count-allocations")]
    assert_eq!(crate::sys::allocations(), taken);
    assert_eq!(first, second);
}

#[test]
fn memory_of_a_large_body_is_given_back() {
    let mut scan = Scan::new();
    scan.begin(&key(), UPSTREAM, PATH);
    let entries = (0..4096).map(|id| format!(r#"{{"id":{id},"time":1,"changes":[{{}}]}}"#));
    scan.feed(format!(r#"{{"entry":[{}]}}"#, entries.collect::<Vec<_>>().join(",")).as_bytes());
    assert!(scan.end(Some(SIGNATURE)).is_ok());
    scan.begin(&key(), UPSTREAM, PATH);
    let (found, observation) = (&scan.finder.found, &scan.report.observation);
    assert!(found.updates.capacity() <= 1024 && found.entries.capacity() <= 1024);
    assert!(found.changes.capacity() <= 1024 && observation.events.capacity() <= 1024);
    assert!(observation.numbers.capacity() <= 1024 && observation.sent.capacity() <= 1024);
}

#[test]
fn no_text_is_left_when_a_scan_is_over() {
    for signature in [None, Some(SIGNATURE)] {
        let mut scan = Scan::new();
        scan.begin(&key(), UPSTREAM, PATH);
        scan.feed(&payload("wa-text"));
        let _ = scan.end(signature);
        assert!(scan.finder.texts.are_empty() && scan.finder.found.updates.is_empty());
        scan.begin(&key(), UPSTREAM, PATH);
        scan.feed(b"{\"object\":\"page\"x");
        assert!(scan.finder.texts.are_empty());
    }
}
