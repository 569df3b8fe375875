//! What comes after the first certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::{Client, Origin, Pebble, Proxy, RenewalInfo, ensure_stays, equal, pace, wait_until};
use rustls::client::ClientConfig;

use crate::{DAY, Edge, MAX_WAIT, NAME, Testbed, believing, can_run, domains};

const ISSUED: &str = "hookgate_acme_orders_total{reason=\"issued\"}";
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn at_two_thirds_of_its_life_a_certificate_is_renewed() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start(Duration::from_secs(36), &domains(&[NAME]), "")?;
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    let (begun, root) = (Instant::now(), testbed.pebble.root()?);
    let first = testbed.edge.shown(&root, NAME)?;
    wait_until("the certificate is renewed", MAX_WAIT, || {
        Ok(equal(testbed.edge.metrics()?.value(ISSUED), 2.0))
    })
    .with_context(|| testbed.proxy.stderr())?;
    // Up to a second is lost to whole seconds, and the order took its time.
    assert!(begun.elapsed() >= Duration::from_secs(22), "{:?}", begun.elapsed());
    assert_ne!(testbed.edge.shown(&root, NAME)?, first);
    Ok(())
}

/// The authority's own wish, with a front that plays RFC 9773.
pub(super) struct Wished {
    pub(super) proxy: Proxy,
    pub(super) edge: Edge,
    info: RenewalInfo,
    pub(super) pebble: Pebble,
}

impl Wished {
    pub(super) fn start(lifetime: Duration, begin: &str, end: &str, more: &str) -> Result<Self> {
        let edge = Edge::new()?;
        let pebble = Pebble::start(edge.pebble(lifetime)?)?;
        let info = RenewalInfo::before(&pebble, begin, end)?;
        let ca = edge.dir.write("front.pem", info.ca())?;
        let proxy = Proxy::start(&edge.config(&info.directory(), &ca, &domains(&[NAME]), more))?;
        edge.wait_until_ready(&proxy)?;
        Ok(Self { proxy, edge, info, pebble })
    }

    fn issued(&self) -> Result<f64> {
        Ok(self.edge.metrics()?.value(ISSUED))
    }
}

#[test]
fn a_certificate_is_renewed_when_its_authority_says_so() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut testbed = Wished::start(90 * DAY, "2099-01-01T00:00:00Z", "2099-01-02T00:00:00Z", "")?;
    let asked = || Ok(!testbed.info.asked().is_empty());
    wait_until("the authority is asked", MAX_WAIT, asked).with_context(|| testbed.proxy.stderr())?;
    // What it says is far away: no later than an eighth of its life before the end.
    let [expiry, next] = ["hookgate_certificate_expiry_seconds", "hookgate_acme_next_order_seconds"];
    let due = || {
        let metrics = testbed.edge.metrics()?;
        Ok(((metrics.value(expiry) - metrics.value(next)) / 86400.0 * 100.0).round() / 100.0 == 11.25)
    };
    wait_until("the renewal is due", MAX_WAIT, due)
        .with_context(|| format!("{:?}", testbed.edge.metrics()))?;
    assert_eq!(testbed.issued()?, 1.0);
    let named = &testbed.info.asked()[0];
    assert!(
        named.split_once('.').is_some_and(|(key, serial)| !key.is_empty() && !serial.is_empty()),
        "{named}"
    );
    // Now the authority wants it at once.
    testbed.info.set_window("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
    let config = std::fs::read_to_string(testbed.proxy.config())?;
    let kept = testbed.edge.state().read_dir()?.next().context("no state")??.path();
    testbed.proxy.kill()?;
    let Wished { proxy, edge, info, pebble: _pebble } = testbed;
    drop(proxy);
    // As if the hour had passed.
    std::fs::remove_file(kept.join("attempts.json"))?;
    let proxy = Proxy::start(&config)?;
    wait_until("the certificate is renewed", MAX_WAIT, || Ok(equal(edge.metrics()?.value(ISSUED), 1.0)))
        .with_context(|| proxy.stderr())?;
    assert_eq!(info.replaced(), info.asked()[..1]);
    assert!(proxy.stderr().contains("to be renewed on"), "{}", proxy.stderr());
    // The new one is told to be due, too, and is not asked for.
    let issued = || Ok(equal(edge.metrics()?.value(ISSUED), 1.0));
    ensure_stays("no other certificate is issued", Duration::from_secs(3), issued)?;
    assert_eq!(proxy.stderr().matches("asking").count(), 1, "{}", proxy.stderr());
    Ok(())
}

/// A client that goes on until it is told to stop: ten requests a connection, fifty a second. How
/// long each took.
pub(super) fn send(edge: &Edge, config: &Arc<ClientConfig>, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::tls_with(edge.https, b"", config.clone(), NAME)?;
        for _ in 0..10 {
            let begun = Instant::now();
            let answer = client.ask(format!("GET /up.example/ HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))?;
            ensure!(answer.status() == 200 && answer.whole, "{answer:?}");
            took.push(begun.elapsed());
            pace(Duration::from_millis(20));
            if answer.field("Connection") == Some("close") {
                break;
            }
        }
    }
    Ok(took)
}

#[test]
#[ignore = "takes a minute"]
fn no_request_fails_while_certificates_are_renewed() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let origin = Origin::answering(OK)?;
    let upstream =
        format!("[upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n", origin.address());
    // Always due: a quarter of its life lies between one and the next.
    let testbed =
        Wished::start(Duration::from_secs(60), "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", &upstream)?;
    let config = believing(&testbed.pebble.root()?)?;
    let stop = AtomicBool::new(false);
    let renewals = 4.0;
    let mut took = thread::scope(|scope| {
        let clients = [(); 4].map(|()| scope.spawn(|| send(&testbed.edge, &config, &stop)));
        let renewed = wait_until("the renewals are done", 3 * MAX_WAIT, || Ok(testbed.issued()? > renewals));
        stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        renewed.map(|_| took)
    })
    .with_context(|| testbed.proxy.stderr())?;
    took.sort();
    eprintln!(
        "{} requests while {} certificates were put in force: median {:?}, 99 % within {:?}, all within {:?}",
        took.len(),
        testbed.issued()?,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1]
    );
    Ok(())
}
