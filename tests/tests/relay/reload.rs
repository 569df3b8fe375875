//! Another configuration while the proxy runs: what can change changes, and no request fails for
//! it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Certs, Client, End, NetNs, Origin, Proxy, TempDir, equal, free_port, pace, wait_until};
use rustix::process::Signal;

use crate::{OK, get, local, post};

const MAX_WAIT: Duration = Duration::from_secs(5);

/// A proxy whose configuration changes.
struct Testbed {
    proxy: Proxy,
    address: SocketAddr,
    /// What comes before [upstreams].
    base: String,
    _dir: TempDir,
}

impl Testbed {
    /// `more` are further lines of `[listen]`, and further sections.
    fn start(listen: &str, more: &str, upstreams: &str) -> Result<Self> {
        let (dir, address) = (TempDir::new("reload")?, local(free_port()?));
        let base = format!(
            "[listen]\nplain = [\"{address}\"]\n{listen}\n[insight]\nstate = \"insight\"\n[admin]\nsocket = {:?}\n{more}\n",
            dir.path().join("admin.sock")
        );
        let proxy = Proxy::start(&format!("{base}[upstreams]\n{upstreams}"))?;
        Ok(Self { proxy, address, base, _dir: dir })
    }

    fn write(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.proxy.config(), text)?)
    }

    /// Reloads with other upstreams; what the command said.
    fn reload(&self, upstreams: &str) -> Result<String> {
        self.write(&format!("{}[upstreams]\n{upstreams}", self.base))?;
        self.command()
    }

    fn command(&self) -> Result<String> {
        self.proxy.command(&NetNs::here(), &["reload"])
    }

    fn client(&self) -> Result<Client> {
        Client::plain(self.address)
    }
}

fn upstream(name: &str, address: SocketAddr) -> String {
    format!("\"{name}\" = {{ address = \"{address}\", tls = false }}\n")
}

#[test]
fn a_connection_that_is_there_follows_the_new_allowlist() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let (first, second) = (upstream("a.example", origin.address()), upstream("b.example", origin.address()));
    let testbed = Testbed::start("", "", &first)?;
    let mut client = testbed.client()?;
    assert_eq!(client.ask(get("/a.example/"))?.status(), 200);
    assert_eq!(client.ask(get("/b.example/"))?.status(), 403);
    assert_eq!(
        testbed.reload(&(first.clone() + &second))?,
        "[upstreams] 1 added, 0 removed, 0 changed, 2 now\n"
    );
    assert_eq!(client.ask(get("/b.example/"))?.status(), 200, "on the same connection");
    assert_eq!(testbed.command()?, "nothing changed\n");
    assert_eq!(testbed.reload(&second)?, "[upstreams] 0 added, 1 removed, 0 changed, 1 now\n");
    assert_eq!(client.ask(get("/a.example/"))?.status(), 403);
    assert_eq!(client.ask(get("/b.example/"))?.status(), 200);
    Ok(())
}

#[test]
fn what_is_under_way_to_a_removed_upstream_finishes() -> Result<()> {
    let origin = Origin::plain(|connection| {
        connection.request()?;
        pace(Duration::from_millis(700));
        connection.send(OK)?;
        Ok(End::Close)
    })?;
    let testbed = Testbed::start("", "", &upstream("a.example", origin.address()))?;
    let mut client = testbed.client()?;
    client.wire().send(post("/a.example/", "hello"))?;
    wait_until("the body reaches the upstream", MAX_WAIT, || {
        Ok(origin.heard().concat().ends_with(b"hello"))
    })?;
    testbed.reload("")?;
    assert_eq!(testbed.client()?.ask(get("/a.example/"))?.status(), 403, "new ones are refused");
    assert_eq!(client.response()?.status(), 200);
    Ok(())
}

