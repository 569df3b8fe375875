//! `hookgate guard log`: what the guard dropped, saw fail or could not parse.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};
use tokio::{runtime, select};

use super::config_file::{ConfigFile, pin};
use super::output::{is_read, print_error};
use super::pcap::Pcap;
use crate::config::PinName;
use crate::guard::{self, Cause, LogEntry, LogReader};

#[derive(Debug, Args)]
pub struct Options {
    /// Go on until Ctrl-C; without it the log ends after 10 seconds
    #[arg(long)]
    follow: bool,
    /// Only what happened for this reason
    #[arg(long, value_name = "REASON", value_parser = reasons())]
    reason: Option<String>,
    /// Also write the packets, up to 128 bytes of each, to a new file for tcpdump or Wireshark
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How long the log is read without --follow.
const LOG_TIME: Duration = Duration::from_secs(10);
const READ_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn run(options: &Options, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let pin = pin(config.guard()?.as_ref());
    if guard::attached(&pin)?.is_empty() {
        bail!("the guard is not attached: there is nothing to log; `hookgate guard attach`");
    }
    let pcap = options.pcap.as_ref().map(|path| {
        let created = Pcap::create(path, guard::SNAP_BYTES as u32);
        created.with_context(|| format!("can't create {}: name a file that does not exist", path.display()))
    });
    let output = Output { options, pcap: pcap.transpose()?, text: String::new() };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot wait for signals")?;
    runtime.block_on(log(&pin, output))?;
    Ok(ExitCode::SUCCESS)
}

async fn log(pin: &PinName, mut output: Output<'_>) -> anyhow::Result<()> {
    // Signals that come while another reader is waited for end the log, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut reader = LogReader::open(pin)?;
    let end = match output.options.follow {
        true => None,
        false => Some(Instant::now() + LOG_TIME),
    };
    print_error(match output.options.follow {
        true => "hookgate: reading the guard's log; Ctrl-C ends it\n",
        false => "hookgate: reading the guard's log for 10 s; --follow goes on until Ctrl-C\n",
    });
    let mut renewal = Instant::now() + guard::LOG_RENEWAL_INTERVAL;
    let mut is_last = false;
    while !is_last {
        select! {
            _ = interrupt.recv() => is_last = true,
            _ = terminate.recv() => is_last = true,
            () = wait_for(end) => is_last = true,
            () = sleep(READ_INTERVAL) => {}
        }
        if is_last {
            reader.stop()?;
        } else if Instant::now() >= renewal {
            reader.renew()?;
            renewal = Instant::now() + guard::LOG_RENEWAL_INTERVAL;
        }
        let mut added = Ok(());
        reader.read(|entry| {
            if added.is_ok() {
                added = output.add(entry);
            }
        });
        added?;
        if !output.show()? {
            return Ok(());
        }
    }
    output.end(&reader.suppressed()?)
}

async fn wait_for(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(Cause::all().map(guard::reason_name))
}

/// Where entries go.
struct Output<'o> {
    options: &'o Options,
    pcap: Option<Pcap<BufWriter<File>>>,
    /// Lines that are not printed yet.
    text: String,
}

impl Output<'_> {
    fn wants(&self, cause: Cause) -> bool {
        self.options.reason.as_deref().is_none_or(|wanted| wanted == guard::reason_name(cause))
    }

    fn add(&mut self, entry: &LogEntry<'_>) -> anyhow::Result<()> {
        if !self.wants(entry.cause) {
            return Ok(());
        }
        let line = Line::from(entry);
        match self.options.json {
            true => self.text += &serde_json::to_string(&line)?,
            false => line.write_to(&mut self.text),
        }
        self.text.push('\n');
        if let (Some(pcap), Some(frame)) = (&mut self.pcap, entry.frame) {
            pcap.write(entry.time, frame.bytes, frame.start).context("can't write the packets")?;
        }
        Ok(())
    }

    /// Whether the output is still read.
    fn show(&mut self) -> anyhow::Result<bool> {
        if let Some(pcap) = &mut self.pcap {
            pcap.flush().context("can't write the packets")?;
        }
        let is_read = self.text.is_empty() || is_read(&self.text)?;
        self.text.clear();
        Ok(is_read)
    }

    fn end(&mut self, suppressed: &[(Cause, u64)]) -> anyhow::Result<()> {
        let wanted = suppressed.iter().filter(|(cause, _)| self.wants(*cause));
        let suppressed: BTreeMap<_, _> =
            wanted.map(|(cause, count)| (guard::reason_name(*cause), *count)).collect();
        if self.options.json {
            self.text += &serde_json::to_string(&Suppressed { suppressed })?;
        } else {
            let counts = suppressed.iter().filter(|(_, count)| **count > 0);
            let counts: Vec<_> = counts.map(|(reason, count)| format!("{count} {reason}")).collect();
            self.text += "suppressed: ";
            self.text += &if counts.is_empty() { "nothing".into() } else { counts.join(", ") };
        }
        self.text.push('\n');
        self.show().map(drop)
    }
}

/// One event of `hookgate guard log --json`.
#[derive(Serialize)]
struct Line {
    time: String,
    event: &'static str,
    reason: &'static str,
    source: Option<IpAddr>,
    port: Option<u16>,
    prefix: Option<String>,
}

/// The last line.
#[derive(Serialize)]
struct Suppressed {
    suppressed: BTreeMap<&'static str, u64>,
}

impl From<&LogEntry<'_>> for Line {
    fn from(entry: &LogEntry<'_>) -> Self {
        Self {
            time: format!("{:.6}", entry.time),
            event: guard::event_name(entry.cause),
            reason: guard::reason_name(entry.cause),
            source: entry.source,
            port: entry.port,
            prefix: entry.prefix.map(|prefix| prefix.to_string()),
        }
    }
}

impl Line {
    fn write_to(&self, text: &mut String) {
        let Self { time, event, reason, source, port, prefix } = self;
        let source = source.map_or_else(|| "-".into(), |source| source.to_string());
        let port = port.map_or_else(|| "-".into(), |port| port.to_string());
        // Writing to a String does not fail.
        let _ = write!(text, "{time} {event:<8} {reason:<14} {source} to port {port}");
        if let Some(prefix) = prefix {
            let _ = write!(text, " ({prefix})");
        }
    }
}
