use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Subcommand;
use harness::sender::{Connection, Connector, Sender, Then};
use harness::{pace_task, pace_task_until};
use serde_json::{Value, json};
use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;

use crate::turns::Starter;
use crate::{bodies, uploads};

#[derive(Subcommand)]
pub enum Load {
    /// Each connection sends its next request when the answer is there
    Kept {
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        seconds: f64,
    },
    /// Requests at fixed times, whatever the answers do; late ones count from when they were due
    Paced {
        #[arg(long)]
        connections: u32,
        #[arg(long)]
        per_second: f64,
        #[arg(long)]
        seconds: f64,
    },
    /// A connection for each request
    Handshakes {
        #[arg(long)]
        senders: usize,
        #[arg(long)]
        seconds: f64,
        /// Every session is a resumed one
        #[arg(long)]
        resumed: bool,
    },
    /// Full handshakes at fixed times, on connections that close then
    Flood {
        /// How many can be under way at the same time
        #[arg(long)]
        senders: u32,
        #[arg(long)]
        per_second: f64,
        #[arg(long)]
        seconds: f64,
    },
    /// As many new connections at once, a request on each
    Burst {
        #[arg(long)]
        connections: usize,
    },
    /// As many new connections, with a handshake and no request
    Open {
        #[arg(long)]
        connections: usize,
        /// All at once; else each after the former one's handshake
        #[arg(long)]
        at_once: bool,
    },
    /// Connections that have sent ten requests and then nothing more
    Idle {
        #[arg(long)]
        connections: usize,
    },
    /// The first answer of a proxy that is only starting
    First,
    /// The first answer to a host that the proxy is only about to learn; 403 until then
    Learned {
        #[arg(long)]
        target: String,
    },
    /// Large bodies, one after the other on one connection
    Bodies {
        #[arg(long)]
        target: String,
        /// To the upstream; what comes from it, it decides itself
        #[arg(long)]
        up_bytes: Option<usize>,
        #[arg(long)]
        seconds: f64,
    },
    /// Many uploads at the same time, which don't get on
    Uploads {
        #[arg(long)]
        target: String,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        bytes: usize,
        /// What is sent at once; the rest trickles
        #[arg(long)]
        at_once: usize,
    },
}

/// Requests that a connection sends before it is measured.
const WARM_UP: usize = 10;
/// Connections that are opened at the same time where a burst is not the point.
const AT_ONCE: usize = 32;
/// How long a proxy may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn run(load: &Load, sender: Sender) -> Result<()> {
    match *load {
        Load::Kept { connections, seconds } => kept(sender.connector(), connections, seconds).await,
        Load::Paced { connections, per_second, seconds } => {
            paced(sender.connector(), connections, per_second, seconds).await
        }
        Load::Handshakes { senders, seconds, resumed } => {
            handshakes(&sender, senders, seconds, resumed).await
        }
        Load::Flood { senders, per_second, seconds } => {
            flood(sender.connector(), senders, per_second, seconds).await
        }
        Load::Open { connections, at_once } => open(sender.connector(), connections, at_once).await,
        Load::Burst { connections } => burst(sender.connector(), connections).await,
        Load::Idle { connections } => idle(sender.connector(), connections).await,
        Load::First => first(sender.connector()).await,
        Load::Learned { ref target } => learned(sender.connector(), target).await,
        Load::Bodies { ref target, up_bytes, seconds } => {
            bodies::run(sender.connector(), target, up_bytes, seconds).await
        }
        Load::Uploads { ref target, connections, bytes, at_once } => {
            uploads::run(sender.connector(), target, connections, bytes, at_once).await
        }
    }
}

async fn kept(to: Connector, connections: usize, seconds: f64) -> Result<()> {
    let warm = warm(&to, connections).await?;
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let tasks = warm.into_iter().map(|connection| {
        let to = to.clone();
        async move {
            let mut connection = connection;
            let mut taken = Vec::new();
            while Instant::now() < end {
                let sent = Instant::now();
                let then = connection.deliver().await?;
                taken.push(sent.elapsed());
                connection = connection.or_another(then, &to).await?;
            }
            Ok((connection, taken))
        }
    });
    let (connections, taken) = all(tasks).await?;
    starter.done(latencies(taken, start.elapsed())).await?;
    drop(connections);
    Ok(())
}

