//! Figures of the running proxy, else of what is on disk and pinned.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::addresses;
use super::document::{
    Answers, Counted, Document, Listener, Messages, MessagesWindow, Reader, Source, Upstream,
};
use crate::cli::config_file::ConfigFile;
use crate::cli::lost;
use crate::cli::output::print_error;
use crate::cli::proxy::{self, AskError};
use crate::cli::stats;
use crate::config::Config;
use crate::insight::{Chart, Query, Report};
use crate::messages::{Document as MessagesDocument, NumberRow};
use crate::observe::clock;
use crate::stats::{Document as Stats, Prefix, Seen, State};
use crate::sys;

/// All that goes into the file; `None`: there are no figures of that time.
pub(super) fn gather(reader: Reader, query: &Query, file: &ConfigFile) -> anyhow::Result<Option<Document>> {
    let config = file.load_or_defaults()?;
    let all = Query { upstream: None, ..query.clone() };
    let (source, lost) = lost(&config, &all)?;
    let Some(lost) = lost else { return Ok(None) };
    let mut gathering = Gathering { config: &config, source, unavailable: Vec::new() };
    let status = gathering.status();
    let (window, since_attach) = gathering.counted(&all, file)?;
    let is_for_meta = reader == Reader::Meta;
    let messages = is_for_meta.then(|| gathering.messages(query)).flatten();
    let numbers = messages.as_ref().map_or_else(Vec::new, numbers);
    let upstream = query.upstream.as_ref().map(|host| {
        let lost = gathering.lost_of(query);
        Upstream { host: host.clone(), lost, numbers }
    });
    let listeners = match &status {
        Some(status) => status.listeners.clone(),
        None => addresses::configured_listeners(&config),
    };
    let names = match &status {
        Some(status) => status.certificates.iter().flat_map(|held| held.names.clone()).collect(),
        None => addresses::configured_names(&config),
    };
    let interfaces = gathering.told("", addresses::interfaces(&listeners)).unwrap_or_default();
    let hidden = config.upstreams.iter().map(|upstream| &*upstream.name);
    let hidden: Vec<&str> = hidden.filter(|name| query.upstream.as_deref() != Some(name)).collect();
    Ok(Some(Document {
        version: Document::VERSION,
        reader,
        hookgate: env!("CARGO_PKG_VERSION").into(),
        taken: clock::rfc3339(clock::now()),
        from: lost.from.clone(),
        to: lost.to.clone(),
        source,
        clock_synchronised: sys::clock_is_synchronised().ok(),
        names: addresses::resolve(&config, &names, &hidden),
        listeners,
        interfaces,
        guard: since_attach.as_ref().map(|stats| stats.guard.clone()),
        window: window.map(|stats| counted(stats.from.clone(), stats)),
        since_attach: since_attach
            .filter(|stats| stats.guard.state == State::Attached)
            .map(|stats| counted(stats.guard.since.clone(), stats)),
        lost,
        upstream,
        messages: is_for_meta.then(|| gathering.told_by_messages(query, messages)).flatten(),
        answers: is_for_meta.then(|| gathering.answers(query, status)).flatten(),
        unavailable: gathering.unavailable,
    }))
}

fn lost(config: &Config, query: &Query) -> anyhow::Result<(Source, Option<Report>)> {
    let path = format!("/lost.json{}", query.to_text());
    match config.admin_socket().map(|socket| proxy::get(socket, &path)) {
        Some(Ok(text)) => {
            Ok((Source::Proxy, serde_json::from_str(&text).context("the running proxy's answer")?))
        }
        None | Some(Err(AskError::Unreachable { .. })) => {
            Ok((Source::Files, lost::from_files(config, query)?))
        }
        Some(Err(error)) => {
            print_error(&format!("hookgate: {error}; the figures are from files and pins\n"));
            Ok((Source::Files, lost::from_files(config, query)?))
        }
    }
}

struct Gathering<'c> {
    config: &'c Config,
    source: Source,
    /// What could not be told so far, and why.
    unavailable: Vec<String>,
}

/// What is taken from `/status.json`.
#[derive(Deserialize)]
struct Status {
    since: String,
    listeners: Vec<Listener>,
    certificates: Vec<StatusCertificate>,
    upstreams: StatusUpstreams,
}

#[derive(Deserialize)]
struct StatusCertificate {
    names: Vec<String>,
}

#[derive(Deserialize)]
struct StatusUpstreams {
    list: Vec<StatusUpstream>,
    unlisted: usize,
}

#[derive(Deserialize)]
struct StatusUpstream {
    codes: BTreeMap<String, u64>,
}

