//! Upstreams that others wrote: each gets what Meta sends, and says whether the signature is right.

use std::path::PathBuf;

use anyhow::{Context, Result};
use harness::{APP_SECRET, Certs, Need, Receiver, Sample, Server, TempDir, VERIFY_TOKEN, require};

use crate::Relay;

/// Certificates for an upstream, as files.
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    /// Both, as HAProxy wants them.
    pair: PathBuf,
    certs: Certs,
    dir: TempDir,
}

impl Files {
    fn new() -> Result<Self> {
        let dir = TempDir::new("origins")?;
        let certs = Certs::new(&["chatwoot.example.com"])?;
        let [ca, cert, key] = certs.write(&dir, "origin")?;
        let pair = dir.write("pair.pem", format!("{}{}", certs.cert, certs.key))?;
        Ok(Self { ca, cert, key, pair, certs, dir })
    }
}

/// Every sample through hookgate to `server`, on one connection of the client's and, as long as the
/// upstream wants, of the upstream's.
fn send_all(server: &Server, files: &Files) -> Result<()> {
    let relay = Relay::start(&format!(
        "[upstreams]\n\"chatwoot.example.com\" = {{ address = \"{}\", ca = {:?} }}\n",
        server.address(),
        files.ca
    ))?;
    let mut client = relay.client()?;
    let samples = Sample::all()?;
    assert_eq!(samples.len(), 26);
    for sample in samples {
        let answer = client.ask(sample.bytes()?).with_context(|| sample.name.clone())?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status(), answer.whole), (200, true), "{}: {answer:?}", sample.name);
        assert_eq!(said.contains("signature valid"), sample.payload.is_some(), "{}: {said}", sample.name);
        if sample.payload.is_none() {
            let challenge =
                sample.target.split(['?', '&']).find_map(|pair| pair.strip_prefix("hub.challenge="));
            assert_eq!(Some(&*said), challenge, "{}", sample.name);
        }
    }
    Ok(())
}

#[test]
fn nginx_before_a_receiver() -> Result<()> {
    if !require(&[Need::Program("nginx")]) {
        return Ok(());
    }
    let files = Files::new()?;
    let receiver = Receiver::start(&files.certs)?;
    // As people put it before Chatwoot.
    let nginx = Server::nginx(&format!(
        "server {{\n\
             listen @LISTEN@ ssl;\n\
             ssl_certificate {};\n\
             ssl_certificate_key {};\n\
             client_max_body_size 10m;\n\
             location / {{\n\
                 proxy_pass https://{};\n\
                 proxy_http_version 1.1;\n\
                 proxy_set_header Host $host;\n\
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             }}\n\
         }}",
        files.cert.display(),
        files.key.display(),
        receiver.address()
    ))?;
    send_all(&nginx, &files)?;
    let received = receiver.received();
    assert_eq!(received.len(), 26);
    // nginx appends its peer's address to what hookgate sent.
    assert!(
        received.iter().all(|received| received.field("X-Forwarded-For") == Some("127.0.0.1, 127.0.0.1"))
    );
    Ok(())
}

#[test]
fn haproxy_before_a_receiver() -> Result<()> {
    if !require(&[Need::Program("haproxy")]) {
        return Ok(());
    }
    let files = Files::new()?;
    let receiver = Receiver::start(&files.certs)?;
    let haproxy = Server::haproxy(&format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend chatwoot\n bind @LISTEN@ ssl crt {} alpn h2,http/1.1\n default_backend receiver\n\
         backend receiver\n server one {} ssl verify required ca-file {} verifyhost chatwoot.example.com\n",
        files.pair.display(),
        receiver.address(),
        files.ca.display()
    ))?;
    send_all(&haproxy, &files)?;
    assert_eq!(receiver.received().len(), 26);
    Ok(())
}

/// Checks the signature as people who write their own receiver do.
const RECEIVER: &str = r#"
import hashlib, hmac, http.server, ssl, sys, urllib.parse
port, cert, key, secrets = sys.argv[1:]
secret, token = open(secrets).read().split()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if query.get("hub.verify_token") == [token]:
            self.say(query["hub.challenge"][0])
        else:
            self.say("wrong token", 403)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        valid = hmac.compare_digest(expected, self.headers["X-Hub-Signature-256"])
        self.say("signature valid" if valid else "signature NOT valid")

    def say(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn a_receiver_in_python() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    let files = Files::new()?;
    let secrets = files.dir.write("secrets", format!("{APP_SECRET}\n{VERIFY_TOKEN}\n"))?;
    let python = Server::python(RECEIVER, &[&files.cert, &files.key, &secrets])?;
    send_all(&python, &files)
}
