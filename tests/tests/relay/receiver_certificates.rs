//! Unusual certificates of receivers: accepted, or refused with the remedy. The log, `deliveries`,
//! `probe` and `check` use the same words.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::{Certs, Client, End, Need, NetNs, Origin, Proxy, TempDir, free_port, require, run};
use serde_json::Value;

use crate::{OK, local, post};

/// Makes NAME.pem and NAME.key for each name, and NAME-ca.pem where an authority signs it.
const MAKE: &str = r#"
set -eu
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:"$1" -out "$2"; }
own() { # NAME EXTENSIONS…: one that has signed itself
  name=$1; shift
  key P-256 "$name.key"
  openssl req -x509 -new -key "$name.key" -days 30 -subj /CN=up.example -out "$name.pem" "$@"
}
signed() { # NAME EXTENSIONS DIGEST: by an authority whose key is there
  openssl req -x509 -new -key "$1-ca.key" -"$3" -days 30 -subj "/CN=$1 root" -out "$1-ca.pem" ${4:+-addext "$4"}
  key P-256 "$1.key"
  openssl req -new -key "$1.key" -subj /CN=up.example -out "$1.csr"
  printf "$2" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$1-ca.pem" -CAkey "$1-ca.key" -CAcreateserial -"$3" -days 30 -out "$1.pem" \
    -extfile "$1.ext"
}
san='subjectAltName=DNS:up.example'
own ca-true -addext "$san"
own ca-false -addext "$san" -addext basicConstraints=critical,CA:FALSE
own cn-only -addext basicConstraints=critical,CA:FALSE
own ca-true-cn-only
own client -addext "$san" -addext extendedKeyUsage=clientAuth
own many -addext "subjectAltName=$(seq -s, -f 'DNS:n%g.example' 250)" -addext basicConstraints=critical,CA:FALSE
key P-521 p521-ca.key; signed p521 "$san\n" sha512
key P-521 p521sha256-ca.key; signed p521sha256 "$san\n" sha256
key P-384 sha512-ca.key; signed sha512 "$san\n" sha512
key P-384 crosswise-ca.key; signed crosswise "$san\n" sha256
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak-ca.key; signed weak "$san\n" sha256
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out sha1-ca.key; signed sha1 "$san\n" sha1
key P-256 constrained-ca.key; signed constrained "$san\n" sha256 'nameConstraints=critical,permitted;DNS:other.example'
"#;

fn make() -> Result<TempDir> {
    let dir = TempDir::new("receivers")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", MAKE]).current_dir(dir.path());
    run(shell)?;
    Ok(dir)
}

/// A receiver that shows the certificate `name`, and a proxy before it.
struct Testbed {
    proxy: Proxy,
    address: SocketAddr,
    _origin: Origin,
    _dir: TempDir,
}

impl Testbed {
    fn new(dir: &Path, name: &str, ca: Option<PathBuf>) -> Result<Self> {
        let read = |kind: &str| fs::read_to_string(dir.join(format!("{name}.{kind}")));
        let certs = Certs { ca: String::new(), cert: read("pem")?, key: read("key")? };
        let origin = Origin::tls(&certs, |connection| {
            while connection.request()?.is_some() {
                connection.send(OK)?;
            }
            Ok(End::Close)
        })?;
        let ca = ca.map_or(String::new(), |ca| format!(", ca = {ca:?}"));
        Self::before(origin, &ca)
    }

    fn before(origin: Origin, keys: &str) -> Result<Self> {
        let (address, dir) = (local(free_port()?), TempDir::new("before")?);
        let proxy = Proxy::start(&format!(
            "[listen]\nplain = [\"{address}\"]\n[admin]\nsocket = {:?}\n[upstreams]\n\
             \"up.example\" = {{ address = \"{}\"{keys} }}\n",
            dir.path().join("admin.sock"),
            origin.address()
        ))?;
        Ok(Self { proxy, address, _origin: origin, _dir: dir })
    }

    /// The status of a delivery, and what Proxy-Status names.
    fn deliver(&self) -> Result<(u16, Option<String>)> {
        let answer = Client::plain(self.address)?.ask(post("/up.example/", "x"))?;
        Ok((answer.status(), answer.proxy_error().map(str::to_owned)))
    }

    /// What the log and `deliveries` say of the last failure, and what `probe` does.
    fn told(&self) -> Result<(String, String)> {
        let mut probe = Command::new(harness::binary()?);
        probe.args(["probe", "up.example", "--json", "--config"]).arg(self.proxy.config());
        let report: Value = serde_json::from_slice(&probe.output()?.stdout)?;
        let failure = &report["failure"];
        let word = |key: &str| failure[key].as_str().map(str::to_owned).context("no failure");
        let log = self.proxy.stderr();
        let detail = log.lines().rev().find_map(|line| Some(line.split_once(" detail=\"")?.1.to_owned()));
        let detail =
            detail.as_deref().and_then(|detail| detail.strip_suffix('"')).context("nothing logged")?;
        let detail = detail.replace("\\\"", "\"");
        let deliveries = self.proxy.command(&NetNs::here(), &["deliveries", "--json"])?;
        let deliveries: Value = serde_json::from_str(&deliveries)?;
        let last = deliveries["deliveries"].as_array().and_then(|all| all.last()).context("none")?;
        ensure!(last["detail"] == detail, "{last}");
        Ok((detail, format!("{}: {}", word("error")?, word("next")?)))
    }
}