#[test]
fn an_upstream_that_moved_is_found_at_its_new_place_at_once() -> Result<()> {
    let answering = |body: &'static str| {
        Origin::plain(move |connection| {
            while connection.request()?.is_some() {
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{body}"))?;
            }
            Ok(End::Close)
        })
    };
    let (old, new) = (answering("old")?, answering("new")?);
    let testbed = Testbed::start("", "", &upstream("a.example", old.address()))?;
    let mut client = testbed.client()?;
    assert_eq!(client.ask(get("/a.example/"))?.body, b"old");
    testbed.reload(&upstream("a.example", new.address()))?;
    assert_eq!(client.ask(get("/a.example/"))?.body, b"new", "not over a connection that was kept");
    Ok(())
}

#[test]
fn a_bad_file_leaves_the_old_one_in_force() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut testbed = Testbed::start("", "", &upstream("a.example", origin.address()))?;
    for (bad, why) in [
        ("[upstreams]\n\"a.example\" = { adress = \"1.2.3.4:5\" }\n", "adress"),
        ("no toml", "hookgate.toml"),
        ("[upstreams]\n\"a.example\" = { ca = \"/no/such/file\" }\n", "/no/such/file"),
        ("[listen]\nhttp = [\"192.0.2.1:80\"]\n", "192.0.2.1:80"),
    ] {
        let text = if bad.contains("[listen]") {
            testbed.base.replace("[listen]\n", bad)
        } else {
            format!("{}{bad}", testbed.base)
        };
        testbed.write(&text)?;
        let refused = testbed.command().err().context("it was reloaded")?;
        assert!(format!("{refused:#}").contains(why), "{bad}: {refused:#}");
        assert_eq!(testbed.client()?.ask(get("/a.example/"))?.status(), 200);
        testbed.proxy.signal(Signal::HUP)?;
        testbed.proxy.wait_for_stderr("not reloaded, what was in force stays", MAX_WAIT)?;
        assert_eq!(testbed.client()?.ask(get("/a.example/"))?.status(), 200);
    }
    Ok(())
}

#[test]
fn sighup_does_the_same() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut testbed = Testbed::start("", "", "")?;
    testbed.write(&format!("{}[upstreams]\n{}", testbed.base, upstream("a.example", origin.address())))?;
    testbed.proxy.signal(Signal::HUP)?;
    testbed.proxy.wait_for_stderr("reloaded: [upstreams] 1 added", MAX_WAIT)?;
    assert_eq!(testbed.client()?.ask(get("/a.example/"))?.status(), 200);
    Ok(())
}

#[test]
fn listeners_come_and_go_and_those_that_stay_do_not_notice() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let upstreams = format!("[upstreams]\n{}", upstream("a.example", origin.address()));
    let mut testbed = Testbed::start("", "", &upstream("a.example", origin.address()))?;
    let mut kept = testbed.client()?;
    assert_eq!(kept.ask(get("/a.example/"))?.status(), 200);
    let added = local(free_port()?);
    let both = format!("plain = [\"{}\", \"{added}\"]", testbed.address);
    let one = format!("plain = [\"{}\"]", testbed.address);
    testbed.write(&(testbed.base.replace(&one, &both) + &upstreams))?;
    assert_eq!(testbed.command()?, "[listen] changed\n");
    let mut there = Client::plain(added)?;
    assert_eq!(there.ask(get("/a.example/"))?.status(), 200);
    testbed.write(&(testbed.base.clone() + &upstreams))?;
    testbed.command()?;
    wait_until("the removed listener is closed", MAX_WAIT, || Ok(TcpStream::connect(added).is_err()))?;
    assert_eq!(there.ask(get("/a.example/"))?.status(), 200, "but who is there already may stay");
    assert_eq!(kept.ask(get("/a.example/"))?.status(), 200);
    assert!(testbed.proxy.ended()?.is_none());
    Ok(())
}

