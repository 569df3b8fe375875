use std::time::Duration;

use anyhow::Result;
use harness::{NetNs, pace, wait_until};
use serde_json::{Value, json};

use crate::testbed::{TIMEOUT, Testbed, UPSTREAM, message, messaging, now, post, status, whatsapp};

fn outcomes(row: &Value) -> [i64; 6] {
    let outcome = |name: &str| row["outcomes"][name].as_i64().unwrap_or(-1);
    let [delivered, recovered, lost] = ["delivered", "recovered", "lost"].map(outcome);
    [
        delivered,
        recovered,
        lost,
        outcome("unknown"),
        outcome("duplicate"),
        row["outstanding"].as_i64().unwrap_or(-1),
    ]
}

#[test]
fn an_event_ends_as_its_posts_do() -> Result<()> {
    let testbed = Testbed::start()?;
    let seconds = now() / 1000;
    let body = |id: &str| whatsapp(&[message(id, seconds)], &[]);
    assert_eq!(testbed.send(&body("wamid.1"), "200")?, 200);
    assert_eq!(testbed.send(&body("wamid.2"), "500")?, 500);
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [1, 0, 0, 0, 0, 1]);
    // A 201 is none: Meta wants a 200.
    assert_eq!(testbed.send(&body("wamid.2"), "201")?, 201);
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [1, 0, 0, 0, 0, 1]);
    assert_eq!(testbed.send(&body("wamid.2"), "200")?, 200);
    assert_eq!(testbed.send(&body("wamid.1"), "200")?, 200);
    assert_eq!(testbed.send(&body("wamid.1"), "503")?, 503);
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [1, 1, 0, 0, 2, 0]);
    // A 200 that breaks off inside its body is a failure.
    let mut client = testbed.client()?;
    client.ask(post(UPSTREAM, &body("wamid.3").to_string(), "cut"))?;
    wait_until("the cut answer counts", TIMEOUT, || Ok(testbed.row("whatsapp")?["outstanding"] == 1))?;
    let metrics = testbed.metrics()?;
    for (series, value) in [
        ("hookgate_messages_total{upstream=\"up.example\",kind=\"message\",outcome=\"delivered\"}", 1.0),
        ("hookgate_messages_total{upstream=\"up.example\",kind=\"message\",outcome=\"recovered\"}", 1.0),
        ("hookgate_messages_total{upstream=\"up.example\",kind=\"message\",outcome=\"duplicate\"}", 2.0),
        ("hookgate_messages_outstanding{upstream=\"up.example\"}", 1.0),
        ("hookgate_delivery_lag_seconds_count{upstream=\"up.example\"}", 3.0),
    ] {
        assert_eq!(metrics.value(series), value, "{series}");
    }
    let row = testbed.row("whatsapp")?;
    assert!(row["recovered_seconds"]["p99"].is_number(), "{row}");
    Ok(())
}

#[test]
fn every_event_of_a_batch_has_its_own_outcome() -> Result<()> {
    let testbed = Testbed::start()?;
    let seconds = now() / 1000;
    let messages: Vec<_> = (0..5).map(|number| message(&format!("wamid.{number}"), seconds)).collect();
    let statuses: Vec<_> = ["sent", "delivered", "read"].map(|it| status("wamid.own", it, seconds)).into();
    assert_eq!(testbed.send(&whatsapp(&messages, &statuses), "500")?, 500);
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [0, 0, 0, 0, 0, 8]);
    // Meta batches anew as it likes.
    assert_eq!(testbed.send(&whatsapp(&messages[..2], &statuses[..1]), "200")?, 200);
    assert_eq!(testbed.send(&whatsapp(&messages[1..4], &statuses[1..]), "200")?, 200);
    let row = testbed.row("whatsapp")?;
    assert_eq!(outcomes(&row), [0, 7, 0, 0, 1, 1]);
    assert_eq!((&row["batches"], &row["chains"]["complete"]), (&json!(3), &json!(1)));
    let series = "hookgate_status_chains_total{upstream=\"up.example\",outcome=\"complete\"}";
    assert_eq!(testbed.metrics()?.value(series), 1.0);
    Ok(())
}

