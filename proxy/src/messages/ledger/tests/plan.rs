//! The statuses of messages over some hours, as Meta sends them and as they get lost: what the
//! ledger says of the chains is what was done to them.

use serde_json::{Value, json};

use super::*;
use crate::messages::{IdKey, Scan};

const MESSAGES: usize = 2_200;
const ROOM: usize = 20_000;
const SECRET: [u8; 32] = [7; 32];

/// Numbers in an order that is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.unsigned_abs()) as i64
    }

    fn happens(&mut self, percent: i64) -> bool {
        self.below(100) < percent
    }
}

/// One arrival of a status. Those of one POST stand side by side.
struct Arrival {
    at: i64,
    status: Value,
    is_delivered: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Truth {
    statuses: u64,
    lost_before_us: u64,
    complete: u64,
    sent_missing: u64,
    failed_at_first: u64,
    duplicates: u64,
}

/// Statuses of a number that is known for three hours: one in ten messages has no `delivered`, one
/// status in twenty never comes, three in ten messages have theirs in another order, one status in
/// ten fails at first and comes again among others, one in twenty comes twice.
fn plan(random: &mut Random) -> (Vec<Arrival>, Truth) {
    let (mut arrivals, mut truth) = (Vec::new(), Truth::default());
    for message in 0..MESSAGES {
        let sent = BEGIN + 3 * HOUR + random.below(5 * HOUR);
        let mut steps = vec![("sent", sent)];
        if !random.happens(10) {
            steps.push(("delivered", sent + 1 + random.below(20)));
        }
        if random.happens(60) {
            steps.push(("read", sent + 60 + random.below(1800)));
        }
        let mut times: Vec<i64> = steps.iter().map(|(_, at)| *at).collect();
        if random.happens(30) {
            times.reverse();
        }
        let mut seen = Vec::new();
        for ((name, happened), at) in steps.into_iter().zip(times) {
            truth.statuses += 1;
            if random.happens(5) {
                truth.lost_before_us += 1;
                continue;
            }
            seen.push(name);
            let status = json!({
                "id": format!("wamid.{message}"), "status": name, "timestamp": happened.to_string(),
                "recipient_id": "16505551234",
            });
            let mut come = |at, is_delivered| {
                arrivals.push(Arrival { at, status: status.clone(), is_delivered });
            };
            let fails = random.happens(10);
            truth.failed_at_first += u64::from(fails);
            let again = at + 60 + random.below(900);
            come(at, !fails);
            if fails {
                come(again, true);
            }
            if random.happens(5) {
                truth.duplicates += 1;
                come(again + 60, true);
            }
        }
        let has_sent = seen.contains(&"sent");
        let has_later = seen.iter().any(|name| *name != "sent");
        truth.complete += u64::from(has_sent && has_later);
        truth.sent_missing += u64::from(!has_sent && has_later);
    }
    arrivals.sort_by_key(|arrival| (arrival.at, arrival.is_delivered));
    (arrivals, truth)
}

fn post(scan: &mut Scan, key: &IdKey, statuses: &[&Value], is_delivered: bool, at: i64) -> Report {
    let value = json!({
        "messaging_product": "whatsapp", "metadata": { "phone_number_id": "106540352242922" },
        "statuses": statuses,
    });
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "1", "changes": [{ "value": value, "field": "messages" }] }],
    });
    let (arrived, ended) = (at * 1000, at * 1000);
    let mut report = Report { upstream: UPSTREAM.into(), is_delivered, arrived, ended, ..Report::default() };
    report.body.bytes = body.to_string().into_bytes();
    report.body.path = b"/webhooks/whatsapp".to_vec();
    report.body.is_whole = true;
    report.scan(scan, key);
    assert_eq!(report.unscanned, None);
    report
}

#[test]
fn the_chains_are_those_of_the_plan_through_a_kill_and_a_takeover() {
    let (mut random, file) = (Random(0x5eed_cafe), file(ROOM));
    let (arrivals, truth) = plan(&mut random);
    assert!(truth.statuses > 5_000, "{truth:?}");
    let (mut scan, key) = (Scan::new(), IdKey::new(&SECRET));
    let mut ledger = open(&file, ROOM, BEGIN);
    // From here on the number is known.
    let first = json!({ "id": "wamid.first", "status": "sent", "timestamp": BEGIN.to_string() });
    ledger.add(&post(&mut scan, &key, &[&first], true, BEGIN), 0);
    pass(&mut ledger, BEGIN, BEGIN + 3 * HOUR);

    // What has the same answer within a minute is one POST.
    let in_one = |one: &Arrival, other: &Arrival| {
        one.is_delivered == other.is_delivered && one.at.div_euclid(60) == other.at.div_euclid(60)
    };
    let posts: Vec<_> = arrivals.chunk_by(in_one).collect();
    assert!(posts.iter().any(|post| post.len() > 3));
    let (kill, takeover) = (posts.len() / 3, 2 * posts.len() / 3);
    for (number, together) in posts.iter().enumerate() {
        let at = together.last().unwrap().at;
        ledger.pass(at);
        if number == kill {
            drop(ledger);
            ledger = open(&file, ROOM, at + 1);
        }
        if number == takeover {
            let new = LedgerFile::open(&file, ROOM).unwrap();
            assert!(!new.claim(8, at));
            ledger.release(at);
            assert!(new.claim(8, at));
            ledger = new.read(8, at).unwrap();
        }
        let statuses: Vec<_> = together.iter().map(|arrival| &arrival.status).collect();
        ledger.add(&post(&mut scan, &key, &statuses, together[0].is_delivered, at), 0);
    }
    let end = arrivals.last().unwrap().at;
    pass(&mut ledger, end, end + CHAIN_SECONDS + 60);

    let came = truth.statuses - truth.lost_before_us + 1;
    assert_eq!(chains(&ledger), [truth.complete, truth.sent_missing, 0]);
    let delivered = came - truth.failed_at_first;
    assert_eq!(outcomes(&ledger), ([delivered, truth.failed_at_first, 0, 0, truth.duplicates], 0));
    // As an estimate of what is lost before us.
    let share = |part: u64, of: u64| 100.0 * part as f64 / of as f64;
    let estimate = share(truth.sent_missing, truth.complete + truth.sent_missing);
    let lost = share(truth.lost_before_us, truth.statuses);
    assert!((estimate - lost).abs() < 2.0, "{estimate} % instead of {lost} %");
}
