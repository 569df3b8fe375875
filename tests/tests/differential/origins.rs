//! Real servers that read what hookgate sent, each answering with the id of every request that it
//! sees.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use harness::{Client, Server};

pub struct Reader {
    pub name: &'static str,
    server: Server,
}

/// What a reader answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The X-Request-Id of the request that it answers.
    pub id: Option<String>,
}

const HAPROXY: &str = r#"
defaults
    mode http
    timeout client 300ms
    timeout http-request 300ms
    timeout server 5s
frontend reader
    bind @LISTEN@
    option http-buffer-request
    http-request return status 200 content-type text/plain string "ok" hdr X-Id "%[req.hdr(x-request-id)]"
"#;

const NGINX: &str = r"
client_header_timeout 300ms; client_body_timeout 300ms;
underscores_in_headers on;
server {
    listen @LISTEN@;
    add_header X-Id $http_x_request_id always;
    location / { return 200 ok; }
}";

const PYTHON: &str = r#"
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 0.3

    def parse_request(self):
        parsed = super().parse_request()
        if parsed:
            # Any method at all.
            setattr(self, "do_" + self.command, self.answer)
        return parsed

    def answer(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("X-Id", self.headers.get("X-Request-Id", ""))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

impl Reader {
    pub fn all() -> Result<[Self; 3]> {
        Ok([
            Self { name: "nginx", server: Server::nginx(NGINX)? },
            Self { name: "haproxy", server: Server::haproxy(HAPROXY)? },
            Self { name: "python", server: Server::python(PYTHON, &[])? },
        ])
    }

    /// Sends `stream` on one connection; all the answers to it.
    pub fn read(&self, stream: &[u8], is_head: bool) -> Result<Vec<Answer>> {
        read(self.server.address(), stream, is_head).with_context(|| self.name)
    }
}

fn read(address: SocketAddr, stream: &[u8], is_head: bool) -> Result<Vec<Answer>> {
    let mut client = Client::plain(address)?;
    // A server that has refused already may take no more.
    let _ = client.wire().send(stream);
    let mut answers = Vec::new();
    loop {
        let to_head = is_head && answers.is_empty();
        match if to_head { client.response_to_head() } else { client.response() } {
            Ok(answer) => {
                let id = answer.field("X-Id").filter(|id| !id.is_empty()).map(str::to_owned);
                answers.push(Answer { status: answer.status(), id });
            }
            Err(_) => return Ok(answers),
        }
    }
}
