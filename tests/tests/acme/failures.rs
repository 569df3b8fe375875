//! What stands in the way, and what is left of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Moments, Need, NetNs, Pebble, Proxy, binary, ensure_stays, require, wait_until};

use crate::{DAY, Edge, MAX_WAIT, NAME, Testbed, can_run, domains};

const FILES: [&str; 4] = ["account.json", "attempts.json", "certificate.pem", "lock"];

#[test]
#[ignore = "takes two minutes"]
fn an_authority_that_is_down_is_asked_again_but_not_soon() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let edge = Edge::new()?;
    let mut pebble = Pebble::stopped(edge.pebble(DAY)?)?;
    let config = edge.config(&pebble.directory(), &pebble.ca(), &domains(&[NAME]), "");
    let mut proxy = Proxy::start(&config)?;
    proxy.wait_for_stderr("(failure 1)", MAX_WAIT)?;
    let unready = edge.unready()?.unwrap_or_default();
    assert!(unready.starts_with("no certificate for proxy.example.com yet: "), "{unready}");
    assert!(unready.contains("cannot reach 127.0.0.1: Connection refused"), "{unready}");
    assert!(unready.contains("; the authority is asked again at 20"), "{unready}");
    assert_eq!(edge.metrics()?.value("hookgate_acme_orders_total{reason=\"failed\"}"), 1.0);
    // Neither a restart nor a reload makes it a matter of seconds.
    drop(proxy);
    let proxy = Proxy::start(&config)?;
    proxy.command(&NetNs::here(), &["reload"])?;
    let look = || Ok(!proxy.stderr().contains("asking"));
    ensure_stays("the authority is not asked", Duration::from_secs(5), look)
        .with_context(|| proxy.stderr())?;
    pebble.resume()?;
    wait_until("the certificate is issued", 2 * MAX_WAIT, || Ok(edge.unready()?.is_none()))
        .with_context(|| proxy.stderr())?;
    assert_eq!(proxy.stderr().matches("asking").count(), 1, "{}", proxy.stderr());
    Ok(())
}

#[test]
#[ignore = "takes a minute"]
fn one_process_takes_what_another_got() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let (edge, other) = (Edge::new()?, Edge::new()?);
    let pebble = Pebble::start(edge.pebble(DAY)?)?;
    let [here, there] =
        [&edge, &other].map(|edge| edge.config(&pebble.directory(), &pebble.ca(), &domains(&[NAME]), ""));
    let there = there.replace(&other.state().display().to_string(), &edge.state().display().to_string());
    let mut first = Proxy::start(&here)?;
    first.wait_for_stderr("asking", MAX_WAIT)?;
    // It sees that another process has just asked, waits, and finds the certificate that is there
    // by then.
    let second = Proxy::start(&there)?;
    edge.wait_until_ready(&first)?;
    other.wait_until_ready(&second)?;
    let root = pebble.root()?;
    assert_eq!(edge.shown(&root, NAME)?, other.shown(&root, NAME)?);
    assert!(!second.stderr().contains("asking"), "{}", second.stderr());
    assert_eq!(other.metrics()?.value("hookgate_acme_orders_total{reason=\"issued\"}"), 0.0);
    Ok(())
}

#[test]
fn an_authority_that_sees_another_machine_says_which_name_and_what_to_do() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let edge = Edge::new()?;
    // The authority connects to an address without a machine.
    let elsewhere = Edge::new()?;
    let pebble = Pebble::start(elsewhere.pebble(DAY)?)?;
    let config = edge.config(&pebble.directory(), &pebble.ca(), &domains(&[NAME]), "");
    let mut proxy = Proxy::start(&config)?;
    proxy.wait_for_stderr("(failure 1)", MAX_WAIT)?;
    let said = proxy.stderr();
    assert!(said.contains("the authority could not convince itself of proxy.example.com: "), "{said}");
    assert!(said.contains("does the name lead to this machine, and port 80 to [listen] http?"), "{said}");
    Ok(())
}

#[test]
fn an_authority_that_has_forgotten_the_account_gets_another() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut testbed = Testbed::start(DAY, &domains(&[NAME]), "")?;
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    testbed.pebble.stop();
    testbed.pebble.resume()?;
    // Another name has to be got for the certificate; then one more, with another address to write
    // to.
    let root = testbed.pebble.root()?;
    for (from, to, name) in [
        ("domains = [", "domains = [\"b.example\", ", "b.example"),
        ("you@example.com\"]\ndomains = [", "me@example.com\"]\ndomains = [\"c.example\", ", "c.example"),
    ] {
        let config = fs::read_to_string(testbed.proxy.config())?;
        ensure!(config.contains(from), "{config}");
        fs::write(testbed.proxy.config(), config.replace(from, to))?;
        assert!(testbed.reload()?.contains("[acme] changed"));
        wait_until("the new name has a certificate", MAX_WAIT, || {
            Ok(testbed.edge.shown(&root, name).is_ok())
        })
        .with_context(|| testbed.proxy.stderr())?;
        testbed.edge.shown(&root, NAME)?;
    }
    let kept = testbed.edge.state().read_dir()?.next().context("no state")??.path();
    assert!(fs::read_to_string(kept.join("account.json"))?.contains("mailto:me@example.com"));
    assert_eq!(testbed.said("failure"), 0, "{}", testbed.proxy.stderr());
    Ok(())
}

