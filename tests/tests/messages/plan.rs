//! A sender with a plan that the proxy does not know: the ledger equals it, event by event.

use std::collections::BTreeMap;

use anyhow::Result;
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

/// What becomes of one event, and how it is written each time.
struct Planned {
    product: &'static str,
    /// The answers to its POSTs, in order.
    answers: Vec<&'static str>,
    write: Box<dyn Fn(i64) -> Value>,
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
        let happened = now() - random.below(60_000) as i64;
        let (product, write): (_, Box<dyn Fn(i64) -> Value>) = match random.below(4) {
            0 => {
                ("messenger", Box::new(move |sent| messaging("page", &format!("m_{number}"), happened, sent)))
            }
            1 => (
                "instagram",
                Box::new(move |sent| messaging("instagram", &format!("i_{number}"), happened, sent)),
            ),
            2 => (
                "whatsapp",
                Box::new(move |_| whatsapp(&[message(&format!("wamid.{number}"), happened / 1000)], &[])),
            ),
            _ => (
                "whatsapp",
                Box::new(move |_| {
                    whatsapp(&[], &[status(&format!("wamid.s{number}"), "delivered", happened / 1000)])
                }),
            ),
        };
        Planned { product, answers, write }
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

/// Sends the plan: POSTs of different events in any order, those of one in theirs.
fn play(testbed: &Testbed, plan: &[Planned], order: &[usize], next: &mut [usize]) -> Result<()> {
    let mut client = testbed.client()?;
    for number in order {
        let planned = &plan[*number];
        let Some(answer) = planned.answers.get(next[*number]) else { continue };
        next[*number] += 1;
        let body = (planned.write)(now()).to_string();
        let response = client.ask(post(UPSTREAM, &body, answer))?;
        assert_eq!(response.status().to_string(), *answer);
        if response.field("Connection") == Some("close") {
            client = testbed.client()?;
        }
    }
    Ok(())
}

#[test]
fn the_ledger_equals_the_plan_through_a_kill_and_a_takeover() -> Result<()> {
    const EVENTS: usize = 1500;
    let mut random = Random(0x5eed_cafe);
    let plan = plan(&mut random, EVENTS);
    let mut order: Vec<usize> =
        plan.iter().enumerate().flat_map(|(number, planned)| vec![number; planned.answers.len()]).collect();
    random.shuffle(&mut order);
    let mut next = vec![0; EVENTS];
    let mut testbed = Testbed::start()?;
    let third = order.len() / 3;
    play(&testbed, &plan, &order[..third], &mut next)?;
    // What has ended is written down within a second.
    actual(&testbed)?;
    testbed.proxy.kill()?;
    testbed.start_again()?;
    play(&testbed, &plan, &order[third..2 * third], &mut next)?;
    testbed.proxy.upgrade()?;
    play(&testbed, &plan, &order[2 * third..], &mut next)?;
    let expected = expected(&plan);
    harness::wait_until("the ledger is read", crate::testbed::TIMEOUT, || {
        Ok(actual(&testbed).is_ok_and(|actual| actual == expected))
    })
    .ok();
    assert_eq!(actual(&testbed)?, expected);
    Ok(())
}
