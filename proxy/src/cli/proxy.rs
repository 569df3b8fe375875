//! What the command line asks of the running proxy, over its admin socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail};

/// How long the proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// It does not know what was asked of it: it is another version.
#[derive(Debug, thiserror::Error)]
#[error("the running proxy is another version, which can't do that")]
pub struct Unknown;

/// The proxy that answers at `socket`.
pub fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow!(
                "{}: only root, the proxy's user and the socket's group (the package's is hookgate-admin) may ask it: {error}",
                socket.display()
            )
        }
        _ => anyhow!("no proxy answers at {}: does it run?: {error}", socket.display()),
    })
}

/// What lies at `path`.
pub fn get(proxy: UnixStream, path: &str) -> anyhow::Result<String> {
    ask(proxy, "GET", path)
}

/// What came of it.
pub fn post(proxy: UnixStream, path: &str) -> anyhow::Result<String> {
    ask(proxy, "POST", path)
}

fn ask(mut proxy: UnixStream, method: &str, path: &str) -> anyhow::Result<String> {
    proxy.set_read_timeout(Some(PATIENCE))?;
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: hookgate\r\n{length}Connection: close\r\n\r\n");
    proxy.write_all(request.as_bytes())?;
    let mut answer = String::new();
    proxy.read_to_string(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            anyhow!("the running proxy has not answered for {} s: it hangs", PATIENCE.as_secs())
        }
        _ => anyhow!("the running proxy broke off its answer: {error}"),
    })?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.into()),
        Some((head, _)) if head.starts_with("HTTP/1.1 404 ") => Err(anyhow!(Unknown)),
        Some((_, why)) => bail!("{}", why.trim()),
        None => bail!("it gave no answer"),
    }
}
