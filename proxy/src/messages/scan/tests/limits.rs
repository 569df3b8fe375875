use super::super::MAX_BODY_BYTES;
use super::*;

fn list(count: usize) -> String {
    vec!["{}"; count].join(",")
}

#[test]
fn a_body_may_have_four_mebibytes() {
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES - 8));
    assert_eq!(body.len(), MAX_BODY_BYTES);
    assert_eq!(scan(&body).unwrap().events.len(), 1);
    for cut in [1, 5000, body.len() - 1, body.len()] {
        let longer = format!("{body} ");
        let (first, rest) = longer.as_bytes().split_at(cut);
        assert_eq!(scan_pieces(&[first, rest], None), Err(Unscanned::TooLong));
    }
}

#[test]
fn containers_may_be_64_deep() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for document in [nested, objects] {
        assert!(scan(document(64)).is_ok());
        assert_eq!(scan(document(65)), Err(Unscanned::TooDeep));
    }
}

#[test]
fn a_body_may_have_4096_events() {
    let bodies: [fn(usize) -> String; 5] = [
        |count| whatsapp("messages", &format!(r#"{{"messages":[{}],"statuses":[{{}}]}}"#, list(count - 1))),
        |count| messaging("page", &list(count)),
        |count| messaging("page", &format!(r#"{{"delivery":{{"mids":["a"{}]}}}}"#, ",1".repeat(count - 1))),
        |count| format!(r#"{{"entry":[{{"changes":[{}]}}]}}"#, list(count)),
        // A change without items is an event in a WhatsApp body.
        |count| {
            whatsapp("a", r#"{"messages":[LIST]},"value":{"messages":[LIST]}},{"field":"b""#)
                .replacen("LIST", "", 1)
                .replace("LIST", &list(count - 1))
        },
    ];
    for body in bodies {
        assert_eq!(observe(body(4096)).events.len(), 4096);
        assert_eq!(scan(body(4097)), Err(Unscanned::TooMany));
    }
    assert!(scan(format!(r#"{{"entry":[{}]}}"#, list(4096))).is_ok());
    assert_eq!(scan(format!(r#"{{"entry":[{}]}}"#, list(4097))), Err(Unscanned::TooMany));
}

#[test]
fn nothing_is_read_after_a_limit() {
    let mut scan = Scan::new();
    scan.begin(&key(), UPSTREAM, PATH);
    assert!(!scan.is_over());
    scan.feed(&payload("wa-text"));
    scan.feed(b"x");
    assert!(scan.is_over());
    scan.feed(b"x");
    assert_eq!(scan.end(Some(SIGNATURE)), Err(Unscanned::NotJson));
    assert!(scan.report.observation.events.is_empty());
}

#[test]
fn what_did_not_begin_was_not_read() {
    let mut scan = Scan::new();
    assert!(scan.is_over());
    scan.feed(b"{}");
    assert_eq!(scan.end(None), Err(Unscanned::Unread));
}

#[test]
fn long_ids_stay_apart() {
    let key = |id: &str| only(whatsapp("messages", &format!(r#"{{"messages":[{{"id":"{id}"}}]}}"#))).key;
    for length in [511, 512, 513, 992, 993, 5000] {
        let id = "a".repeat(length);
        assert_eq!(key(&id), key(&id));
        assert_ne!(key(&id), key(&format!("{id}a")));
        assert_ne!(key(&id), key(&format!("b{}", &id[1..])));
    }
}