#[test]
fn limits_time_outs_name_and_log_change() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let upstreams = format!("[upstreams]\n{}", upstream("a.example", origin.address()));
    let mut testbed = Testbed::start("", "", &upstream("a.example", origin.address()))?;
    let mut client = testbed.client()?;
    assert_eq!(client.ask(post("/a.example/", "hello"))?.status(), 200);
    let more = "[limits]\nbody_bytes = 3\n[relay]\nname = \"other\"\n[log]\nformat = \"json\"\n[timeouts]\nkeepalive = \"300ms\"\n";
    testbed.write(&format!("{}{more}{upstreams}", testbed.base))?;
    assert_eq!(testbed.command()?, "[relay] changed\n[timeouts] changed\n[limits] changed\n[log] changed\n");
    let answer = client.ask(post("/a.example/", "hello"))?;
    assert_eq!(
        (answer.status(), answer.field("Proxy-Status")),
        (413, Some("other; error=http_request_error"))
    );
    testbed.proxy.wait_for_stderr("\"code\":413", MAX_WAIT)?;
    let mut idle = testbed.client()?;
    assert_eq!(idle.ask(get("/a.example/"))?.status(), 200);
    idle.wire().closed()?;
    Ok(())
}

#[test]
fn what_only_a_restart_can_change_is_named() -> Result<()> {
    let testbed = Testbed::start("", "", "")?;
    testbed.write(&format!("{}[process]\nwatch = true\nuser = \"root\"\n", testbed.base))?;
    let said = testbed.command()?;
    assert!(said.starts_with("[process] changed\n[process] user changed, and needs a restart\n"), "{said}");
    Ok(())
}

#[test]
fn the_admin_listener_moves_and_takes_other_names() -> Result<()> {
    let mut testbed = Testbed::start("", "", "")?;
    let [first, second] = [local(free_port()?), local(free_port()?)];
    let admin = |testbed: &Testbed, more: &str| {
        testbed.write(&format!(
            "{}[upstreams]\n",
            testbed.base.replace("[admin]\n", &format!("[admin]\n{more}\n"))
        ))
    };
    let ask = |address: SocketAddr, name: &str| -> Result<u16> {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\n\r\n");
        Ok(Client::plain(address)?.ask(request)?.status())
    };
    assert_eq!(testbed.command()?, "nothing changed\n");
    admin(&testbed, &format!("listen = \"{first}\""))?;
    assert_eq!(testbed.command()?, "[admin] changed\n");
    assert_eq!((ask(first, "localhost")?, ask(first, "edge.internal")?), (200, 421));

    admin(&testbed, &format!("listen = \"{first}\"\nhosts = [\"edge.internal\"]"))?;
    assert_eq!(testbed.command()?, "[admin] changed\n");
    assert_eq!(ask(first, "edge.internal")?, 200);

    admin(&testbed, &format!("listen = \"{second}\""))?;
    assert_eq!(testbed.command()?, "[admin] changed\n");
    assert_eq!((ask(second, "localhost")?, ask(second, "edge.internal")?), (200, 421));
    wait_until("the former address is closed", MAX_WAIT, || Ok(TcpStream::connect(first).is_err()))?;

    // One that can't be had changes nothing.
    let held = TcpListener::bind(first)?;
    admin(&testbed, &format!("listen = \"{first}\""))?;
    let refused = testbed.command().err().context("an address that is held")?;
    assert!(format!("{refused:#}").contains(&format!("cannot listen on {first}")), "{refused:#}");
    assert_eq!(ask(second, "localhost")?, 200);
    drop(held);

    admin(&testbed, "")?;
    assert_eq!(testbed.command()?, "[admin] changed\n");
    wait_until("the second address is closed", MAX_WAIT, || Ok(TcpStream::connect(second).is_err()))?;
    assert!(testbed.proxy.stop()?.success());
    Ok(())
}

