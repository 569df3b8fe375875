//! Clients that others wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness::{Certs, Need, Proxy, Receiver, TempDir, VERIFY_TOKEN, free_port, require, run, signature};

use crate::TIMEOUTS;

/// A proxy with TLS before a receiver with TLS.
struct Scene {
    _proxy: Proxy,
    receiver: Receiver,
    address: String,
    ca: PathBuf,
    dir: TempDir,
}

impl Scene {
    fn new() -> Result<Self> {
        let dir = TempDir::new("clients")?;
        let certs = Certs::new(&["localhost", "chatwoot.example.com"])?;
        let [ca, cert, key] = certs.write(&dir, "scene")?;
        let receiver = Receiver::start(&certs)?;
        let address = format!("localhost:{}", free_port()?);
        let proxy = Proxy::start(&format!(
            "[listen]\nhttps = [\"{}\"]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n{TIMEOUTS}\n\
             [upstreams]\n\"chatwoot.example.com\" = {{ address = \"{}\", ca = {ca:?} }}\n",
            address.replace("localhost", "127.0.0.1"),
            receiver.address(),
        ))?;
        Ok(Self { _proxy: proxy, receiver, address, ca, dir })
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/chatwoot.example.com{path}", self.address)
    }

    /// What curl prints, and the status.
    fn curl(&self, args: &[&str], path: &str) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-4",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            "-w",
            " %{http_code} %{num_connects}",
            "--cacert",
        ]);
        curl.arg(&self.ca).args(args).arg(self.url(path));
        run(curl)
    }

    fn payload(&self, bytes: usize) -> Result<(PathBuf, String)> {
        let body: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        let path = self.dir.write("payload", &body)?;
        Ok((path, format!("X-Hub-Signature-256: {}", signature(&body))))
    }
}

#[test]
fn curl_in_every_way_that_it_sends() -> Result<()> {
    if !require(&[Need::Program("curl")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let verify = format!("/hook?hub.mode=subscribe&hub.challenge=42&hub.verify_token={VERIFY_TOKEN}");
    assert_eq!(scene.curl(&[], &verify)?, "42 200 1");
    assert_eq!(scene.curl(&[], &verify.replace(VERIFY_TOKEN, "x"))?, "wrong verify token\n 403 1");
    assert_eq!(scene.curl(&["--http1.0"], &verify)?, "42 200 1");
    assert_eq!(scene.curl(&["--tls-max", "1.2"], &verify)?, "42 200 1");
    assert_eq!(scene.curl(&["--http2"], &verify)?, "42 200 1", "HTTP/2 is offered and not taken");
    // Two requests on one connection.
    let again = scene.url(&verify);
    assert_eq!(scene.curl(&[&again], &verify)?, "42 200 142 200 0");
    // Bigger than any buffer, with each framing.
    for bytes in [1, 1500, 3 << 20] {
        let (path, signature) = scene.payload(bytes)?;
        let data = format!("@{}", path.display());
        for framing in ["X-Framing: length", "Transfer-Encoding: chunked", "Expect: 100-continue"] {
            let answer = scene.curl(&["-H", &signature, "-H", framing, "--data-binary", &data], "/hook")?;
            let expected = format!("received POST /hook: {bytes} bytes, signature valid\n 200 1");
            assert_eq!(answer, expected, "{framing}");
        }
    }
    let path = "/a/../b//c/%2e%2E/?x=%2B+&y";
    assert!(scene.curl(&["--path-as-is"], path)?.ends_with(" 404 1"));
    let received = scene.receiver.received();
    assert_eq!(received.last().map(|last| last.target.as_str()), Some(path));
    Ok(())
}

const PYTHON: &str = r#"
import http.client, ssl, sys
host, ca = sys.argv[1:]
name, port = host.split(":")
connection = http.client.HTTPSConnection(name, int(port), timeout=20, context=ssl.create_default_context(cafile=ca))
def ask(method, path, body=None, **more):
    connection.request(method, "/chatwoot.example.com" + path, body, **more)
    response = connection.getresponse()
    print(response.status, response.read().decode().strip())
ask("POST", "/hook", b"x" * 100000)
ask("POST", "/hook", iter([b"ab", b"cde"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
ask("HEAD", "/hook")
ask("PUT", "/hook", b"x")
ask("POST", "/hook", b"")
"#;

#[test]
fn python_keeps_one_connection() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON, &scene.address]).arg(&scene.ca);
    let said = run(python)?;
    assert_eq!(
        said.lines().map(str::trim_end).collect::<Vec<_>>(),
        [
            "200 received POST /hook: 100000 bytes, signature NOT valid",
            "200 received POST /hook: 5 bytes, signature NOT valid",
            "404",
            "404 a webhook receiver: POST, or GET with hub.challenge",
            "200 received POST /hook: 0 bytes, signature NOT valid",
        ]
    );
    assert_eq!(scene.receiver.received()[0].body, vec![b'x'; 100_000]);
    Ok(())
}

#[test]
fn h2load_sends_a_burst_and_every_request_is_answered() -> Result<()> {
    if !require(&[Need::Program("h2load")]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let payload = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/payloads/wa-batch.json");
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-n", "400", "-c", "8", "-d"]).arg(payload).arg(scene.url("/hook"));
    let said = run(h2load)?;
    let line = said.lines().find(|line| line.starts_with("status codes:")).context(said.clone())?;
    assert!(line.starts_with("status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    assert_eq!(scene.receiver.received().len(), 400);
    Ok(())
}
