//! A link on the way that is smaller than both ends' own, and whose ICMP messages about it are
//! filtered: small requests are answered, large ones hang.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Client, Need, NetNs, Proxy, TempDir, binary, equal, require, wait_until};
use serde_json::Value;

const NEEDS: [Need; 3] = [Need::Root, Need::Program("ethtool"), Need::Program("ip")];
const LISTEN: &str = "127.0.0.1:8081";
const BODY_BYTES: usize = 288_000;

/// Relay, two routers with a link of 1280 bytes between them, and an upstream.
struct Testbed {
    edge: NetNs,
    _routers: [NetNs; 2],
    far: NetNs,
    upstream: SocketAddr,
}

impl Testbed {
    fn new() -> Result<Self> {
        let [edge, first, second, far] = [NetNs::new()?, NetNs::new()?, NetNs::new()?, NetNs::new()?];
        NetNs::link((&edge, "wan0"), (&first, "lan0"))?;
        NetNs::link((&first, "mid0"), (&second, "mid0"))?;
        NetNs::link((&second, "lan0"), (&far, "wan0"))?;
        edge.address("wan0", "198.51.100.2/24")?;
        first.address("lan0", "198.51.100.1/24")?;
        first.address("mid0", "192.0.2.1/30")?;
        second.address("mid0", "192.0.2.2/30")?;
        second.address("lan0", "203.0.113.1/24")?;
        far.address("wan0", "203.0.113.2/24")?;
        edge.run("ip route add default via 198.51.100.1")?;
        far.run("ip route add default via 203.0.113.1")?;
        first.run("ip route add 203.0.113.0/24 via 192.0.2.2")?;
        second.run("ip route add 198.51.100.0/24 via 192.0.2.1")?;
        for router in [&first, &second] {
            router.run("ip link set mid0 mtu 1280")?;
            set(router, "ip_forward", 1)?;
            // What a router says itself, "fragmentation needed" above all, goes nowhere.
            router.run("ip rule add iif lo blackhole")?;
        }
        let listener = far.inside(|| Ok(TcpListener::bind("203.0.113.2:8080")?))?;
        let upstream = listener.local_addr()?;
        thread::spawn(move || {
            for connection in listener.incoming().map_while(std::io::Result::ok) {
                thread::spawn(move || answer(connection));
            }
        });
        Ok(Self { edge, _routers: [first, second], far, upstream })
    }

    fn config(&self, dir: &TempDir) -> String {
        format!(
            "[listen]\nplain = [\"{LISTEN}\"]\n[admin]\nsocket = {:?}\n\
             [timeouts]\nbody_idle = \"2s\"\nresponse = \"2s\"\n\
             [upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n",
            dir.path().join("admin.sock"),
            self.upstream
        )
    }

    /// What `hookgate probe up.example` says from the edge, and its exit code.
    fn probe(&self, more: &[&str]) -> Result<(Option<i32>, String)> {
        let dir = TempDir::new("mtu")?;
        let config = dir.write("hookgate.toml", self.config(&dir))?;
        let mut probe = Command::new(binary()?);
        probe.args(["probe", "up.example", "--config"]).arg(config).args(more);
        let output = self.edge.enter(&probe).output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    }
}

/// Sets one of the namespace's own `net.ipv4` settings.
fn set(ns: &NetNs, setting: &str, value: u8) -> Result<()> {
    let mut shell = ns.command("sh");
    shell.args(["-c", &format!("echo {value} >/proc/sys/net/ipv4/{setting}")]);
    ensure!(shell.status()?.success(), "{setting} cannot be set");
    Ok(())
}

/// Answers requests that arrive whole.
fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let (mut heard, mut bytes) = (Vec::new(), [0; 64 * 1024]);
    loop {
        while let Some(length) = whole_request(&heard) {
            heard.drain(..length);
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        match connection.read(&mut bytes)? {
            0 => return Ok(()),
            count => heard.extend_from_slice(&bytes[..count]),
        }
    }
}

/// The length of the first request, head and body, once it is there.
fn whole_request(heard: &[u8]) -> Option<usize> {
    let head = heard.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&heard[..head]);
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    Some(head + length.unwrap_or(0)).filter(|length| heard.len() >= *length)
}

