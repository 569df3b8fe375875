//! What the deliveries hold: products, batches, statuses, users without a telephone number.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use harness::{APP_SECRET, Certs, Proxy, Reading, Receiver, TempDir, VERIFY_TOKEN, free_port};
use serde_json::Value;

use super::Sent;

/// Longer than a test takes, and shorter than the error of a wrong unit.
const MAX_AGE_MS: i64 = 60_000;

/// A running hookgate, and the receiver behind it.
struct Testbed {
    _dir: TempDir,
    _proxy: Proxy,
    receiver: Receiver,
    listen: String,
    ca: String,
}

impl Testbed {
    fn new(reading: Reading) -> Result<Self> {
        let dir = TempDir::new("send")?;
        let (edge, behind) = (Certs::new(&["proxy.example.com"])?, Certs::new(&["chatwoot.example.com"])?);
        let ([edge_ca, cert, key], [ca, ..]) = (edge.write(&dir, "edge")?, behind.write(&dir, "behind")?);
        let receiver = Receiver::start_with(&behind, reading, |_| ())?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let proxy = Proxy::start(&format!(
            "[listen]\nhttps = [\"{listen}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[upstreams]\n\
             \"chatwoot.example.com\" = {{ address = \"{}\", ca = {ca:?} }}\n",
            receiver.address()
        ))?;
        let ca = edge_ca.to_string_lossy().into_owned();
        Ok(Self { _dir: dir, _proxy: proxy, receiver, listen, ca })
    }

    /// Sends with `args`; the bodies that arrived, each with a valid signature.
    fn send(&self, args: &str) -> Result<Vec<Value>> {
        let before = self.receiver.received().len();
        let url = "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp/%2B5511999999999";
        let fixed = ["--connect", &self.listen, "--ca", &self.ca, "--secret", APP_SECRET];
        let fixed = [&[url, "--verify-token", VERIFY_TOKEN][..], &fixed].concat();
        let args: Vec<&str> = fixed.into_iter().chain(args.split_whitespace()).collect();
        let sent = Sent::new(&args)?;
        assert_eq!(sent.code, Some(0), "{args:?}: {}{}", sent.stdout, sent.stderr);
        let received = self.receiver.received();
        let bodies = received[before..].iter().filter(|request| request.method == "POST").map(|delivery| {
            assert!(delivery.is_signed() && delivery.body.len() < 3_000_000);
            serde_json::from_slice(&delivery.body).context("not JSON")
        });
        bodies.collect()
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn unique<T: std::hash::Hash + Eq>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<HashSet<_>>().len()
}

fn assert_is_now(milliseconds: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis();
    let age = i64::try_from(now).expect("a time before the year 292,000,000") - milliseconds;
    assert!((-1..MAX_AGE_MS).contains(&age), "{milliseconds} is {age} ms ago");
}

/// The `value` of each change, after a look at what surrounds them.
fn values(body: &Value) -> Vec<&Value> {
    assert_eq!(body["object"], "whatsapp_business_account");
    let entries = list(&body["entry"]);
    assert_eq!(unique(entries.iter().map(|entry| text(entry, "id"))), entries.len(), "{body}");
    let changes = entries.iter().flat_map(|entry| list(&entry["changes"]));
    changes
        .map(|change| {
            assert_eq!(change["field"], "messages");
            let value = &change["value"];
            assert_eq!(value["messaging_product"], "whatsapp");
            assert!(!text(&value["metadata"], "phone_number_id").is_empty());
            assert!(!text(&value["metadata"], "display_phone_number").is_empty());
            for item in list(&value["messages"]).iter().chain(list(&value["statuses"])) {
                let timestamp = text(item, "timestamp");
                assert_eq!(timestamp.len(), 10, "{item}");
                assert_is_now(timestamp.parse::<i64>().expect("seconds") * 1000);
                assert!(text(item, "id").starts_with("wamid."), "{item}");
            }
            value
        })
        .collect()
}

/// The items of `messaging` of all entries, after a look at what surrounds them.
fn items<'b>(body: &'b Value, object: &str) -> Vec<&'b Value> {
    assert_eq!(body["object"], *object);
    let entries = list(&body["entry"]);
    assert_eq!(unique(entries.iter().map(|entry| text(entry, "id"))), entries.len(), "{body}");
    let mut all = Vec::new();
    for entry in entries {
        let time = entry["time"].as_i64().expect("a number");
        assert_is_now(time);
        for item in list(&entry["messaging"]) {
            assert!(item["timestamp"].as_i64().is_some_and(|at| at <= time && at > time - 1000), "{item}");
            assert_eq!(text(&item["recipient"], "id"), text(entry, "id"));
            assert!(!text(&item["sender"], "id").is_empty());
            all.push(item);
        }
    }
    all
}

