//! A reload reads the files that the configuration names: changes take effect and are reported, bad
//! files are refused by name, and connections stay where nothing changed.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Ca, Certs, Client, End, NetNs, Origin, Proxy, TempDir, binary, free_port, wait_until};

use crate::{OK, get, local, post};

const MAX_WAIT: Duration = Duration::from_secs(10);
const NOTHING: &str = "nothing changed\n";

/// A proxy whose machine's root certificates are in a file of the test.
struct Testbed {
    proxy: Proxy,
    /// One client, so that one worker with its pool serves it.
    client: RefCell<Client>,
    roots: PathBuf,
    hookgate: PathBuf,
}

impl Testbed {
    fn start(dir: &TempDir, roots: &str, config: &str) -> Result<Self> {
        let (plain, roots) = (local(free_port()?), dir.write("roots.crt", roots)?);
        let folder = dir.path().join("more-roots");
        fs::create_dir(&folder)?;
        let script = format!(
            "#!/bin/sh\nexport SSL_CERT_FILE={} SSL_CERT_DIR={}\nexec {} \"$@\"\n",
            roots.display(),
            folder.display(),
            binary()?.display()
        );
        let hookgate = dir.write("hookgate", script)?;
        fs::set_permissions(&hookgate, fs::Permissions::from_mode(0o700))?;
        let config = config.replace("@plain@", &plain.to_string());
        let proxy = Proxy::start_binary(&NetNs::here(), &hookgate, &config)?;
        Ok(Self { proxy, client: Client::plain(plain)?.into(), roots, hookgate })
    }

    fn reload(&self) -> Result<String> {
        self.proxy.command(&NetNs::here(), &["reload"])
    }

    /// Why a reload is refused.
    fn refused(&self) -> Result<String> {
        let said = self.reload();
        Ok(format!("{:#}", said.as_ref().err().with_context(|| format!("it was reloaded: {said:?}"))?))
    }

    fn deliver(&self, name: &str) -> Result<(u16, Option<String>)> {
        let answer = self.client.borrow_mut().ask(post(&format!("/{name}/"), "x"))?;
        Ok((answer.status(), answer.proxy_error().map(str::to_owned)))
    }

    fn probe(&self, name: &str) -> Result<bool> {
        let mut probe = Command::new(&self.hookgate);
        probe.args(["probe", name, "--config"]).arg(self.proxy.config());
        Ok(probe.output()?.status.success())
    }
}

fn origin(certs: &Certs) -> Result<Origin> {
    Origin::tls(certs, |connection| {
        while connection.request()?.is_some() {
            connection.send(OK)?;
        }
        Ok(End::Close)
    })
}

fn believed() -> (u16, Option<String>) {
    (200, None)
}

fn not_believed() -> (u16, Option<String>) {
    (502, Some("tls_certificate_error".into()))
}

#[test]
fn this_machines_roots() -> Result<()> {
    let dir = TempDir::new("roots")?;
    let (old, new) = (Ca::new("old")?.issue(&["old.example"])?, Ca::new("new")?.issue(&["new.example"])?);
    let (to_old, to_new) = (origin(&old)?, origin(&new)?);
    let testbed = Testbed::start(
        &dir,
        &old.ca,
        &format!(
            "[listen]\nplain = [\"@plain@\"]\n[admin]\nsocket = {:?}\n[upstreams]\n\
             \"old.example\" = {{ address = \"{}\" }}\n\"new.example\" = {{ address = \"{}\" }}\n",
            dir.path().join("admin.sock"),
            to_old.address(),
            to_new.address()
        ),
    )?;
    let say = |roots: &str| Ok::<_, anyhow::Error>(fs::write(&testbed.roots, roots)?);
    assert_eq!(
        (testbed.deliver("old.example")?, testbed.deliver("new.example")?),
        (believed(), not_believed())
    );
    assert_eq!(testbed.reload()?, NOTHING);
    assert_eq!(testbed.deliver("old.example")?, believed());
    assert_eq!(to_old.connections(), 1, "nothing changed: the connection that was kept goes on");

    say(&format!("{}{}", old.ca, new.ca))?;
    assert!(testbed.probe("new.example")?);
    assert_eq!(testbed.reload()?, "root certificates of this machine: 1 added, 0 removed\n");
    assert_eq!((testbed.deliver("old.example")?, testbed.deliver("new.example")?), (believed(), believed()));

    let before = (to_old.connections(), to_new.connections());
    say(&format!("# in another order\n{}{}", new.ca, old.ca))?;
    assert_eq!(testbed.reload()?, NOTHING);
    assert_eq!((testbed.deliver("old.example")?, testbed.deliver("new.example")?), (believed(), believed()));
    assert_eq!((to_old.connections(), to_new.connections()), before);

    // Neither a connection that was kept nor a session outlives the root.
    say(&new.ca)?;
    assert_eq!(testbed.reload()?, "root certificates of this machine: 0 added, 1 removed\n");
    assert_eq!(
        (testbed.deliver("old.example")?, testbed.deliver("new.example")?),
        (not_believed(), believed())
    );
    assert!(!testbed.probe("old.example")?);

    for damaged in ["-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", ""] {
        say(damaged)?;
        let why = testbed.refused()?;
        let file = testbed.roots.display().to_string();
        ensure!(why.contains("root certificates") && (damaged.is_empty() || why.contains(&file)), "{why}");
        assert_eq!(testbed.deliver("new.example")?, believed(), "those in force stay");
    }
    Ok(())
}

