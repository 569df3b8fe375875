use anyhow::Result;
use harness::{Need, require, run};
use serde_json::{Value, json};

use crate::testbed::{TIMEOUT, Testbed, UPSTREAM, post};

/// What each sample of Meta's payloads holds: its product, and how many events.
const SAMPLES: [(&str, &str, i64); 21] = [
    ("instagram-text", "instagram", 1),
    ("messenger-text", "messenger", 1),
    ("wa-audio", "whatsapp", 1),
    ("wa-batch", "whatsapp", -1),
    ("wa-batch-1000-statuses", "whatsapp", 1000),
    ("wa-document", "whatsapp", 1),
    ("wa-image", "whatsapp", 1),
    ("wa-interactive-button", "whatsapp", 1),
    ("wa-interactive-flow", "whatsapp", 1),
    ("wa-interactive-list", "whatsapp", 1),
    ("wa-location", "whatsapp", 1),
    ("wa-reaction", "whatsapp", 1),
    ("wa-reply-context", "whatsapp", 1),
    ("wa-status-delivered", "whatsapp", 1),
    ("wa-status-failed-fwdproxy", "whatsapp", 1),
    ("wa-status-read", "whatsapp", 1),
    ("wa-status-sent", "whatsapp", 1),
    ("wa-template-status", "whatsapp", 1),
    ("wa-text", "whatsapp", 1),
    ("wa-text-unicode", "whatsapp", 1),
    ("wa-unsupported", "whatsapp", 1),
];

/// How many updates a body holds, counted by another reader.
fn updates(body: &Value) -> i64 {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut count = 0;
    for entry in list(body, "entry") {
        count += list(&entry, "messaging").len();
        for change in list(&entry, "changes") {
            let value = &change["value"];
            let of_messages = list(value, "messages").len() + list(value, "statuses").len();
            count += of_messages.max(1);
        }
    }
    i64::try_from(count).unwrap_or(-1)
}

#[test]
fn every_sample_of_metas_makes_its_events() -> Result<()> {
    for (name, product, expected) in SAMPLES {
        let testbed = Testbed::start()?;
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/payloads/{name}.json"));
        let text = std::fs::read_to_string(path)?;
        let body: Value = serde_json::from_str(&text)?;
        let expected = if expected < 0 { updates(&body) } else { expected };
        assert_eq!(updates(&body), expected, "{name}");
        for (sent, (delivered, duplicate)) in [(1, (expected, 0)), (2, (expected, expected))] {
            assert_eq!(testbed.client()?.ask(post(UPSTREAM, &text, "200"))?.status(), 200);
            let outcomes = testbed.row(product)?["outcomes"].clone();
            let counts = (&outcomes["delivered"], &outcomes["duplicate"]);
            assert_eq!(counts, (&json!(delivered), &json!(duplicate)), "{name}, sent {sent} times");
        }
        assert_eq!(testbed.messages()?["unscanned"]["not_json"], json!(0));
    }
    Ok(())
}

#[test]
fn what_hookgate_send_sends_is_understood() -> Result<()> {
    let _ = TIMEOUT;
    for (args, product, delivered, batches) in [
        (&["--batch", "10"][..], "whatsapp", 10, 1),
        (&["--count", "3", "--without-number"], "whatsapp", 3, 0),
        (&["--statuses"], "whatsapp", 3, 0),
        (&["--product", "messenger", "--batch", "4"], "messenger", 4, 1),
        (&["--product", "instagram"], "instagram", 1, 0),
    ] {
        let testbed = Testbed::start()?;
        let url = format!("http://{}/{UPSTREAM}/hook", testbed.address);
        let mut command = harness::NetNs::here().command(&harness::binary()?.to_string_lossy());
        command.arg("send").arg(&url).args(args);
        if !require(&[Need::Program("true")]) {
            return Ok(());
        }
        // Its verification request is answered by no receiver: the deliveries are what counts.
        let said = run(command);
        let row = testbed.row(product)?;
        assert_eq!(row["outcomes"]["delivered"], json!(delivered), "{args:?}: {row} {said:?}");
        assert_eq!(row["batches"], json!(batches), "{args:?}");
        let is_without = args.contains(&"--without-number");
        assert_eq!(row["without_number"], json!(if is_without { 3 } else { 0 }), "{args:?}");
        let is_chain = args.contains(&"--statuses");
        assert_eq!(row["chains"]["complete"], json!(i64::from(is_chain)), "{args:?}");
    }
    Ok(())
}
