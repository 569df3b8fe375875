//! `hookgate send`: plays Meta towards a callback URL, to see what Meta would see.

mod meta;
mod receiver;
mod report;
mod requests;
mod updates;
mod url;
mod verification;

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use serde::Serialize;
use tokio::runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};

use self::receiver::{Outcome, Receiver};
use self::report::{Row, Summary};
use self::requests::Requests;
use self::updates::{Composer, Form, MAX_UPDATES, Product};
use self::url::Url;
use self::verification::Verification;
use super::output::{json, print, print_error};
use crate::upstream::Manner;

/// Deliveries that may be under way at once when a rate is asked for.
const MAX_AT_ONCE: usize = 64;
/// The largest payload that is sent. Meta's are 3 MB at most.
const MAX_PAYLOAD_BYTES: u64 = 64 << 20;
/// What stands for the verify token where none is given.
const NO_TOKEN: &str = "hookgate";

#[derive(Debug, Args)]
pub struct Options {
    /// The callback URL as Meta has it, such as
    /// https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp/%2B55
    url: Url,
    /// The app's secret; deliveries are signed with it
    #[arg(long, value_name = "S", value_parser = NonEmptyStringValueParser::new())]
    secret: Option<String>,
    /// The token that the receiver expects in a verification request
    #[arg(long, value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new())]
    verify_token: Option<String>,
    /// The body of each delivery [default: a new text message]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["product", "batch", "statuses", "without_number"])]
    payload: Option<PathBuf>,
    /// The product whose updates are sent
    #[arg(long, default_value = "whatsapp")]
    product: Product,
    /// Updates in one delivery, in several entries and changes: a receiver that reads only the
    /// first one loses the rest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_UPDATES)))]
    batch: u32,
    /// Send statuses instead of messages: sent, delivered and read of WhatsApp, delivery and read
    /// of Messenger, read of Instagram; each in its own delivery, unless --batch puts them together
    #[arg(long)]
    statuses: bool,
    /// Leave out the telephone number (from, wa_id, recipient_id), as WhatsApp does for users who
    /// have a username: only the user id is there
    #[arg(long)]
    without_number: bool,
    /// How many deliveries to send after the verification request [default: 1; with --statuses
    /// as many as tell all of one message]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    count: Option<u32>,
    /// Deliveries per second, from 0.01 to 1000 [default: one after the other]
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// How long one request may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Connect here instead of where the URL's host leads to: IP or IP:port
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    connect: Option<Address>,
    /// A PEM file with further authorities to believe
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// An address with or without a port.
#[derive(Clone, Copy, Debug)]
struct Address(IpAddr, Option<u16>);

fn address(text: &str) -> Result<Address, &'static str> {
    let with_port = text.parse::<SocketAddr>().map(|address| Address(address.ip(), Some(address.port())));
    let bare = || text.parse().map(|ip| Address(ip, None));
    with_port.or_else(|_| bare()).map_err(|_| "write IP or IP:port")
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate| (0.01..=1000.0).contains(rate));
    rate.ok_or("must be between 0.01 and 1000")
}

impl Options {
    fn form(&self) -> Form {
        let Self { product, batch, statuses, without_number, .. } = *self;
        Form { product, batch, statuses, without_number }
    }

    fn deliveries(&self) -> u32 {
        let default = if self.payload.is_some() { 1 } else { self.form().deliveries_per_message() };
        self.count.unwrap_or(default)
    }
}

/// Exit code 1 when anything was not answered with 200.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.without_number && options.product != Product::WhatsApp {
        let why = "--without-number is for --product whatsapp: the others never send telephone numbers\n";
        clap::Error::raw(ErrorKind::ArgumentConflict, why).exit();
    }
    let payload = options.payload.as_deref().map(payload).transpose()?;
    if options.insecure {
        print_error("WARNING: --insecure: whoever answers is believed; Meta would not\n");
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start sending")?;
    runtime.block_on(LocalSet::new().run_until(play(options, payload.as_deref())))
}

