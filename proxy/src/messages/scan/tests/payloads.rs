use serde_json::Value;

use super::*;
use crate::messages::{ChainStep, Kind, Product};

#[test]
fn cuts_change_nothing() {
    for (name, body) in payloads() {
        let expected = Ok(observe(&body));
        let bytes = body.iter().map(std::slice::from_ref).collect::<Vec<_>>();
        assert_eq!(scan_pieces(&bytes, Some(SIGNATURE)), expected, "{name} byte by byte");
        // The largest body would take minutes.
        let step = if body.len() > 10_000 { 9973 } else { 1 };
        for (first, rest) in (0..=body.len()).step_by(step).map(|at| body.split_at(at)) {
            assert_eq!(scan_pieces(&[first, rest], Some(SIGNATURE)), expected, "{name} at {}", first.len());
        }
    }
}

#[test]
fn the_order_of_members_changes_nothing() {
    for (name, body) in payloads() {
        let value: Value = serde_json::from_slice(&body).unwrap();
        let expected = observe(&body);
        assert_eq!(observe(value.to_string()), expected, "{name} sorted");
        assert_eq!(observe(reversed(&value)), expected, "{name} reversed");
    }
}

#[test]
fn a_scan_remembers_nothing_of_the_body_before() {
    let mut scan = Scan::new();
    for (name, body) in payloads() {
        for before in [&payload("wa-batch")[..], &payload("messenger-text"), b"{\"entry\":[{\"time\":1", b"["]
        {
            scan.begin(&key(), UPSTREAM, PATH);
            scan.feed(before);
            let _ = scan.end(None);
            scan.begin(&key(), UPSTREAM, PATH);
            scan.feed(&body);
            assert_eq!(scan.end(Some(SIGNATURE)), Ok(&observe(&body)), "{name}");
        }
    }
}

#[test]
fn a_whatsapp_message_is_one_event() {
    let observation = observe(payload("wa-text"));
    let [event] = &observation.events[..] else { panic!("{observation:?}") };
    assert_eq!((observation.product, observation.sent.len()), (Product::WhatsApp, 0));
    assert_eq!((event.kind, event.has_id, event.chain), (Kind::Message, true, None));
    assert_eq!((event.happened, event.sent), (Some(1_795_539_600_000), None));
    assert_eq!(observation.numbers[event.number.unwrap()].as_str(), "106540998877661");
    assert!(!event.without_number && !observation.names_fwdproxy);
}

#[test]
fn every_update_of_a_batch_is_an_event_with_its_number() {
    let observation = observe(payload("wa-batch"));
    let numbers = observation.numbers.iter().map(|number| number.as_str()).collect::<Vec<_>>();
    assert_eq!(numbers, ["106540998877661", "106540998877662"]);
    let events = observation.events.iter();
    let events = events.map(|event| {
        (
            event.kind,
            event.chain.map(|chain| chain.step),
            event.happened.unwrap() / 1000,
            event.number.unwrap(),
        )
    });
    let (sent, later) = (Some(ChainStep::Sent), Some(ChainStep::Later));
    let expected = [
        (Kind::Message, None, 1_795_539_680, 0),
        (Kind::Message, None, 1_795_539_681, 0),
        (Kind::Status, sent, 1_795_539_680, 0),
        (Kind::Status, later, 1_795_539_681, 0),
        (Kind::Status, sent, 1_795_539_681, 0),
        (Kind::Message, None, 1_795_539_680, 1),
        (Kind::Status, later, 1_795_539_682, 0),
    ];
    assert_eq!(events.collect::<Vec<_>>(), expected);
    let chains = observation.events.iter().filter_map(|event| event.chain).collect::<Vec<_>>();
    assert_eq!(chains[0].key, chains[1].key);
    assert_ne!(chains[0].key, chains[2].key);
}

#[test]
fn a_thousand_statuses_are_a_thousand_events() {
    let observation = observe(payload("wa-batch-1000-statuses"));
    let keys = observation.events.iter().map(|event| event.key).collect::<std::collections::HashSet<_>>();
    assert_eq!((keys.len(), observation.numbers.len()), (1000, 1));
}

#[test]
fn statuses_of_one_message_have_one_chain() {
    let chain = |name| only(payload(name)).chain.unwrap();
    let (sent, delivered, read) =
        (chain("wa-status-sent"), chain("wa-status-delivered"), chain("wa-status-read"));
    assert_eq!((sent.step, delivered.step, read.step), (ChainStep::Sent, ChainStep::Later, ChainStep::Later));
    assert!(sent.key == delivered.key && sent.key == read.key);
    assert_ne!(only(payload("wa-status-sent")).key, only(payload("wa-status-read")).key);
    assert_eq!(only(payload("wa-status-failed-fwdproxy")).chain, None);
}

#[test]
fn messenger_and_instagram_say_when_it_happened_and_when_it_was_sent() {
    let cases = [
        ("messenger-text", Product::Messenger, 1_795_539_699_985, 1_795_539_700_210, "109029271668099"),
        ("instagram-text", Product::Instagram, 1_795_539_709_969, 1_795_539_710_087, "17841445204646999"),
    ];
    for (name, product, happened, sent, number) in cases {
        let observation = observe(payload(name));
        let [event] = &observation.events[..] else { panic!("{observation:?}") };
        assert_eq!((observation.product, &observation.sent[..]), (product, &[sent][..]));
        assert_eq!((event.kind, event.happened, event.sent), (Kind::Message, Some(happened), Some(sent)));
        assert_eq!(observation.numbers[event.number.unwrap()].as_str(), number);
    }
}

#[test]
fn an_account_field_tells_when_it_was_sent_and_nothing_else() {
    let observation = observe(payload("wa-template-status"));
    let [event] = &observation.events[..] else { panic!("{observation:?}") };
    assert_eq!((event.kind, event.has_id, event.happened), (Kind::Other, false, None));
    assert_eq!((&observation.sent[..], event.sent), (&[1_795_539_670_000][..], Some(1_795_539_670_000)));
    assert_eq!((event.number, observation.numbers.len()), (None, 0), "an entry's id is a WABA");
}

#[test]
fn fwdproxy_is_found_in_errors_alone() {
    for (name, body) in payloads() {
        assert_eq!(observe(&body).names_fwdproxy, name.contains("fwdproxy"), "{name}");
    }
    let with = |value: &str| observe(whatsapp("messages", value)).names_fwdproxy;
    assert!(with(r#"{"messages":[{"id":"a","errors":[{"a":[["ffw \u0066wd\u0070roxy"]]}]}]}"#));
    assert!(with(r#"{"messages":[{"id":"a","errors":["fwdfwdproxy"]}]}"#));
    assert!(!with(r#"{"messages":[{"id":"a","errors":[{"fwdproxy":1,"a":"fwdprox","b":"y"}]}]}"#));
    assert!(!with(r#"{"messages":[{"id":"a","errors":{"a":"fwdproxy"},"text":{"body":"fwdproxy"}}]}"#));
    assert!(!with(r#"{"errors":[{"title":"fwdproxy"}],"messages":[{"id":"fwdproxy"}]}"#));
}
