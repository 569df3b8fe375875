//! TLS towards clients: which certificate they are shown, and which of theirs are believed.

mod outdated;
mod revoked;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Ca, Certs, Client, Message, Need, TempDir, ask_admin, equal, free_port, require, run, wait_until,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use serde_json::Value;

use crate::{OK, Origin, Relay, TIMEOUTS, get, local, upstream};

const NAME: &str = "proxy.example.com";
const ECDSA: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: [SignatureScheme; 2] = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
/// Files are looked at every two seconds.
const FOLLOWED: Duration = Duration::from_secs(6);

/// A relay with a listener that speaks TLS.
struct Edge {
    relay: Relay,
    https: SocketAddr,
}

impl Edge {
    /// `tls` is the section `[tls]`, `config` what comes after it.
    fn start(tls: &str, config: &str) -> Result<Self> {
        let https = local(free_port()?);
        let relay = Relay::listening(&format!("https = [\"{https}\"]"), &format!("[tls]\n{tls}\n{config}"))?;
        Ok(Self { relay, https })
    }

    fn client(&self, config: &Arc<ClientConfig>, name: &str) -> Result<Client> {
        Client::tls_with(self.https, b"", config.clone(), name)
    }

    /// The certificate that a client is shown.
    fn shown(&self, config: &Arc<ClientConfig>, name: &str) -> Result<CertificateDer<'static>> {
        // A resumed session would show the one from before.
        let mut config = ClientConfig::clone(config);
        config.resumption = Resumption::disabled();
        let mut client = self.client(&Arc::new(config), name)?;
        ensure!(client.ask(get("/"))?.status() == 404);
        let session = client.session().context("no TLS")?;
        let chain = session.peer_certificates().context("no certificate")?;
        Ok(chain.first().context("no certificate")?.clone().into_owned())
    }
}

fn pair(dir: &TempDir, certs: &Certs, name: &str) -> Result<String> {
    let [_, cert, key] = certs.write(dir, name)?;
    Ok(format!("cert = {cert:?}\nkey = {key:?}\n"))
}

fn roots(certs: &Certs) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certs.ca.as_bytes())?)?;
    Ok(roots)
}

/// A client that believes the authority of `certs` and remembers sessions.
pub(crate) fn trusting(certs: &Certs) -> Result<Arc<ClientConfig>> {
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots(certs)?).with_no_client_auth()))
}

fn leaf(certs: &Certs) -> Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_slice(certs.cert.as_bytes())?)
}

/// Believes any certificate whose key signs in one of these ways.
#[derive(Debug)]
struct Anyone(&'static [SignatureScheme], Arc<CryptoProvider>);

impl Anyone {
    fn config(
        schemes: &'static [SignatureScheme],
        version: &'static SupportedProtocolVersion,
    ) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version])?;
        let verifier = Arc::new(Self(schemes, provider));
        Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.1.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.1.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.to_vec()
    }
}

fn openssl(args: &[&str]) -> Result<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(args);
    run(openssl)
}

