//! `hookgate upstream`: what it does to files, whatever they look like and whatever happens
//! meanwhile.

mod files;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Moments, Need, Origin, TempDir, free_port, require};
use serde_json::Value;

/// A folder with a configuration.
struct Testbed {
    dir: TempDir,
    config: PathBuf,
}

/// What a command said, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

const MAIN: &str = "# Ours.\n[listen]\nplain = [\"127.0.0.1:1\"]\n\n[upstreams]   # the allowlist\n\
                    # Ana's\n\"a.example\" = {}   # since March\n# that was all\n\n[log]\naccess = false\n";

impl Testbed {
    fn new(main: &str) -> Result<Self> {
        let dir = TempDir::new("upstreams")?;
        let config = dir.write("hookgate.toml", main)?;
        Ok(Self { dir, config })
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(harness::binary()?);
        command.arg("upstream").args(args).arg("--config").arg(&self.config).stdin(Stdio::null());
        Ok(command)
    }

    fn run(&self, args: &[&str]) -> Result<Said> {
        let output = self.command(args)?.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// In the background.
    fn start(&self, args: &[&str]) -> Result<Child> {
        let mut command = self.command(args)?;
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.config)?)
    }

    fn hosts(&self) -> Result<Vec<String>> {
        let said = self.run(&["list", "--json"])?;
        let document: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
        let hosts = document["upstreams"].as_array().context("no upstreams")?.iter();
        hosts.map(|row| Ok(row["host"].as_str().context("no host")?.to_owned())).collect()
    }

    /// The files in the folder, by name.
    fn files(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.dir.path())?;
        let mut names =
            entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

#[test]
fn a_host_comes_and_goes_and_nothing_else_changes() -> Result<()> {
    let testbed = Testbed::new(MAIN)?;
    fs::set_permissions(&testbed.config, fs::Permissions::from_mode(0o640))?;
    if require(&[Need::Root]) {
        chown(&testbed.config, Some(1234), Some(2345))?;
    }
    let like = fs::metadata(&testbed.config)?;
    let ca = harness::Certs::new(&["b.example"])?.write(&testbed.dir, "b")?[0].clone();
    let ca = ca.to_str().context("a path")?;
    for (options, keys) in [
        (&[][..], "{}".to_owned()),
        (
            &["--address", "192.0.2.1:3000", "--no-tls"],
            "{ address = \"192.0.2.1:3000\", tls = false }".into(),
        ),
        (&["--port", "8443", "--ca", ca], format!("{{ port = 8443, ca = \"{ca}\" }}")),
        (
            &["--allow-private", "--require-client-cert"],
            "{ allow_private = true, require_client_cert = true }".into(),
        ),
        (&["--in-flight", "7", "--body-bytes", "0"], "{ in_flight = 7, body_bytes = 0 }".into()),
        (&["--upstream-idle", "1s"], "{ upstream_idle = \"1s\" }".into()),
    ] {
        let added = testbed.run(&[&["add", "B.example", "--no-probe"], options].concat())?;
        assert_eq!(added.code, Some(0), "{added:?}");
        let expected = MAIN.replace("# since March\n", &format!("# since March\n\"b.example\" = {keys}\n"));
        assert_eq!(testbed.text()?, expected);
        let now = fs::metadata(&testbed.config)?;
        assert_eq!((now.mode(), now.uid(), now.gid()), (like.mode(), like.uid(), like.gid()));
        assert_eq!(testbed.hosts()?, ["a.example", "b.example"]);
        let removed = testbed.run(&["remove", "b.EXAMPLE"])?;
        assert_eq!(removed.code, Some(0), "{removed:?}");
        assert_eq!(testbed.text()?, MAIN);
    }
    assert_eq!(testbed.files()?, ["b-ca.pem", "b-cert.pem", "b-key.pem", "hookgate.toml"]);
    Ok(())
}

#[test]
fn the_file_that_holds_a_host_is_the_one_that_is_edited() -> Result<()> {
    let testbed = Testbed::new(MAIN)?;
    let beside = testbed.dir.path().join("upstreams.d");
    fs::create_dir(&beside)?;
    let more = beside.join("10-more.toml");
    fs::write(&more, "[upstreams.\"c.example\"] # theirs\nport = 8443\n\n[upstreams.\"d.example\"]\n")?;
    let list = testbed.run(&["list"])?;
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{list:?}");
    assert!(
        lines[1].starts_with("c.example  https, port 8443") && lines[1].ends_with("10-more.toml"),
        "{lines:?}"
    );

    let twice = testbed.run(&["add", "c.example", "--no-probe"])?;
    assert_eq!(twice.code, Some(1));
    assert!(
        twice.stderr.contains("c.example is already in ") && twice.stderr.contains("10-more.toml"),
        "{twice:?}"
    );
    assert_eq!(testbed.run(&["remove", "c.example"])?.code, Some(0));
    assert_eq!(fs::read_to_string(&more)?, "[upstreams.\"d.example\"]\n");
    assert_eq!(testbed.text()?, MAIN);
    let unknown = testbed.run(&["remove", "c.example"])?;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("c.example is not in [upstreams]"), "{unknown:?}");
    Ok(())
}

