//! `hookgate trace`: the next requests, step by step.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use super::config_file::ConfigFile;
use super::output::is_read;
use super::proxy;
use crate::observe::Trace;

#[derive(Debug, Args)]
pub struct Options {
    /// Only requests to this upstream
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// How many requests
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    next: u64,
    /// Print JSON, version 1, an object a line
    #[arg(long)]
    json: bool,
}

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// What the running proxy answers.
#[derive(Deserialize)]
struct Answer {
    latest: u64,
    traces: Vec<Trace>,
}

#[expect(clippy::disallowed_methods, reason = "this command has one thread, which has nothing else to do")]
pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load_or_defaults()?;
    let socket = config.admin_socket().context("[admin] socket: not in the configuration")?;
    let host = options.host.as_ref().map(|host| host.to_ascii_lowercase());
    let is_wanted = |trace: &Trace| host.is_none() || trace.upstream == host;
    let ask = |query: &str| -> anyhow::Result<Answer> {
        Ok(serde_json::from_str(&proxy::get(socket, &format!("/trace.json{query}"))?)?)
    };
    let mut latest = ask("")?.latest;
    let mut left = options.next;
    loop {
        sleep(INTERVAL);
        let answer = ask(&format!("?after={latest}"))?;
        latest = answer.latest;
        for trace in answer.traces.into_iter().filter(is_wanted) {
            let text = if options.json { serde_json::to_string(&trace)? + "\n" } else { text(&trace) };
            left -= 1;
            if !is_read(&text)? || left == 0 {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn text(trace: &Trace) -> String {
    let upstream = trace.upstream.as_deref().unwrap_or("no upstream");
    let steps = trace.steps.iter().map(|step| format!("{:>12.6} s  {}\n", step.seconds, step.name));
    format!("{} to {upstream}\n{}\n", trace.id, steps.collect::<String>())
}
