//! `hookgate deliveries`: the latest requests, as the running proxy remembers them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::config_file::ConfigFile;
use super::output::{is_read, json, print, print_error};
use super::proxy;
use crate::config::HostName;
use crate::observe::{Delivery, Outcome};

#[derive(Debug, Args)]
pub struct Options {
    /// Only those that were not delivered
    #[arg(long)]
    failed: bool,
    /// Only those to this upstream
    #[arg(long, value_name = "HOST")]
    upstream: Option<HostName>,
    /// Go on with those that come
    #[arg(long)]
    follow: bool,
    /// Print JSON, version 1; with --follow one object a line
    #[arg(long)]
    json: bool,
}

const INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn run(options: &Options, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let source = Source::new(config)?;
    let (deliveries, last) = source.after(0)?;
    let known = deliveries.len();
    let wanted: Vec<Delivery> = deliveries.into_iter().filter(|delivery| options.wants(delivery)).collect();
    if options.follow {
        follow(options, &source, wanted, last)?;
    } else if options.json {
        print(&json(&Document { version: 1, deliveries: &wanted })?)?;
    } else {
        print(&wanted.iter().map(line).collect::<String>())?;
        if wanted.is_empty() {
            print_error(&format!("hookgate: no match among the {known} requests that the proxy remembers\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "this command has one thread, which has nothing else to do")]
fn follow(options: &Options, source: &Source, mut new: Vec<Delivery>, mut last: u64) -> anyhow::Result<()> {
    loop {
        let mut text = String::new();
        for delivery in new.iter().filter(|delivery| options.wants(delivery)) {
            match options.json {
                true => text += &(serde_json::to_string(delivery)? + "\n"),
                false => text += &line(delivery),
            }
        }
        if !is_read(&text)? {
            return Ok(());
        }
        sleep(INTERVAL);
        (new, last) = source.after(last)?;
    }
}

impl Options {
    fn wants(&self, delivery: &Delivery) -> bool {
        let upstream = delivery.upstream.as_deref().unwrap_or_default();
        (!self.failed || delivery.outcome != Outcome::Delivered)
            && self.upstream.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(upstream))
    }
}

/// The running proxy, which alone knows.
struct Source(PathBuf);

impl Source {
    fn new(config: &ConfigFile) -> anyhow::Result<Self> {
        let socket = config.load()?.admin.and_then(|admin| admin.socket);
        socket.map(Self).with_context(|| {
            format!(
                "{} has no [admin] socket to ask the proxy by: add one, and restart",
                config.path().display()
            )
        })
    }

    /// Those after the number `after`, and the number of the last one.
    fn after(&self, after: u64) -> anyhow::Result<(Vec<Delivery>, u64)> {
        let deliveries = proxy::get(&self.0, &format!("/deliveries.json?after={after}"))?;
        let deliveries: Vec<Delivery> = serde_json::from_str(&deliveries)?;
        if let Some(first) = deliveries.first().filter(|first| after > 0 && first.number > after + 1) {
            let missed = first.number - after - 1;
            print_error(&format!("hookgate: {missed} requests went by too fast to be shown\n"));
        }
        let last = deliveries.last().map_or(after, |delivery| delivery.number);
        Ok((deliveries, last))
    }
}

fn line(delivery: &Delivery) -> String {
    let code = delivery.code.map_or("-".into(), |code| code.to_string());
    let mut line = format!(
        "{} {:<9} {code:>3} {:>8.4}s {} -> {} {} {}",
        delivery.time,
        match delivery.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        },
        delivery.duration_seconds,
        delivery.source,
        delivery.upstream.as_deref().unwrap_or("-"),
        delivery.method,
        delivery.path,
    );
    if let Some(error) = &delivery.error {
        // Writing to a String does not fail.
        let _ = write!(line, "  {error} at {}", delivery.stage);
        if delivery.connection.as_deref() == Some("pooled") {
            line.push_str(" (pooled connection)");
        }
        let detail = delivery.detail.iter().filter(|detail| !detail.is_empty());
        let _ = detail.into_iter().try_for_each(|detail| write!(line, ": {detail}"));
    }
    let body = delivery.body();
    if delivery.has_reached_upstream() && !body.is_whole() {
        // Writing to a String does not fail.
        let _ = write!(line, "  {body} acknowledged");
    }
    line.push('\n');
    line
}

/// `hookgate deliveries --json`, version 1.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    deliveries: &'a [Delivery],
}
