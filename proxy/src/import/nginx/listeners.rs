//! Where servers listen, and which of them a listener leads to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::setup::{Server, Setup};
use super::values::listen;
use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};

/// The servers of one port, as far as requests tell listeners apart.
#[derive(Debug)]
pub struct Listener<'s, 'd> {
    pub addresses: Vec<SocketAddr>,
    pub is_tls: bool,
    pub port: u16,
    /// The default server first.
    pub servers: Vec<&'s Server<'d>>,
    pub directive: &'d Directive,
    /// Those of the addresses at which clients' addresses come in a PROXY header.
    pub with_proxy_header: Vec<SocketAddr>,
}

/// One address.
#[derive(Debug)]
struct Socket<'d> {
    is_tls: bool,
    has_proxy_header: bool,
    servers: Vec<usize>,
    directive: &'d Directive,
}

impl<'s, 'd> Listener<'s, 'd> {
    /// All of a setup, in order of their first address.
    pub fn all(setup: &'s Setup<'d>, notes: &mut Notes) -> Vec<Self> {
        let mut sockets = BTreeMap::<SocketAddr, Socket<'d>>::new();
        for (number, server) in setup.servers.iter().enumerate() {
            add_sockets(&mut sockets, number, server, notes);
        }
        let mut listeners = Vec::<(Vec<usize>, Self)>::new();
        for (address, socket) in sockets {
            let is_same = |(servers, listener): &&mut (Vec<usize>, Self)| {
                (listener.is_tls, listener.port) == (socket.is_tls, address.port())
                    && *servers == socket.servers
            };
            let position = listeners.iter_mut().find(is_same).map(|(_, listener)| listener);
            let with_proxy_header = socket.has_proxy_header.then_some(address);
            match position {
                Some(listener) => {
                    listener.addresses.push(address);
                    listener.with_proxy_header.extend(with_proxy_header);
                }
                None => {
                    let listener = Self {
                        addresses: vec![address],
                        is_tls: socket.is_tls,
                        port: address.port(),
                        servers: socket.servers.iter().map(|number| &setup.servers[*number]).collect(),
                        directive: socket.directive,
                        with_proxy_header: with_proxy_header.into_iter().collect(),
                    };
                    listeners.push((socket.servers, listener));
                }
            }
        }
        listeners.into_iter().map(|(_, listener)| listener).collect()
    }

    /// Whether anybody on the Internet could come here.
    pub fn is_public(&self) -> bool {
        self.addresses.iter().any(|address| match address.ip() {
            IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
            IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        })
    }
}

fn add_sockets<'d>(
    sockets: &mut BTreeMap<SocketAddr, Socket<'d>>,
    number: usize,
    server: &Server<'d>,
    notes: &mut Notes,
) {
    let block = &server.level.directives;
    let is_on = |directive: &Directive| directive.arguments.first().is_some_and(|on| on == "on");
    let is_all_tls = block.iter().any(|directive| directive.name == "ssl" && is_on(directive));
    let mut listens = block.iter().copied().filter(|directive| directive.name == "listen").peekable();
    let has = |directive: &Directive, word: &str| directive.arguments.iter().any(|argument| argument == word);
    let mut add = |address: SocketAddr, directive: &'d Directive| {
        let socket = sockets.entry(address).or_insert(Socket {
            is_tls: false,
            has_proxy_header: false,
            servers: Vec::new(),
            directive,
        });
        socket.is_tls |= is_all_tls || has(directive, "ssl");
        socket.has_proxy_header |= has(directive, "proxy_protocol");
        if socket.servers.contains(&number) {
            return;
        }
        match has(directive, "default_server") || has(directive, "default") {
            true => socket.servers.insert(0, number),
            false => socket.servers.push(number),
        }
    };
    if listens.peek().is_none() {
        return add(SocketAddr::from(([0, 0, 0, 0], 80)), server.directive);
    }
    for directive in listens {
        let text = directive.arguments.first().map_or("", String::as_str);
        if has(directive, "quic") {
            notes.add(Group::Different, directive, "hookgate does not speak HTTP/3; Meta does not either");
            continue;
        }
        let Some(address) = listen(text) else {
            if server.level.has_pass() {
                notes.add(Group::Elsewhere, directive, why_no_address(text));
            }
            continue;
        };
        add(address, directive);
        if address.is_ipv6() && has(directive, "ipv6only=off") {
            add(SocketAddr::from(([0, 0, 0, 0], address.port())), directive);
        }
        if has(directive, "http2") || has(directive, "spdy") {
            notes.add(Group::NoConsequence, directive, "http2");
        }
    }
}

fn why_no_address(text: &str) -> String {
    if text.starts_with("unix:") {
        return "left out: hookgate listens on TCP alone: write an address under [listen] plain, such as 127.0.0.1:8080, and \
                let what connects here connect there"
            .to_owned();
    }
    if text.contains('$') {
        return format!("left out: `{text}` is a template's: import the file that nginx reads");
    }
    format!("left out: `{text}` is no address with a port: write one under [listen]")
}