async fn paced(to: Connector, connections: u32, per_second: f64, seconds: f64) -> Result<()> {
    let warm = warm(&to, connections as usize).await?;
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let timetables = timetables(start, connections, per_second);
    let tasks = warm.into_iter().zip(timetables).map(|(connection, (mut due, period))| {
        let to = to.clone();
        async move {
            let mut connection: Connection = connection;
            let (mut taken, mut ports) = (Vec::new(), Vec::new());
            while due < end {
                pace_task_until(due).await;
                let then = connection.deliver().await?;
                let elapsed = due.elapsed();
                taken.push(elapsed);
                ports.push((connection.local_port(), elapsed.as_secs_f64()));
                connection = connection.or_another(then, &to).await?;
                due += period;
            }
            Ok(((connection, ports), taken))
        }
    });
    let (ended, taken) = all(tasks).await?;
    let (connections, ports): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
    let mut measured = latencies(taken, start.elapsed());
    measured["by_port"] = json!(ports.concat());
    starter.done(measured).await?;
    drop(connections);
    Ok(())
}

/// When each of `senders` begins, and how long it is from one time to the next, so that all
/// together act at a rate.
fn timetables(start: Instant, senders: u32, per_second: f64) -> impl Iterator<Item = (Instant, Duration)> {
    let period = Duration::from_secs_f64(f64::from(senders) / per_second);
    (0..senders).map(move |index| (start + period.mul_f64(f64::from(index) / f64::from(senders)), period))
}

async fn flood(to: Connector, senders: u32, per_second: f64, seconds: f64) -> Result<()> {
    to.connect().await?.close().await?;
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let tasks = timetables(start, senders, per_second).map(|(mut due, period)| {
        let to = to.clone();
        async move {
            let mut taken = Vec::new();
            while due < end {
                pace_task_until(due).await;
                to.connect().await?.close().await?;
                taken.push(due.elapsed());
                due += period;
            }
            Ok(((), taken))
        }
    });
    let (_, taken) = all(tasks).await?;
    starter.done(latencies(taken, start.elapsed())).await
}

async fn open(to: Connector, connections: usize, at_once: bool) -> Result<()> {
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let mut open = Vec::with_capacity(connections);
    if at_once {
        open = connect(&to, connections).await?;
    } else {
        while open.len() < connections {
            open.push(to.connect().await?);
        }
    }
    let ports = open.iter().map(Connection::local_port).collect::<Vec<_>>();
    starter.done(json!({ "ports": ports })).await?;
    drop(open);
    Ok(())
}

async fn handshakes(sender: &Sender, senders: usize, seconds: f64, resumed: bool) -> Result<()> {
    let connectors: Vec<_> = (0..senders)
        .map(|_| if resumed { sender.that_resumes() } else { sender.clone() }.connector())
        .collect();
    for to in &connectors {
        deliver_once(to).await?; // leaves a session to resume
    }
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let tasks = connectors.into_iter().map(|to| async move {
        let mut taken = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
            let is_resumed = deliver_once(&to).await?;
            taken.push(begun.elapsed());
            ensure!(
                is_resumed == resumed,
                "a handshake that was {}",
                if resumed { "full" } else { "resumed" }
            );
        }
        Ok(((), taken))
    });
    let (_, taken) = all(tasks).await?;
    starter.done(latencies(taken, start.elapsed())).await
}

async fn burst(to: Connector, connections: usize) -> Result<()> {
    deliver_once(&to).await?;
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let tasks = std::iter::repeat_n(to, connections).map(|to| async move {
        let mut connection = to.connect().await?;
        connection.deliver().await?;
        Ok((connection, vec![start.elapsed()]))
    });
    let (connections, taken) = all(tasks).await?;
    starter.done(latencies(taken, start.elapsed())).await?;
    drop(connections);
    Ok(())
}