#[test]
fn a_retry_with_another_send_time_is_the_same_event() -> Result<()> {
    for (object, product) in [("page", "messenger"), ("instagram", "instagram")] {
        let testbed = Testbed::start()?;
        let happened = now() - 400_000;
        let send = |sent, answer: &str| testbed.send(&messaging(object, "m_1", happened, sent), answer);
        assert_eq!(send(happened + 100_000, "502")?, 502);
        assert_eq!(send(now() - 250, "200")?, 200);
        let row = testbed.row(product)?;
        assert_eq!(outcomes(&row), [0, 1, 0, 0, 0, 0], "{row}");
        assert_eq!(row["lag_seconds"]["p50"], json!(1800), "at first sight");
        let metrics = testbed.metrics()?;
        let sum = |name: &str| metrics.value(&format!("{name}_sum{{product=\"{product}\"}}"));
        assert_eq!(sum("hookgate_meta_queue_seconds"), 100.0, "at first sight");
        let wire = sum("hookgate_wire_seconds");
        assert!((300.0..303.0).contains(&wire), "of every POST: {wire}");
        let lag = metrics.value("hookgate_delivery_lag_seconds_sum{upstream=\"up.example\"}");
        assert!((400.0..402.0).contains(&lag), "{lag}");
        assert_eq!(row["numbers"][0]["id"], json!("1234567890"));
    }
    Ok(())
}

#[test]
fn times_in_the_future_are_no_lag() -> Result<()> {
    let testbed = Testbed::start()?;
    let send =
        |mid: &str, ahead: i64| testbed.send(&messaging("page", mid, now() + ahead, now() + ahead), "200");
    send("m_1", 1_000)?;
    send("m_2", 60_000)?;
    let metrics = testbed.metrics()?;
    assert_eq!(metrics.value("hookgate_lag_negative_total"), 2.0, "as event and as send time");
    assert_eq!(metrics.value("hookgate_delivery_lag_seconds_count{upstream=\"up.example\"}"), 1.0);
    let lost: Value = serde_json::from_str(&testbed.proxy.command(&NetNs::here(), &["lost", "--json"])?)?;
    let codes: Vec<_> =
        lost["limits"].as_array().into_iter().flatten().map(|limit| limit["code"].clone()).collect();
    assert!(codes.contains(&json!("clock")), "{lost}");
    Ok(())
}

#[test]
fn what_comes_late_though_nothing_failed_here_is_of_meta() -> Result<()> {
    let testbed = Testbed::start()?;
    let late = now() - 3_600_000;
    for number in 0..6 {
        let body = messaging("page", &format!("m_{number}"), late, now());
        assert_eq!(testbed.send(&body, "200")?, 200);
    }
    // Enough that their share is not all.
    for number in 10..14 {
        testbed.send(&messaging("page", &format!("m_{number}"), now(), now()), "200")?;
    }
    let lost = lost(&testbed)?;
    let verdict = &lost["verdict"];
    let [stage, unit, cause] =
        ["stage", "unit", "cause"].map(|key| verdict[key].as_str().unwrap_or_default());
    assert_eq!((stage, unit, cause), ("meta", "events", "lag"), "{lost}");
    let counts = ["lost", "late", "of"].map(|key| verdict[key].as_i64().unwrap_or(-1));
    assert_eq!(counts, [0, 6, 10], "{lost}");
    Ok(())
}