#[test]
fn a_delivery_of_each_product() -> Result<()> {
    let testbed = Testbed::new(Reading::All)?;
    let bodies = testbed.send("--count 3")?;
    assert_eq!(bodies.len(), 3);
    let values: Vec<&Value> = bodies.iter().flat_map(values).collect();
    let messages: Vec<&Value> = values.iter().flat_map(|value| list(&value["messages"])).collect();
    assert_eq!((values.len(), messages.len()), (3, 3));
    assert_eq!(unique(messages.iter().map(|message| text(message, "id"))), 3);
    for (value, message) in values.iter().zip(&messages) {
        let contact = &value["contacts"][0];
        assert_eq!(text(message, "from"), text(contact, "wa_id"));
        assert_eq!(text(message, "from_user_id"), text(contact, "user_id"));
        assert!(contact["profile"].get("username").is_none(), "{contact}");
        assert_eq!((&message["type"], &value["statuses"]), (&"text".into(), &Value::Null));
    }
    // All are of one conversation, and numbered.
    assert_eq!(unique(messages.iter().map(|message| text(message, "from"))), 1);
    assert_eq!(messages[2]["text"]["body"], "Test message 3 of 3 from hookgate send");

    for (product, object, prefix) in [("messenger", "page", "m_"), ("instagram", "instagram", "aWdf")] {
        let bodies = testbed.send(&format!("--product {product} --count 3"))?;
        let items: Vec<&Value> = bodies.iter().flat_map(|body| items(body, object)).collect();
        assert_eq!(items.len(), 3);
        assert_eq!(unique(items.iter().map(|item| text(&item["message"], "mid"))), 3);
        assert!(items.iter().all(|item| text(&item["message"], "mid").starts_with(prefix)), "{items:?}");
        assert!(items[0]["message"]["text"].is_string());
    }

    // Another run has other ids.
    for product in ["whatsapp", "messenger", "instagram"] {
        testbed.send(&format!("--product {product} --count 3"))?;
    }
    assert_eq!(unique(testbed.receiver.updates().iter().map(|update| update.id.as_str())), 18);
    Ok(())
}

#[test]
fn a_batch_is_spread_over_entries_and_changes() -> Result<()> {
    let testbed = Testbed::new(Reading::All)?;
    let bodies = testbed.send("--batch 10 --count 2")?;
    for body in &bodies {
        let entries = list(&body["entry"]);
        assert!(entries.len() > 1, "{body}");
        assert!(entries.iter().all(|entry| list(&entry["changes"]).len() > 1), "{body}");
        let values = values(body);
        assert!(values.iter().any(|value| list(&value["messages"]).len() > 1), "{body}");
        assert_eq!(values.iter().map(|value| list(&value["messages"]).len()).sum::<usize>(), 10);
        for value in values {
            let of = |items: &str, key: &str| -> Vec<String> {
                list(&value[items]).iter().map(|item| text(item, key).to_owned()).collect()
            };
            assert_eq!(of("messages", "from"), of("contacts", "wa_id"));
        }
    }
    assert_eq!(unique(testbed.receiver.updates().iter().map(|update| update.id.as_str())), 20);

    for (product, object) in [("messenger", "page"), ("instagram", "instagram")] {
        let bodies = testbed.send(&format!("--product {product} --batch 10"))?;
        let [body] = &bodies[..] else { panic!("{} deliveries", bodies.len()) };
        let items = items(body, object);
        assert_eq!(unique(items.iter().map(|item| text(&item["message"], "mid"))), 10);
        assert!(list(&body["entry"]).len() > 1);
        assert!(list(&body["entry"]).iter().all(|entry| list(&entry["messaging"]).len() > 1));
    }

    for product in ["whatsapp", "messenger", "instagram"] {
        for more in ["", "--statuses"] {
            let before = testbed.receiver.updates().len();
            testbed.send(&format!("--product {product} --batch 1000 {more}"))?;
            assert_eq!(testbed.receiver.updates().len() - before, 1000, "{product} {more}");
        }
    }
    Ok(())
}