async fn idle(to: Connector, connections: usize) -> Result<()> {
    let mut open = Vec::with_capacity(connections);
    while open.len() < connections {
        // A few after the others: what is wanted is what an idle one holds, not what a busy hour
        // leaves behind.
        open.extend(warm(&to, AT_ONCE.min(connections - open.len())).await?);
    }
    let mut starter = Starter::ready()?;
    starter.go().await?;
    starter.done(json!({ "connections": open.len() })).await?;
    drop(open);
    Ok(())
}

async fn first(to: Connector) -> Result<()> {
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let tcp = loop {
        match to.knock().await {
            Ok(tcp) => break tcp,
            Err(_) => ensure!(start.elapsed() < START_TIMEOUT, "nobody listens after {START_TIMEOUT:?}"),
        }
        yield_now().await; // a timer would be as coarse as what is measured
    };
    let accepted = start.elapsed();
    let mut connection = to.over(tcp).await?;
    let shaken = start.elapsed();
    connection.deliver().await?;
    let [accepted, shaken, answered] =
        [accepted, shaken, start.elapsed()].map(|elapsed| elapsed.as_secs_f64());
    starter.done(json!({ "accepted": accepted, "shaken": shaken, "seconds": answered })).await
}

/// A connection for each question: old ones may know the old configuration only.
async fn learned(to: Connector, target: &str) -> Result<()> {
    let question = format!("POST {target} HTTP/1.1\r\nHost: proxy\r\nContent-Length: 0\r\n\r\n");
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    while to.connect().await?.status(question.as_bytes()).await? != 200 {
        ensure!(start.elapsed() < START_TIMEOUT, "a host that is still unknown after {START_TIMEOUT:?}");
        pace_task(Duration::from_millis(1)).await;
    }
    starter.done(json!({ "seconds": start.elapsed().as_secs_f64() })).await
}

/// Opens connections, a few at a time, and sends [`WARM_UP`] requests on all of them together.
async fn warm(to: &Connector, connections: usize) -> Result<Vec<Connection>> {
    let mut open = Vec::with_capacity(connections);
    while open.len() < connections {
        open.extend(connect(to, AT_ONCE.min(connections - open.len())).await?);
    }
    let warming = open.into_iter().map(|mut connection| async move {
        for _ in 0..WARM_UP {
            let then = connection.deliver().await?;
            ensure!(then == Then::Reuse, "a connection was to be closed after less than {WARM_UP} requests");
        }
        Ok((connection, Vec::new()))
    });
    Ok(all(warming).await?.0)
}

/// As many new connections, all at the same time.
async fn connect(to: &Connector, connections: usize) -> Result<Vec<Connection>> {
    let opening = (0..connections).map(|_| {
        let to = to.clone();
        async move { Ok((to.connect().await?, Vec::new())) }
    });
    Ok(all(opening).await?.0)
}

/// One request on a connection of its own; says whether its session was resumed.
async fn deliver_once(to: &Connector) -> Result<bool> {
    let mut connection = to.connect().await?;
    connection.deliver().await?;
    let is_resumed = connection.is_resumed();
    connection.close().await?;
    Ok(is_resumed)
}

/// Runs all at the same time; the first error ends them.
pub async fn all<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = Result<(T, Vec<Duration>)>> + Send + 'static>,
) -> Result<(Vec<T>, Vec<Duration>)> {
    let mut running: JoinSet<_> = tasks.collect();
    let (mut values, mut taken) = (Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        let (value, its) = ended??;
        values.push(value);
        taken.extend(its);
    }
    Ok((values, taken))
}

fn latencies(mut taken: Vec<Duration>, elapsed: Duration) -> Value {
    taken.sort_unstable();
    // The smallest value that `per_mille` in a thousand do not exceed.
    let at = |per_mille: usize| {
        let rank = (taken.len() * per_mille).div_ceil(1000).max(1);
        taken.get(rank - 1).map(|taken| taken.as_secs_f64())
    };
    json!({
        "requests": taken.len(), "seconds": elapsed.as_secs_f64(),
        "p50": at(500), "p99": at(990), "p99.9": at(999), "max": at(1000),
    })
}