/// Errors: it cannot be read, or is none that Meta could send.
fn payload(path: &Path) -> anyhow::Result<Vec<u8>> {
    let (name, mut payload) = (path.display(), Vec::new());
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    file.take(MAX_PAYLOAD_BYTES + 1)
        .read_to_end(&mut payload)
        .with_context(|| format!("cannot read {name}"))?;
    if payload.is_empty() {
        bail!("{name} is empty: Meta always sends a body; leave --payload out for a text message");
    }
    if payload.len() as u64 > MAX_PAYLOAD_BYTES {
        bail!("{name} is larger than {} MiB: Meta sends 3 MB at most", MAX_PAYLOAD_BYTES >> 20);
    }
    Ok(payload)
}

async fn play(options: &Options, payload: Option<&[u8]>) -> anyhow::Result<ExitCode> {
    let url = &options.url.as_meta_sends_it();
    if *url != options.url {
        let target = &url.target;
        print_error(&format!(
            "WARNING: Meta sends a `+` in a callback URL's path as %20, and so does this command: {target}; enter %2B \
             for it, here and at Meta\n"
        ));
    }
    let instead = options.connect.map(|Address(ip, port)| SocketAddr::new(ip, port.unwrap_or(url.port)));
    let manner = Manner { ca: options.ca.clone(), verify: !options.insecure, ..Manner::default() };
    let patience = Duration::from_secs(options.timeout);
    let receiver = Rc::new(Receiver::new(url, instead, &manner, patience).await?);

    let verification = verify(&receiver, url, options.verify_token.as_deref()).await?;
    if !options.json {
        print(&format!("verification  {verification}\n"))?;
    }
    let secret = options.secret.as_deref();
    let requests = match payload {
        Some(payload) => Requests::same(url, payload, secret),
        None => Requests::new(url, Composer::new(options.form(), options.deliveries(), random()?), secret),
    };
    let begun = Instant::now();
    let deliveries = deliver(&receiver, requests, options).await?;
    let updates = payload.is_none().then_some(options.batch);
    let summary = Summary::new(&deliveries, begun.elapsed(), updates);
    let is_fine = verification.is_fine() && summary.is_fine();
    print(&match options.json {
        true => json(&Document { version: 1, verification, deliveries, summary })?,
        false => format!("{summary}\n"),
    })?;
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(receiver: &Receiver, url: &Url, token: Option<&str>) -> anyhow::Result<Verification> {
    let challenge = u32::from_ne_bytes(random()?).to_string();
    let outcome = receiver.ask(&meta::verification(url, token.unwrap_or(NO_TOKEN), &challenge)).await;
    Ok(Verification::new(&outcome, &challenge, token.is_some()))
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut random = [0; N];
    SystemRandom::new().fill(&mut random).ok().context("the system gives no randomness")?;
    Ok(random)
}

/// Sends `requests` as often and as fast as asked for; the outcome of each, in the order in which
/// they ended.
async fn deliver(
    receiver: &Rc<Receiver>,
    mut requests: Requests<'_>,
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut ended = |outcome: Outcome| {
        let row = Row::new(&outcome);
        let line = (!options.json).then(|| format!("delivery {:<4} {row}\n", rows.len() + 1));
        rows.push(row);
        line.map_or(Ok(()), |line| print(&line))
    };
    let (pause, most) = match options.rate {
        Some(rate) => (Duration::from_secs_f64(1.0 / rate), MAX_AT_ONCE),
        None => (Duration::ZERO, 1),
    };
    let mut under_way = JoinSet::new();
    let mut due = Instant::now();
    for _ in 0..options.deliveries() {
        loop {
            tokio::select! {
                () = sleep_until(due), if under_way.len() < most => break,
                Some(outcome) = under_way.join_next(), if !under_way.is_empty() => ended(outcome?)?,
            }
        }
        due += pause;
        let (receiver, request) = (Rc::clone(receiver), requests.next()?);
        under_way.spawn_local(async move { receiver.ask(&request).await });
    }
    while let Some(outcome) = under_way.join_next().await {
        ended(outcome?)?;
    }
    Ok(rows)
}

/// `hookgate send --json`, version 1.
#[derive(Serialize)]
struct Document {
    version: u32,
    verification: Verification,
    deliveries: Vec<Row>,
    summary: Summary,
}