#[test]
fn an_upstreams_authority() -> Result<()> {
    let dir = TempDir::new("ca")?;
    let (old, new) = (Ca::new("old")?.issue(&["up.example"])?, Ca::new("new")?.issue(&["up.example"])?);
    let up = origin(&old)?;
    let ca = dir.write("ca.pem", &old.ca)?;
    let testbed = Testbed::start(
        &dir,
        "",
        &format!(
            "[listen]\nplain = [\"@plain@\"]\n[admin]\nsocket = {:?}\n[upstreams]\n\
             \"up.example\" = {{ address = \"{}\", ca = {ca:?} }}\n",
            dir.path().join("admin.sock"),
            up.address()
        ),
    )?;
    assert_eq!(testbed.deliver("up.example")?, believed());
    fs::write(&ca, format!("# the same\n{}", old.ca))?;
    assert_eq!(testbed.reload()?, NOTHING);
    assert_eq!((testbed.deliver("up.example")?, up.connections()), (believed(), 1));

    fs::write(&ca, "nonsense")?;
    let why = testbed.refused()?;
    ensure!(why.contains("ca.pem holds no certificate"), "{why}");
    assert_eq!((testbed.deliver("up.example")?, up.connections()), (believed(), 1));

    fs::write(&ca, &new.ca)?;
    assert_eq!(testbed.reload()?, format!("[upstreams] ca: {} changed\n", ca.display()));
    assert_eq!(testbed.deliver("up.example")?, not_believed());
    Ok(())
}

#[test]
fn certificates_and_the_authority_of_clients() -> Result<()> {
    let (dir, https) = (TempDir::new("certificates")?, local(free_port()?));
    let [old, new] = [Certs::new(&["proxy.example"])?, Certs::new(&["proxy.example"])?];
    let [client_ca, cert, key] = old.write(&dir, "own")?;
    let testbed = Testbed::start(
        &dir,
        "",
        &format!(
            "[listen]\nplain = [\"@plain@\"]\nhttps = [\"{https}\"]\n[admin]\nsocket = {:?}\n[tls]\ncert = {cert:?}\nkey = {key:?}\n\
             client_ca = {client_ca:?}\n[upstreams]\n\"a.example\" = {{ tls = false }}\n",
            dir.path().join("admin.sock")
        ),
    )?;
    let shows = |certs: &Certs| {
        Ok::<_, anyhow::Error>(Client::tls(https, certs, "proxy.example")?.ask(get("/")).is_ok())
    };
    assert_eq!(testbed.reload()?, NOTHING);

    fs::write(&client_ca, "nonsense")?;
    let why = testbed.refused()?;
    ensure!(why.contains("own-ca.pem holds no certificate"), "{why}");
    fs::write(&client_ca, &new.ca)?;
    assert_eq!(testbed.reload()?, format!("[tls] client_ca: {} changed\n", client_ca.display()));
    assert!(shows(&old)?);

    // One file without the other is no pair.
    fs::write(&key, &new.key)?;
    let why = testbed.refused()?;
    ensure!(why.contains("does not belong to the first certificate"), "{why}");
    assert!(shows(&old)?);
    fs::write(&cert, &new.cert)?;
    // Whether this or the look at files every two seconds comes first.
    wait_until("the new certificate is shown", MAX_WAIT, || shows(&new))
        .with_context(|| testbed.proxy.stderr())?;
    assert_eq!(testbed.reload()?, format!("[tls] certificate: {} changed\n", cert.display()));
    assert_eq!(testbed.reload()?, NOTHING);
    assert!(shows(&new)? && !shows(&old)?);
    Ok(())
}
