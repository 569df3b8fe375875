//! The first certificate, and what is kept of it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use harness::Client;

use crate::{DAY, NAME, Testbed, can_run, domains};

const SEVERAL: [&str; 3] = [NAME, "b.example", "c.example"];

#[test]
fn several_names_over_http() -> Result<()> {
    first_certificate("challenge = \"http-01\"")
}

#[test]
fn several_names_over_tls() -> Result<()> {
    first_certificate("challenge = \"tls-alpn-01\"")
}

fn first_certificate(challenge: &str) -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start(90 * DAY, &(domains(&SEVERAL) + challenge), "")?;
    let root = testbed.pebble.root()?;
    // Until then it serves with a certificate that no client accepts, and reports that it is not
    // ready.
    if let Some(unready) = testbed.edge.unready()? {
        assert!(
            unready.starts_with("no certificate for proxy.example.com, b.example, c.example yet: "),
            "{unready}"
        );
        assert!(testbed.edge.shown(&root, NAME).is_err());
        assert!(testbed.edge.metrics()?.family("hookgate_certificate_expiry_seconds").is_empty());
    }
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    let shown = testbed.edge.shown(&root, NAME)?;
    for name in SEVERAL {
        assert_eq!(testbed.edge.shown(&root, name)?, shown, "{name}");
    }
    assert_eq!(testbed.said("failure"), 0, "{}", testbed.proxy.stderr());
    let metrics = testbed.edge.metrics()?;
    assert_eq!(metrics.value("hookgate_acme_orders_total{reason=\"issued\"}"), 1.0);
    let [expiry, next] = ["certificate_expiry", "acme_next_order"]
        .map(|name| metrics.value(&format!("hookgate_{name}_seconds")));
    let until_renewal = (expiry - next) / 86400.0;
    assert!((29.0..31.0).contains(&until_renewal), "a third of its life is left at renewal: {until_renewal}");
    if challenge.contains("tls") {
        let looked = metrics.value("hookgate_tls_handshakes_total{reason=\"acme_challenge\"}");
        assert!(looked >= 3.0, "{looked}");
    }
    is_for_its_owner_alone(&testbed.edge.state())?;

    // The certificate outlives a crash, and no other one is ordered.
    let testbed = testbed.restart()?;
    assert_eq!(testbed.edge.unready()?, None);
    assert_eq!(testbed.edge.shown(&root, NAME)?, shown);
    assert_eq!(testbed.said("asking"), 0, "{}", testbed.proxy.stderr());
    Ok(())
}

fn is_for_its_owner_alone(path: &Path) -> Result<()> {
    let meta = path.metadata()?;
    if meta.is_file() {
        assert_eq!(meta.mode() & 0o7777, 0o600, "{}", path.display());
        return Ok(());
    }
    assert_eq!(meta.mode() & 0o7777, 0o700, "{}", path.display());
    for entry in path.read_dir()? {
        is_for_its_owner_alone(&entry?.path())?;
    }
    Ok(())
}

#[test]
fn certbots_answers_are_served_from_its_webroot() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let testbed = Testbed::start(DAY, &domains(&[NAME]), "")?;
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    let folder = testbed.edge.dir.path().join("web/.well-known/acme-challenge");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("a-token"), "a-token.of-certbot")?;
    let config = std::fs::read_to_string(testbed.proxy.config())?;
    let web = testbed.edge.dir.path().join("web");
    std::fs::write(
        testbed.proxy.config(),
        config.replace("contact", &format!("webroot = {web:?}\ncontact")),
    )?;
    assert!(testbed.reload()?.contains("[acme] changed"));
    let ask = |target: &str| {
        Client::plain(testbed.edge.http)?.ask(format!("GET {target} HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))
    };
    let answer = ask("/.well-known/acme-challenge/a-token")?;
    assert_eq!((answer.status(), &answer.body[..]), (200, &b"a-token.of-certbot"[..]));
    assert_eq!(ask("/.well-known/acme-challenge/another")?.status(), 404);
    assert_eq!(ask("/.well-known/acme-challenge/../../../etc/passwd")?.status(), 404);
    // A program that may write there must not reach what hookgate may read.
    std::os::unix::fs::symlink("/etc/shadow", folder.join("a-link"))?;
    assert_eq!(ask("/.well-known/acme-challenge/a-link")?.status(), 404);
    assert_eq!(ask("/elsewhere")?.status(), 301);
    // What is kept serves the changed section, too;
    assert_eq!(testbed.edge.unready()?, None);
    // and another authority's serves until there is one of the new authority, which is not there.
    let shown = testbed.edge.shown(&testbed.pebble.root()?, NAME)?;
    let config = std::fs::read_to_string(testbed.proxy.config())?;
    let elsewhere = config.replace(&testbed.pebble.directory(), "https://127.0.0.1:1/dir");
    std::fs::write(testbed.proxy.config(), elsewhere)?;
    assert!(testbed.reload()?.contains("[acme] changed"));
    assert!(testbed.edge.unready()?.is_some());
    assert_eq!(testbed.edge.shown(&testbed.pebble.root()?, NAME)?, shown);
    std::fs::write(testbed.proxy.config(), config)?;
    testbed.reload()?;
    assert_eq!(testbed.edge.unready()?, None);
    let asked = format!("asking {}", testbed.pebble.directory());
    assert_eq!(testbed.said(&asked), 1, "{}", testbed.proxy.stderr());
    Ok(())
}
