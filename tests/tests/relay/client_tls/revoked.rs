//! Client certificates that their authority has revoked, by lists that OpenSSL writes.

use rustix::process::Signal;

use super::*;

const MAX_WAIT: Duration = Duration::from_secs(10);

/// What `openssl ca` needs to know.
const CONFIG: &str =
    "[ca]\ndefault_ca = own\n[own]\ndatabase = DIR/index\ncrlnumber = DIR/number\ndefault_md = sha256\n";

/// A list of `ca` that names `revoked`. `options`: until when it says all.
fn list(dir: &TempDir, ca: &Ca, revoked: &[&Certs], options: &[&str]) -> Result<String> {
    let folder = dir.path().display().to_string();
    let [own, key] = ca.own();
    let mut index = String::new();
    for (number, certs) in revoked.iter().enumerate() {
        let leaf = dir.write(&format!("revoked{number}.pem"), &certs.cert)?;
        let mut serial = Command::new("openssl");
        serial.args(["x509", "-noout", "-serial", "-in"]).arg(leaf);
        let said = run(serial)?;
        let serial = said.trim().strip_prefix("serial=").context("no serial number")?;
        index += &format!("R\t400101000000Z\t240101000000Z\t{serial}\tunknown\t/CN=x\n");
    }
    dir.write("index", index)?;
    dir.write("number", "01\n")?;
    let config = dir.write("ca.cnf", CONFIG.replace("DIR", &folder))?;
    let (own, key) = (dir.write("own.pem", own)?, dir.write("own.key", key)?);
    let mut openssl = Command::new("openssl");
    openssl.args(["ca", "-gencrl", "-config"]).arg(config).args(options);
    openssl.arg("-cert").arg(own).arg("-keyfile").arg(key);
    let said = run(openssl)?;
    let begin = said.find("-----BEGIN").with_context(|| format!("no list: {said}"))?;
    Ok(said[begin..].to_owned())
}

const A_MONTH: [&str; 2] = ["-crldays", "30"];
const LONG_AGO: [&str; 4] = ["-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240201000000Z"];

fn status(client: &mut Client, target: &str) -> Result<u16> {
    Ok(client.ask(get(target))?.status())
}

#[test]
fn a_revoked_client_certificate_counts_no_more() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let dir = TempDir::new("revoked")?;
    let server = Certs::new(&[NAME])?;
    let root = Ca::new("Meta's own")?;
    let (ca, other) = (root.below("outbound")?, root.below("another")?);
    let origin = Origin::answering(OK)?;
    let [lost, good] = [(); 2].map(|()| ca.issue_to_client(SENDER, &[], 4096));
    let (lost, good, unlisted) = (lost?, good?, other.issue_to_client(SENDER, &[], 4096)?);

    let empty = list(&dir, &ca, &[], &A_MONTH)?;
    // A list past its next update revokes what it names all the same.
    let naming = [list(&dir, &ca, &[&lost], &A_MONTH)?, list(&dir, &ca, &[&lost], &LONG_AGO)?];
    let path = dir.write("list.pem", &empty)?;
    let edge = mutual_with(&dir, &server, &good, &origin, &format!("client_crl = {path:?}\n"))?;
    let reload = |list: &str| -> Result<()> {
        dir.write("list.pem", list)?;
        let reloads = || edge.relay.proxy.stderr().matches("reloaded: [tls] client_crl").count();
        let before = reloads();
        edge.relay.proxy.signal(Signal::HUP)?;
        wait_until("the list is in force", MAX_WAIT, || Ok(reloads() > before)).map(drop)
    };
    let client = |certs, version| edge.client(&showing(&server, Some(certs), version)?, NAME);
    for (version, naming) in
        [&TLS12, &TLS13].into_iter().flat_map(|it| naming.iter().map(move |list| (it, list)))
    {
        let mut before = [client(&lost, version)?, client(&good, version)?, client(&unlisted, version)?];
        let mut ask = || before.each_mut().map(|client| status(client, "/closed.example/").ok());
        assert_eq!(ask(), [Some(200); 3], "{version:?}");
        reload(naming)?;
        assert_eq!(ask(), [Some(403), Some(200), Some(200)], "{version:?}: they were verified before");
        let refused = client(&lost, version)?.ask(get("/open.example/")).expect_err("a revoked certificate");
        assert!(format!("{refused:?}").contains("CertificateRevoked"), "{version:?}: {refused:?}");
        for certs in [&good, &unlisted] {
            assert_eq!(status(&mut client(certs, version)?, "/closed.example/")?, 200, "{version:?}");
        }
        reload(&empty)?;
    }
    Ok(())
}

#[test]
fn a_list_that_cannot_be_used_is_told_before_a_start() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let dir = TempDir::new("revoked")?;
    let server = Certs::new(&[NAME])?;
    let ca = Ca::new("Meta's own")?;
    let origin = Origin::answering(OK)?;
    let sender = ca.issue_to_client(SENDER, &[], 4096)?;
    let crl = dir.write("list.pem", list(&dir, &ca, &[&sender], &LONG_AGO)?)?;
    let line = format!("client_crl = {crl:?}\n");
    let edge = mutual_with(&dir, &server, &sender, &origin, &line)?;
    let check = || -> Result<(Option<i32>, String)> {
        let mut check = Command::new(harness::binary()?);
        check.arg("check").arg("--config").arg(edge.relay.proxy.config());
        let output = check.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (_, said) = check()?;
    ensure!(said.contains("was to be replaced on 2024-02-01"), "{said}");
    for (content, expected) in [
        (server.cert.as_str(), "holds no revocation list"),
        ("", "holds no revocation list"),
        (
            "-----BEGIN X509 CRL-----\nMAMCAQU=\n-----END X509 CRL-----\n",
            "cannot be used for client certificates",
        ),
        ("-----BEGIN X509 CRL-----\n?\n-----END X509 CRL-----\n", "is damaged"),
    ] {
        dir.write("list.pem", content)?;
        let (code, said) = check()?;
        ensure!(code == Some(1) && said.contains(expected), "{code:?} {said}");
    }
    Ok(())
}
