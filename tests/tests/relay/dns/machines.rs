//! Machines with one address family, and link-local DNS servers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Client, Need, NetNs, Origin, Proxy, TempDir, equal, outlast, require, wait_until};
use rustix::process::Signal;

use super::server::Server;
use super::{loopback, origin};
use crate::{get, local};

/// Less than `[dns] timeout`.
const MAX_WAIT: Duration = Duration::from_millis(1500);
const PORT: u16 = 8080;

/// A machine `edge` and its network `net`, joined by `dns0` and `wan0`. Proxy and upstream run on
/// `edge`.
struct Machine {
    edge: NetNs,
    net: NetNs,
    origin: Origin,
    dir: TempDir,
}

impl Machine {
    fn new() -> Result<Self> {
        let (edge, net) = (NetNs::new()?, NetNs::new()?);
        // Without a zone, link-local addresses are routed to this one: it is the first.
        NetNs::link((&edge, "decoy0"), (&net, "decoy1"))?;
        NetNs::link((&edge, "dns0"), (&net, "wan0"))?;
        // The kernel's own link-local address is tentative for a second.
        edge.address("dns0", "fe80::1/64")?;
        let origin = edge.inside(origin)?;
        Ok(Self { edge, net, origin, dir: TempDir::new("machine")? })
    }

    /// With addresses for both ends, and a default route.
    fn with(edge: &str, net: &[&str], via: &str) -> Result<Self> {
        let machine = Self::new()?;
        machine.edge.address("dns0", edge)?;
        for address in net {
            machine.net.address("wan0", address)?;
        }
        machine.edge.run(&format!("ip route add default via {via}"))?;
        Ok(machine)
    }

    /// A DNS server in the network.
    fn server(&self, ip: &str) -> Result<Server> {
        let ip: IpAddr = ip.parse()?;
        self.net.inside(|| Server::at(SocketAddr::new(ip, 53), &[loopback()]))
    }

    /// The same at a link-local address.
    fn link_local_server(&self, address: &str) -> Result<Server> {
        self.net.address("wan0", &format!("{address}/64"))?;
        let link = self.net.run("ip -o link show dev wan0")?;
        let index = link.split_once(':').context("no interface")?.0.parse()?;
        let address = SocketAddrV6::new(address.parse()?, 53, 0, index);
        self.net.inside(|| Server::at(address.into(), &[loopback()]))
    }

    /// `dns` is what stands in `[dns]` besides its timeout.
    fn config(&self, port: u16, dns: &str) -> String {
        format!(
            "[listen]\nplain = [\"{}\"]\n[dns]\ntimeout = \"2s\"\n{dns}\n[upstreams]\n\
             \"up.example\" = {{ tls = false, port = {}, allow_private = true }}\n",
            local(port),
            self.origin.address().port()
        )
    }

    fn proxy(&self, dns: &str) -> Result<Proxy> {
        Proxy::start_in(&self.edge, &self.config(PORT, dns))
    }

    /// Replaces the machine's resolv.conf.
    fn resolv_conf(&self, text: &str) -> Result<()> {
        let file = self.dir.write("resolv.conf", text)?;
        // The mount is visible in this namespace alone.
        self.edge.run(&format!("mount --bind {} /etc/resolv.conf", file.display())).map(drop)
    }

    fn ask(&self) -> Result<(u16, String, Duration)> {
        self.edge.inside(|| {
            let begun = Instant::now();
            let answer = Client::plain(local(PORT))?.ask(get("/up.example/"))?;
            Ok((answer.status(), answer.proxy_error().unwrap_or_default().to_owned(), begun.elapsed()))
        })
    }

    fn assert_serves(&self, proxy: &Proxy) -> Result<()> {
        let (status, error, took) = self.ask()?;
        ensure!(
            (status, &error[..]) == (200, "") && took < MAX_WAIT,
            "{status} {took:?}\n{}",
            proxy.stderr()
        );
        Ok(())
    }

    /// What a command says of such a configuration, and its exit code.
    fn says(&self, dns: &str, args: &[&str]) -> Result<(Option<i32>, String)> {
        let config = self.dir.write("hookgate.toml", self.config(PORT + 1, dns))?;
        let mut command = Command::new(harness::binary()?);
        command.args(args).arg("--config").arg(config);
        let output = self.edge.enter(&command).output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(text)?))
    }
}

fn can_run() -> bool {
    require(&[Need::Root, Need::Program("ethtool"), Need::Program("ip")])
}

