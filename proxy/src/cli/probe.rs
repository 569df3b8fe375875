//! `hookgate probe`: the way to an upstream, step by step.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::runtime;

use super::config_file::ConfigFile;
use super::output::{json, print};
use crate::access::Disk;
use crate::config::{Config, HostName, Upstream};
use crate::probe::{Attempt, Certificate, Name, Packets, Report, probe};
use crate::tls::listed;
use crate::upstream::Dns;

/// A large request that takes so much longer than a small one was probably retransmitted.
const SLOW_PACKETS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct Options {
    /// A host of [upstreams]
    host: HostName,
    /// Also a host that is not in [upstreams], with the defaults
    #[arg(long)]
    any: bool,
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when a step fails.
pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = if options.any { file.load_or_defaults()? } else { file.load()? };
    let Some(upstream) = find(&config, &options.host, options.any) else {
        let (host, path) = (&options.host, file.path().display());
        bail!("{host} is not in [upstreams] of {path}: `hookgate probe {host} --any` tries it all the same");
    };
    let report = go(&upstream, &config)?;
    print(&if options.json { json(&report)? } else { text(&report, &upstream) })?;
    Ok(if report.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn find(config: &Config, host: &HostName, any: bool) -> Option<Upstream> {
    let configured = config.upstreams.iter().find(|upstream| upstream.name == *host).cloned();
    configured.or_else(|| any.then(|| Upstream::new(host.clone())))
}

/// Goes the way to `upstream`, with the servers and the patience of `config`.
pub(super) fn go(upstream: &Upstream, config: &Config) -> anyhow::Result<Report> {
    let dns = Dns::new(&config.dns, &Disk)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start probing")?;
    Ok(runtime.block_on(probe(upstream, &dns, &config.timeouts)))
}

/// A line a step, what to do below the one that failed.
pub(super) fn text(report: &Report, upstream: &Upstream) -> String {
    let mut lines = String::new();
    let mut line = |level: &str, step: &str, took: Option<Duration>, text: &str| {
        let took = took.map_or(String::new(), |took| format!("{:.1} ms", took.as_secs_f64() * 1000.0));
        // Writing to a String does not fail.
        let _ = writeln!(lines, "{level:<4}  {step:<4}  {took:>9}  {text}");
    };
    match (&report.dns, upstream.address) {
        (_, Some(address)) => line("ok", "DNS", None, &format!("not asked: the address is {address}")),
        (Some(names), None) => {
            let addresses: Vec<String> = names.addresses.iter().map(name).collect();
            let leads = names.addresses.iter().any(|name| name.left_out.is_none());
            line(if leads { "ok" } else { "" }, "DNS", Some(names.took), &addresses.join(", "));
        }
        (None, None) => {}
    }
    // The only attempt is the step itself.
    let failed = match &report.tcp[..] {
        [Attempt { error: Some(_), took, .. }] => Some(*took),
        _ => None,
    };
    for Attempt { address, took, error } in report.tcp.iter().filter(|_| failed.is_none()) {
        match error {
            None => line("ok", "TCP", Some(*took), &address.to_string()),
            Some(error) => line("warn", "TCP", Some(*took), &format!("{address}: {error}")),
        }
    }
    if let Some(tls) = &report.tls {
        if let (Some(protocol), Some(suite), Some(group)) = (&tls.protocol, &tls.suite, tls.group) {
            let verification = match tls.verification.as_str() {
                "off" => "NOT verified (verify = false)",
                other => other,
            };
            line("ok", "TLS", Some(tls.took), &format!("{protocol}, {suite}, {group}, {verification}"));
        }
        for shown in &tls.chain {
            line("", "", None, &certificate(shown));
        }
    }
    if let Some(http) = &report.http {
        line("ok", "HTTP", Some(http.took), &format!("GET / is answered with {}", http.status));
    }
    match &report.packets {
        Some(Packets { took, head_bytes, acknowledged: true, .. }) => {
            let usual = report.http.as_ref().map_or(Duration::ZERO, |http| http.took);
            let (level, but) = match took.saturating_sub(usual) > SLOW_PACKETS {
                true => (
                    "warn",
                    " late: large packets seem to be lost until the kernel tries smaller ones (path MTU)",
                ),
                false => ("ok", ""),
            };
            line(level, "MTU", Some(*took), &format!("a request of {head_bytes} bytes got through{but}"));
        }
        Some(Packets { acknowledged: false, took, .. }) if report.failure.is_none() => {
            let text =
                "whether large packets get through is not known: the connection was closed without an answer";
            line("warn", "MTU", Some(*took), text);
        }
        None if report.http.is_some() => {
            let text = "whether large packets get through is not known: there was no second connection";
            line("warn", "MTU", None, text);
        }
        Some(_) | None => {}
    }
    if let Some(failure) = &report.failure {
        line("fail", failure.step, failed, &failure.error);
        line("", "", None, &format!("-> {}", failure.next));
    }
    lines
}

fn name(name: &Name) -> String {
    let Name { address, ttl_seconds, left_out } = name;
    match left_out {
        None => format!("{address} (TTL {ttl_seconds} s)"),
        Some(why) => format!("{address} left out: {why}"),
    }
}

fn certificate(shown: &Certificate) -> String {
    let Certificate { subject, issuer, names, not_after, days_left, .. } = shown;
    let names = listed(names).map_or(String::new(), |names| format!(" for {names}"));
    let end = if *days_left < 0 { "expired" } else { "until" };
    let left = if *days_left < 0 { String::new() } else { format!(" ({days_left} days)") };
    format!("{subject}{names}, {end} {not_after}{left}, signed by {issuer}")
}