#[test]
fn the_certificate_is_chosen_by_name_and_key_type() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let dir = TempDir::new("choice")?;
    let ca = Ca::new("an authority")?;
    let rsa = openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])?;
    let a_rsa = ca.issue_for_key(&["a.example"], &rsa)?;
    let a = ca.issue(&["a.example", "also-a.example"])?;
    let b = ca.issue(&["b.example"])?;
    let wild = ca.issue(&["*.w.example"])?;
    let more = [(&a, "a"), (&b, "b"), (&wild, "w")].map(|(certs, name)| {
        Ok(format!("{{ {} }}", pair(&dir, certs, name)?.trim_end().replace('\n', ", ")))
    });
    let more = more.into_iter().collect::<Result<Vec<_>>>()?.join(", ");
    let tls = format!("{}certs = [{more}]", pair(&dir, &a_rsa, "a-rsa")?);
    let edge = Edge::start(&tls, TIMEOUTS)?;
    for version in [&TLS12, &TLS13] {
        let [ecdsa, rsa, both] =
            [&ECDSA[..], &RSA[..], &[ECDSA[0], RSA[0], RSA[1]][..]].map(|s| s.to_vec().leak() as &_);
        for (name, schemes, expected) in [
            ("a.example", both, &a),
            ("a.example", ecdsa, &a),
            ("a.example", rsa, &a_rsa),
            ("A.Example", both, &a),
            ("also-a.example", both, &a),
            ("b.example", both, &b),
            ("x.w.example", both, &wild),
            // None covers these, or can be used: the first that can.
            ("b.example", rsa, &a_rsa),
            ("w.example", both, &a_rsa),
            ("x.y.w.example", both, &a_rsa),
            ("unknown.example", both, &a_rsa),
            ("unknown.example", ecdsa, &a),
            ("127.0.0.1", both, &a_rsa),
        ] {
            let shown = edge.shown(&Anyone::config(schemes, version)?, name)?;
            assert!(shown == leaf(expected)?, "{name}, {schemes:?}, {version:?}");
        }
    }
    Ok(())
}

#[test]
fn changed_files_are_followed_and_bad_ones_leave_the_old_in_force() -> Result<()> {
    let dir = TempDir::new("follow")?;
    let ca = Ca::new("an authority")?;
    let [first, second, third] = [2030, 2031, 2032].map(|year| ca.issue_until(&[NAME], year));
    let (first, second, third) = (first?, second?, third?);
    let mut edge = Edge::start(&pair(&dir, &first, "edge")?, "[timeouts]\nkeepalive = \"60s\"\n")?;
    let trust = trusting(&first)?;
    let now_shown = |edge: &Edge| edge.shown(&trust, NAME);
    let expiry = |edge: &Edge| {
        Ok::<_, anyhow::Error>(edge.relay.metrics()?.value("hookgate_certificate_expiry_seconds"))
    };
    let mut kept = edge.client(&trust, NAME)?;
    assert_eq!(kept.ask(get("/"))?.status(), 404);
    assert!(now_shown(&edge)? == leaf(&first)?);
    assert_eq!(expiry(&edge)?, 1_924_905_600.0, "2030-12-31");

    second.write(&dir, "edge")?;
    wait_until("the second certificate is shown", FOLLOWED, || Ok(equal(now_shown(&edge)?, leaf(&second)?)))?;
    assert_eq!(expiry(&edge)?, 1_956_441_600.0, "2031-12-31");
    assert_eq!(kept.ask(get("/"))?.status(), 404, "the connection from before goes on");

    // Each flaw is said, and changes nothing.
    let [_, cert, key] = second.write(&dir, "edge")?;
    let said = |edge: &Edge| edge.relay.proxy.stderr().matches("the old certificates stay in force").count();
    let half = &third.cert[..third.cert.len() / 2];
    for (what, text, named) in [
        ("half a file", Some(half), &cert),
        ("another's certificate", Some(&third.cert), &key),
        ("no file", None, &cert),
    ] {
        let before = said(&edge);
        match text {
            Some(text) => std::fs::write(&cert, text)?,
            None => std::fs::remove_file(&cert)?,
        }
        wait_until("the proxy says what it did", FOLLOWED, || Ok(said(&edge) > before))
            .with_context(|| format!("{what}: {}", edge.relay.proxy.stderr()))?;
        let log = edge.relay.proxy.stderr();
        let line = log.lines().rfind(|line| line.contains("old certificates stay"));
        let named = named.display().to_string();
        assert!(line.is_some_and(|line| line.contains(&named)), "{what}: {line:?}");
        assert!(now_shown(&edge)? == leaf(&second)?, "{what}");
    }

    third.write(&dir, "edge")?;
    wait_until("the third certificate is shown", FOLLOWED, || Ok(equal(now_shown(&edge)?, leaf(&third)?)))?;
    edge.relay.proxy.wait_for_stderr("the new certificates are in force", FOLLOWED)?;
    assert_eq!(kept.ask(get("/"))?.status(), 404);
    Ok(())
}

