//! Another server and hookgate side by side, each in a namespace of its own, and an origin at every
//! address that tells what arrived.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Ca, Certs, Client, DnsServer, NetNs, Proxy, Running, TempDir, binary, run, wait_until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use toml::de::{DeTable, DeValue};

use super::peer::Peer;

/// What the relay is called.
pub const RELAY: &str = "proxy.example.com";

/// The namespaces, and what serves in the origin's.
pub struct Testbed {
    peer: Peer,
    /// Where the other server is.
    pub other: NetNs,
    pub hookgate: NetNs,
    dir: TempDir,
    certs: Certs,
    client_certs: Certs,
    /// hookgate, with the origin's authority among its roots.
    binary: PathBuf,
    /// That authority.
    roots: PathBuf,
    _origin: Running,
    _dns: DnsServer,
    _origin_ns: NetNs,
}

/// What an import printed, and how it ended.
pub struct Outcome {
    pub toml: String,
    pub said: String,
    pub code: Option<i32>,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived, as the origin tells it.
    Arrived { place: String, host: String, line: String },
    /// It was answered on the way.
    Answered(u16),
    /// There was no answer, or no connection.
    Refused,
}

/// A way to come in.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub address: SocketAddr,
    pub is_tls: bool,
    pub has_certificate: bool,
}

const RESOLVERS: [&str; 3] = ["1.1.1.1", "8.8.8.8", "9.9.9.9"];
const PLAIN_PORTS: [u16; 9] = [80, 3000, 5678, 8000, 8001, 8080, 8081, 9000, 9001];
const TLS_PORTS: [u16; 2] = [443, 8443];

