//! What keeps a configuration from working, without starting: in its text, in the files that it
//! names, on this machine.

mod certificates;
mod diagnostic;
mod dns;
mod folders;
mod guarded;
mod holder;
mod ports;
mod purpose;
mod roots;

use std::borrow::Cow;
use std::collections::HashSet;

pub use certificates::{certbot, examine as certificate};
pub use diagnostic::Diagnostic;
pub use guarded::{interface, interfaces, list, state};
pub use holder::{Holder, RunState, socket_holders};
pub use ports::{addresses, port};

use crate::access::Disk;
use crate::config::{Config, ConfigError, Confine, Files, Key, Places, Problem, Reading, Severity};
use crate::observe::{Format, Log};
use crate::server::{self, Confinement, Machine, Prepared, UserError};
use purpose::Purpose;

/// What files mean, and all that is wrong.
pub struct Checked {
    /// `None`: there is nothing to rely on.
    pub config: Option<Config>,
    /// File by file, each in its own order.
    pub problems: Vec<Problem>,
}

/// Everything that a start would find, without what a running hookgate holds. `may_lock_out`: the
/// guard may filter even where that will most likely lock the operator or Meta out.
pub fn check(files: &Files, may_lock_out: bool) -> Checked {
    let reading = files.reading();
    let faults = faults(&reading, files, may_lock_out, Purpose::Check);
    let Reading { config, problems, .. } = reading;
    let mut problems = merged(files, problems, faults);
    if let Some(config) = config.as_ref().filter(|_| !problems.iter().any(is_fatal)) {
        problems.extend(rest(config).map(|message| Problem {
            severity: Severity::Fatal,
            file: files.path().to_owned(),
            place: None,
            key: None,
            message,
        }));
    }
    Checked { config, problems }
}

/// The same before a start: the configuration to start with, and what is wrong with it all the
/// same. `inherits_sockets`: the process that holds the ports passes them on.
///
/// Errors: all that is wrong, when it can't start.
pub fn before_start(
    files: &Files,
    may_lock_out: bool,
    inherits_sockets: bool,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let reading = files.reading();
    let to_bind = reading.config.as_ref().filter(|_| !inherits_sockets);
    if let Some(config) = to_bind {
        ports::wait_until_free(config);
    }
    let mut faults = faults(&reading, files, may_lock_out, Purpose::Start { inherits_sockets });
    if let Some(config) = to_bind {
        faults.extend(ports::already_running(config, files.path()));
    }
    let Reading { config, problems, .. } = reading;
    let problems = merged(files, problems, faults);
    match config {
        Some(config) if !problems.iter().any(is_fatal) => Ok((config, problems)),
        _ => Err(ConfigError(problems)),
    }
}

/// What is configured and has no line of its own at the doctor's.
pub fn others(config: &Config) -> Vec<Diagnostic> {
    [roots::faults(config), folders::faults(config), user(config), dns::faults(config)].concat()
}

fn faults(reading: &Reading, files: &Files, may_lock_out: bool, purpose: Purpose) -> Vec<Diagnostic> {
    let Some(config) = &reading.config else { return Vec::new() };
    let mut faults = certificates::faults(config, &reading.pairs);
    faults.extend(guarded::faults(config, may_lock_out, purpose));
    faults.extend(others(config));
    match purpose {
        Purpose::Check => {
            faults.extend(ports::faults(config, Holder::is_hookgate));
            faults.extend(confinement(config));
        }
        Purpose::Start { inherits_sockets: true } => {}
        Purpose::Start { inherits_sockets: false } => {
            faults.extend(ports::faults(config, |holder| holder.runs(files.path())));
        }
    }
    // Those that are there may be among what can't be read.
    let is_of_upstreams = |problem: &Problem| {
        problem.file != files.path() || problem.key.as_ref().is_some_and(|key| key.starts_with("upstreams"))
    };
    if config.upstreams.is_empty() && !reading.problems.iter().any(is_of_upstreams) {
        let text = "empty: every request will be answered 403";
        let next = "add one (`hookgate upstream add HOST`)";
        faults.push(Diagnostic::new(Severity::Warning, Key::new("upstreams"), text, next));
    }
    faults
}

fn is_fatal(problem: &Problem) -> bool {
    problem.severity == Severity::Fatal
}

fn user(config: &Config) -> Vec<Diagnostic> {
    let key = || Key::new("process.user");
    let fault = |error| match error {
        UserError::Unknown { name } => {
            let text = format!("{name:?}: there is no such user on this machine");
            Diagnostic::new(Severity::Fatal, key(), text, "create it, or leave `user` out")
        }
        error => Diagnostic::of(Severity::Fatal, key(), &error),
    };
    server::worker_user(config).err().map(fault).into_iter().collect()
}

/// A start finds it out by itself.
fn confinement(config: &Config) -> Option<Diagnostic> {
    let is_required = config.process.confine == Confine::Required;
    let error = is_required.then(|| Confinement::probe().ensure_required())?.err()?;
    Some(Diagnostic::of(Severity::Fatal, Key::new("process.confine"), &error))
}

/// Whatever else keeps the proxy from starting.
pub fn rest(config: &Config) -> Option<String> {
    let (standing, _) = config.prefixes.load().ok()?;
    let log = Log::new(Format::Text, false);
    Prepared::new(config, &standing, &Machine::measure(None), &log, &Disk.shared())
        .err()
        .map(|error| error.to_string())
}

/// Those of the text, and `faults` in their places; without what may only follow from a value that
/// is wrong.
fn merged(files: &Files, mut problems: Vec<Problem>, faults: Vec<Diagnostic>) -> Vec<Problem> {
    let told: HashSet<String> = problems.iter().filter_map(|problem| problem.key.clone()).collect();
    let faults: Vec<Diagnostic> = faults.into_iter().filter(|fault| !fault.key.is_in(&told)).collect();
    if !faults.is_empty() {
        let has_hosts = faults.iter().any(|fault| fault.key.names_host());
        let looked_at = if has_hosts { Cow::Borrowed(files) } else { Cow::Owned(files.without_repeats()) };
        let places = Places::of(&looked_at);
        problems.extend(faults.into_iter().map(|fault| {
            let (file, place) = places.find(&fault.key);
            let (severity, key, message) = (fault.severity, Some(fault.key.to_string()), fault.to_string());
            Problem { severity, file, place, key, message }
        }));
    }
    let is_beside = |problem: &Problem| problem.file != files.path();
    problems.sort_by(|one, other| {
        let by_file = is_beside(one).cmp(&is_beside(other)).then_with(|| one.file.cmp(&other.file));
        by_file.then_with(|| (one.place.is_none(), one.place).cmp(&(other.place.is_none(), other.place)))
    });
    problems
}
