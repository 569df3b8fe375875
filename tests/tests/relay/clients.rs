//! Clients that others wrote.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness::{
    Certs, Need, Proxy, Received, Receiver, Sample, TempDir, VERIFY_TOKEN, free_port, require, run, signature,
};

use crate::TIMEOUTS;

/// How many samples of Meta's requests there are, and how many of them are deliveries.
const SAMPLES: usize = 26;
const POSTS: usize = 22;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// A proxy with TLS before a receiver with TLS.
struct Testbed {
    _proxy: Proxy,
    receiver: Receiver,
    address: String,
    ca: PathBuf,
    dir: TempDir,
}

impl Testbed {
    fn new() -> Result<Self> {
        let dir = TempDir::new("clients")?;
        let certs = Certs::new(&["localhost", "chatwoot.example.com"])?;
        let [ca, cert, key] = certs.write(&dir, "testbed")?;
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

    /// Every sample has arrived, in order, with its body and a signature that is right.
    fn assert_received_all(&self) -> Result<()> {
        let received = self.receiver.received();
        let samples = Sample::all()?;
        assert_eq!(samples.len(), SAMPLES);
        for (sample, received) in samples.iter().zip(&received) {
            assert_eq!(received.method, sample.method, "{}", sample.name);
            assert!(received.body == sample.body()?, "{}: another body", sample.name);
            assert_eq!(received.is_signed(), sample.payload.is_some(), "{}", sample.name);
        }
        assert!(received.len() >= samples.len(), "{}", received.len());
        Ok(())
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
    let testbed = Testbed::new()?;
    let verify = format!("/hook?hub.mode=subscribe&hub.challenge=42&hub.verify_token={VERIFY_TOKEN}");
    assert_eq!(testbed.curl(&[], &verify)?, "42 200 1");
    assert_eq!(testbed.curl(&[], &verify.replace(VERIFY_TOKEN, "x"))?, "wrong verify token\n 403 1");
    assert_eq!(testbed.curl(&["--http1.0"], &verify)?, "42 200 1");
    assert_eq!(testbed.curl(&["--tls-max", "1.2"], &verify)?, "42 200 1");
    assert_eq!(testbed.curl(&["--http2"], &verify)?, "42 200 1", "HTTP/2 is offered and not taken");
    // Two requests on one connection.
    let again = testbed.url(&verify);
    assert_eq!(testbed.curl(&[&again], &verify)?, "42 200 142 200 0");
    // Bigger than any buffer, with each framing.
    for bytes in [1, 1500, 3 << 20] {
        let (path, signature) = testbed.payload(bytes)?;
        let data = format!("@{}", path.display());
        for framing in ["X-Framing: length", "Transfer-Encoding: chunked", "Expect: 100-continue"] {
            let answer = testbed.curl(&["-H", &signature, "-H", framing, "--data-binary", &data], "/hook")?;
            let expected = format!("received POST /hook: {bytes} bytes, signature valid\n 200 1");
            assert_eq!(answer, expected, "{framing}");
        }
    }
    let path = "/a/../b//c/%2e%2E/?x=%2B+&y";
    assert!(testbed.curl(&["--path-as-is"], path)?.ends_with(" 404 1"));
    let received = testbed.receiver.received();
    assert_eq!(received.last().map(|last| last.target.as_str()), Some(path));
    Ok(())
}

#[test]
fn curl_sends_what_meta_sends() -> Result<()> {
    if !require(&[Need::Program("curl")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    for sample in Sample::all()? {
        let path = sample.target.strip_prefix("/chatwoot.example.com").context("another upstream")?;
        let args = sample.curl_args();
        let args: Vec<&str> = ["--path-as-is"].into_iter().chain(args.iter().map(String::as_str)).collect();
        let answer = testbed.curl(&args, path)?;
        assert!(answer.ends_with(" 200 1"), "{}: {answer}", sample.name);
    }
    testbed.assert_received_all()
}

/// Sends every sample of a folder, and a few requests of another kind, on one connection.
const PYTHON: &str = r#"
import http.client, pathlib, ssl, sys
host, ca, data = sys.argv[1:]
name, port = host.split(":")
connection = http.client.HTTPSConnection(name, int(port), timeout=20, context=ssl.create_default_context(cafile=ca))
for path in sorted(pathlib.Path(data).glob("requests/*.http")):
    start, *fields = path.read_bytes().decode().removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = start.split(" ")
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for field in fields:
        connection.putheader(*field.split(": ", 1))
    payload = path.stem.removeprefix("post-").removesuffix("-expect")
    body = (pathlib.Path(data) / "payloads" / (payload + ".json")).read_bytes() if method == "POST" else None
    connection.endheaders(body)
    response = connection.getresponse()
    print(response.status, response.read().decode().strip())
def ask(method, path, body=None, **more):
    connection.request(method, "/chatwoot.example.com" + path, body, **more)
    response = connection.getresponse()
    print(response.status, response.read().decode().strip())
print("more")
ask("POST", "/hook", b"x" * 100000)
ask("POST", "/hook", iter([b"ab", b"cde"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
ask("HEAD", "/hook")
ask("PUT", "/hook", b"x")
ask("POST", "/hook", b"")
"#;

#[test]
fn python_sends_what_meta_sends_and_more_on_one_connection() -> Result<()> {
    if !require(&[Need::Program("python3")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON, &testbed.address]).arg(&testbed.ca).arg(data());
    let said = run(python)?;
    let (samples, more) = said.split_once("more\n").context("not all were sent")?;
    assert!(samples.lines().all(|line| line.starts_with("200 ")), "{samples}");
    assert_eq!(samples.matches("signature valid").count(), POSTS, "{samples}");
    assert_eq!(
        more.lines().map(str::trim_end).collect::<Vec<_>>(),
        [
            "200 received POST /hook: 100000 bytes, signature NOT valid",
            "200 received POST /hook: 5 bytes, signature NOT valid",
            "404",
            "404 a webhook receiver: POST, or GET with hub.challenge",
            "200 received POST /hook: 0 bytes, signature NOT valid",
        ]
    );
    assert_eq!(testbed.receiver.received()[SAMPLES].body, vec![b'x'; 100_000]);
    testbed.assert_received_all()
}

#[test]
fn openssl_pipelines_what_meta_sends() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let samples = Sample::all()?.iter().map(Sample::bytes).collect::<Result<Vec<_>>>()?;
    let requests = testbed.dir.write("requests", samples.concat())?;
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost"]);
    openssl.args(["-verify_hostname", "localhost", "-connect", &testbed.address, "-CAfile"]).arg(&testbed.ca);
    // It reads until hookgate closes the idle connection.
    let output = openssl.stdin(File::open(requests)?).output().context("starting openssl")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = || format!("{}\n{said}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", failed());
    assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), SAMPLES, "{}", failed());
    assert_eq!(said.matches("signature valid").count(), POSTS, "{}", failed());
    testbed.assert_received_all()
}

#[test]
fn h2load_sends_a_burst_and_every_request_is_answered() -> Result<()> {
    if !require(&[Need::Program("h2load")]) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let payload = data().join("payloads/wa-batch.json");
    let signed = format!("X-Hub-Signature-256: {}", signature(&std::fs::read(&payload)?));
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-n", "400", "-c", "8", "-H", &signed, "-d"]).arg(payload).arg(testbed.url("/hook"));
    let said = run(h2load)?;
    let line = said.lines().find(|line| line.starts_with("status codes:")).context(said.clone())?;
    assert!(line.starts_with("status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    let received = testbed.receiver.received();
    assert!(received.len() == 400 && received.iter().all(Received::is_signed), "{}", received.len());
    Ok(())
}
