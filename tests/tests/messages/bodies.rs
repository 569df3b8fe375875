use std::fmt::Write as _;

use anyhow::Result;
use harness::{NetNs, binary, wait_until};
use serde_json::{Value, json};

use crate::testbed::{ANSWER, TIMEOUT, Testbed, UPSTREAM, message, now, post, whatsapp};

/// By reason, those of which there are any.
fn unscanned(testbed: &Testbed) -> Result<Value> {
    let mut reasons = testbed.messages()?["unscanned"].clone();
    if let Some(reasons) = reasons.as_object_mut() {
        reasons.retain(|_, count| *count != json!(0));
    }
    Ok(reasons)
}

#[test]
fn a_body_that_is_not_looked_at_says_why_and_makes_no_event() -> Result<()> {
    let testbed = Testbed::start()?;
    let body = whatsapp(&[message("wamid.1", now() / 1000)], &[]).to_string();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(70), "]".repeat(70));
    let many: Vec<_> = (0..4100).map(|number| message(&format!("wamid.{number}"), 1)).collect();
    let many = whatsapp(&many, &[]).to_string();
    let long = format!("{{\"object\":\"page\",\"pad\":\"{}\"}}", "x".repeat(5 << 20));
    let mut expected = json!({});
    for (request, reason) in [
        (post(UPSTREAM, "hello=world", "200"), "not_json"),
        (post(UPSTREAM, &body[..body.len() - 1], "200"), "not_json"),
        (post(UPSTREAM, &deep, "200"), "too_deep"),
        (post(UPSTREAM, &many, "200"), "too_many"),
        (post(UPSTREAM, &long, "200"), "too_long"),
        (
            post(UPSTREAM, &body, "200").replace("Content-Type:", "Content-Encoding: gzip\r\nContent-Type:"),
            "compressed",
        ),
        (post("down.example", &body, "200"), "unread"),
        (post("unknown.example", &body, "200"), "unread"),
    ] {
        testbed.client()?.ask(request)?;
        expected[reason] = json!(expected[reason].as_i64().unwrap_or(0) + 1);
        assert_eq!(unscanned(&testbed)?, expected, "{reason}");
    }
    let metrics = testbed.metrics()?;
    for (reason, count) in [("not_json", 2.0), ("unread", 2.0), ("too_long", 1.0)] {
        let series = format!("hookgate_bodies_unscanned_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics.value(&series), count, "{series}");
    }
    assert_eq!(testbed.messages()?["upstreams"], json!([]), "none of them made an event");
    Ok(())
}

#[test]
fn what_bodies_hold_is_found_in_whatever_pieces_they_come() -> Result<()> {
    let testbed = Testbed::start()?;
    let body = |id: &str| whatsapp(&[message(id, now() / 1000)], &[]).to_string();
    for (id, size) in [("wamid.1", 1), ("wamid.2", 7), ("wamid.3", 4096)] {
        let mut chunks = String::new();
        for chunk in body(id).as_bytes().chunks(size) {
            write!(chunks, "{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))?;
        }
        let request = format!(
            "POST /{UPSTREAM}/webhooks/whatsapp HTTP/1.1\r\nHost: proxy.example\r\n{ANSWER}: 200\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        );
        assert_eq!(testbed.client()?.ask(request)?.status(), 200);
    }
    let mut client = testbed.client()?;
    for byte in post(UPSTREAM, &body("wamid.4"), "200").as_bytes().chunks(11) {
        client.wire().send(byte)?;
    }
    assert_eq!(client.response()?.status(), 200);
    // The same one once more, whole.
    assert_eq!(client.ask(post(UPSTREAM, &body("wamid.1"), "200"))?.status(), 200);
    let row = testbed.row("whatsapp")?;
    assert_eq!(
        (&row["outcomes"]["delivered"], &row["outcomes"]["duplicate"]),
        (&json!(4), &json!(1)),
        "{row}"
    );
    Ok(())
}

#[test]
fn the_first_4_mib_are_not_spliced_and_the_rest_is() -> Result<()> {
    let testbed = Testbed::start()?;
    let bytes = |testbed: &Testbed| -> Result<[f64; 2]> {
        let metrics = testbed.metrics()?;
        Ok(["copy", "splice"]
            .map(|path| metrics.value(&format!("hookgate_body_bytes_total{{path=\"{path}\"}}"))))
    };
    let body = format!("{{\"object\":\"page\",\"pad\":\"{}\"}}", "x".repeat(12 << 20));
    testbed.client()?.ask(post(UPSTREAM, &body, "200"))?;
    // The worker counts when it has done with a request, which may be after its answer has come.
    let after = |requests: usize| -> Result<[f64; 2]> {
        let sent = |bytes: [f64; 2]| bytes.iter().sum::<f64>() >= (requests * (12 << 20)) as f64;
        wait_until("the bytes are counted", TIMEOUT, || Ok(sent(bytes(&testbed)?)))?;
        bytes(&testbed)
    };
    let [copied, spliced] = after(1)?;
    assert!(copied >= f64::from(4 << 20) && spliced > f64::from(6 << 20), "{copied} {spliced}");
    // What is no JSON needs no further look.
    testbed.client()?.ask(post(UPSTREAM, &"x".repeat(12 << 20), "200"))?;
    let [copied_then, _] = after(2)?;
    assert!(copied_then - copied < f64::from(1 << 20), "{}", copied_then - copied);
    Ok(())
}

#[test]
fn nothing_is_looked_at_where_that_is_not_wanted() -> Result<()> {
    let testbed = Testbed::with("messages = false")?;
    let body = whatsapp(&[message("wamid.1", now() / 1000)], &[]);
    assert_eq!(testbed.send(&body, "200")?, 200);
    let mut command = NetNs::here().command(&binary()?.to_string_lossy());
    let output = command.args(["messages", "--config"]).arg(testbed.proxy.config()).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(!testbed.ledger().exists());
    let metrics = testbed.metrics()?;
    assert_eq!(metrics.value("hookgate_lag_negative_total"), 0.0);
    let lost: Value = serde_json::from_str(&testbed.proxy.command(&NetNs::here(), &["lost", "--json"])?)?;
    let has = |list: &str, key: &str, value: &str| {
        lost[list].as_array().into_iter().flatten().any(|entry| entry[key] == value)
    };
    assert!(has("limits", "code", "no_messages") && !has("stages", "unit", "events"), "{lost}");
    let status = harness::ask_admin(testbed.admin, "/status.json")?;
    assert_eq!(serde_json::from_slice::<Value>(&status.body)?["messages"], Value::Null);
    Ok(())
}

#[test]
fn requests_that_are_no_message_are_left_alone() -> Result<()> {
    let testbed = Testbed::start()?;
    let body = whatsapp(&[message("wamid.1", now() / 1000)], &[]).to_string();
    for request in [
        post(UPSTREAM, &body, "200").replacen("POST", "PUT", 1),
        post(UPSTREAM, "", "200"),
        format!("GET /{UPSTREAM}/ HTTP/1.1\r\nHost: proxy.example\r\n\r\n"),
    ] {
        assert_eq!(testbed.client()?.ask(request)?.status(), 200);
    }
    let messages = testbed.messages()?;
    assert_eq!((&messages["upstreams"], unscanned(&testbed)?), (&json!([]), json!({})), "{messages}");
    Ok(())
}