#[test]
fn a_link_stays_a_link() -> Result<()> {
    let testbed = Testbed::new(MAIN)?;
    let elsewhere = TempDir::new("upstreams")?;
    let real = elsewhere.write("real.toml", MAIN)?;
    fs::remove_file(&testbed.config)?;
    symlink(&real, &testbed.config)?;
    assert_eq!(testbed.run(&["add", "b.example", "--no-probe"])?.code, Some(0));
    assert!(fs::symlink_metadata(&testbed.config)?.is_symlink());
    assert!(fs::read_to_string(&real)?.contains("\"b.example\" = {}\n"));
    Ok(())
}

#[test]
fn what_would_not_load_is_refused_and_the_old_stays() -> Result<()> {
    let broken = MAIN.replace("access", "acess");
    for (main, args, expected) in [
        (MAIN, &["add", "b.example", "--ca", "/nowhere/ca.pem"][..], "/nowhere/ca.pem"),
        (
            MAIN,
            &["add", "b.example", "--address", "192.0.2.1:80", "--port", "81"],
            "the address has a port already",
        ),
        (&broken, &["add", "b.example"], "did you mean `log.access`?"),
        (&broken, &["remove", "a.example"], "did you mean `log.access`?"),
        (&MAIN.replace("# that", "\"A.example\" = {} # that"), &["remove", "a.example"], "named twice"),
        (&MAIN.replace("[log]", "[log"), &["list"], "hookgate.toml:10:"),
    ] {
        let testbed = Testbed::new(main)?;
        let said = testbed.run(args)?;
        assert_eq!(said.code, Some(1), "{args:?} {said:?}");
        assert!(said.stderr.contains(expected), "{args:?} {said:?}");
        assert_eq!(testbed.text()?, main, "{args:?}");
        assert_eq!(testbed.files()?, ["hookgate.toml"]);
    }
    let testbed = Testbed::new(MAIN)?;
    for args in [
        &["add"][..],
        &["add", "https://b.example"],
        &["add", "192.0.2.1"],
        &["add", "b.example", "--port", "0"],
        &["add", "b.example", "--address", "c.example"],
        &["add", "b.example", "--in-flight", "0"],
        &["remove", "b.example."],
        &["edit"],
    ] {
        assert_eq!(testbed.run(args)?.code, Some(2), "{args:?}");
    }
    Ok(())
}

#[test]
fn a_new_upstream_is_tried_once_and_may_fail() -> Result<()> {
    let testbed = Testbed::new(MAIN)?;
    let origin = Origin::answering("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")?;
    let add = |host: &str, address: &str| testbed.run(&["add", host, "--no-tls", "--address", address]);
    let open = add("open.example", &origin.address().to_string())?;
    assert_eq!(open.code, Some(0));
    assert!(open.stdout.contains("GET / is answered with 302") && open.stderr.is_empty(), "{open:?}");
    let closed = add("closed.example", &format!("127.0.0.1:{}", free_port()?))?;
    assert_eq!(closed.code, Some(0));
    assert!(closed.stderr.contains("WARNING: the way to closed.example is not open"), "{closed:?}");
    assert!(closed.stderr.contains("Connection refused"), "{closed:?}");
    assert_eq!(testbed.hosts()?, ["a.example", "open.example", "closed.example"]);
    Ok(())
}

#[test]
fn the_running_proxy_is_told() -> Result<()> {
    let unreachable = Testbed::new(MAIN)?.run(&["remove", "a.example"])?;
    assert!(unreachable.stdout.contains("no [admin] socket"), "{unreachable:?}");
    assert!(unreachable.stdout.ends_with("send it SIGHUP\n"), "{unreachable:?}");
    let testbed = Testbed::new(&format!("{MAIN}[admin]\nsocket = \"admin.sock\"\n"))?;
    let absent = testbed.run(&["add", "b.example", "--no-probe"])?;
    assert_eq!(absent.code, Some(0));
    assert!(absent.stdout.contains("no proxy is running: it counts from the next start on"), "{absent:?}");

    let socket = UnixListener::bind(testbed.dir.path().join("admin.sock"))?;
    let answers =
        ["200 OK\r\n\r\n3 upstreams", "404 Not Found\r\n\r\n", "409 Conflict\r\n\r\nport 443 is taken"];
    let asked = std::thread::spawn(move || -> Result<Vec<String>> {
        let answer = |answer: &str| {
            let (mut stream, _) = socket.accept()?;
            let mut request = [0; 1024];
            let length = stream.read(&mut request)?;
            writeln!(stream, "HTTP/1.1 {answer}")?;
            Ok(String::from_utf8_lossy(&request[..length]).into_owned())
        };
        answers.iter().map(|text| answer(text)).collect()
    });
    let done = testbed.run(&["remove", "b.example"])?;
    assert_eq!(
        (done.code, done.stdout.contains("the running proxy: 3 upstreams\n")),
        (Some(0), true),
        "{done:?}"
    );
    let old = testbed.run(&["add", "b.example", "--no-probe"])?;
    assert_eq!((old.code, old.stdout.contains("next start")), (Some(0), true), "{old:?}");
    let refused = testbed.run(&["remove", "b.example"])?;
    assert_eq!(refused.code, Some(1));
    let expected = "the running proxy: port 443 is taken";
    assert!(refused.stderr.contains(expected), "{refused:?}");
    let asked = asked.join().map_err(|_| anyhow::anyhow!("the socket's thread"))??;
    assert!(asked.iter().all(|request| request.starts_with("POST /reload HTTP/1.1\r\n")), "{asked:?}");
    Ok(())
}