impl Testbed {
    /// `names`: those that the DNS knows.
    pub fn new(peer: Peer, names: &[String]) -> Result<Self> {
        let dir = TempDir::new("import")?;
        let [other, hookgate, origin] = [NetNs::new()?, NetNs::new()?, NetNs::new()?];
        for (number, (ns, end)) in [(&other, "n0"), (&hookgate, "h0")].into_iter().enumerate() {
            NetNs::link((ns, "up0"), (&origin, end))?;
            ns.address("up0", &format!("198.18.{number}.1/30"))?;
            ns.address("up0", &format!("fd00:{number}::1/64"))?;
            ns.address("lo", "10.8.0.1/32")?;
            origin.address(end, &format!("198.18.{number}.2/30"))?;
            origin.address(end, &format!("fd00:{number}::2/64"))?;
            ns.run(&format!("ip route add default via 198.18.{number}.2"))?;
            ns.run(&format!("ip -6 route add default via fd00:{number}::2"))?;
            // All addresses but those of the two are the origin's.
            origin.run(&format!("ip route add 198.18.{number}.1/32 dev {end} table local"))?;
            origin.run(&format!("ip -6 route add fd00:{number}::1/128 dev {end} table local"))?;
        }
        origin.run("ip route add local 0.0.0.0/0 dev lo")?;
        origin.run("ip -6 route add local ::/0 dev lo")?;
        for resolver in RESOLVERS {
            origin.address("lo", &format!("{resolver}/32"))?;
        }

        let addresses: Vec<(&str, IpAddr)> = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                (&**name, IpAddr::from([45, 0, (number / 250) as u8, (number % 250) as u8 + 1]))
            })
            .collect();
        let more: Vec<String> = RESOLVERS[1..].iter().map(|ip| format!("--listen-address={ip}")).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let dns = DnsServer::start_with(&origin, format!("{}:53", RESOLVERS[0]).parse()?, &addresses, &more)?;
        let hosts: String = addresses.iter().map(|(name, ip)| format!("{ip} {name}\n")).collect();
        let hosts = dir.write("hosts", hosts)?;
        other.run(&format!("mount --bind {} /etc/hosts", hosts.display()))?;
        for folder in ["/var/log/nginx", "/var/lib/nginx"] {
            other.run(&format!("mount -t tmpfs tmpfs {folder}"))?;
            origin.run(&format!("mount -t tmpfs tmpfs {folder}"))?;
        }

        let ca = Ca::new("hookgate test authority")?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let [roots, cert, key] = ca.issue(&names)?.write(&dir, "origin")?;
        let started = Self::start_origin(peer, &origin, &dir, [&roots, &cert, &key])?;
        let wrapper = format!(
            "#!/bin/sh\nSSL_CERT_FILE={} SSL_CERT_DIR= exec {} \"$@\"\n",
            roots.display(),
            binary()?.display()
        );
        let wrapper = dir.write("hookgate", wrapper)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            certs: ca.issue(&[RELAY, "hooks.example.com", "one.example.com", "two.example.com"])?,
            client_certs: Ca::new("hookgate test clients")?.issue_to_client(
                "client.webhooks.fbclientcerts.com",
                &[],
                4096,
            )?,
            peer,
            other,
            hookgate,
            dir,
            binary: wrapper,
            roots,
            _origin: started,
            _dns: dns,
            _origin_ns: origin,
        })
    }

    fn start_origin(
        peer: Peer,
        ns: &NetNs,
        dir: &TempDir,
        [roots, cert, key]: [&Path; 3],
    ) -> Result<Running> {
        let mut listen = String::new();
        for (ports, tls) in [(&PLAIN_PORTS[..], ""), (&TLS_PORTS[..], " ssl")] {
            for port in ports {
                writeln!(listen, "listen {port}{tls}; listen [::]:{port}{tls};")?;
            }
        }
        // nginx sends no server name unless it is told to, which its outcomes say.
        let server_name = if peer == Peer::Nginx { "" } else { " $ssl_server_name" };
        let config = format!(
            "events {{}}\nhttp {{ access_log off; server {{ {listen} ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ return 200 \"$server_addr:$server_port $https{server_name}\\n$http_host\\n$request_method $request_uri\"; }} }} }}\n",
            cert.display(),
            key.display()
        );
        let config = dir.write("origin.conf", config)?;
        Running::start(Peer::Nginx.command(ns, dir.path(), &config, roots, true))
            .context("starting the origin")
    }

    /// Where a shape's files lie.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the certificates that shapes name, and a shape with the folder in the place of
    /// `@DIR@`.
    pub fn write(&self, text: &str) -> Result<PathBuf> {
        let place = self.folder().display().to_string();
        self.certs.write(&self.dir, "proxy")?;
        self.dir.write("client-ca.pem", &self.client_certs.ca)?;
        for folder in ["certs", "custom", "html"] {
            fs::create_dir_all(self.folder().join(folder))?;
        }
        self.dir.write("certs/proxy.pem", &self.certs.cert)?;
        self.dir.write("certs/proxy.key", &self.certs.key)?;
        self.dir.write("custom/server_proxy.conf", "allow 127.0.0.0/8;\ndeny all;\n")?;
        // HAProxy reads both from one file.
        self.dir.write("proxy-both.pem", [&*self.certs.cert, &*self.certs.key].concat())?;
        self.write_maps(text)?;
        self.dir.write(self.peer.file(), text.replace("@DIR@", &place))
    }

    /// Lines `#@ FILE LINE` of a shape are lines of another file.
    fn write_maps(&self, text: &str) -> Result<()> {
        let mut files = BTreeMap::<&str, String>::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("#@ ")) {
            let (file, line) = line.split_once(' ').context("a file and a line")?;
            writeln!(files.entry(file).or_default(), "{line}")?;
        }
        files.into_iter().try_for_each(|(file, text)| self.dir.write(file, text).map(drop))
    }

    /// What hookgate makes of the file.
    pub fn import(&self, config: &Path) -> Result<Outcome> {
        let mut command = Command::new(binary()?);
        let output = command.args(["import", self.peer.name()]).arg(config).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Outcome { toml: text(&output.stdout), said: text(&output.stderr), code: output.status.code() })
    }

    fn command(&self, config: &Path, serves: bool) -> Command {
        self.peer.command(&self.other, self.folder(), config, &self.roots, serves)
    }

    /// Whether the other server takes the file.
    pub fn is_valid(&self, config: &Path) -> Result<bool> {
        Ok(run(self.command(config, false)).is_ok())
    }

    /// Starts the other server with the file.
    pub fn start_other(&self, entries: &[Entry]) -> Result<Running> {
        let config = self.folder().join(self.peer.file());
        let mut running = Running::start(self.command(&config, true)).context(self.peer.name())?;
        let connects = |entry: &Entry| std::net::TcpStream::connect(entry.address).is_ok();
        wait_until("the other server listens", Duration::from_secs(10), || {
            running.still_running()?;
            self.other.inside(|| Ok(entries.iter().all(connects)))
        })
        .with_context(|| {
            format!(
                "{} does not listen:
{}",
                self.peer.name(),
                running.stderr()
            )
        })?;
        Ok(running)
    }

    /// Starts hookgate with the outcome of an import.
    pub fn start_hookgate(&self, toml: &str) -> Result<Proxy> {
        Proxy::start_binary(&self.hookgate, &self.binary, toml)
    }

    /// Where requests come in that the outcome forwards.
    pub fn entries(toml: &str) -> Result<Vec<Entry>> {
        let table = DeTable::parse(toml).map_err(|error| anyhow::anyhow!("{error}\n{toml}"))?;
        let list = |key: &str| -> Vec<SocketAddr> {
            let listen = table.get_ref().get("listen").and_then(|section| section.get_ref().as_table());
            let list = listen.and_then(|listen| listen.get(key)).and_then(|list| list.get_ref().as_array());
            let text = |value: &DeValue<'_>| value.as_str().and_then(|text| text.parse().ok());
            list.into_iter().flatten().filter_map(|value| text(value.get_ref())).collect()
        };
        let entry = |is_tls: bool| {
            move |mut address: SocketAddr| {
                match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                    _ => {}
                }
                Entry { address, is_tls, has_certificate: false }
            }
        };
        Ok(list("https")
            .into_iter()
            .map(entry(true))
            .chain(list("plain").into_iter().map(entry(false)))
            .collect())
    }

    /// What becomes of GETs for `targets` that come in there.
    pub fn fates(&self, ns: &NetNs, entry: Entry, targets: &[String]) -> Result<Vec<Fate>> {
        ns.inside(|| Ok(targets.iter().map(|target| self.fate(entry, target)).collect()))
    }

    fn fate(&self, entry: Entry, target: &str) -> Fate {
        let client = match entry.is_tls {
            true => self.tls_client(entry),
            false => Client::plain(entry.address),
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: {RELAY}\r\nConnection: close\r\n\r\n");
        let Ok(response) = client.and_then(|mut client| client.ask(request)) else { return Fate::Refused };
        let body = String::from_utf8_lossy(&response.body).into_owned();
        match *body.lines().collect::<Vec<_>>() {
            [place, host, line] if response.status() == 200 && line.starts_with("GET ") => {
                Fate::Arrived { place: place.to_owned(), host: host.to_owned(), line: line.to_owned() }
            }
            _ => Fate::Answered(response.status()),
        }
    }

    fn tls_client(&self, entry: Entry) -> Result<Client> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.certs.ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = if entry.has_certificate {
            let certs = &self.client_certs;
            let chain =
                CertificateDer::pem_slice_iter(certs.cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(certs.key.as_bytes())?)?
        } else {
            builder.with_no_client_auth()
        };
        Client::tls_with(entry.address, b"", Arc::new(config), RELAY)
    }
}
