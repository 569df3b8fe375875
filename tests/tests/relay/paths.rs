//! Ways to an upstream that change under a pooled connection: a firewall forgets it, or the name
//! leads elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Client, End, Need, NetNs, Origin, Proxy, ensure_stays, equal, pace, require};

use crate::dns::{Server, relay};
use crate::{OK, get, post};

const EDGE: &str = "10.9.0.1";
const FAR: &str = "10.9.0.2:8080";

/// A proxy in one network and an origin in another, with a firewall between them.
struct Testbed {
    edge: NetNs,
    far: NetNs,
    origin: Origin,
    _proxy: Proxy,
    address: SocketAddr,
}

impl Testbed {
    /// The origin thinks for as long as the request's path says, in milliseconds.
    fn start() -> Result<Self> {
        let (edge, far) = (NetNs::new()?, NetNs::new()?);
        NetNs::link((&edge, "wan"), (&far, "lan"))?;
        edge.address("wan", "10.9.0.1/24")?;
        far.address("lan", "10.9.0.2/24")?;
        let origin = far.inside(|| {
            Origin::plain_at(FAR.parse()?, |connection| {
                while let Some(request) = connection.request()? {
                    let path = request.start.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
                    pace(Duration::from_millis(path.parse().unwrap_or_default()));
                    connection.send(OK)?;
                }
                Ok(End::Close)
            })
        })?;
        let address = SocketAddr::new(EDGE.parse()?, 8000);
        let proxy = Proxy::start_in(
            &edge,
            &format!(
                "[listen]\nplain = [\"{address}\"]\n[timeouts]\nconnect = \"1s\"\nbody_idle = \"4s\"\nresponse = \"20s\"\n\
                 [upstreams]\n\"up.example\" = {{ address = \"{FAR}\", tls = false }}\n"
            ),
        )?;
        for (ns, hook) in [(&edge, "output"), (&far, "input")] {
            ns.run("nft add table inet forgetful")?;
            ns.run(&format!(
                "nft add chain inet forgetful packets {{ type filter hook {hook} priority 0 ; }}"
            ))?;
        }
        Ok(Self { edge, far, origin, _proxy: proxy, address })
    }

    fn client(&self) -> Result<Client> {
        self.edge.inside(|| Client::plain(self.address))
    }

    /// The firewall of one end forgets the connections that there are: what is sent over them
    /// vanishes.
    fn forget(&self, firewall: &NetNs) -> Result<()> {
        let connections = self.edge.run("ss -Htn state established dport = :8080")?;
        let ports = connections.lines().filter_map(|line| {
            let (_, port) = line.split_whitespace().nth(2)?.rsplit_once(':')?;
            port.parse::<u16>().ok()
        });
        let ports: Vec<u16> = ports.collect();
        ensure!(!ports.is_empty(), "no connection to be forgotten: {connections:?}");
        for port in ports {
            firewall
                .run(&format!("nft add rule inet forgetful packets tcp dport 8080 tcp sport {port} drop"))?;
        }
        Ok(())
    }
}

fn is_possible() -> bool {
    require(&[Need::Root, Need::Program("nft"), Need::Program("ss")])
}

#[test]
fn a_post_over_a_forgotten_connection_does_not_wait_for_a_response() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    // What is large may be lost for its size: it has `body_idle`.
    for (at_far_end, length, limit) in [(true, 10, 1), (true, 3 << 20, 4), (false, 10, 1)] {
        let testbed = Testbed::start()?;
        let mut client = testbed.client()?;
        assert_eq!(client.ask(post("/up.example/0", "x"))?.status(), 200);
        testbed.forget(if at_far_end { &testbed.far } else { &testbed.edge })?;
        let begun = Instant::now();
        let answer = client.ask(post("/up.example/0", &"x".repeat(length)))?;
        let took = begun.elapsed();
        assert_eq!((answer.status(), answer.proxy_error()), (504, Some("connection_timeout")), "{took:?}");
        let limit = Duration::from_secs(limit);
        assert!((limit.mul_f64(0.9)..limit + Duration::from_millis(2500)).contains(&took), "{took:?}");
        assert_eq!(testbed.client()?.ask(post("/up.example/0", "x"))?.status(), 200, "over another one");
        assert_eq!(testbed.origin.connections(), 2);
    }
    Ok(())
}

#[test]
fn what_can_be_sent_again_does_not_fail_for_a_forgotten_connection() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let mut client = testbed.client()?;
    assert_eq!(client.ask(get("/up.example/0"))?.status(), 200);
    testbed.forget(&testbed.far)?;
    assert_eq!(client.ask(get("/up.example/0"))?.status(), 200);
    assert_eq!(testbed.origin.connections(), 2);
    Ok(())
}

