//! `hookgate check`: says what a start would say, without starting.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::config_file::{ConfigFile, Consent};
use super::output::{counted, json, print, print_error};
use crate::check::{self, Checked};
use crate::config::{Files, Problem, Severity};

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when something is wrong; warnings are fine.
pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let files = Files::read(file.path());
    let Checked { config, problems } = check::check(&files, options.consent.yes_lock_me_out);
    let starts = problems.iter().all(|problem| problem.severity != Severity::Fatal);
    let ok = problems.iter().all(|problem| problem.severity == Severity::Warning);
    if options.json {
        let problems = problems.iter().map(ProblemObject::from).collect();
        print(&json(&Document { version: 1, ok, starts, problems })?)?;
    } else {
        let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        print_error(&lines);
        if let Some(config) = config.filter(|_| ok) {
            let upstreams = counted(config.upstreams.len(), "upstream");
            print(&format!("{}: fine, {upstreams}\n", files.path().display()))?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `hookgate check --json`, version 1.
#[derive(Serialize)]
struct Document {
    version: u32,
    ok: bool,
    starts: bool,
    problems: Vec<ProblemObject>,
}

#[derive(Serialize)]
struct ProblemObject {
    severity: &'static str,
    file: String,
    /// Absent, as `column` is, where no line is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    message: String,
}

impl From<&Problem> for ProblemObject {
    fn from(problem: &Problem) -> Self {
        Self {
            severity: match problem.severity {
                Severity::Fatal | Severity::Error => "error",
                Severity::Warning => "warning",
            },
            file: problem.file.display().to_string(),
            line: problem.place.map(|place| place.line),
            column: problem.place.map(|place| place.column),
            key: problem.key.clone(),
            message: problem.message.clone(),
        }
    }
}