#[test]
fn versions_and_alpn() -> Result<()> {
    let dir = TempDir::new("alpn")?;
    let certs = Certs::new(&[NAME])?;
    let edge = Edge::start(&pair(&dir, &certs, "edge")?, TIMEOUTS)?;
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for (offered, chosen) in [
            (&[][..], None),
            (&["http/1.1"], Some(&b"http/1.1"[..])),
            (&["h2", "http/1.1"], Some(b"http/1.1")),
        ] {
            let mut config = ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots(&certs)?)
                .with_no_client_auth();
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let mut client = edge.client(&Arc::new(config), NAME)?;
            assert_eq!(client.ask(get("/"))?.status(), 404);
            let session = client.session().context("no TLS")?;
            assert_eq!((session.alpn_protocol(), session.protocol_version()), (chosen, Some(number)));
        }
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots(&certs)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let refused =
            edge.client(&Arc::new(config), NAME)?.ask(get("/")).expect_err("h2 alone is not spoken");
        assert!(format!("{refused:?}").contains("NoApplicationProtocol"), "{refused:?}");
    }
    if require(&[Need::Program("openssl")]) {
        let connect = format!("127.0.0.1:{}", edge.https.port());
        let s_client = |version: &str| {
            openssl(&["s_client", "-connect", &connect, version, "-cipher", "DEFAULT@SECLEVEL=0", "-brief"])
        };
        s_client("-tls1_2")?;
        for old in ["-tls1_1", "-tls1"] {
            let refused = s_client(old).expect_err(old);
            assert!(format!("{refused:?}").contains("SSL alert number"), "{old}: {refused:?}");
        }
    }
    Ok(())
}

#[test]
fn sessions_are_resumed() -> Result<()> {
    let dir = TempDir::new("resume")?;
    let certs = Certs::new(&[NAME])?;
    let edge = Edge::start(&pair(&dir, &certs, "edge")?, TIMEOUTS)?;
    for version in [&TLS12, &TLS13] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots(&certs)?)
            .with_no_client_auth();
        let config = Arc::new(config);
        // Several, so that one worker's tickets meet another worker.
        for number in 0..8 {
            let mut client = edge.client(&config, NAME)?;
            assert_eq!(client.ask(get("/"))?.status(), 404);
            let expected = if number == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            let kind = client.session().and_then(|session| session.handshake_kind());
            assert_eq!(kind, Some(expected), "{version:?}, connection {number}");
        }
    }
    Ok(())
}

#[test]
fn every_way_for_a_handshake_to_end_is_counted() -> Result<()> {
    let dir = TempDir::new("ends")?;
    let certs = Certs::new(&[NAME])?;
    let edge = Edge::start(&pair(&dir, &certs, "edge")?, TIMEOUTS)?;
    let counted = |reason: &str, count: f64| counted(&edge, &format!("reason=\"{reason}\""), count);
    let completed = |count| counted_in(&edge, "X25519", count);
    assert_eq!(edge.client(&trusting(&certs)?, NAME)?.ask(get("/"))?.status(), 404);
    completed(1.0)?;
    // A client that does not believe our certificate says so.
    let doubting = trusting(&Certs::new(&[NAME])?)?;
    assert!(edge.client(&doubting, NAME)?.ask(get("/")).is_err());
    counted("alert_received", 1.0)?;
    // One that speaks HTTP to the port of https, as people do by mistake.
    let mut plain = Client::plain(edge.https)?;
    plain.wire().send(get("/up.example/"))?;
    plain.wire().closed()?;
    assert!(!plain.wire().heard().starts_with(b"HTTP/"), "{}", plain.wire().heard().escape_ascii());
    counted("protocol", 1.0)?;
    for reset in [false, true] {
        let mut client = Client::plain(edge.https)?;
        client.wire().send(b"\x16\x03\x01\x02\0\x01\0")?;
        if reset { client.into_wire().reset()? } else { drop(client) }
    }
    counted("closed", 2.0)?;
    completed(1.0)
}