#[test]
fn one_that_acknowledges_has_all_its_time() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let mut client = testbed.client()?;
    for thinks in [0, 2500, 0] {
        assert_eq!(client.ask(post(&format!("/up.example/{thinks}"), "x"))?.status(), 200, "{thinks} ms");
    }
    assert_eq!(testbed.origin.connections(), 1, "all over one connection");
    Ok(())
}

/// Packets that are full vanish, as behind a tunnel that says nothing of its size.
#[test]
fn a_large_post_has_the_time_of_a_body_over_a_new_connection_and_over_a_pooled_one() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    for is_pooled in [false, true] {
        let testbed = Testbed::start()?;
        let mut client = testbed.client()?;
        if is_pooled {
            assert_eq!(client.ask(post("/up.example/0", "x"))?.status(), 200);
        }
        testbed.edge.run("nft add rule inet forgetful packets tcp dport 8080 ip length > 1200 drop")?;
        let begun = Instant::now();
        let answer = client.ask(post("/up.example/0", &"x".repeat(3 << 20)))?;
        let took = begun.elapsed();
        assert_eq!(answer.status(), 504, "{took:?}");
        assert!((Duration::from_millis(3500)..Duration::from_secs(8)).contains(&took), "{took:?}");
    }
    Ok(())
}

/// Says where it is.
fn origin_at(address: SocketAddr) -> Result<Origin> {
    Origin::plain_at(address, move |connection| {
        while connection.request()?.is_some() {
            let ip = address.ip().to_string();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ip}", ip.len()))?;
        }
        Ok(End::Close)
    })
}

#[test]
fn traffic_follows_a_name_that_moves_and_ends_with_it() -> Result<()> {
    let (old, new): (IpAddr, IpAddr) = ("127.0.0.1".parse()?, "127.0.0.2".parse()?);
    for (ttl, valid) in [(1, "2s"), (3600, "1s")] {
        let first = origin_at(SocketAddr::new(old, 0))?;
        let port = first.address().port();
        let second = origin_at(SocketAddr::new(new, port))?;
        let server = Server::start(ttl, &[old])?;
        let relay = relay(&[&server], &format!("valid = \"{valid}\""), &first)?;
        let mut client = relay.client()?;
        let mut ask = |for_seconds: f64| -> Result<String> {
            let until = Instant::now() + Duration::from_secs_f64(for_seconds);
            loop {
                let answer = client.ask(post("/up.example/", "x"))?;
                let error = answer.proxy_error().map(str::to_owned);
                if Instant::now() >= until {
                    return Ok(error.unwrap_or(String::from_utf8_lossy(&answer.body).into_owned()));
                }
                pace(Duration::from_millis(50));
            }
        };
        assert_eq!(ask(1.5)?, old.to_string());
        assert_eq!(first.connections(), 1, "while nothing changes it is one connection");
        *server.state.addresses.lock().ok().context("a test has failed")? = vec![new];
        assert_eq!(ask(1.6)?, new.to_string(), "TTL {ttl}, valid {valid}");
        assert_eq!((first.connections(), second.connections()), (1, 1), "TTL {ttl}, valid {valid}");
        server.set(|state| &state.denies, true);
        assert_eq!(ask(1.6)?, "dns_error", "TTL {ttl}, valid {valid}");
        server.set(|state| &state.denies, false);
        assert_eq!(ask(6.0)?, new.to_string(), "it is back");
        let before = second.connections();
        assert_eq!(ask(1.5)?, new.to_string());
        assert_eq!(second.connections(), before, "and is pooled");
        let questions = server.questions();
        assert!(questions < 60, "{questions} questions for some 200 requests");
    }
    Ok(())
}

#[test]
fn silence_of_the_dns_takes_no_connection_away() -> Result<()> {
    let origin = origin_at("127.0.0.1:0".parse()?)?;
    let server = Server::start(1, &["127.0.0.1".parse()?])?;
    let relay = relay(&[&server], "stale = \"1s\"", &origin)?;
    let mut client = relay.client()?;
    assert_eq!(client.ask(post("/up.example/", "x"))?.status(), 200);
    server.set(|state| &state.silent, true);
    let mut serves = || Ok(equal(client.ask(post("/up.example/", "x"))?.status(), 200));
    ensure_stays("the connection serves", Duration::from_secs(4), &mut serves)?;
    assert_eq!(origin.connections(), 1);
    Ok(())
}
