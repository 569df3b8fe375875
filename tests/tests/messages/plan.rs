//! A sender with a plan that the proxy does not know: the ledger equals it, event by event.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::testbed::{Testbed, UPSTREAM, message, messaging, now, post, status, whatsapp};

/// Numbers in an order that is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// How one event ends, and how it is written each time.
struct Planned {
    product: &'static str,
    /// The answers to its POSTs, in order.
    answers: Vec<&'static str>,
    /// As it is written, in milliseconds since 1970.
    happened: i64,
    write: Box<dyn Fn(i64) -> Value>,
}

/// What one plan came to while it was played.
#[derive(Default)]
struct Played {
    /// How often each event was sent.
    times: Vec<usize>,
    /// By product: POSTs with more than one event.
    batches: BTreeMap<&'static str, i64>,
    /// Events at first sight, and the sum of their lags in milliseconds.
    seen: u32,
    lag: i64,
}

/// The outcomes that a plan comes to, by product: delivered, recovered, duplicate, outstanding.
fn expected(plan: &[Planned]) -> BTreeMap<&'static str, [i64; 4]> {
    let mut all = BTreeMap::<_, [i64; 4]>::new();
    for Planned { product, answers, .. } in plan {
        let counts = all.entry(*product).or_default();
        let Some(first) = answers.iter().position(|answer| *answer == "200") else {
            counts[3] += 1;
            continue;
        };
        counts[usize::from(first > 0)] += 1;
        counts[2] += i64::try_from(answers.len() - first - 1).unwrap_or(0);
    }
    all
}

fn plan(random: &mut Random, events: usize) -> Vec<Planned> {
    const ANSWERS: [&[&str]; 8] = [
        &["200"],
        &["200"],
        &["200"],
        &["500", "200"],
        &["503", "201", "200"],
        &["502"],
        &["200", "200"],
        &["404", "200", "500"],
    ];
    let event = |number: usize| {
        let answers = ANSWERS[random.below(ANSWERS.len())].to_vec();
        let milliseconds = now() - random.below(60_000) as i64;
        let seconds = milliseconds / 1000;
        let (product, happened, write): (_, _, Box<dyn Fn(i64) -> Value>) = match random.below(4) {
            0 => {
                let mid = format!("m_{number}");
                let write = move |sent| messaging("page", &mid, milliseconds, sent);
                ("messenger", milliseconds, Box::new(write))
            }
            1 => {
                let mid = format!("i_{number}");
                let write = move |sent| messaging("instagram", &mid, milliseconds, sent);
                ("instagram", milliseconds, Box::new(write))
            }
            2 => {
                let message = message(&format!("wamid.{number}"), seconds);
                ("whatsapp", seconds * 1000, Box::new(move |_| whatsapp(std::slice::from_ref(&message), &[])))
            }
            _ => {
                let status = status(&format!("wamid.s{number}"), "delivered", seconds);
                ("whatsapp", seconds * 1000, Box::new(move |_| whatsapp(&[], std::slice::from_ref(&status))))
            }
        };
        Planned { product, answers, happened, write }
    };
    (0..events).map(event).collect()
}

fn actual(testbed: &Testbed) -> Result<BTreeMap<&'static str, [i64; 4]>> {
    ["messenger", "instagram", "whatsapp"]
        .into_iter()
        .map(|product| {
            let row = testbed.row(product)?;
            let outcome = |name: &str| row["outcomes"][name].as_i64().unwrap_or(-1);
            let outstanding = row["outstanding"].as_i64().unwrap_or(-1);
            Ok((product, [outcome("delivered"), outcome("recovered"), outcome("duplicate"), outstanding]))
        })
        .collect()
}

