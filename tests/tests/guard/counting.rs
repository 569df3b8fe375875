//! Packets, bytes and SYNs, compared with a tap on the sender's end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use harness::{Certs, Counts, Need, Nginx, Tap, equal, wait_until};

use super::testbed::{CLOSED, META, STRANGERS, Testbed, UNGUARDED, by_prefix, can_run};

#[test]
fn counts_what_was_sent_to_the_packet_and_byte() -> Result<()> {
    counts_what_was_sent("native")
}

#[test]
fn tc_counts_what_was_sent_to_the_packet_and_byte() -> Result<()> {
    counts_what_was_sent("tc")
}

fn counts_what_was_sent(xdp: &str) -> Result<()> {
    if !can_run(&[Need::Program("nginx")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let _nginx = Nginx::start(&testbed.edge, "[::]:443".parse()?, &Certs::new(&["edge.example"])?)?;
    let attached = testbed.run(&format!("xdp = \"{xdp}\""), "guard attach")?;
    assert_eq!(attached, format!("attached to wan0 ({xdp})\n"));
    let taps = [443, CLOSED].map(|port| Tap::start(&testbed.meta, "wan0", port));

    for from in META.iter().map(|(address, _)| *address).chain(STRANGERS) {
        testbed.send(from, 443)?;
        testbed.send(from, CLOSED)?;
        testbed.send(from, UNGUARDED)?;
    }
    testbed.send(META[0].0, 443)?;

    let prefix_of: BTreeMap<&str, &str> = META.into_iter().collect();
    let sent = || -> Result<BTreeMap<String, Counts>> {
        let mut sent = BTreeMap::<String, Counts>::new();
        for tap in taps.iter().flatten() {
            for (from, counts) in tap.counts()? {
                let prefix = prefix_of.get(from.to_string().as_str()).unwrap_or(&"other");
                *sent.entry((*prefix).to_owned()).or_default() += counts;
            }
        }
        Ok(sent)
    };
    // The last connection's end may still be on its way.
    wait_until("all packets are counted", Duration::from_secs(5), || {
        Ok(equal(by_prefix(&testbed.stats()?), sent()?))
    })?;
    let (stats, sent) = (testbed.stats()?, sent()?);
    assert_eq!(by_prefix(&stats), sent);
    assert_eq!(sent.len(), META.len() + 1);
    assert_eq!(sent[META[0].1].syns, 3, "two connections, one to a closed port");
    assert_eq!(sent["other"].syns, 4);
    for tap in taps {
        tap?.finish()?;
    }

    assert_eq!(stats["guard"]["state"], "attached");
    assert_eq!(stats["guard"]["interfaces"][0]["xdp"], xdp);
    assert_eq!(stats["prefixes"].as_array().map(Vec::len), Some(279));
    let table = testbed.run("", "stats")?;
    assert!(table.contains("\n157.240.0.0/17 ") && !table.contains("\n31.13.24.0/21 "), "{table}");
    let seen = |prefix: &str| {
        stats["prefixes"].as_array()?.iter().find(|row| row["prefix"] == prefix)?["last_seen"].as_str()
    };
    let since = stats["guard"]["since"].as_str();
    assert!(since <= seen("157.240.0.0/17") && seen("157.240.0.0/17") <= stats["taken"].as_str(), "{stats}");
    assert_eq!(seen("31.13.24.0/21"), None);
    Ok(())
}
