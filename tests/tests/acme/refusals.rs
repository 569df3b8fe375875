//! Refusals that only the operator can mend: one sentence with the remedy, and no hurry. The
//! authority is a stub that refuses as real ones do.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Certs, End, Message, NetNs, Origin, Proxy, wait_until};
use serde_json::json;

use crate::{Edge, NAME, domains};

const MAX_WAIT: Duration = Duration::from_secs(10);
const HOUR: i64 = 3600;

/// A stub of an authority.
struct Authority {
    front: Origin,
    ca: PathBuf,
    rules: Arc<Mutex<Rules>>,
}

/// What it refuses, and how often it was asked.
#[derive(Default)]
struct Rules {
    /// Whether its directory asks for an external account.
    external_account: bool,
    /// The answer to a new account, and to a new order: type, detail, status and `Retry-After`.
    account: Option<(&'static str, &'static str, u16, &'static str)>,
    order: Option<(&'static str, &'static str, u16, &'static str)>,
    accounts: usize,
    orders: usize,
}

impl Authority {
    fn new(edge: &Edge, rules: Rules) -> Result<Self> {
        let own = Certs::new(&["127.0.0.1"])?;
        let [ca, ..] = own.write(&edge.dir, "authority")?;
        let rules = Arc::new(Mutex::new(rules));
        let shared = Arc::clone(&rules);
        let front = Origin::tls(&own, move |connection| {
            while let Some(request) = connection.request()? {
                let mut rules = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = answer(&request, &mut rules).map_err(io::Error::other)?;
                connection.send(answer)?;
            }
            Ok(End::Close)
        })?;
        Ok(Self { front, ca, rules })
    }

    fn directory(&self) -> String {
        format!("https://{}/dir", self.front.address())
    }

    fn asked(&self) -> (usize, usize) {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        (rules.accounts, rules.orders)
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn answer(request: &Message, rules: &mut Rules) -> Result<String> {
    let host = request.field("Host").context("no Host")?;
    let url = |path: &str| format!("https://{host}{path}");
    let nonce = "Replay-Nonce: bm9uY2U\r\n";
    let target = request.start.split(' ').nth(1).unwrap_or_default();
    let refused = |(kind, detail, status, after): (&str, &str, u16, &str)| {
        let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
        let after = if after.is_empty() { String::new() } else { format!("Retry-After: {after}\r\n") };
        text(status, &format!("Content-Type: application/problem+json\r\n{nonce}{after}"), &body.to_string())
    };
    Ok(match target {
        "/dir" => {
            let directory = json!({
                "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"),
                "revokeCert": url("/revoke"), "keyChange": url("/key"), "meta": { "externalAccountRequired": rules.external_account },
            });
            text(200, "Content-Type: application/json\r\n", &directory.to_string())
        }
        "/account" => {
            rules.accounts += 1;
            let made = || {
                text(201, &format!("{nonce}Location: {}\r\n", url("/account/1")), "{\"status\":\"valid\"}")
            };
            rules.account.map_or_else(made, refused)
        }
        "/order" => {
            rules.orders += 1;
            rules.order.map_or_else(|| text(500, nonce, "{}"), refused)
        }
        _ if request.start.starts_with("HEAD") => format!("HTTP/1.1 200 OK\r\n{nonce}\r\n"),
        _ => text(404, nonce, "{}"),
    })
}

fn text(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} As it is\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A proxy after its first failure, and the line that it logged.
fn refused(edge: &Edge, authority: &Authority) -> Result<(Proxy, String)> {
    let config = edge.config(&authority.directory(), &authority.ca, &domains(&[NAME]), "");
    let mut proxy = Proxy::start(&config)?;
    proxy.wait_for_stderr("(failure 1)", MAX_WAIT)?;
    let log = proxy.stderr();
    let line = log.lines().find(|line| line.contains("(failure 1)")).context("no line")?.to_owned();
    Ok((proxy, line))
}

/// What `/ready` says, and the seconds until the authority is asked again.
fn asked_again_in(edge: &Edge) -> Result<(String, i64)> {
    let (_, unready) = wait_until("the next attempt is announced", MAX_WAIT, || {
        let unready = edge.unready()?.unwrap_or_default();
        Ok((unready.contains("is asked again at "), unready))
    })?;
    let next = edge.metrics()?.value("hookgate_acme_next_order_seconds");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok((unready, next as i64 - i64::try_from(now)?))
}

#[test]
fn a_contact_that_is_refused_is_blamed_and_its_correction_is_tried_at_once() -> Result<()> {
    let edge = Edge::new()?;
    let detail = "contact email has forbidden domain \"example.com\"";
    let authority = Authority::new(
        &edge,
        Rules { account: Some(("invalidContact", detail, 400, "")), ..Rules::default() },
    )?;
    let (mut proxy, line) = refused(&edge, &authority)?;
    let expected = format!(
        "it is [acme] contact that the authority refuses, not the domain: {detail}: write your own address, or leave \
         contact out"
    );
    ensure!(line.contains(&expected) && line.contains(&authority.directory()), "{line}");
    let (unready, wait) = asked_again_in(&edge)?;
    ensure!(unready.contains(&expected) && wait > 5 * HOUR, "{wait}: {unready}");

    authority.change(|rules| rules.account = None);
    authority.change(|rules| rules.order = Some(("rejectedIdentifier", "no such name", 400, "")));
    let config = fs::read_to_string(proxy.config())?;
    fs::write(proxy.config(), config.replace("you@example.com", "me@hookgate.dev"))?;
    ensure!(proxy.command(&NetNs::here(), &["reload"])?.contains("[acme] changed"));
    proxy
        .wait_for_stderr("no certificate for such a name: no such name: correct [acme] domains", MAX_WAIT)?;
    assert_eq!(authority.asked(), (2, 1), "once each time");
    Ok(())
}

#[test]
fn an_external_account_cannot_be_had() -> Result<()> {
    let refuses = ("externalAccountRequired", "no binding", 403, "");
    for (rules, accounts) in [
        (Rules { external_account: true, ..Rules::default() }, 0),
        (Rules { account: Some(refuses), ..Rules::default() }, 1),
    ] {
        let edge = Edge::new()?;
        let authority = Authority::new(&edge, rules)?;
        let (proxy, line) = refused(&edge, &authority)?;
        let expected =
            "this authority wants an external account (EAB), which hookgate cannot give: use Let's Encrypt";
        ensure!(line.contains(expected) && line.contains(&authority.directory()), "{line}");
        let (unready, wait) = asked_again_in(&edge)?;
        ensure!(unready.contains(expected) && wait > 5 * HOUR, "{wait}: {unready}");
        assert_eq!(authority.asked(), (accounts, 0), "{}", proxy.stderr());
    }
    Ok(())
}

#[test]
fn other_refusals_say_what_to_do_and_are_not_hurried() -> Result<()> {
    for (problem, expected, least, most) in [
        (("rejectedIdentifier", "policy", 400, ""), "for such a name: policy: correct", 5 * HOUR, 7 * HOUR),
        (("unsupportedIdentifier", "no", 400, ""), "for such a name: no: correct", 5 * HOUR, 7 * HOUR),
        (("userActionRequired", "new terms", 403, ""), "done by you first: new terms", 5 * HOUR, 7 * HOUR),
        (("caa", "CAA record", 403, ""), "CAA record in the DNS forbids it", 5 * HOUR, 7 * HOUR),
        (("rateLimited", "too many", 429, "7200"), "asked too often: too many", HOUR, 3 * HOUR),
        (("rateLimited", "too many", 429, ""), "asked too often: too many", 5 * HOUR, 7 * HOUR),
    ] {
        let edge = Edge::new()?;
        let authority = Authority::new(&edge, Rules { order: Some(problem), ..Rules::default() })?;
        let (_proxy, line) = refused(&edge, &authority)?;
        ensure!(line.contains(expected), "{line}");
        let (unready, wait) = asked_again_in(&edge)?;
        ensure!(unready.contains(expected) && (least..most).contains(&wait), "{wait}: {unready}");
    }
    Ok(())
}