/// Sends the plan: POSTs of different events in any order, those of one in theirs. `most`: how many
/// events with the same product and answer come in one POST.
fn play(
    testbed: &Testbed,
    plan: &[Planned],
    order: &[usize],
    most: usize,
    random: &mut Random,
    played: &mut Played,
) -> Result<()> {
    played.times.resize(plan.len(), 0);
    let mut client = testbed.client()?;
    let mut left = order.to_vec();
    while let Some(number) = left.pop() {
        let (product, answer) = (plan[number].product, plan[number].answers[played.times[number]]);
        let mut together = vec![number];
        for _ in 1..=random.below(most) {
            let Some(at) = left.len().checked_sub(1).map(|last| last - random.below(last.min(50) + 1)) else {
                break;
            };
            let other = left[at];
            let next = plan[other].answers.get(played.times[other]);
            if !together.contains(&other) && plan[other].product == product && next == Some(&answer) {
                together.push(left.swap_remove(at));
            }
        }
        let sent = now();
        let mut body = (plan[number].write)(sent);
        for other in &together[1..] {
            let more = (plan[*other].write)(sent);
            let entries = body["entry"].as_array_mut().context("no entries")?;
            entries.extend(more["entry"].as_array().cloned().unwrap_or_default());
        }
        if together.len() > 1 {
            *played.batches.entry(product).or_default() += 1;
        }
        for event in together {
            if played.times[event] == 0 {
                played.seen += 1;
                played.lag += sent - plan[event].happened;
            }
            played.times[event] += 1;
        }
        let response = client.ask(post(UPSTREAM, &body.to_string(), answer))?;
        assert_eq!(response.status().to_string(), answer);
        if response.field("Connection") == Some("close") {
            client = testbed.client()?;
        }
    }
    Ok(())
}

/// Every POST of every event, in any order.
fn order(plan: &[Planned], random: &mut Random) -> Vec<usize> {
    let posts = plan.iter().enumerate().map(|(number, planned)| vec![number; planned.answers.len()]);
    let mut order: Vec<usize> = posts.flatten().collect();
    random.shuffle(&mut order);
    order
}

fn assert_equals_plan(testbed: &Testbed, plan: &[Planned]) -> Result<()> {
    let expected = expected(plan);
    harness::wait_until("the ledger is read", crate::testbed::TIMEOUT, || {
        Ok(actual(testbed).is_ok_and(|actual| actual == expected))
    })
    .ok();
    assert_eq!(actual(testbed)?, expected);
    Ok(())
}

#[test]
fn the_ledger_equals_the_plan_and_so_does_the_lag() -> Result<()> {
    const EVENTS: usize = 5000;
    let mut random = Random(0xfeed_5eed);
    let plan = plan(&mut random, EVENTS);
    let order = order(&plan, &mut random);
    let (testbed, mut played) = (Testbed::start()?, Played::default());
    play(&testbed, &plan, &order, 4, &mut random, &mut played)?;
    assert_equals_plan(&testbed, &plan)?;
    for (product, batches) in &played.batches {
        assert!(*batches > 100, "{product}: {batches}");
        assert_eq!(testbed.row(product)?["batches"].as_i64(), Some(*batches), "{product}");
    }
    let metrics = testbed.metrics()?;
    let lag = |what: &str| {
        metrics.value(&format!("hookgate_delivery_lag_seconds_{what}{{upstream=\"{UPSTREAM}\"}}"))
    };
    assert_eq!(lag("count"), f64::from(played.seen));
    let (mean, planned) = (lag("sum") / lag("count"), played.lag as f64 / 1000.0 / f64::from(played.seen));
    // It arrives a moment after it was sent.
    assert!((0.0..0.01).contains(&(mean - planned)), "{mean} s instead of {planned} s");
    Ok(())
}

#[test]
fn the_ledger_equals_the_plan_through_a_kill_and_a_takeover() -> Result<()> {
    const EVENTS: usize = 1500;
    let mut random = Random(0x5eed_cafe);
    let plan = plan(&mut random, EVENTS);
    let order = order(&plan, &mut random);
    let (mut testbed, mut played) = (Testbed::start()?, Played::default());
    let third = order.len() / 3;
    play(&testbed, &plan, &order[..third], 1, &mut random, &mut played)?;
    // What has ended is written down within a second.
    actual(&testbed)?;
    testbed.proxy.kill()?;
    testbed.start_again()?;
    play(&testbed, &plan, &order[third..2 * third], 1, &mut random, &mut played)?;
    testbed.proxy.upgrade()?;
    play(&testbed, &plan, &order[2 * third..], 1, &mut random, &mut played)?;
    assert_equals_plan(&testbed, &plan)
}