#[test]
fn other_certificates_come_without_a_restart() -> Result<()> {
    let (dir, https) = (TempDir::new("reload")?, local(free_port()?));
    let (old, new) = (Certs::new(&["proxy.example.com"])?, Certs::new(&["proxy.example.com"])?);
    let section = |certs: &Certs, name: &str| -> Result<String> {
        let [_, cert, key] = certs.write(&dir, name)?;
        Ok(format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n"))
    };
    let listen = format!("https = [\"{https}\"]");
    let testbed = Testbed::start(&listen, &section(&old, "old")?, "")?;
    let mut kept = Client::tls(https, &old, "proxy.example.com")?;
    assert_eq!(kept.ask(get("/"))?.status(), 404);
    testbed.write(&testbed.base.replace(&section(&old, "old")?, &section(&new, "new")?))?;
    assert_eq!(testbed.command()?, "[tls] changed\n");
    assert_eq!(Client::tls(https, &new, "proxy.example.com")?.ask(get("/"))?.status(), 404);
    assert!(Client::tls(https, &old, "proxy.example.com")?.ask(get("/")).is_err());
    assert_eq!(kept.ask(get("/"))?.status(), 404, "who is there already stays");
    Ok(())
}

#[test]
fn no_request_fails_while_everything_changes() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let address = origin.address();
    let always = upstream("a.example", address);
    let testbed = Testbed::start("", "", &always)?;
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| -> Result<()> {
        let kept = scope.spawn(|| -> Result<()> {
            let mut client = testbed.client()?;
            while !stop.load(Ordering::Relaxed) {
                ensure!(client.ask(post("/a.example/", "hello"))?.status() == 200);
                asked.fetch_add(1, Ordering::Relaxed);
                pace(Duration::from_millis(5));
            }
            Ok(())
        });
        let new = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                ensure!(testbed.client()?.ask(post("/a.example/", "hello"))?.status() == 200);
                asked.fetch_add(1, Ordering::Relaxed);
                pace(Duration::from_millis(5));
            }
            Ok(())
        });
        let reloads = (0..60).try_for_each(|n| {
            let listen =
                if n % 2 == 0 { format!("[timeouts]\nkeepalive = \"{}s\"\n", 60 + n) } else { String::new() };
            let other = upstream(&format!("b{n}.example"), address);
            testbed.write(&format!("{}{listen}[upstreams]\n{always}{other}", testbed.base))?;
            testbed.command().map(drop)
        });
        stop.store(true, Ordering::Relaxed);
        for asking in [kept, new] {
            asking.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        reloads
    })?;
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    Ok(())
}

#[test]
fn watched_files_are_read_when_they_change_and_bad_ones_change_nothing() -> Result<()> {
    let origin = Origin::answering(OK)?;
    let mut testbed =
        Testbed::start("", "[process]\nwatch = true", &upstream("one.example", origin.address()))?;
    let answered = |testbed: &Testbed, name: &str| -> Result<u16> {
        Ok(testbed.client()?.ask(get(&format!("/{name}/")))?.status())
    };
    assert_eq!(answered(&testbed, "two.example")?, 403);
    let beside = testbed.proxy.config().with_file_name("upstreams.d");
    fs::create_dir(&beside)?;
    fs::write(
        beside.join("two.toml"),
        format!("[upstreams]\n{}", upstream("two.example", origin.address())),
    )?;
    wait_until("the second upstream is served", 2 * MAX_WAIT, || {
        Ok(equal(answered(&testbed, "two.example")?, 200))
    })
    .with_context(|| testbed.proxy.stderr())?;

    testbed.write("[listen\n")?;
    testbed.proxy.wait_for_stderr("not reloaded", 2 * MAX_WAIT)?;
    assert_eq!(answered(&testbed, "one.example")?, 200);
    testbed.write(&format!("{}[upstreams]\n", testbed.base))?;
    wait_until("the first upstream is forbidden", 2 * MAX_WAIT, || {
        Ok(equal(answered(&testbed, "one.example")?, 403))
    })
    .with_context(|| testbed.proxy.stderr())?;
    assert_eq!(answered(&testbed, "two.example")?, 200);
    Ok(())
}

#[test]
fn a_watched_list_of_prefixes_is_read_when_it_changes() -> Result<()> {
    let dir = TempDir::new("watched")?;
    let list = dir.write("prefixes", "157.240.0.0/17\n")?;
    let more = format!("[process]\nwatch = true\n[guard]\ninterfaces = []\nprefixes = {list:?}\n");
    let mut testbed = Testbed::start("", &more, "")?;
    dir.write("prefixes", "157.240.0.0/17\n31.13.64.0/18\n")?;
    testbed.proxy.wait_for_stderr("[guard] prefixes: ", 2 * MAX_WAIT)?;
    assert!(testbed.proxy.stderr().contains("1 added, 0 removed, 2 in force"), "{}", testbed.proxy.stderr());
    Ok(())
}
