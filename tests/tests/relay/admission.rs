//! Who gets a connection when there are not enough: Meta always, strangers within bounds.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Client, pace};

use crate::{OK, Origin, Relay, get, proxy_line, upstream};

/// Longer than any of these tests holds an idle connection.
const PATIENT: &str = "[timeouts]\nrequest_head = \"30s\"\n";

const META: &str = "157.240.1.1";
const META_V6: &str = "2a03:2880:f0ff::1";

/// A relay that believes what this machine says of its clients.
fn relay(limits: &str, more: &str) -> Result<Relay> {
    let listen = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    Relay::listening(listen, &format!("{PATIENT}[limits]\n{limits}\n{more}"))
}

/// A connection of the client at `address`, on which a request was answered; `None` when it was
/// closed without a byte.
fn arrive(relay: &Relay, address: &str) -> Result<Option<Client>> {
    arrive_with(relay, &proxy_line(address))
}

fn arrive_with(relay: &Relay, header: &str) -> Result<Option<Client>> {
    let mut client = relay.client()?;
    client.wire().send(header.to_owned() + &get("/"))?;
    match client.response() {
        Ok(answer) => {
            assert_eq!(answer.status(), 404);
            Ok(Some(client))
        }
        Err(error) => {
            client.wire().closed().with_context(|| format!("{header}: {error:#}"))?;
            assert_eq!(client.wire().heard(), b"", "{header}");
            Ok(None)
        }
    }
}

/// As many connections of each as were asked for, and how many of them were admitted.
fn arrive_all(relay: &Relay, clients: &[(&str, usize)]) -> Result<(Vec<Client>, Vec<usize>)> {
    let mut held = Vec::new();
    let mut admitted = Vec::new();
    for (address, count) in clients {
        let before = held.len();
        for _ in 0..*count {
            held.extend(arrive(relay, address)?);
        }
        admitted.push(held.len() - before);
    }
    Ok((held, admitted))
}

fn refused(relay: &Relay) -> Result<BTreeMap<String, f64>> {
    let metrics = relay.metrics()?;
    let by_reason = metrics.family("hookgate_refused_total").into_iter();
    let connections = by_reason.filter(|(labels, _)| *labels != "{reason=\"destination_not_found\"}");
    Ok(connections.map(|(labels, count)| (labels.to_owned(), count)).collect())
}

fn assert_connections(relay: &Relay, meta: usize, allowed: usize, other: usize) -> Result<()> {
    for (class, count) in [("meta", meta), ("allowed", allowed), ("other", other)] {
        relay.wait_for(&format!("hookgate_connections{{class=\"{class}\"}}"), count as f64)?;
    }
    Ok(())
}

#[test]
fn strangers_are_shed_first_and_metas_share_is_metas() -> Result<()> {
    let relay = relay("connections = 10\nreserved_for_meta = 0.5\nper_source = 2", "")?;
    // One stranger is an IPv4 address, however it is written, or a /64.
    let (mut strangers, admitted) = arrive_all(
        &relay,
        &[
            ("198.51.100.1", 3),
            ("::ffff:198.51.100.1", 1),
            ("2001:db8::1", 1),
            ("2001:db8::ffff:ffff:ffff:ffff", 1),
            ("2001:db8::2", 1),
            ("2001:db8:0:1::1", 1),
            ("198.51.100.2", 1),
        ],
    )?;
    assert_eq!(admitted, [2, 0, 1, 1, 0, 1, 0]);
    assert_connections(&relay, 0, 0, 5)?;
    let (meta, admitted) = arrive_all(&relay, &[(META, 4), (META_V6, 1), (META, 1)])?;
    assert_eq!(admitted, [4, 1, 0], "Meta's share, to the last place");
    assert_connections(&relay, 5, 0, 5)?;
    let counted = [
        ("{reason=\"connections\"}".to_owned(), 1.0),
        ("{reason=\"per_source\"}".to_owned(), 3.0),
        ("{reason=\"reserved_for_meta\"}".to_owned(), 1.0),
    ];
    assert_eq!(refused(&relay)?, counted.into());

    // A slot is given back when its connection ends, and goes to the next client that may have it.
    drop(strangers.remove(0));
    assert_connections(&relay, 5, 0, 4)?;
    let (again, admitted) = arrive_all(&relay, &[("2001:db8::3", 1), ("198.51.100.1", 2)])?;
    assert_eq!(admitted, [0, 1]);
    drop((strangers, again, meta));
    assert_connections(&relay, 0, 0, 0)?;
    let (_meta, admitted) = arrive_all(&relay, &[(META, 11)])?;
    assert_eq!(admitted, [10], "Meta may have them all");
    assert!(arrive(&relay, "198.51.100.1")?.is_none());
    Ok(())
}

#[test]
fn one_strangers_share_is_a_quarter_of_what_strangers_may_use() -> Result<()> {
    let relay = relay("connections = 16\nreserved_for_meta = 0.5", "")?;
    let (_held, admitted) = arrive_all(&relay, &[("198.51.100.1", 3), ("198.51.100.2", 3)])?;
    assert_eq!(admitted, [2, 2]);
    Ok(())
}

#[test]
fn this_machine_is_exempt() -> Result<()> {
    let relay = relay("connections = 5\nreserved_for_meta = 1.0\nper_source = 1", "")?;
    assert!(arrive(&relay, "198.51.100.1")?.is_none());
    // A load balancer's own connections: it checks our health.
    let own: Vec<_> = (0..5)
        .map(|_| arrive_with(&relay, "PROXY UNKNOWN\r\n"))
        .collect::<Result<Option<_>>>()?
        .unwrap_or_default();
    assert_eq!(own.len(), 5);
    assert_connections(&relay, 0, 5, 0)?;
    assert!(arrive(&relay, META)?.is_none(), "in total there are no more than there may be");
    Ok(())
}

#[test]
fn a_crowd_of_strangers_costs_meta_nothing() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let limits = "connections = 20\nreserved_for_meta = 0.5\nper_source = 2";
    let relay = relay(limits, &upstream(origin.address(), ""))?;
    thread::scope(|scope| {
        let crowd: Vec<_> = (1..=4u32)
            .map(|crowd| {
                let relay = &relay;
                scope.spawn(move || -> Result<usize> {
                    let mut held = Vec::new();
                    for stranger in 0..50 {
                        held.extend(arrive(relay, &format!("198.51.{crowd}.{stranger}"))?);
                    }
                    Ok(held.len())
                })
            })
            .collect();
        for _ in 0..20 {
            let mut meta = relay.client()?;
            let request = get("/up.example/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            let answer = meta.ask(proxy_line(META) + &request)?;
            assert_eq!(answer.status(), 200);
            pace(Duration::from_millis(5));
        }
        let admitted = crowd.into_iter().map(|crowd| crowd.join().expect("a crowd"));
        let admitted: usize = admitted.sum::<Result<usize>>()?;
        assert!((10..=40).contains(&admitted), "{admitted} strangers");
        Ok(())
    })
}