#[test]
fn what_is_kept_is_out_of_reach_for_the_one_that_serves() -> Result<()> {
    if !can_run() || !require(&[Need::Root]) {
        return Ok(());
    }
    let edge = Edge::new()?;
    let testbed = Testbed::start_at(edge, DAY, &domains(&[NAME]), "[process]\nuser = \"nobody\"\n")?;
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    assert_eq!(testbed.edge.kept()?, FILES);
    let folder = testbed.edge.state().read_dir()?.next().context("no state")??.path();
    for path in [testbed.edge.state(), folder.clone(), folder.join("certificate.pem")] {
        let meta = fs::metadata(&path)?;
        assert_eq!((meta.uid(), meta.mode() & 0o077), (0, 0), "{}", path.display());
    }
    // And a restart finds it.
    let testbed = testbed.restart()?;
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    assert_eq!(testbed.said("asking"), 0, "{}", testbed.proxy.stderr());
    Ok(())
}

/// A program that runs hookgate with a small file system of its own at `state`.
fn on_a_small_disk(edge: &Edge, size: &str) -> Result<PathBuf> {
    let (state, binary) = (edge.state(), binary()?);
    fs::create_dir(&state)?;
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs -o size={size},mode=700 tmpfs {} && exec {} \"$@\"' sh \"$@\"\n",
        state.display(),
        binary.display()
    );
    let path = edge.dir.write("small-disk", script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// `path` as the proxy sees it.
fn seen_by(proxy: &Proxy, path: &Path) -> Result<PathBuf> {
    Ok(Path::new(&format!("/proc/{}/root", proxy.pid())).join(path.strip_prefix("/")?))
}

#[test]
fn a_full_disk_takes_no_certificate_away() -> Result<()> {
    if !can_run() || !require(&[Need::Root]) {
        return Ok(());
    }
    let edge = Edge::new()?;
    let pebble = Pebble::start(edge.pebble(DAY)?)?;
    // A page each for the attempts and for the account, none for the certificate.
    let small = on_a_small_disk(&edge, "8k")?;
    let config = edge.config(&pebble.directory(), &pebble.ca(), &domains(&[NAME]), "");
    let mut proxy = Proxy::start_binary(&NetNs::here(), &small, &config)?;
    proxy.wait_for_stderr("cannot be kept", MAX_WAIT)?;
    edge.wait_until_ready(&proxy)?;
    edge.shown(&pebble.root()?, NAME)?;
    let said = proxy.stderr();
    assert!(said.contains("No space left on device (os error 28); make room there"), "{said}");
    // There is room again.
    let state = seen_by(&proxy, &edge.state())?;
    let folder = state.read_dir()?.next().context("no state")??.path();
    fs::remove_file(folder.join("account.json"))?;
    wait_until("the certificate is kept", MAX_WAIT, || Ok(folder.join("certificate.pem").exists()))
        .with_context(|| proxy.stderr())?;
    assert_eq!(proxy.stderr().matches("asking").count(), 1, "{}", proxy.stderr());
    Ok(())
}

#[test]
fn where_nothing_can_be_kept_nothing_is_asked_for() -> Result<()> {
    if !can_run() || !require(&[Need::Root]) {
        return Ok(());
    }
    let edge = Edge::new()?;
    let pebble = Pebble::start(edge.pebble(DAY)?)?;
    let small = on_a_small_disk(&edge, "4k")?;
    // Whatever is there first takes the only page.
    let script = fs::read_to_string(&small)?.replace(" && exec", " && echo full >$(dirname $0)/$0 && exec");
    fs::write(
        &small,
        script.replace("$(dirname $0)/$0", &edge.state().join("filler").display().to_string()),
    )?;
    let config = edge.config(&pebble.directory(), &pebble.ca(), &domains(&[NAME]), "");
    let mut proxy = Proxy::start_binary(&NetNs::here(), &small, &config)?;
    proxy.wait_for_stderr("(failure 1)", MAX_WAIT)?;
    assert!(
        proxy.stderr().contains("No space left on device (os error 28); make room there"),
        "{}",
        proxy.stderr()
    );
    assert!(!proxy.stderr().contains("asking") && !pebble.log().contains("new-acct"), "{}", pebble.log());
    assert!(edge.unready()?.unwrap_or_default().contains("make room there"));
    Ok(())
}

#[test]
fn whenever_it_is_killed_what_is_kept_is_whole() -> Result<()> {
    killed(10)
}

#[test]
#[ignore = "takes two minutes"]
fn killed_a_hundred_times_what_is_kept_is_whole() -> Result<()> {
    killed(100)
}

/// So often, at random moments from the start to the certificate.
fn killed(times: usize) -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut testbed = Testbed::start(DAY, &domains(&[NAME]), "")?;
    let (mut moments, mut issued) = (Moments::within(Duration::from_millis(2500)), 0);
    for _ in 0..times {
        moments.pass();
        testbed.proxy.kill()?;
        let config = fs::read_to_string(testbed.proxy.config())?;
        for folder in testbed.edge.state().read_dir()? {
            let folder = folder?.path();
            // Otherwise the next start would not ask before a minute has passed; and would have
            // nothing to ask for.
            let _ = fs::remove_file(folder.join("attempts.json"));
            if let Ok(pem) = fs::read_to_string(folder.join("certificate.pem")) {
                assert!(
                    pem.starts_with("-----BEGIN PRIVATE KEY") && pem.ends_with("-----END CERTIFICATE-----\n")
                );
                fs::remove_file(folder.join("certificate.pem"))?;
                issued += 1;
            }
            if let Ok(account) = fs::read(folder.join("account.json")) {
                serde_json::from_slice::<serde_json::Value>(&account)?;
            }
        }
        drop(testbed.proxy);
        testbed.proxy = Proxy::start(&config)?;
    }
    eprintln!("{times} kills: {issued} after the certificate had come");
    testbed.edge.wait_until_ready(&testbed.proxy)?;
    assert_eq!(testbed.edge.kept()?, FILES);
    Ok(())
}