fn counted(edge: &Edge, labels: &str, count: f64) -> Result<()> {
    edge.relay.wait_for(&format!("hookgate_tls_handshakes_total{{{labels}}}"), count)
}

fn counted_in(edge: &Edge, group: &str, count: f64) -> Result<()> {
    counted(edge, &format!("reason=\"completed\",group=\"{group}\""), count)
}

/// A client's order of groups counts, and one that knows nothing of ML-KEM is served as before.
#[test]
fn keys_are_agreed_on_in_the_client_s_first_group() -> Result<()> {
    let dir = TempDir::new("groups")?;
    let certs = Certs::new(&[NAME])?;
    let edge = Edge::start(&pair(&dir, &certs, "edge")?, TIMEOUTS)?;
    for (groups, agreed) in [
        (vec![kx_group::X25519MLKEM768, kx_group::X25519], "X25519MLKEM768"),
        (vec![kx_group::X25519], "X25519"),
        (vec![kx_group::SECP256R1], "secp256r1"),
        (vec![kx_group::SECP384R1], "secp384r1"),
    ] {
        let provider = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&certs)?)
            .with_no_client_auth();
        let mut client = edge.client(&Arc::new(config), NAME)?;
        assert_eq!(client.ask(get("/"))?.status(), 404);
        counted_in(&edge, agreed, 1.0)?;
    }
    for page in ["/status.json", "/stats.json"] {
        let document: Value = serde_json::from_slice(&ask_admin(edge.relay.admin, page)?.body)?;
        assert_eq!(document["tls_groups"]["X25519MLKEM768"], 1, "{page}: {document:#}");
    }
    Ok(())
}

/// Meta's webhook senders: leaf, one intermediate, and this name.
const SENDER: &str = "client.webhooks.fbclientcerts.com";

/// Two upstreams, of which `closed.example` asks for a client certificate.
fn mutual(dir: &TempDir, edge: &Certs, client_ca: &Certs, origin: &Origin) -> Result<Edge> {
    mutual_with(dir, edge, client_ca, origin, "")
}

/// The same with `more` lines in `[tls]`.
fn mutual_with(dir: &TempDir, edge: &Certs, client_ca: &Certs, origin: &Origin, more: &str) -> Result<Edge> {
    let [client_ca, ..] = client_ca.write(dir, "client")?;
    let tls = format!(
        "{}client_ca = {client_ca:?}\n{more}client_names = [\"Client.Webhooks.FbClientCerts.com\"]",
        pair(dir, edge, "edge")?
    );
    let open = upstream(origin.address(), "").replace("up.example", "open.example");
    let closed = format!(
        "\"closed.example\" = {{ address = \"{}\", tls = false, require_client_cert = true }}\n",
        origin.address()
    );
    Edge::start(&tls, &format!("{TIMEOUTS}{open}{closed}"))
}

fn showing(
    edge: &Certs,
    certs: Option<&Certs>,
    version: &'static SupportedProtocolVersion,
) -> Result<Arc<ClientConfig>> {
    let builder =
        ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots(edge)?);
    let Some(certs) = certs else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = CertificateDer::pem_slice_iter(certs.cert.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certs.key.as_bytes())?;
    Ok(Arc::new(builder.with_client_auth_cert(chain, key)?))
}

fn ask_both(client: &mut Client) -> Result<[(u16, Option<String>); 2]> {
    let mut ask = |name: &str| -> Result<_> {
        let answer: Message = client.ask(get(&format!("/{name}/")))?;
        Ok((answer.status(), answer.proxy_error().map(str::to_owned)))
    };
    Ok([ask("open.example")?, ask("closed.example")?])
}

