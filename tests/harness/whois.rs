use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_linger;

/// A routing registry's whois server that does what its script says, and remembers what it was
/// asked.
pub struct Whois {
    address: SocketAddr,
    queries: Arc<Mutex<Vec<String>>>,
}

impl Whois {
    /// Answers every query with `objects` and the two blank lines that end an answer.
    ///
    /// # Errors
    /// No port.
    pub fn answering(objects: &str) -> Result<Self> {
        let answer = objects.trim_end_matches('\n').to_owned() + "\n\n\n";
        Self::start(move |stream| stream.write_all(answer.as_bytes()))
    }

    /// On a free port of 127.0.0.1; the connection is closed when `script` returns. An error ends
    /// it: the client has gone.
    ///
    /// # Errors
    /// No port.
    pub fn start(script: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for a whois server")?;
        let address = listener.local_addr()?;
        let queries = Arc::<Mutex<Vec<String>>>::default();
        let (record, script) = (queries.clone(), Arc::new(script));
        // The listener lives as long as the process: it costs a thread, and only tests have one.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (record, script) = (record.clone(), script.clone());
                thread::spawn(move || {
                    if let Err(error) = serve(stream, &record, &*script) {
                        eprintln!("whois server: {error}");
                    }
                });
            }
        });
        Ok(Self { address, queries })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far, line ends included.
    pub fn queries(&self) -> Vec<String> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For a script's end: the connection is reset instead of closed.
    ///
    /// # Errors
    /// The client has gone.
    pub fn reset(stream: &TcpStream) -> io::Result<()> {
        Ok(set_socket_linger(stream, Some(Duration::ZERO))?)
    }
}

fn serve(
    mut stream: TcpStream,
    queries: &Mutex<Vec<String>>,
    script: &dyn Fn(&mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut query = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut query)?;
    queries.lock().unwrap_or_else(PoisonError::into_inner).push(query);
    script(&mut stream)
}
