//! The whole proxy, in this process and over loopback, between a client and an upstream that say
//! what the bytes say.

mod verdict;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{ScopedJoinHandle, scope, spawn};
use std::time::Duration;

use hookgate::config::Config;
use hookgate::observe::{Format, Log};
use hookgate::prefixes::PrefixState;
use hookgate::server::{Start, run_in_one_process};

use verdict::Seen;

/// Stands between what the client sends and what the upstream answers.
pub const AND_THE_UPSTREAM: &[u8] = b"\n==== and the upstream:\n";
/// The one allowed upstream.
pub const UPSTREAM: &str = "chatwoot.example.com";
/// Longer than any of the proxy's time-outs that can matter when both peers have said everything.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Whatever both sides say, in whatever pieces: nothing is passed on twice, half, or mixed up.
pub fn check(bytes: &[u8]) {
    let at = bytes.windows(AND_THE_UPSTREAM.len()).position(|window| window == AND_THE_UPSTREAM);
    let (request, response) = match at {
        Some(at) => (&bytes[..at], &bytes[at + AND_THE_UPSTREAM.len()..]),
        None => (bytes, &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..]),
    };
    let seen = WORLD.lock().unwrap_or_else(PoisonError::into_inner).exchange(request, response);
    verdict::judge(request, response, &seen);
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::start()));

struct World {
    proxy: SocketAddr,
    upstream: TcpListener,
}

impl World {
    /// Starts the proxy, for as long as this process lives.
    fn start() -> Self {
        // A loopback address that no other process has, so that the port can be known beforehand.
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let proxy = SocketAddr::from((Ipv4Addr::new(127, a | 64, b, c), 8443));
        let upstream = TcpListener::bind("127.0.0.1:0").expect("an address for the upstream");
        upstream.set_nonblocking(true).expect("it can be asked without waiting");
        let address = upstream.local_addr().expect("it has one");
        let text = format!(
            "[listen]\nplain = [\"{proxy}\"]\n[upstreams]\n\"{UPSTREAM}\" = {{ address = \"{address}\", tls = false }}"
        );
        let config = Config::parse(Path::new("hookgate.toml"), &text).expect("a valid configuration");
        let start = Start {
            file: "hookgate.toml".into(),
            config,
            standing: PrefixState::default(),
            may_lock_out: false,
            takes_over: false,
            log: Log::new(Format::Text, false),
        };
        spawn(move || {
            run_in_one_process(start).expect("the proxy runs");
        });
        while TcpStream::connect(proxy).is_err() {
            pause(Duration::from_millis(5));
        }
        Self { proxy, upstream }
    }

    /// The client says `request` and no more; the upstream says `response` once it has seen a head,
    /// and no more.
    fn exchange(&self, request: &[u8], response: &[u8]) -> Seen {
        scope(|scope| {
            let client = scope.spawn(|| send_and_receive(self.proxy, request));
            let mut serving = Vec::new();
            loop {
                // Asked first: whatever the proxy has connected to before the end is there to be
                // accepted.
                let done = client.is_finished();
                match self.upstream.accept() {
                    Ok((stream, _)) => {
                        let again = stream.try_clone().expect("a descriptor is left");
                        serving.push((again, scope.spawn(move || serve(stream, response))));
                    }
                    Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("accepting: {error}"),
                    Err(_) if done => break,
                    Err(_) => pause(Duration::from_micros(50)),
                }
            }
            let (answers, closed) = client.join().expect("the client has said what is wrong");
            let end = |(stream, thread): (TcpStream, ScopedJoinHandle<'_, Vec<u8>>)| {
                // A pooled connection would keep us here. It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
                thread.join().expect("the upstream has said what is wrong")
            };
            Seen { answers, closed, requests: serving.into_iter().map(end).collect() }
        })
    }
}

/// Before a socket is asked again.
#[expect(clippy::disallowed_methods, reason = "the targets are built without the harness")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The client: what came back, and whether it ended in a close.
fn send_and_receive(proxy: SocketAddr, request: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(proxy).expect("the proxy listens");
    stream.set_read_timeout(Some(MAX_WAIT)).expect("a time-out can be set");
    // The kernel reports a reset once: to a write, or else to a read.
    let said = say(&mut stream, request, request.len());
    let _ = stream.shutdown(Shutdown::Write); // the proxy may be gone
    let mut answers = Vec::new();
    let outcome = stream.read_to_end(&mut answers);
    let hangs = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!hangs, "no end after {MAX_WAIT:?}; so far: {}", answers.escape_ascii());
    (answers, said.and(outcome).is_ok())
}

/// The upstream on one connection: what came. It answers each head, or closes after the first where
/// a response cannot be followed by another.
fn serve(mut stream: TcpStream, response: &[u8]) -> Vec<u8> {
    let keeps = verdict::may_be_followed(response);
    let (mut received, mut piece, mut answered) = (Vec::new(), [0; 4096], 0);
    loop {
        let heads = received.windows(4).filter(|window| window == b"\r\n\r\n").count();
        if heads > answered {
            // The proxy may want no more.
            let _ = say(&mut stream, response, verdict::end(response));
            answered += 1;
            if !keeps {
                let _ = stream.shutdown(Shutdown::Write); // the proxy may be gone
            }
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => received.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => return received, // what came before a reset counts
        }
    }
}

/// In three pieces. What follows `end` comes together with what is before it: an
/// unsolicited response looks like one to a request that has just been sent.
///
/// Errors: the proxy has closed before, as is its right.
fn say(stream: &mut TcpStream, bytes: &[u8], end: usize) -> io::Result<()> {
    let (start, last) = bytes.split_at(end.saturating_sub(1));
    let mut pieces = start.chunks(bytes.len() / 3 + 1).chain([last]);
    stream.set_nodelay(true)?;
    pieces.try_for_each(|piece| stream.write_all(piece))
}