#[test]
fn client_certificates_are_asked_for_and_demanded_only_where_configured() -> Result<()> {
    let dir = TempDir::new("mutual")?;
    let server = Certs::new(&[NAME])?;
    let root = Ca::new("Meta's own")?;
    let ca = root.below("outbound")?;
    let origin = Origin::answering(OK)?;
    let sender = ca.issue_to_client(SENDER, &[], 4096)?;
    let edge = mutual(&dir, &server, &sender, &origin)?;
    let denied = (403, Some("http_request_denied".to_owned()));
    let by_dns_name = ca.issue_to_client("someone", &["other.example", SENDER], 4096)?;
    let shouting = ca.issue_to_client(&SENDER.to_ascii_uppercase(), &[], 4096)?;
    for version in [&TLS12, &TLS13] {
        for (what, certs, expected) in [
            ("none", None, [(200, None), denied.clone()]),
            ("by common name", Some(&sender), [(200, None), (200, None)]),
            ("by DNS name", Some(&by_dns_name), [(200, None), (200, None)]),
            ("in capitals", Some(&shouting), [(200, None), (200, None)]),
        ] {
            let config = showing(&server, certs, version)?;
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let mut client = edge.client(&config, NAME)?;
                assert_eq!(ask_both(&mut client)?, expected, "{what}, {version:?}, {kind:?}");
                let was = client.session().and_then(|session| session.handshake_kind());
                assert_eq!(was, Some(kind), "{what}, {version:?}");
            }
        }
    }
    assert_eq!(ask_both(&mut edge.relay.client()?)?, [(200, None), denied], "without TLS there is none");
    Ok(())
}

#[test]
fn a_client_certificate_that_does_not_hold_ends_the_handshake() -> Result<()> {
    let dir = TempDir::new("mutual")?;
    let server = Certs::new(&[NAME])?;
    let root = Ca::new("Meta's own")?;
    let ca = root.below("outbound")?;
    let origin = Origin::answering(OK)?;
    let sender = ca.issue_to_client(SENDER, &[], 4096)?;
    let edge = mutual(&dir, &server, &sender, &origin)?;
    let own_root = Ca::new("Meta's own")?;
    let mut alone = sender.clone();
    alone.cert =
        sender.cert.split_inclusive("-----END CERTIFICATE-----\n").next().context("no leaf")?.to_owned();
    let mut count = 0.0;
    for version in [&TLS12, &TLS13] {
        for (what, certs, alert) in [
            ("another name", ca.issue_to_client("someone", &["other.example"], 4096)?, "AccessDenied"),
            ("a name below", ca.issue_to_client(&format!("a.{SENDER}"), &[], 4096)?, "AccessDenied"),
            ("a wildcard", ca.issue_to_client("x", &["*.webhooks.fbclientcerts.com"], 4096)?, "AccessDenied"),
            ("another authority", Ca::new("another")?.issue_to_client(SENDER, &[], 4096)?, "UnknownCA"),
            ("another of the same name", own_root.issue_to_client(SENDER, &[], 4096)?, "DecryptError"),
            ("without the intermediate", alone.clone(), "UnknownCA"),
            ("expired", ca.issue_to_client(SENDER, &[], 2020)?, "CertificateExpired"),
            ("a server's", ca.issue(&[SENDER])?, "UnsupportedCertificate"),
        ] {
            let mut client = edge.client(&showing(&server, Some(&certs), version)?, NAME)?;
            let refused = client.ask(get("/open.example/")).expect_err(what);
            assert!(format!("{refused:?}").contains(alert), "{what}, {version:?}: {refused:?}");
            count += 1.0;
            edge.relay.wait_for("hookgate_tls_handshakes_total{reason=\"client_certificate\"}", count)?;
        }
    }
    assert_eq!(origin.connections(), 0);
    Ok(())
}