#[test]
fn many_at_once_lose_nothing() -> Result<()> {
    let testbed = Testbed::new(MAIN)?;
    let adds: Vec<Child> = (0..12)
        .map(|n| testbed.start(&["add", &format!("n{n}.example"), "--no-probe"]))
        .collect::<Result<_>>()?;
    for mut add in adds {
        assert!(add.wait()?.success());
    }
    assert_eq!(testbed.hosts()?.len(), 13);
    assert_eq!(testbed.files()?, ["hookgate.toml"]);
    Ok(())
}

/// `count` upstreams more than in [`MAIN`].
fn large(count: usize) -> String {
    let entry = |n| format!("\"tenant-{n}.example\" = {{ port = 8443 }} # {n}\n");
    let entries: String = (0..count).map(entry).collect();
    MAIN.replace("# that was all\n", &format!("{entries}# that was all\n"))
}

#[test]
fn a_killed_command_leaves_the_old_file_or_the_new_one() -> Result<()> {
    const KILLS: u32 = 100;
    let testbed = Testbed::new(&large(1000))?;
    let begun = Instant::now();
    assert!(testbed.start(&["add", "first.example", "--no-probe"])?.wait()?.success());
    let whole = begun.elapsed();
    let mut moments = Moments::within(whole.mul_f64(1.2));
    for action in ["add", "remove"] {
        let (mut kept, mut replaced) = (0, 0);
        for n in 0..KILLS {
            let old = testbed.text()?;
            let (host, entry) = match action {
                "add" => (format!("n{n}.example"), format!("\"n{n}.example\" = {{}}\n")),
                _ => (
                    format!("tenant-{n}.example"),
                    format!("\"tenant-{n}.example\" = {{ port = 8443 }} # {n}\n"),
                ),
            };
            let mut args = vec![action, &host];
            args.extend((action == "add").then_some("--no-probe"));
            let mut edit = testbed.start(&args)?;
            moments.pass();
            edit.kill()?;
            edit.wait()?;
            let now = testbed.text()?;
            if now == old {
                kept += 1;
                continue;
            }
            let (with, without) = if action == "add" { (&now, &old) } else { (&old, &now) };
            ensure!(
                with.contains(&entry) && with.replace(&entry, "") == *without,
                "{host}: neither old nor new"
            );
            replaced += 1;
        }
        eprintln!("{KILLS} kills of `{action}` within {whole:?}: {kept} old files, {replaced} new ones");
        assert!(testbed.run(&["list"])?.code == Some(0));
    }
    assert!(testbed.start(&["add", "last.example", "--no-probe"])?.wait()?.success());
    assert_eq!(testbed.files()?, ["hookgate.toml"], "what was left behind is gone with the next edit");
    Ok(())
}

#[test]
fn fifty_thousand_upstreams() -> Result<()> {
    let testbed = Testbed::new(&large(50_000))?;
    let timed = |args: &[&str]| -> Result<Said> {
        let begun = Instant::now();
        let said = testbed.run(args)?;
        eprintln!("{args:?}: {:?}", begun.elapsed());
        ensure!(said.code == Some(0) && begun.elapsed() < Duration::from_secs(60), "{args:?} {said:?}");
        Ok(said)
    };
    timed(&["add", "new.example", "--no-probe"])?;
    timed(&["remove", "tenant-25000.example"])?;
    let list = timed(&["list"])?;
    assert_eq!(list.stdout.lines().count(), 50_001);
    let expected = large(50_000)
        .replace("\"tenant-25000.example\" = { port = 8443 } # 25000\n", "")
        .replace("# that was all", "\"new.example\" = {}\n# that was all");
    assert!(testbed.text()? == expected, "something else changed");
    assert!(Path::new(&testbed.config).is_file());
    Ok(())
}
