//! What the command line asks of the running proxy, over its admin socket. Whatever state that is
//! in, the answer is there in time, or an error.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::Instant;

/// How long the proxy may take to answer: longer than it gives itself, and short enough for a
/// command that has something else to ask to end within 10 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// Where the proxy answers.
#[derive(Clone, Debug)]
pub enum Place {
    Socket(PathBuf),
    Address(SocketAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{}", unreachable(.place, .source))]
    Unreachable { place: Place, source: io::Error },
    /// It hangs, or it has ended in the middle.
    #[error("{place} was silent for {:.1} s (`hookgate doctor` says more)", waited.as_secs_f64())]
    Silent { place: Place, waited: Duration },
    #[error("the running proxy broke off its answer: {0}")]
    Broken(io::Error),
    #[error("the running proxy is another version, which can't do that")]
    Unknown,
    /// In its words.
    #[error("{0}")]
    Refused(String),
}

fn unreachable(place: &Place, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "{place}: only root, the proxy's user and the socket's group (the package's is hookgate-admin) may ask it: {error}"
        ),
        _ => format!("no proxy answers at {place}: does it run?: {error}"),
    }
}

impl AskError {
    /// Whether no proxy runs, as far as its socket tells.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. }
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused))
    }
}

/// What lies at `path` of the proxy that answers at `socket`.
pub fn get(socket: &Path, path: &str) -> Result<String, AskError> {
    get_within(ANSWER_TIMEOUT, socket, path)
}

/// The same with another patience.
pub fn get_within(timeout: Duration, socket: &Path, path: &str) -> Result<String, AskError> {
    ask(timeout, &Place::Socket(socket.to_owned()), &get_request(path))
}

/// The same from wherever it answers.
pub fn get_from(place: &Place, path: &str) -> Result<String, AskError> {
    ask(ANSWER_TIMEOUT, place, &get_request(path))
}

/// The result.
pub fn post(socket: &Path, path: &str) -> Result<String, AskError> {
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: hookgate\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    ask(ANSWER_TIMEOUT, &Place::Socket(socket.to_owned()), &request)
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: hookgate\r\nConnection: close\r\n\r\n")
}

fn ask(timeout: Duration, place: &Place, request: &str) -> Result<String, AskError> {
    let begun = Instant::now();
    let silent = || AskError::Silent { place: place.clone(), waited: begun.elapsed() };
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => silent(),
        _ => AskError::Broken(error),
    };
    let mut proxy = connect(place, timeout).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => silent(),
        _ => AskError::Unreachable { place: place.clone(), source },
    })?;
    proxy.write_all(request.as_bytes()).map_err(failed)?;
    let answer = read_to_end(&mut proxy, begun + timeout).map_err(failed)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.into()),
        Some((head, _)) if head.starts_with("HTTP/1.1 404 ") => Err(AskError::Unknown),
        Some((_, why)) => Err(AskError::Refused(why.trim().into())),
        None => Err(silent()),
    }
}

fn connect(place: &Place, timeout: Duration) -> io::Result<Socket> {
    match place {
        Place::Socket(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // It bounds connect(2) too, which waits while the queue of a proxy that hangs is full.
            socket.set_write_timeout(Some(timeout))?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok(socket)
        }
        Place::Address(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.connect_timeout(&(*address).into(), timeout)?;
            Ok(socket)
        }
    }
}

/// All that comes before the other end closes.
///
/// Errors: [`ErrorKind::TimedOut`] or [`ErrorKind::WouldBlock`] when that is not done at
/// `deadline`, however much has come.
fn read_to_end(stream: &mut Socket, deadline: Instant) -> io::Result<String> {
    let (mut answer, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(remaining))?;
        match stream.read(&mut part) {
            Ok(0) => return String::from_utf8(answer).map_err(io::Error::other),
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What is asked within `timeout` of a listener that `serve` handles.
    fn asked(name: &str, serve: impl FnOnce(UnixListener) + Send + 'static) -> (AskError, Duration) {
        const TIMEOUT: Duration = Duration::from_millis(300);
        let path = std::env::temp_dir().join(format!("hookgate-ask-{name}-{}", std::process::id()));
        let _left_behind = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || serve(listener));
        let begun = Instant::now();
        let error = get_within(TIMEOUT, &path, "/stats.json").unwrap_err();
        let took = begun.elapsed();
        std::fs::remove_file(&path).unwrap();
        server.join().unwrap();
        (error, took)
    }

    #[test]
    fn silence_has_an_end() {
        const LONG: Duration = Duration::from_secs(5);
        let (full_queue, took) = asked("queue", |listener| {
            // Until the asker has gone.
            let (mut stream, _) = listener.accept().unwrap();
            let _whatever = stream.read_to_end(&mut Vec::new());
        });
        assert!(matches!(full_queue, AskError::Silent { .. }) && took < LONG, "{full_queue} {took:?}");
        let (a_byte_at_a_time, took) = asked("drip", |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"H").is_ok() {
                thread::yield_now();
            }
        });
        assert!(matches!(a_byte_at_a_time, AskError::Silent { .. }), "{a_byte_at_a_time}");
        assert!(took < LONG, "{took:?}");
        let (closed, _) = asked("closed", |listener| drop(listener.accept().unwrap()));
        assert!(matches!(closed, AskError::Silent { .. } | AskError::Broken(_)), "{closed}");
    }

    #[test]
    fn a_full_queue_has_an_end() {
        let path = std::env::temp_dir().join(format!("hookgate-ask-full-{}", std::process::id()));
        let _left_behind = std::fs::remove_file(&path);
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let timeout = Duration::from_millis(100);
        let asked: Vec<AskError> =
            (0..4).map(|_| get_within(timeout, &path, "/health").unwrap_err()).collect();
        std::fs::remove_file(&path).unwrap();
        assert!(asked.iter().all(|error| matches!(error, AskError::Silent { .. })), "{asked:?}");
    }

    #[test]
    fn an_absent_proxy_is_reported() {
        let absent = get(Path::new("/nonexistent/admin.sock"), "/health").unwrap_err();
        assert!(absent.is_absence(), "{absent}");
        assert!(absent.to_string().starts_with("no proxy answers at /nonexistent/admin.sock"), "{absent}");
    }
}