fn post(body: usize) -> String {
    let head = format!(
        "POST /up.example/hook HTTP/1.1\r\nHost: proxy.example.com\r\nContent-Length: {body}\r\n\r\n"
    );
    head + &"x".repeat(body)
}

#[test]
fn deliveries_and_the_log_say_how_much_of_a_body_arrived() -> Result<()> {
    if !require(&NEEDS) {
        return Ok(());
    }
    let (testbed, dir) = (Testbed::new()?, TempDir::new("mtu")?);
    let mut proxy = Proxy::start_in(&testbed.edge, &testbed.config(&dir))?;
    let ask = |request: String| {
        let response = testbed.edge.inside(|| Client::plain(LISTEN.parse()?)?.ask(&request))?;
        Ok::<_, anyhow::Error>(response.status())
    };
    let chunked = "POST /up.example/hook HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n9000\r\n";
    // One that no socket's buffer takes whole, one that it does, and one whose length is not known
    // before its end.
    for (request, code) in [
        (post(5), 200),
        (post(BODY_BYTES), 504),
        (post(9000), 504),
        (format!("{chunked}{}", "x".repeat(0x9000)), 408),
    ] {
        assert_eq!(ask(request)?, code);
    }
    let told = || -> Result<Vec<Value>> {
        let told: Value = serde_json::from_str(&proxy.command(&testbed.edge, &["deliveries", "--json"])?)?;
        Ok(told["deliveries"].as_array().context("no list")?.clone())
    };
    wait_until("four deliveries are listed", Duration::from_secs(5), || Ok(equal(told()?.len(), 4)))?;
    let progress: Vec<_> =
        told()?.iter().map(|one| (one["body_bytes"].clone(), one["body_sent_bytes"].clone())).collect();
    let expected = [
        (5.into(), 5.into()),
        (BODY_BYTES.into(), 0.into()),
        (9000.into(), 0.into()),
        (Value::Null, 0.into()),
    ];
    assert_eq!(progress, expected);
    let text = proxy.command(&testbed.edge, &["deliveries"])?;
    for expected in [
        format!("the upstream did not respond in time  0 of {BODY_BYTES} bytes of the body acknowledged\n"),
        "  0 of 9000 bytes of the body acknowledged\n".into(),
        "  0 of an unknown number of bytes of the body acknowledged\n".into(),
    ] {
        assert!(text.contains(&expected), "{expected}: {text}");
    }
    assert_eq!(text.matches("bytes of the body").count(), 3, "{text}");
    proxy.wait_for_stderr(&format!(" sent=\"0 of {BODY_BYTES} bytes of the body\""), Duration::from_secs(5))
}

#[test]
fn a_probe_finds_that_large_packets_do_not_get_through() -> Result<()> {
    if !require(&NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let (code, text) = testbed.probe(&[])?;
    assert!(text.contains("GET / is answered with 200"), "small packets get through: {text}");
    assert!(
        text.contains("fail  MTU") && text.contains("large packets do not get through (path MTU)"),
        "{text}"
    );
    assert!(text.contains("net.ipv4.tcp_mtu_probing=1") && text.contains("clamp the MSS"), "{text}");
    assert_eq!(code, Some(1));

    // The remedies that the sentence names.
    set(&testbed.edge, "tcp_mtu_probing", 1)?;
    let (code, text) = testbed.probe(&[])?;
    assert!(text.contains("warn  MTU") && text.contains("got through late: "), "{text}");
    assert_eq!(code, Some(0));
    set(&testbed.edge, "tcp_mtu_probing", 2)?;
    let (_, text) = testbed.probe(&[])?;
    assert!(text.contains("ok    MTU"), "{text}");
    set(&testbed.edge, "tcp_mtu_probing", 0)?;
    // What clamping makes of it: the upstream says that it takes smaller segments.
    testbed.far.run("ip route change default via 203.0.113.1 advmss 1220")?;
    let (code, text) = testbed.probe(&["--json"])?;
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!((code, &report["failure"]), (Some(0), &Value::Null), "{report:#}");
    assert_eq!(report["packets"]["acknowledged"], true, "{report:#}");
    assert!(report["packets"]["head_bytes"].as_u64().is_some_and(|bytes| bytes > 4096), "{report:#}");
    Ok(())
}
