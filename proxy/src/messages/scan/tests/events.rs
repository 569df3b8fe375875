use super::*;
use crate::messages::{ChainStep, Kind, Product};

fn item(item: &str) -> Event {
    only(messaging("page", item))
}

#[test]
fn a_text_cannot_pose_as_members() {
    let text = r#"\",\"id\":\"wamid.2\"}],\"statuses\":[{\"id\":\"wamid.3\",\"status\":\"read\"}]"#;
    let body = |text: &str| {
        whatsapp(
            "messages",
            &format!(
                r#"{{"messages":[{{"id":"wamid.1","from":"5","timestamp":"1795539600","text":{{"body":"{text}"}}}}]}}"#
            ),
        )
    };
    assert_eq!(observe(body(text)), observe(body("")));
    // Nor can an object in another place.
    let elsewhere = r#"{"id":"wamid.1","from":"5","timestamp":"1795539600","text":{"id":"wamid.2","from":"",
        "timestamp":"1","entry":[{"id":"1","messaging":[{"message":{"mid":"m"}}]}],"messages":[{"id":"a"}]}}"#;
    let elsewhere = whatsapp("messages", &format!(r#"{{"messages":[{elsewhere}]}}"#));
    assert_eq!(observe(elsewhere), observe(body("")));
}

#[test]
fn a_retry_with_another_time_has_the_same_keys() {
    for name in ["messenger-text", "instagram-text"] {
        let first = String::from_utf8(payload(name)).unwrap();
        let retry = first.replace(r#""time":17955397"#, r#""time":17955398"#);
        assert_ne!(first, retry);
        assert_eq!(keys(first), keys(retry));
    }
}

#[test]
fn a_key_depends_on_secret_upstream_and_path() {
    let with = |secret: u8, upstream: &str, path: &[u8]| {
        let mut scan = Scan::new();
        scan.begin(&IdKey::new(&[secret; 32]), upstream, path);
        scan.feed(&payload("wa-status-sent"));
        let event = scan.end(None).unwrap().events[0].clone();
        (event.key, event.chain.unwrap().key)
    };
    let (key, chain) = with(7, "ab", b"/c");
    assert_eq!(with(7, "ab", b"/c"), (key, chain));
    assert_ne!(key, chain);
    assert!(with(8, "ab", b"/c").0 != key && with(8, "ab", b"/c").1 != chain);
    assert!(with(7, "a", b"b/c").0 != key && with(7, "a", b"b/c").1 != chain);
    // A chain has no path.
    assert!(with(7, "ab", b"/d").0 != key && with(7, "ab", b"/d").1 == chain);
}

#[test]
fn each_kind_of_an_id_has_a_key_of_its_own() {
    let sender = r#""sender":{"id":"9"}"#;
    let items = [
        r#""message":{"mid":"m"}"#,
        r#""message":{"mid":"m","is_deleted":true}"#,
        r#""message_edit":{"mid":"m","num_edit":1}"#,
        r#""message_edit":{"mid":"m","num_edit":"2"}"#,
        r#""reaction":{"mid":"m"}"#,
        r#""postback":{"mid":"m"}"#,
        r#""read":{"mid":"m"}"#,
        r#""delivery":{"mids":["m"]}"#,
        r#""read":{"watermark":1}"#,
        r#""delivery":{"watermark":1}"#,
    ];
    let events = items.map(|part| item(&format!("{{{sender},{part}}}")));
    assert!(events.iter().all(|event| event.has_id));
    let kinds = events.iter().map(|event| event.kind == Kind::Status).collect::<Vec<_>>();
    assert_eq!(kinds, [false, false, false, false, false, false, true, true, true, true]);
    let mut keys = events.map(|event| event.key.0).to_vec();
    keys.extend(
        observe(whatsapp("messages", r#"{"messages":[{"id":"m"}]}"#)).events.iter().map(|it| it.key.0),
    );
    keys.extend(
        observe(whatsapp("messages", r#"{"statuses":[{"id":"m"}]}"#)).events.iter().map(|it| it.key.0),
    );
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), items.len() + 2);
}

#[test]
fn a_status_is_named_by_status_and_recipient_too() {
    let key =
        |status: &str| only(whatsapp("messages", &format!(r#"{{"statuses":[{{"id":"a",{status}}}]}}"#))).key;
    let keys = [
        r#""status":"sent","recipient_id":"1""#,
        r#""status":"read","recipient_id":"1""#,
        r#""status":"sent","recipient_id":"2""#,
        r#""status":"sent","recipient_user_id":"1""#,
        r#""status":"sent""#,
    ];
    let mut distinct = keys.map(|status| key(status).0).to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), keys.len());
    let both = r#""recipient_user_id":"9","recipient_id":"1","status":"sent""#;
    assert_eq!(key(both), key(keys[0]));
}

#[test]
fn a_delivery_is_an_event_for_each_mid() {
    let events = |delivery: &str| {
        let item = format!(
            r#"{{"delivery":{delivery},"timestamp":1795539699985,"recipient":{{"id":"1"}},"sender":{{"id":"9"}}}}"#
        );
        observe(messaging("page", &item)).events
    };
    let two = events(r#"{"watermark":1,"mids":["a","b"]}"#);
    assert_eq!(two.iter().map(|event| event.happened).collect::<Vec<_>>(), [Some(1_795_539_699_985); 2]);
    assert_ne!(two[0].key, two[1].key);
    let watermark = events(r#"{"watermark":1}"#);
    assert_eq!((watermark.len(), watermark[0].has_id, watermark[0].kind), (1, true, Kind::Status));
    assert_eq!(events(r#"{"watermark":1,"mids":[null,""]}"#), watermark);
    assert_eq!(events(r#"{"mids":["a"],"watermark":1,"mids":[]}"#), watermark);
}

#[test]
fn a_watermark_needs_a_sender() {
    assert!(item(r#"{"sender":{"id":"9"},"read":{"watermark":1}}"#).has_id);
    assert!(!item(r#"{"read":{"watermark":1}}"#).has_id);
}

#[test]
fn the_signature_stands_for_an_id_that_is_missing() {
    let body = r#"{"object":"page","entry":[{"messaging":[{"optin":{}},{"optin":{}}]}]}"#;
    let keys = |signature| scan_pieces(&[body.as_bytes()], signature).unwrap().events;
    let [first, second] = &keys(Some(b"sha256=1"))[..] else { panic!("there are two updates") };
    assert!(!first.has_id && !second.has_id && first.key != second.key);
    assert_ne!(keys(Some(b"sha256=2"))[0].key, first.key);
    assert!(keys(None).is_empty() && keys(Some(b"")).is_empty());
}

#[test]
fn a_body_without_updates_is_one_event_if_it_is_signed() {
    for body in
        ["{}", r#"{"object":"page","entry":[]}"#, r#"{"entry":[{"messaging":[1,null,[]]}]}"#, "[]", "1"]
    {
        let event = only(body);
        assert_eq!((event.kind, event.has_id, event.happened), (Kind::Other, false, None), "{body}");
        assert_eq!(scan_pieces(&[body.as_bytes()], None).unwrap().events, [], "{body}");
    }
}

#[test]
fn a_whatsapp_field_other_than_messages_has_neither_lag_nor_chain() {
    let value = r#"{"metadata":{"phone_number_id":"7"},"messages":[{"id":"a","timestamp":"1795539600"}],
        "statuses":[{"id":"a","status":"sent","timestamp":"1795539600"}],"message_echoes":[{"id":"b"}]}"#;
    for field in ["history", "smb_message_echoes", "account_update", "Messages", "messages2", ""] {
        let observation = observe(whatsapp(field, value));
        assert_eq!((observation.events.len(), &observation.sent[..]), (3, &[1_795_539_670_000][..]));
        for event in observation.events {
            assert_eq!((event.kind, event.happened, event.chain), (Kind::Other, None, None), "{field}");
            assert!(event.has_id && !event.without_number && event.number == Some(0));
            assert_eq!(event.sent, Some(1_795_539_670_000));
        }
    }
    for field in ["messages", "standby", "standby_messages"] {
        let observation = observe(whatsapp(field, value));
        let kinds = observation.events.iter().map(|event| (event.kind, event.happened.is_some()));
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [(Kind::Message, true), (Kind::Status, true), (Kind::Other, false)],
            "{field}"
        );
        assert_eq!(observation.events[1].chain.unwrap().step, ChainStep::Sent);
    }
}

#[test]
fn a_message_without_from_is_counted() {
    let without = |message: &str, field: &str| {
        only(whatsapp(field, &format!(r#"{{"messages":[{{"id":"a"{message}}}]}}"#))).without_number
    };
    for message in
        ["", r#","from":null"#, r#","from":"""#, r#","from":"5","from":"""#, r#","from":{"a":"5"}"#]
    {
        assert!(without(message, "messages"), "{message}");
        assert!(!without(message, "history"), "{message}");
    }
    for message in [r#","from":"5""#, r#","from":5"#, r#","from":null,"\u0066rom":"5""#] {
        assert!(!without(message, "messages"), "{message}");
    }
    assert!(!only(whatsapp("messages", r#"{"statuses":[{"id":"a"}]}"#)).without_number);
}

#[test]
fn a_graph_change_is_one_event() {
    let body = |value: &str| {
        format!(
            r#"{{"entry":[{{"time":1795539700,"id":"17","changes":[{{"value":{value},"field":"comments"}}]}}],"object":"instagram"}}"#
        )
    };
    let observation = observe(body(r#"{"id":"c1","messages":[{"id":"a"}]}"#));
    let [event] = &observation.events[..] else { panic!("{observation:?}") };
    assert_eq!((event.kind, event.has_id, event.happened), (Kind::Other, true, None));
    assert_eq!((event.sent, observation.numbers[0].as_str()), (Some(1_795_539_700_000), "17"));
    assert_ne!(only(body(r#"{"id":"c2"}"#)).key, event.key);
    assert!(!only(body(r#"{"from":{"id":"c1"}}"#)).has_id);
}

#[test]
fn seconds_and_milliseconds_are_told_apart() {
    let time = |time: &str| item(&format!(r#"{{"timestamp":{time}}}"#)).happened;
    assert_eq!(time("99999999999"), Some(99_999_999_999_000));
    assert_eq!(time("100000000000"), Some(100_000_000_000));
    assert_eq!(time("\"1795539600\""), Some(1_795_539_600_000));
    assert_eq!(time("9223372036854775807"), Some(i64::MAX));
    for none in ["0", "-1", "1.5", "1e3", "9223372036854775808", "null", "\"\"", "\" 1\"", "\"+1\"", "[1]"] {
        assert_eq!(time(none), None, "{none}");
    }
}

#[test]
fn the_last_of_duplicate_members_counts() {
    let cases = [
        (r#"{"object":"x","object":"page","entry":1}"#, r#"{"object":"page"}"#),
        (r#"{"entry":[{"messaging":[{}]}],"entry":[]}"#, "{}"),
        (
            r#"{"entry":[{"changes":[{"value":{"id":"a"}}],"standby":[{}],"changes":[{}],"messaging":[]}]}"#,
            r#"{"entry":[{"changes":[{}],"standby":[{}]}]}"#,
        ),
        (
            r#"{"entry":[{"messaging":[{"message":{"mid":"a"},"message":{"x":"a"},"read":{"mid":"b"}}]}]}"#,
            r#"{"entry":[{"messaging":[{"message":{},"read":{"mid":"b"}}]}]}"#,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(observe(body), observe(expected), "{body}");
    }
    let value = |value: &str| observe(whatsapp("messages", value));
    let discarded = r#"{"messages":[{"id":"a"}],"statuses":[{"id":"b","id":"c"}],"messages":[{"id":"d"}],
        "metadata":{"phone_number_id":"1"},"metadata":{}}"#;
    assert_eq!(value(discarded), value(r#"{"messages":[{"id":"d"}],"statuses":[{"id":"c"}]}"#));
}

#[test]
fn a_number_is_visible_ascii_of_at_most_64_bytes() {
    let numbers = |id: &str| {
        let body = format!(r#"{{"object":"page","entry":[{{"id":{id},"messaging":[{{}},{{}}]}}]}}"#);
        observe(body).numbers.iter().map(|number| number.as_str().to_owned()).collect::<Vec<_>>()
    };
    let longest = "1".repeat(64);
    assert_eq!(numbers(&format!("\"{longest}\"")), [longest]);
    assert_eq!(numbers("17"), ["17"]);
    for none in [&format!("\"{}\"", "1".repeat(65)), "\"1 2\"", "\"é\"", "\"\"", "\"\\u007f\"", "1.5"] {
        assert_eq!(numbers(none), [""; 0], "{none}");
    }
}

#[test]
fn an_entry_without_updates_was_sent_too() {
    let observation =
        observe(r#"{"object":"user","entry":[{"time":5},{"time":"6"},{"id":"1"},{"time":null}]}"#);
    assert_eq!((observation.product, observation.sent), (Product::Other, vec![5000, 6000]));
}
