//! What a warm request takes from the heap.

use std::time::Duration;

use anyhow::Result;
use harness::{
    Certs, Client, Metrics, Need, NetNs, Origin, Proxy, TempDir, counting_binary, equal, free_port, require,
    wait_until,
};

use crate::{OK, local, post};

/// More than the deliveries that are kept: the first of them take memory, which the others use
/// again.
const WARM_UP: usize = 10_100;
const REQUESTS: usize = 1000;
const ROUNDS: usize = 3;

/// Allocations of the workers for a request, over a connection that has had many, from a client
/// with TLS or without to an upstream with TLS or without; with the access log, metrics and
/// deliveries as they are by default.
fn a_request(with_tls: bool) -> Result<f64> {
    let (dir, certs) = (TempDir::new("allocations")?, Certs::new(&["hook.example", "up.example"])?);
    let [ca, cert, key] = certs.write(&dir, "hook")?;
    let [address, admin] = [local(free_port()?), local(free_port()?)];
    let origin = if with_tls { Origin::tls(&certs, answer)? } else { Origin::answering(OK)? };
    let (listener, upstream) = match with_tls {
        true => ("https", format!("ca = {ca:?}")),
        false => ("plain", "tls = false".to_owned()),
    };
    let config = format!(
        "[listen]\n{listener} = [\"{address}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[admin]\nlisten = \"{admin}\"\n\
         [upstreams]\n\"up.example\" = {{ address = \"{}\", {upstream} }}\n",
        origin.address()
    );
    let proxy = Proxy::start_binary(&NetNs::here(), &counting_binary()?, &config)?;
    let mut client = match with_tls {
        true => Client::tls(address, &certs, "hook.example")?,
        false => Client::plain(address)?,
    };
    let request = post("/up.example/webhook?x=y", &"x".repeat(2000));
    let mut sent = 0;
    let mut send = |count: usize| -> Result<f64> {
        for _ in 0..count {
            assert_eq!(client.ask(&request)?.status(), 200);
        }
        // What comes after the answer belongs to the request too; the log line is the last of it.
        sent += count;
        let logged = || Ok(equal(proxy.stderr().matches("/webhook").count(), sent));
        wait_until("each request is logged", Duration::from_secs(5), logged)?;
        Ok(Metrics::read(admin)?.value("hookgate_worker_allocations_total"))
    };
    let mut before = send(WARM_UP)?;
    let mut least = f64::INFINITY;
    // On a busy machine the ledger's thread may be behind, and reports for it take memory.
    for _ in 0..ROUNDS {
        let after = send(REQUESTS)?;
        least = least.min((after - before) / REQUESTS as f64);
        before = after;
    }
    Ok(least)
}

fn answer(connection: &mut harness::Conversation) -> std::io::Result<harness::End> {
    while connection.request()?.is_some() {
        connection.send(OK)?;
    }
    Ok(harness::End::Close)
}

#[test]
fn a_warm_request_takes_one_piece_and_what_rustls_takes_for_its_records() -> Result<()> {
    if !require(&[Need::CountingBinary]) {
        return Ok(());
    }
    let (plain, tls) = (a_request(false)?, a_request(true)?);
    // Its own state, which no idle connection holds.
    assert!(plain < 1.01, "without TLS: {plain} a request");
    // One for each record: two are decrypted, two encrypted.
    assert!(tls < 5.01, "with TLS on both sides: {tls} a request");
    eprintln!("allocations a request: {plain} without TLS, {tls} with TLS on both sides");
    Ok(())
}
