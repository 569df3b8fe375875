//! The addresses to listen on: free, ours already, or whose.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;

use super::Finding;
use crate::config::Config;
use crate::server;

pub fn findings(config: &Config) -> Vec<Finding> {
    let listen = &config.listen;
    let admin = config.admin.as_ref().and_then(|admin| admin.listen);
    let named = [("https", &listen.https), ("http", &listen.http), ("plain", &listen.plain)];
    let relay = named.into_iter().flat_map(|(key, list)| list.iter().map(move |address| (key, *address)));
    let all = relay.map(|(key, address)| (format!("listen.{key}"), address));
    let all: Vec<_> = all.chain(admin.map(|address| ("admin.listen".into(), address))).collect();
    let addresses: Vec<SocketAddr> = all.iter().map(|(_, address)| *address).collect();
    let is_left_out = |at| !server::has_ipv6() && server::is_optional(at, &addresses);
    let finding = |(key, at): &(String, SocketAddr)| match is_left_out(*at) {
        true => Finding::ok(format!("{key} {at}"), "left out: this machine has no IPv6"),
        false => port(key, *at),
    };
    all.iter().map(finding).collect()
}

fn port(key: &str, address: SocketAddr) -> Finding {
    let subject = format!("{key} {address}");
    let Err(error) = server::can_bind(address) else { return Finding::ok(subject, "free") };
    match error.kind() {
        ErrorKind::AddrInUse => held(subject, &holders(address.port())),
        ErrorKind::PermissionDenied => Finding::warn(
            subject,
            "may not be taken by this process",
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; run the doctor as root",
        ),
        ErrorKind::AddrNotAvailable => Finding::fail(
            subject,
            "this machine does not have the address",
            "`ip address` lists those it has",
        ),
        _ => Finding::fail(subject, format!("can't be taken: {error}"), "correct it in the configuration"),
    }
}

fn held(subject: String, holders: &[Holder]) -> Finding {
    let names: Vec<String> =
        holders.iter().map(|Holder { name, pid }| format!("{name} (pid {pid})")).collect();
    let text = format!("held by {}", names.join(", "));
    if holders.is_empty() {
        let next = "run the doctor as root to see by whom";
        return Finding::warn(subject, "held by another process", next);
    }
    if holders.iter().all(|holder| holder.name == "hookgate") {
        return Finding::ok(subject, text);
    }
    Finding::fail(subject, text, "stop that, or listen elsewhere")
}

/// A process that listens.
struct Holder {
    name: String,
    pid: u32,
}

/// The processes of this network namespace that listen on `port`, as far as they may be seen.
fn holders(port: u16) -> Vec<Holder> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|file| fs::read_to_string(file).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holding = pids.filter(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter_map(|link| link.into_os_string().into_string().ok()).any(|link| sockets.contains(&link))
    });
    let named = holding.map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Holder { name: name.trim().to_owned(), pid }
    });
    named.collect()
}

/// The sockets that listen on `port`, as `/proc/PID/fd` names them, from a table of proc_net_tcp(5).
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let rows = table.lines().skip(1).filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let local = u16::from_str_radix(columns.get(1)?.rsplit(':').next()?, 16).ok()?;
        let is_it = local == port && *columns.get(3)? == LISTEN;
        is_it.then_some(format!("socket:[{}]", columns.get(9)?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_port_that_is_held_is_held_by_somebody() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let finding = port("listen.plain", address);
        assert_eq!(finding.level, Level::Fail, "{finding}");
        assert!(finding.text.contains(&format!("(pid {})", std::process::id())), "{finding}");
        drop(listener);
        assert_eq!(port("listen.plain", address), Finding::ok(format!("listen.plain {address}"), "free"));
        let elsewhere = port("listen.plain", "192.0.2.1:80".parse().unwrap());
        assert_eq!(elsewhere.text, "this machine does not have the address");
    }

    #[test]
    fn only_other_programs_are_in_the_way() {
        let level = |names: &[&str]| {
            let holders: Vec<Holder> =
                names.iter().map(|name| Holder { name: (*name).into(), pid: 7 }).collect();
            held("listen.https".into(), &holders).level
        };
        assert_eq!(level(&["hookgate"]), Level::Ok);
        assert_eq!(level(&["hookgate", "nginx"]), Level::Fail);
        assert_eq!(level(&[]), Level::Warn);
    }
}