#[test]
fn a_server_with_a_zone_is_asked_through_its_interface() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Machine::new()?;
    let server = machine.link_local_server("fe80::53")?;
    machine.resolv_conf(
        "# written by a router advertisement\nnameserver fe80::53%dns0\noptions edns0 trust-ad\nsearch .\n",
    )?;
    let index = machine.edge.run("ip -o link show dev dns0")?;
    let index = index.split_once(':').context("no interface")?.0.to_owned();
    for (n, dns) in [
        "servers = \"system\"".to_owned(),
        "servers = [\"fe80::53%dns0\"]".to_owned(),
        "servers = [\"[fe80::53%dns0]:53\"]".to_owned(),
        format!("servers = [\"fe80::53%{index}\"]"),
    ]
    .iter()
    .enumerate()
    {
        // Over UDP, and over TCP.
        server.set(|state| &state.truncates, n % 2 == 1);
        let proxy = machine.proxy(dns)?;
        machine.assert_serves(&proxy)?;
        drop(proxy);
        let (code, said) = machine.says(dns, &["check"])?;
        ensure!(code == Some(0) && !said.contains("warning"), "{dns}: {said}");
        let (code, said) = machine.says(dns, &["probe", "up.example"])?;
        ensure!(code == Some(0), "{dns}: {said}");
        let (_, said) = machine.says(dns, &["doctor"])?;
        ensure!(said.contains("ok    DNS [fe80::53%"), "{dns}: {said}");
    }
    Ok(())
}

#[test]
fn a_server_with_a_zone_that_is_silent_costs_no_time_beside_another() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Machine::with("192.0.2.1/24", &["192.0.2.53/24"], "192.0.2.53")?;
    let _server = machine.server("192.0.2.53")?;
    let rest = "nameserver 192.0.2.53\r\nnameserver\t192.0.2.54 ; gone\nnameserver 192.0.2.55\noptions trust-ad no-aaaa x:y\n";
    for (first, warning) in [("fe80::53%dns0", None), ("fe80::53%gone0", Some("no interface of that name"))] {
        machine.resolv_conf(&format!("nameserver {first}\n{rest}nameserver router.lan\nsearch .\n"))?;
        let proxy = machine.proxy("servers = \"system\"\nvalid = \"1s\"")?;
        for _ in 0..3 {
            machine.assert_serves(&proxy)?;
            outlast(Duration::from_secs(1));
        }
        let (code, said) = machine.says("servers = \"system\"", &["check"])?;
        assert_eq!(code, Some(0), "{said}");
        let expected =
            warning.map(|warning| format!("warning: dns.servers: {first}: this machine has {warning}"));
        for line in
            expected.iter().chain([&"line 6: \"router.lan\" is not the address of a server".to_owned()])
        {
            ensure!(said.contains(line), "{line}: {said}");
            ensure!(proxy.stderr().contains(line), "{line}: {}", proxy.stderr());
        }
    }
    Ok(())
}

#[test]
fn an_interface_that_is_not_there_is_named() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Machine::new()?;
    let dns = "servers = [\"fe80::53%gone0\"]";
    let (code, said) = machine.says(dns, &["check"])?;
    ensure!(code == Some(1) && said.contains("fe80::53%gone0: this machine has no interface"), "{said}");
    let mut proxy = machine.proxy(dns)?;
    let (status, error, took) = machine.ask()?;
    assert_eq!((status, &error[..]), (502, "dns_error"));
    assert!(took < MAX_WAIT, "{took:?}");
    proxy.wait_for_stderr("detail=\"fe80::53%gone0: there is no interface gone0", Duration::from_secs(5))?;
    for command in [&["probe", "up.example"][..], &["doctor"]] {
        let (_, said) = machine.says(dns, command)?;
        ensure!(said.contains("fe80::53%gone0: there is no interface gone0"), "{said}");
        ensure!(!said.contains("does up.example exist"), "{said}");
    }
    // The interface comes later.
    let server = machine.link_local_server("fe80::53")?;
    machine.edge.run("ip link set dns0 down")?;
    machine.edge.run("ip link set dns0 name gone0")?;
    machine.edge.run("ip link set gone0 up")?;
    wait_until("the name serves", Duration::from_secs(10), || Ok(equal(machine.ask()?.0, 200)))
        .with_context(|| proxy.stderr())?;
    ensure!(server.questions() > 0, "{}", proxy.stderr());
    Ok(())
}

#[test]
fn a_file_without_a_server_is_told() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let (machine, dns) = (Machine::new()?, "servers = \"system\"");
    for text in ["", "# nameserver 192.0.2.53\nsearch lan\n", "nameserver router.lan\n"] {
        machine.resolv_conf(text)?;
        for command in ["check", "run", "doctor"] {
            let (code, said) = machine.says(dns, &[command])?;
            ensure!(code == Some(1) && said.contains("no server in /etc/resolv.conf"), "{command}: {said}");
        }
    }
    // An empty folder in place of /etc: the file does not exist.
    let empty = machine.dir.path().join("etc");
    fs::create_dir(&empty)?;
    machine.edge.run(&format!("mount --bind {} /etc", empty.display()))?;
    for command in ["check", "run", "doctor"] {
        let (code, said) = machine.says(dns, &[command])?;
        ensure!(code == Some(1) && said.contains("cannot read /etc/resolv.conf"), "{command}: {said}");
    }
    Ok(())
}

