use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};

const MAX_HEAD_BYTES: usize = 64 * 1024;
const BODY_BYTES: usize = 256 * 1024;

pub struct Request {
    pub method: String,
    pub target: String,
    pub body_bytes: usize,
    pub keeps_alive: bool,
}

/// Reads requests from a connection.
pub struct Reader<S> {
    stream: S,
    /// Read and not used yet.
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(BODY_BYTES) }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next head; `None` when the connection ends before its first byte.
    pub async fn head(&mut self) -> Result<Option<Request>> {
        loop {
            if let Some((request, head_bytes)) = parse(&self.buffer)? {
                self.buffer.drain(..head_bytes);
                return Ok(Some(request));
            }
            ensure!(self.buffer.len() < MAX_HEAD_BYTES, "a head without end");
            if self.stream.read_buf(&mut self.buffer).await.context("reading a head")? == 0 {
                ensure!(self.buffer.is_empty(), "closed in the middle of a head");
                return Ok(None);
            }
        }
    }

    pub async fn throw_away(&mut self, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            if self.buffer.is_empty() {
                let read = self.stream.read_buf(&mut self.buffer).await.context("reading a body")?;
                ensure!(read > 0, "closed {bytes} bytes before a body's end");
            }
            let used = bytes.min(self.buffer.len());
            if used == self.buffer.len() {
                self.buffer.clear()
            } else {
                drop(self.buffer.drain(..used))
            }
            bytes -= used;
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes).context("not a request")? else {
        return Ok(None);
    };
    let field = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    if let Some(coding) = field("Transfer-Encoding") {
        bail!("a body in the transfer coding {coding}, of which this origin knows nothing");
    }
    let body_bytes = field("Content-Length").map_or(Ok(0), str::parse).context("Content-Length")?;
    let closes = field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let keeps_alive = head.version == Some(1) && !closes;
    let [method, target] = [head.method, head.path].map(|word| word.unwrap_or_default().to_owned());
    Ok(Some((Request { method, target, body_bytes, keeps_alive }, head_bytes)))
}