#[test]
fn statuses_come_apart_and_in_a_batch_together() -> Result<()> {
    let testbed = Testbed::new(Reading::All)?;
    let bodies = testbed.send("--statuses")?;
    let values: Vec<&Value> = bodies.iter().flat_map(values).collect();
    let statuses: Vec<&Value> = values.iter().flat_map(|value| list(&value["statuses"])).collect();
    let names: Vec<&str> = statuses.iter().map(|status| text(status, "status")).collect();
    assert_eq!((bodies.len(), &names[..]), (3, &["sent", "delivered", "read"][..]));
    assert_eq!(unique(statuses.iter().map(|status| text(status, "id"))), 1);
    for (value, status) in values.iter().zip(&statuses) {
        assert!(value.get("messages").is_none(), "{value}");
        assert_eq!(text(status, "recipient_id"), text(&value["contacts"][0], "wa_id"));
        assert_eq!(text(status, "recipient_user_id"), text(&value["contacts"][0], "user_id"));
    }

    let bodies = testbed.send("--statuses --batch 10 --count 3")?;
    let statuses = |body| {
        let statuses = named_statuses(body);
        assert_eq!(statuses.len(), 10);
        statuses
    };
    let all: Vec<(String, String)> = bodies.iter().flat_map(statuses).collect();
    // Ten messages, three statuses of each.
    assert_eq!((unique(&all), unique(all.iter().map(|(id, _)| id))), (30, 10));

    let before = testbed.receiver.updates().len();
    let bodies = testbed.send("--statuses --product messenger")?;
    let [delivery, read] = &bodies.iter().flat_map(|body| items(body, "page")).collect::<Vec<_>>()[..] else {
        panic!("{bodies:?}")
    };
    assert!(delivery["delivery"]["mids"][0].as_str().is_some_and(|mid| mid.starts_with("m_")), "{delivery}");
    assert_is_now(delivery["delivery"]["watermark"].as_i64().context("no number")?);
    assert_is_now(read["read"]["watermark"].as_i64().context("no number")?);
    assert_eq!(delivery["sender"], read["sender"]);

    let bodies = testbed.send("--statuses --product messenger --batch 50 --count 2")?;
    let items_of = |body| items(body, "page");
    let reads = bodies.iter().flat_map(items_of).filter(|item| item.get("read").is_some());
    let known_by = reads.map(|item| format!("{} {}", item["sender"], item["read"])).collect::<Vec<_>>();
    assert_eq!((unique(&known_by), known_by.len()), (50, 50));

    let bodies = testbed.send("--statuses --product instagram --count 2")?;
    let reads = bodies.iter().flat_map(|body| items(body, "instagram"));
    assert_eq!(unique(reads.map(|item| text(&item["read"], "mid").to_owned())), 2);
    let kinds: Vec<&str> = testbed.receiver.updates()[before..].iter().map(|update| update.kind).collect();
    let count = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!((count("delivery"), count("read"), kinds.len()), (51, 53, 104));
    Ok(())
}

/// Id and name of each status.
fn named_statuses(body: &Value) -> Vec<(String, String)> {
    let statuses = values(body).into_iter().flat_map(|value| list(&value["statuses"]));
    statuses.map(|status| (text(status, "id").to_owned(), text(status, "status").to_owned())).collect()
}