fn lost(testbed: &Testbed) -> Result<Value> {
    let mut command = NetNs::here().command(&harness::binary()?.to_string_lossy());
    let output = command.args(["lost", "--json", "--config"]).arg(testbed.proxy.config()).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn posts_whose_events_come_again_are_late_and_not_lost() -> Result<()> {
    let testbed = Testbed::start()?;
    let body = |number: usize| messaging("page", &format!("m_{number}"), now(), now());
    for number in 0..8 {
        testbed.send(&body(number), "503")?;
    }
    let upstream = |lost: &Value| {
        let stages = lost["stages"].as_array().cloned().unwrap_or_default();
        let stage = stages.iter().find(|stage| stage["stage"] == "upstream").cloned().unwrap_or_default();
        ["lost", "late", "of"].map(|key| stage[key].as_i64().unwrap_or(-1))
    };
    assert_eq!(upstream(&lost(&testbed)?), [8, 0, 8]);
    for number in 0..5 {
        testbed.send(&body(number), "200")?;
    }
    assert_eq!(upstream(&lost(&testbed)?), [3, 5, 13]);
    assert_eq!(
        lost(&testbed)?["verdict"]["text"].as_str().map(|text| text.contains("came late")),
        Some(true)
    );
    Ok(())
}

#[test]
fn what_comes_late_after_something_failed_here_is_not_of_meta() -> Result<()> {
    let mut testbed = Testbed::start()?;
    let happened = now() - 3_600_000;
    testbed.send(&messaging("page", "m_first", now(), now()), "500")?;
    for number in 0..6 {
        testbed.send(&messaging("page", &format!("m_{number}"), happened, now()), "200")?;
    }
    let events = |lost: &Value| {
        let stages = lost["stages"].as_array().cloned().unwrap_or_default();
        let meta = stages.iter().find(|stage| stage["stage"] == "meta").cloned().unwrap_or_default();
        [meta["late"].as_i64(), meta["of"].as_i64()]
    };
    assert_eq!(events(&lost(&testbed)?), [Some(0), Some(7)]);
    // Nor after hookgate did not serve.
    testbed.proxy.stop()?;
    pace(Duration::from_secs(4));
    testbed.start_again()?;
    wait_until("the ledger is read", TIMEOUT, || Ok(testbed.row("messenger").is_ok()))?;
    for number in 10..16 {
        testbed.send(&messaging("page", &format!("m_{number}"), happened, now()), "200")?;
    }
    assert_eq!(events(&lost(&testbed)?), [Some(0), Some(13)]);
    Ok(())
}

#[test]
fn nothing_is_forgotten_by_a_kill() -> Result<()> {
    let mut testbed = Testbed::start()?;
    let seconds = now() / 1000;
    let body = |id: &str| whatsapp(&[message(id, seconds)], &[]);
    testbed.send(&body("wamid.1"), "200")?;
    testbed.send(&body("wamid.2"), "500")?;
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [1, 0, 0, 0, 0, 1]);
    testbed.proxy.kill()?;
    testbed.start_again()?;
    wait_until("the ledger is read", TIMEOUT, || Ok(testbed.row("whatsapp").is_ok()))?;
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [1, 0, 0, 0, 0, 1]);
    testbed.send(&body("wamid.2"), "200")?;
    testbed.send(&body("wamid.1"), "200")?;
    assert_eq!(outcomes(&testbed.row("whatsapp")?), [1, 1, 0, 0, 1, 0]);
    // Metrics begin with the process.
    let series = "hookgate_messages_total{upstream=\"up.example\",kind=\"message\",outcome=\"delivered\"}";
    assert_eq!(testbed.metrics()?.value(series), 0.0);
    Ok(())
}

#[test]
fn the_process_that_is_replaced_reports_to_the_next() -> Result<()> {
    let testbed = Testbed::start()?;
    let seconds = now() / 1000;
    let body = |id: &str| whatsapp(&[message(id, seconds)], &[]).to_string();
    testbed.send(&serde_json::from_str(&body("wamid.1"))?, "500")?;
    let mut under_way = testbed.client()?;
    under_way.wire().send(post(UPSTREAM, &body("wamid.1"), "slow"))?;
    // Until the upstream has it.
    pace(Duration::from_millis(300));
    testbed.proxy.upgrade()?;
    wait_until("the ledger is the next one's", TIMEOUT, || Ok(testbed.row("whatsapp").is_ok()))?;
    testbed.send(&serde_json::from_str(&body("wamid.2"))?, "200")?;
    assert_eq!(under_way.response()?.status(), 200);
    let all = || Ok(outcomes(&testbed.row("whatsapp")?) == [1, 1, 0, 0, 0, 0]);
    wait_until("what was under way is told to the next process", TIMEOUT, all)?;
    Ok(())
}
