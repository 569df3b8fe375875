//! The `http` listener: answers certificate authorities and sends everybody else to https, to
//! nothing but this proxy's own names.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::context::Context;
use super::read_head::{Arrived, Idle, read_head};
use super::wait::Wait;
use crate::http::answer::{self, Failure};
use crate::http::encode::Persistence;
use crate::http::head::{RequestHead, slots};
use crate::http::target::Target;
use crate::net::Socket;
use crate::observe::clock;
use crate::tls::{ChallengeFile, Challenges, Resolver};

/// Where clients are sent.
#[derive(Clone)]
pub struct Redirect {
    /// The names that it may be; none without a certificate.
    pub certificates: Option<Arc<Resolver>>,
    pub https_port: u16,
    /// What certificate authorities are answered.
    pub challenges: Option<Arc<Challenges>>,
}

/// Answers one request.
pub(super) async fn serve(
    client: &mut Socket,
    redirect: &Redirect,
    context: &Context,
    wait: &mut Wait<'_>,
    first_byte_due: Instant,
) {
    let mut out = Vec::new();
    let idle = Idle::Fresh { until: first_byte_due };
    let failure = match read_head(client, context, wait, idle).await {
        Arrived::Nothing => return,
        Arrived::Bad(failure) => Some((failure, false)),
        Arrived::Head { length } => {
            let asked = match redirect.asked(client.buffer.first(length), context) {
                ChallengeFile::Kept(path) => redirect.read(path).await,
                asked => asked,
            };
            redirect.answer(client.buffer.first(length), asked, context, &mut out).err()
        }
    };
    if let Some((failure, is_head)) = failure {
        answer::write(failure, &context.name, &clock::imf_fixdate(), Persistence::Ended, !is_head, &mut out);
    }
    let written = timeout(context.timeouts.body_idle, client.stream.write_all(&out)).await;
    if matches!(written, Ok(Ok(()))) {
        super::answer::close(client).await;
    }
}

impl Redirect {
    /// What an authority asks for, if it is one.
    fn asked(&self, head: &[u8], context: &Context) -> ChallengeFile {
        let mut slots = slots();
        match (&self.challenges, RequestHead::parse(head, &mut slots, &context.head_limits())) {
            (
                Some(challenges),
                Ok(RequestHead { method: "GET" | "HEAD", target: Target::Path(path), .. }),
            ) => challenges.asked(path),
            _ => ChallengeFile::Nothing,
        }
    }

    /// On another thread: a file may keep its reader waiting.
    async fn read(&self, path: PathBuf) -> ChallengeFile {
        let Some(challenges) = self.challenges.clone() else { return ChallengeFile::Unknown };
        // It has panicked, and the panic was reported.
        spawn_blocking(move || challenges.read(&path)).await.unwrap_or(ChallengeFile::Unknown)
    }

    /// Appends the answer. Errors: what to refuse with, and whether that answers a HEAD.
    fn answer(
        &self,
        head: &[u8],
        asked: ChallengeFile,
        context: &Context,
        out: &mut Vec<u8>,
    ) -> Result<(), (Failure, bool)> {
        let mut slots = slots();
        let head =
            RequestHead::parse(head, &mut slots, &context.head_limits()).map_err(|e| (e.into(), false))?;
        let refused = |failure| (failure, head.method == "HEAD");
        if matches!(head.method, "CONNECT" | "TRACE") {
            return Err(refused(Failure::MethodNotAllowed));
        }
        match asked {
            ChallengeFile::Nothing => {}
            ChallengeFile::Unknown | ChallengeFile::Kept(_) => {
                return Err(refused(Failure::NoUpstreamInPath));
            }
            ChallengeFile::Answered(text) => {
                write_text(&text, head.method == "HEAD", out);
                return Ok(());
            }
        }
        let name = head.fields.values("host").next().and_then(|host| std::str::from_utf8(host).ok());
        let name = name.map(|host| host.split(':').next().unwrap_or(host).to_ascii_lowercase());
        let (Some(name), Target::Path(path)) = (name.filter(|name| self.covers(name)), head.target) else {
            return Err(refused(Failure::NoUpstreamInPath));
        };
        let status = match head.method {
            "GET" | "HEAD" => "301 Moved Permanently",
            _ => "308 Permanent Redirect",
        };
        let port = if self.https_port == 443 { String::new() } else { format!(":{}", self.https_port) };
        let path = if path.is_empty() { b"/" } else { path };
        write!(
            out,
            "HTTP/1.1 {status}\r\nDate: {}\r\nLocation: https://{name}{port}{}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            clock::imf_fixdate(),
            String::from_utf8_lossy(path),
        )
        // A Vec takes every write.
        .ok();
        Ok(())
    }

    fn covers(&self, name: &str) -> bool {
        let certificates = self.certificates.as_ref().map(|resolver| resolver.current());
        certificates.is_some_and(|certificates| certificates.iter().any(|c| c.covers(name)))
    }
}

/// Appends what a certificate authority asked for.
fn write_text(text: &[u8], to_head: bool, out: &mut Vec<u8>) {
    write!(
        out,
        "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        clock::imf_fixdate(),
        text.len(),
    )
    // A Vec takes every write.
    .ok();
    if !to_head {
        out.extend_from_slice(text);
    }
}