impl Gathering<'_> {
    /// The value, or a line about what is missing.
    fn told<T, E: std::fmt::Display>(&mut self, what: &str, outcome: Result<T, E>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.unavailable.push(format!("{what}{error:#}"));
                None
            }
        }
    }

    fn socket(&self) -> Option<&Path> {
        self.config.admin_socket().filter(|_| self.source == Source::Proxy)
    }

    fn ask<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let socket = self.socket().context("hookgate does not run, or does not answer")?;
        let answer = proxy::get(socket, path)?;
        serde_json::from_str(&answer).context("the running proxy's answer")
    }

    fn status(&mut self) -> Option<Status> {
        let outcome = self.socket().map(|_| self.ask("/status.json"))?;
        self.told("the running proxy's listeners and certificates: ", outcome)
    }

    /// What was counted in the window, and since the attach.
    fn counted(
        &mut self,
        query: &Query,
        file: &ConfigFile,
    ) -> anyhow::Result<(Option<Stats>, Option<Stats>)> {
        let source = stats::Source::new(file)?;
        let (window, since_attach) = match self.source {
            Source::Proxy => {
                let window = source.read_since(query).map(|reading| reading.document);
                (window, source.read().map(|reading| reading.document))
            }
            Source::Files => (source.kept_since(query), source.pinned()),
        };
        let window = self.told("what was counted in the window: ", window);
        Ok((window, self.told("what the guard has counted: ", since_attach)))
    }

    fn lost_of(&mut self, query: &Query) -> Option<Report> {
        let outcome = match self.source {
            Source::Proxy => self.ask(&format!("/lost.json{}", query.to_text())),
            Source::Files => lost::from_files(self.config, query),
        };
        self.told("what was lost of the upstream's: ", outcome).flatten()
    }

    fn messages(&mut self, query: &Query) -> Option<MessagesDocument> {
        if !self.config.insight.messages {
            return None;
        }
        let of = query.upstream.as_ref().map(|host| format!("?upstream={host}")).unwrap_or_default();
        let outcome = self.ask(&format!("/messages.json{of}"));
        self.told("delays and outcomes of events since the ledger began: ", outcome)
    }

    /// `None`: messages are not looked into.
    fn told_by_messages(&mut self, query: &Query, document: Option<MessagesDocument>) -> Option<Messages> {
        if !self.config.insight.messages {
            self.unavailable.push("lag, status chains and outcomes: [insight] messages is false".into());
            return None;
        }
        let chart = match self.source {
            Source::Proxy => self.ask(&format!("/history.json{}", query.to_text())),
            Source::Files => {
                let periods = lost::periods(self.config, query);
                periods.map(|periods| Chart::new(&periods, query, clock::now()))
            }
        };
        let chart = self.told("what messages told in the window: ", chart)?;
        Some(Messages { window: window(&chart), products: document.map(|document| document.products) })
    }

    fn answers(&mut self, query: &Query, status: Option<Status>) -> Option<Answers> {
        let status = match &query.upstream {
            None => status,
            Some(host) => {
                let outcome = self.ask(&format!("/status.json?upstream={host}"));
                self.told("the answers to the upstream's requests: ", outcome)
            }
        };
        status.map(Answers::from)
    }
}

impl From<Status> for Answers {
    fn from(Status { since, upstreams, .. }: Status) -> Self {
        let mut answers = Answers { since, upstreams_left_out: upstreams.unlisted, ..Answers::default() };
        for (code, count) in upstreams.list.iter().flat_map(|upstream| &upstream.codes) {
            *answers.codes.entry(code.clone()).or_default() += count;
        }
        answers
    }
}

fn numbers(document: &MessagesDocument) -> Vec<NumberRow> {
    document.upstreams.iter().flat_map(|row| row.numbers.clone()).collect()
}

/// What something came from, or failed of.
pub(super) fn counted(from: Option<String>, stats: Stats) -> Counted {
    let is_used = |counts: &crate::stats::Counts| {
        counts.is_used()
            || counts.handshakes_failed.is_some_and(|failed| failed > 0)
            || counts.kernel_drops.as_ref().is_some_and(|drops| !drops.is_empty())
    };
    let prefixes = stats.prefixes.into_iter().filter(|Prefix { counts, .. }| is_used(counts));
    let networks = stats.seen.into_iter().flatten().filter(|Seen { counts, .. }| is_used(counts));
    Counted { from, prefixes: prefixes.collect(), networks: networks.collect(), kernel: stats.kernel }
}

fn window(chart: &Chart) -> MessagesWindow {
    let mut window = MessagesWindow::default();
    let mut seconds = 0.0;
    for point in chart.points.iter().map(|point| &point.messages) {
        window.events += point.events;
        window.lagged += point.lagged;
        seconds += point.lag_seconds.unwrap_or(0.0) * point.lagged as f64;
        window.delivered += point.delivered;
        window.recovered += point.recovered;
        window.lost += point.lost;
        window.unknown += point.unknown;
        window.duplicate += point.duplicate;
        window.chains_complete += point.chains_complete;
        window.chains_sent_missing += point.chains_sent_missing;
    }
    window.lag_seconds = (window.lagged > 0).then(|| seconds / window.lagged as f64);
    window
}

#[cfg(test)]
pub(super) fn answers_of(status: serde_json::Value) -> Answers {
    serde_json::from_value::<Status>(status).map(Answers::from).unwrap()
}
