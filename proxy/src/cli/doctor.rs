//! `hookgate doctor`: what this machine can do, what is misconfigured, where messages are being
//! lost.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::runtime;

use super::config_file::ConfigFile;
use super::lost;
use super::output::{counted, json, print};
use super::proxy::{self, AskError};
use super::stats::{Reading, Silence, Source};
use crate::config::{Config, ConfigError};
use crate::doctor::{self, Finding, Level};
use crate::insight::Query;

const LAST_HOUR: Query = Query { minutes: 60, upstream: None, prefix: None };

#[derive(Debug, Args)]
pub struct Options {
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when a finding is a failure.
pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let findings = examine(file)?;
    let has_failed = findings.iter().any(|finding| finding.level == Level::Fail);
    print(&match options.json {
        true => json(&Document::new(&findings))?,
        false => text(&findings),
    })?;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn examine(file: &ConfigFile) -> anyhow::Result<Vec<Finding>> {
    let (config, mut findings) =
        if file.is_absent()? { (None, vec![nothing(file)]) } else { configuration(file) };
    let machine = doctor::examine_machine(config.as_ref().unwrap_or(&Config::absent()));
    findings.extend(machine);
    if let Some(config) = config {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start asking the DNS")?;
        findings.extend(runtime.block_on(doctor::examine_configuration(&config, file.path())));
        findings.extend(traffic(&config, &Source::new(file)?));
    }
    Ok(findings)
}

/// Where connections are lost, by the running proxy's figures. Where it is silent, that is a
/// failure, and the pins tell.
fn traffic(config: &Config, source: &Source) -> Vec<Finding> {
    match source.read() {
        Ok(Reading { document, silence }) => {
            let lost = match &silence {
                None => lost::report(config, &LAST_HOUR),
                // It would not answer a second time either.
                Some(_) => lost::from_files(config, &LAST_HOUR),
            };
            let silence = silence.as_ref().map(silence_of);
            let (lost, unread) = match lost {
                Ok(lost) => (lost, None),
                Err(error) => {
                    (None, Some(Finding::warn("traffic", format!("{error:#}"), "run the doctor as root")))
                }
            };
            let traffic = doctor::examine_traffic(config, &document, lost.as_ref());
            silence.into_iter().chain(unread).chain(traffic).collect()
        }
        Err(error) => {
            let silence = error.downcast_ref().map(silence_of);
            let unread = Finding::warn("traffic", format!("{error:#}"), "run the doctor as root");
            silence.into_iter().chain([unread]).collect()
        }
    }
}

fn silence_of(Silence { socket, error }: &Silence) -> Finding {
    /// Long enough for a process that serves, and short enough to end within 10 s.
    const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
    match error {
        AskError::Unknown => {
            Finding::warn("hookgate", error.to_string(), "restart it, so that the installed version runs")
        }
        error => {
            let serves = || proxy::get_within(HEALTH_TIMEOUT, socket, "/health").is_ok();
            doctor::silence(socket, &error.to_string(), serves)
        }
    }
}

fn nothing(file: &ConfigFile) -> Finding {
    let next = "only the machine was looked at; the shipped hookgate.toml explains every key";
    Finding::warn("configuration", format!("there is none at {}", file.path().display()), next)
}

/// The configuration, where there is a good one.
fn configuration(file: &ConfigFile) -> (Option<Config>, Vec<Finding>) {
    const SUBJECT: &str = "configuration";
    let path = file.path().display();
    match file.load() {
        Ok(config) => {
            let upstreams = counted(config.upstreams.len(), "upstream");
            let fine = Finding::ok(SUBJECT, format!("{path} is fine, {upstreams}"));
            (Some(config), vec![fine])
        }
        Err(error) => {
            let problems = match error.downcast_ref::<ConfigError>() {
                Some(ConfigError(problems)) => problems.iter().map(ToString::to_string).collect(),
                _ => vec![error.to_string()],
            };
            let next = "the proxy does not start with it; what depends on it was not looked at";
            (None, problems.into_iter().map(|problem| Finding::fail(SUBJECT, problem, next)).collect())
        }
    }
}

/// A line each, what to do below it, and how many of each kind.
fn text(findings: &[Finding]) -> String {
    let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let [ok, warn, fail] = counts(findings);
    format!("{lines}\n{ok} ok, {warn} warn, {fail} fail\n")
}

fn counts(findings: &[Finding]) -> [usize; 3] {
    [Level::Ok, Level::Warn, Level::Fail]
        .map(|level| findings.iter().filter(|finding| finding.level == level).count())
}

/// `hookgate doctor --json`, version 1.
#[derive(Serialize)]
struct Document<'f> {
    version: u32,
    ok: usize,
    warn: usize,
    fail: usize,
    findings: Vec<FindingObject<'f>>,
}

#[derive(Serialize)]
struct FindingObject<'f> {
    level: &'static str,
    subject: &'f str,
    text: &'f str,
    next: Option<&'f str>,
}

impl<'f> Document<'f> {
    fn new(findings: &'f [Finding]) -> Self {
        let [ok, warn, fail] = counts(findings);
        let object = |finding: &'f Finding| FindingObject {
            level: finding.level.name(),
            subject: &finding.subject,
            text: &finding.text,
            next: finding.next.as_deref(),
        };
        Self { version: 1, ok, warn, fail, findings: findings.iter().map(object).collect() }
    }
}