#[test]
fn a_receivers_own_certificate_is_believed_where_ca_names_it() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let dir = make()?;
    for name in ["ca-true", "ca-false"] {
        let file = dir.path().join(format!("{name}.pem"));
        assert_eq!(Testbed::new(dir.path(), name, Some(file))?.deliver()?, (200, None), "{name}");
    }
    // A pinned certificate whose authority is unknown; P-384 and P-521 with the hash of another.
    for (name, ca) in [
        ("sha512", "sha512.pem"),
        ("sha512", "sha512-ca.pem"),
        ("crosswise", "crosswise-ca.pem"),
        ("p521", "p521-ca.pem"),
        ("p521sha256", "p521sha256-ca.pem"),
    ] {
        assert_eq!(
            Testbed::new(dir.path(), name, Some(dir.path().join(ca)))?.deliver()?,
            (200, None),
            "{name}"
        );
    }
    // One of another authority is refused, though it looks the same.
    let other = make()?;
    let stranger = Testbed::new(other.path(), "ca-true", Some(dir.path().join("ca-true.pem")))?;
    assert_eq!(stranger.deliver()?, (502, Some("tls_certificate_error".into())));
    Ok(())
}

#[test]
fn what_is_not_believed_is_named_with_its_remedy_everywhere_in_the_same_words() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let dir = make()?;
    for (name, ca, expected) in [
        (
            "ca-true",
            None,
            "(CA:TRUE): give it with ca = \"that file\", make one with basicConstraints=CA:FALSE, or",
        ),
        ("ca-false", None, "it has signed itself: give it with ca = \"that file\""),
        (
            "cn-only",
            Some("cn-only"),
            "it has no DNS name (subjectAltName): make one with subjectAltName=DNS:up.example",
        ),
        ("cn-only", None, "it has no DNS name (subjectAltName): make one"),
        ("ca-true-cn-only", Some("ca-true-cn-only"), "it has no DNS name (subjectAltName): make one"),
        ("ca-true-cn-only", None, "does not count; give it with ca = \"that file\""),
        ("client", Some("client"), "is not for servers (its extended key usage lacks serverAuth): get one"),
        ("sha1", Some("sha1-ca"), "(RSA with SHA-1): use"),
        ("weak", Some("weak-ca"), "an RSA key of 1024 bits: use one of 2048 to 8192 bits"),
        (
            "constrained",
            Some("constrained-ca"),
            "may not sign for this name (name constraints): get one from another",
        ),
        ("many", Some("many"), "n4.example, n5.example and 245 more: get one for up.example"),
    ] {
        let ca = ca.map(|ca| dir.path().join(format!("{ca}.pem")));
        let testbed = Testbed::new(dir.path(), name, ca)?;
        assert_eq!(testbed.deliver()?, (502, Some("tls_certificate_error".into())), "{name}");
        let (log, probe) = testbed.told()?;
        ensure!(log.contains(expected) && log.len() < 300, "{name}: {log}");
        assert_eq!(log, probe, "{name}");
    }
    Ok(())
}

/// OpenSSL sends the alert `handshake_failure` when its only key is P-521.
#[test]
fn a_server_that_finds_nothing_in_common_is_explained() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.bytes(5)?;
        connection.send([0x15, 3, 3, 0, 2, 2, 40])?;
        Ok(End::Close)
    })?;
    let testbed = Testbed::before(origin, "")?;
    assert_eq!(testbed.deliver()?, (502, Some("tls_alert_received".into())));
    let (log, probe) = testbed.told()?;
    ensure!(
        log.contains("nothing in common: let it speak TLS 1.3") && log.contains("P-521 or Ed25519"),
        "{log}"
    );
    assert_eq!(log, probe);
    Ok(())
}

#[test]
fn check_sees_it_in_the_ca_file() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let dir = make()?;
    for (ca, expected) in [
        ("ca-true", None),
        ("ca-false", None),
        ("cn-only", Some("it has no DNS name (subjectAltName): make one with subjectAltName=DNS:up.example")),
        ("ca-true-cn-only", Some("it has no DNS name (subjectAltName)")),
        ("p521-ca", None),
        ("weak-ca", Some("an RSA key of 1024 bits: use one of 2048 to 8192 bits")),
        ("many", Some("n5.example and 245 more: get one for up.example")),
        ("crosswise-ca", None),
    ] {
        let config = dir.write(
            "hookgate.toml",
            format!("[listen]\nplain = [\"127.0.0.1:{}\"]\n[upstreams]\n\"up.example\" = {{ ca = \"{ca}.pem\" }}\n", free_port()?),
        )?;
        let output = NetNs::here()
            .command(&harness::binary()?.to_string_lossy())
            .args(["check", "--config"])
            .arg(config)
            .output()?;
        let said = String::from_utf8(output.stderr)?;
        match expected {
            Some(words) => ensure!(said.contains(".ca: ") && said.contains(words), "{ca}: {said}"),
            None => assert_eq!(said, "", "{ca}"),
        }
        assert_eq!(output.status.code(), Some(0), "{ca}");
    }
    Ok(())
}