#[test]
fn a_reload_takes_over_what_the_machine_says_by_then() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Machine::with("192.0.2.1/24", &["192.0.2.53/24", "192.0.2.54/24"], "192.0.2.53")?;
    let (first, second) = (machine.server("192.0.2.53")?, machine.server("192.0.2.54")?);
    machine.resolv_conf("nameserver 192.0.2.53\n")?;
    let mut proxy = machine.proxy("servers = \"system\"")?;
    machine.assert_serves(&proxy)?;
    let soon = Duration::from_secs(5);
    proxy.signal(Signal::HUP)?;
    proxy.wait_for_stderr("reloaded: nothing changed", soon)?;
    let asked = first.questions();
    assert!(asked > 0 && second.questions() == 0);
    // Written in place: the mount shows this inode.
    machine.dir.write("resolv.conf", "search lan\n")?;
    proxy.signal(Signal::HUP)?;
    proxy.wait_for_stderr(
        "not reloaded, what was in force stays: [dns] servers = \"system\": no server in",
        soon,
    )?;
    machine.dir.write("resolv.conf", "nameserver 192.0.2.54\n")?;
    proxy.signal(Signal::HUP)?;
    proxy.wait_for_stderr("reloaded: [dns] changed", soon)?;
    machine.assert_serves(&proxy)?;
    assert!(first.questions() == asked && second.questions() > 0, "what was known stayed known");
    Ok(())
}

#[test]
fn the_defaults_serve_machines_with_one_family_alone() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let v6 = ("2001:db8::1/64", &["2001:db8::2/64", "2606:4700:4700::1111/128"][..], "2001:db8::2");
    let v4 = ("192.0.2.1/24", &["192.0.2.2/24", "8.8.8.8/32"][..], "192.0.2.2");
    for ((edge, net, via), server, lacks) in
        [(v6, "2606:4700:4700::1111", "1.1.1.1"), (v4, "8.8.8.8", "2606:4700:4700::1111")]
    {
        let machine = Machine::with(edge, net, via)?;
        let server = machine.server(server)?;
        let proxy = machine.proxy("valid = \"1s\"")?;
        for _ in 0..3 {
            machine.assert_serves(&proxy)?;
            outlast(Duration::from_secs(1));
        }
        let (_, said) = machine.says("", &["doctor"])?;
        ensure!(said.contains("not asked: no route to it; another one answers"), "{lacks}: {said}");
        // A silent server is a time-out, also when the others have no route.
        server.set(|state| &state.silent, true);
        drop(proxy);
        let mut proxy = machine.proxy("")?;
        let (status, error, _) = machine.ask()?;
        assert_eq!((status, &error[..]), (504, "dns_timeout"));
        let told = format!("no DNS server answered in time; no route to {lacks}, ");
        proxy.wait_for_stderr(&told, Duration::from_secs(5))?;
    }
    Ok(())
}

#[test]
fn servers_without_a_route_are_named_and_the_upstream_is_not_doubted() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let v6 = Machine::with("2001:db8::1/64", &["2001:db8::2/64"], "2001:db8::2")?;
    let v4 = Machine::with("192.0.2.1/24", &["192.0.2.2/24"], "192.0.2.2")?;
    let neither = Machine::new()?;
    for (machine, dns, expected) in [
        (
            &v6,
            "servers = [\"1.1.1.1\"]",
            "no route to 1.1.1.1: this machine has no IPv4 default route; write \
             servers = [\"2606:4700:4700::1111\", \"2001:4860:4860::8888\"]",
        ),
        (
            &v4,
            "servers = [\"2606:4700:4700::1111\"]",
            "no route to 2606:4700:4700::1111: this machine has no IPv6 default route; write \
             servers = [\"1.1.1.1\", \"8.8.8.8\"]",
        ),
        (&neither, "", "no route to 1.1.1.1"),
    ] {
        let mut proxy = machine.proxy(dns)?;
        let (status, error, took) = machine.ask()?;
        assert_eq!((status, &error[..]), (502, "dns_error"), "{dns}");
        assert!(took < MAX_WAIT, "{dns}: {took:?}");
        // Quotes are escaped in the log.
        let logged = expected.replace('"', "\\\"");
        proxy.wait_for_stderr(&logged, Duration::from_secs(5))?;
        for command in [&["probe", "up.example"][..], &["doctor"]] {
            let (code, said) = machine.says(dns, command)?;
            ensure!(code == Some(1) && said.contains(expected), "{dns}: {said}");
            ensure!(!said.contains("does up.example exist"), "{dns}: {said}");
        }
    }
    Ok(())
}

/// The AAAA answer comes first, and the machine has no IPv6.
#[test]
fn addresses_of_a_family_that_the_machine_lacks_are_not_enough() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let machine = Machine::with("192.0.2.1/24", &["192.0.2.2/24"], "192.0.2.2")?;
    let server = machine.server("192.0.2.2")?;
    server.knows(&["2001:db8::1".parse()?, Ipv4Addr::LOCALHOST.into()]);
    server.state.delay_a.store(300, std::sync::atomic::Ordering::SeqCst);
    let proxy = machine.proxy("servers = [\"192.0.2.2\"]")?;
    machine.assert_serves(&proxy)
}
