use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout_at;

use crate::priority::Priority;
use crate::sender::{Connection, Connector, Sender, Then};
use crate::{Sample, meta_tls, pace_until};

/// Meta's webhooks at a steady rate, whatever the answers do: over TLS 1.3, on kept connections and
/// on new ones, behind a load balancer whose PROXY header has one of Meta's addresses. They go on
/// until [`Webhooks::stop`].
pub struct Webhooks {
    stop: Arc<AtomicBool>,
    pacer: JoinHandle<Result<()>>,
    sender: JoinHandle<Result<Vec<Webhook>>>,
}

/// The result of a webhook.
#[derive(Debug)]
pub struct Webhook {
    pub number: usize,
    /// When it was to be sent.
    pub due: Instant,
    /// From then to the end of a 200; or what came instead of it.
    pub took: Result<Duration>,
}

impl Webhooks {
    /// A webhook that is not answered so long after it was due has failed.
    pub const LIMIT: Duration = Duration::from_secs(5);
    const EVERY: Duration = Duration::from_millis(20);
    /// Every fifth webhook opens a connection, with a full handshake, which is then kept.
    const NEW_CONNECTION_EVERY: usize = 5;
    const MAX_KEPT: usize = 8;
    const SOURCES: [&str; 4] = [
        "TCP4 157.240.1.1 192.0.2.1",
        "TCP6 2a03:2880::7 2001:db8::443",
        "TCP4 31.13.64.9 192.0.2.1",
        "TCP4 157.240.1.2 192.0.2.1",
    ];

    /// Sends to `proxy`, which is called `name` by a certificate of the authority in `ca`.
    ///
    /// # Errors
    /// The authority or the sample can't be read.
    pub fn start(proxy: SocketAddr, name: &str, ca: &Path) -> Result<Self> {
        let connector =
            Sender::new(proxy, Some((name, meta_tls::client_config(ca)?)), Vec::new())?.connector();
        let sample = Sample::all()?.into_iter().find(|sample| sample.name == "post-wa-text");
        let sample = sample.context("no sample")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (turns, due) = unbounded_channel();
        let stopped = stop.clone();
        // The runtime's timers are as coarse as a millisecond.
        let pacer = thread::spawn(move || -> Result<()> {
            Priority::Measured.take()?;
            let begun = Instant::now();
            for (number, turn) in (0..).zip(1..) {
                let due = begun + Self::EVERY * turn;
                pace_until(due);
                if stopped.load(Ordering::Relaxed) || turns.send((number, due)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let sender = thread::spawn(move || {
            Priority::Measured.take()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(LocalSet::new().block_on(&runtime, send_all(Rc::new(Kept::new(connector, sample)), due)))
        });
        Ok(Self { stop, pacer, sender })
    }

    /// The path of a webhook, in which its number shows.
    pub fn path(number: usize) -> String {
        format!("/chatwoot.example.com/webhooks/whatsapp/number-{number}-")
    }

    /// All of them, in the order in which they were due.
    ///
    /// # Errors
    /// The stream has broken down by itself.
    pub fn stop(self) -> Result<Vec<Webhook>> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("the stream of webhooks has broken down");
        self.pacer.join().map_err(panicked)??;
        let mut webhooks = self.sender.join().map_err(panicked)??;
        webhooks.sort_by_key(|webhook| webhook.number);
        Ok(webhooks)
    }
}

async fn send_all(kept: Rc<Kept>, mut due: UnboundedReceiver<(usize, Instant)>) -> Vec<Webhook> {
    let mut sending = JoinSet::new();
    while let Some((number, due)) = due.recv().await {
        let kept = kept.clone();
        sending.spawn_local(async move {
            let stage = Cell::new("waits for its turn");
            let delivered = timeout_at((due + Webhooks::LIMIT).into(), kept.deliver(number, &stage)).await;
            let took = match delivered {
                Ok(Ok(())) => Ok(due.elapsed()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(anyhow!("after {:?} it {}", Webhooks::LIMIT, stage.get())),
            };
            Webhook { number, due, took }
        });
    }
    sending.join_all().await
}

/// Connections that have nothing to do.
struct Kept {
    connector: Connector,
    sample: Sample,
    idle: RefCell<VecDeque<Connection>>,
}

impl Kept {
    fn new(connector: Connector, sample: Sample) -> Self {
        Self { connector, sample, idle: RefCell::default() }
    }

    async fn deliver(&self, number: usize, stage: &Cell<&'static str>) -> Result<()> {
        let wants_new = number.is_multiple_of(Webhooks::NEW_CONNECTION_EVERY);
        let kept = if wants_new { None } else { self.idle.borrow_mut().pop_front() };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect(number, stage).await?,
        };
        stage.set("waits for an answer");
        let webhook = Sample { target: Webhooks::path(number), ..self.sample.clone() };
        connection.send(&webhook.bytes()?).await?;
        if connection.answer().await? == Then::Reuse {
            let mut idle = self.idle.borrow_mut();
            idle.push_back(connection);
            let surplus = idle.len().saturating_sub(Webhooks::MAX_KEPT);
            idle.drain(..surplus);
        }
        Ok(())
    }

    async fn connect(&self, number: usize, stage: &Cell<&'static str>) -> Result<Connection> {
        let source = Webhooks::SOURCES[number % Webhooks::SOURCES.len()];
        stage.set("waits for a TCP connection");
        let mut tcp = self.connector.knock().await?;
        stage.set("waits for a handshake");
        tcp.write_all(format!("PROXY {source} 40000 443\r\n").as_bytes()).await.context("a PROXY header")?;
        self.connector.over(tcp).await
    }
}