#[test]
fn users_without_a_number_have_a_user_id() -> Result<()> {
    let testbed = Testbed::new(Reading::All)?;
    for args in ["--without-number --batch 4", "--without-number --statuses"] {
        for body in testbed.send(args)? {
            let json = body.to_string();
            for field in ["\"from\"", "\"wa_id\"", "\"recipient_id\""] {
                assert!(!json.contains(field), "{field} in {json}");
            }
            for value in values(&body) {
                let user = list(&value["messages"]).first().map(|message| text(message, "from_user_id"));
                let recipient =
                    list(&value["statuses"]).first().map(|status| text(status, "recipient_user_id"));
                let id = text(&value["contacts"][0], "user_id");
                assert_eq!(user.or(recipient), Some(id));
                assert!(id.starts_with("US."), "{id}");
            }
        }
    }
    let messages = testbed.receiver.updates().into_iter().filter(|update| update.kind == "messages");
    assert_eq!(messages.count(), 4);
    Ok(())
}

#[test]
fn a_receiver_that_reads_the_first_update_misses_the_rest() -> Result<()> {
    let (all, first) = (Testbed::new(Reading::All)?, Testbed::new(Reading::First)?);
    let read = |testbed: &Testbed, args: &str| -> Result<usize> {
        let before = testbed.receiver.updates().len();
        testbed.send(args)?;
        Ok(testbed.receiver.updates().len() - before)
    };
    for product in ["whatsapp", "messenger", "instagram"] {
        for batch in [2, 3, 10] {
            for more in ["", "--statuses"] {
                let args = format!("--product {product} --batch {batch} --count 2 {more}");
                assert_eq!((read(&all, &args)?, read(&first, &args)?), (2 * batch, 2), "{args}");
            }
        }
        // Without a batch nothing shows that it reads no more.
        let args = format!("--product {product} --count 2");
        assert_eq!((read(&all, &args)?, read(&first, &args)?), (2, 2), "{args}");
    }
    Ok(())
}

#[test]
fn the_summary_says_how_many_updates() -> Result<()> {
    let dir = TempDir::new("send")?;
    let payload = dir.write("payload.json", "{}")?;
    let origin = harness::Origin::plain(super::serve)?;
    let url = super::url(origin.address());
    let batch = Sent::new(&[&url, "--batch", "10", "--count", "3"])?;
    assert!(batch.stdout.ends_with(", 30 updates\n"), "{}", batch.stdout);
    let one = Sent::new(&[&url])?;
    assert!(!one.stdout.contains("updates"), "{}", one.stdout);
    let updates = |args: &[&str]| -> Result<Value> {
        Ok(Sent::new(&[&[&*url, "--json"], args].concat())?.document()?["summary"]["updates"].clone())
    };
    assert_eq!(updates(&["--batch", "10", "--count", "3"])?, 30);
    assert_eq!(updates(&["--statuses"])?, 3);
    assert_eq!(updates(&["--payload", &payload.to_string_lossy()])?, Value::Null);
    Ok(())
}

#[test]
fn combinations_that_mean_nothing_are_refused() -> Result<()> {
    for (args, error) in [
        ("--payload x --product messenger", "'--payload <FILE>' cannot be used with '--product <PRODUCT>'"),
        ("--payload x --product whatsapp", "'--payload <FILE>' cannot be used with '--product <PRODUCT>'"),
        ("--payload x --batch 2", "'--payload <FILE>' cannot be used with '--batch <N>'"),
        ("--payload x --statuses", "'--payload <FILE>' cannot be used with '--statuses'"),
        ("--payload x --without-number", "'--payload <FILE>' cannot be used with '--without-number'"),
        ("--without-number --product messenger", "--without-number is for --product whatsapp"),
        ("--without-number --product instagram", "--without-number is for --product whatsapp"),
        ("--product telegram", "[possible values: whatsapp, messenger, instagram]"),
        ("--batch 0", "0 is not in 1..=1000"),
        ("--batch 1001", "1001 is not in 1..=1000"),
    ] {
        let sent =
            Sent::new(&["http://127.0.0.1:1/"].into_iter().chain(args.split(' ')).collect::<Vec<_>>())?;
        assert_eq!((sent.code, sent.stdout.as_str()), (Some(2), ""), "{args}");
        assert!(sent.stderr.starts_with("error: ") && sent.stderr.contains(error), "{args}: {}", sent.stderr);
    }
    Ok(())
}
