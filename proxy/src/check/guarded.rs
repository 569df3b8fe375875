//! `[guard]`: the interfaces, Meta's prefixes, and whom the filter would shut out.

use super::holder::is_hookgate_running;
use super::{Fault, Purpose};
use crate::config::{Config, Guard, Key, Severity};
use crate::guard::{self, Error, Holder};
use crate::prefixes::{BadLine, BadList, BadPrefix, BadState, FileError};

/// `may_lock_out`: the operator insists on a filter that will most likely lock somebody out.
pub(super) fn faults(config: &Config, may_lock_out: bool, purpose: Purpose) -> Vec<Fault> {
    let mut faults = Vec::new();
    let standing = match config.prefixes.load() {
        Ok((standing, bad)) => {
            faults.extend(bad.map(|bad| state(&bad)));
            Some(standing)
        }
        Err(error) => {
            faults.push(list(&error));
            None
        }
    };
    let Some(guard) = &config.guard else { return faults };
    if config.prefixes.ask_too_often() {
        let text = "the registry is everybody's, and its answer changes within weeks";
        faults.push(Fault::new(Severity::Warning, Key::new("guard.refresh"), text, "write \"1h\" or more"));
    }
    for (number, name) in guard.interfaces.iter().enumerate() {
        let at = Key::new("guard.interfaces").element(number);
        faults.extend(match purpose {
            Purpose::Check => candidate_interface(at, name, guard),
            Purpose::Start { .. } => interface(at, name, guard).err(),
        });
    }
    let table = standing.map(|standing| standing.table());
    if let Some(Err(error)) =
        table.filter(|_| !may_lock_out).map(|table| guard::locks_nobody_out(guard, &table))
    {
        faults.push(Fault::of(Severity::Error, Key::new("guard.mode"), &error));
    }
    faults
}

/// What is wrong with the list of prefixes.
pub fn list(error: &FileError) -> Fault {
    let is_unlikely = |line: &BadLine| matches!(line.error, BadPrefix::Unlikely { .. });
    let next = match &error.error {
        BadList::Unreadable(_) => "correct the path, or write \"builtin\"",
        BadList::Lines(lines) if lines.iter().all(is_unlikely) => {
            "write public networks no wider than /12 (IPv6: /28); others than Meta's belong into [guard] allow"
        }
        BadList::Empty | BadList::Lines(_) => "write one network a line, such as 157.240.0.0/17",
    };
    Fault::new(Severity::Fatal, Key::new("guard.prefixes"), error, next)
}

/// What is wrong with the last refresh.
pub fn state(bad: &BadState) -> Fault {
    let text =
        format!("the last refresh of the prefixes can't be used, the configured list stands alone: {bad}");
    Fault::new(
        Severity::Warning,
        Key::new("guard.state"),
        text,
        "make a new one (`hookgate prefixes update`)",
    )
}

/// An interface that a running hookgate guards under another `pin` is no fault of a candidate.
fn candidate_interface(at: Key, name: &str, guard: &Guard) -> Option<Fault> {
    match guard::holder(name) {
        Ok(Some(holder @ Holder::Hookgate(_))) if is_hookgate_running() => {
            interface(at.clone(), name, guard).err().map(|_| {
                let text = format!("{name} runs {holder}");
                let next =
                    "where this is to take its place, `hookgate guard detach` that one before the start";
                Fault::new(Severity::Warning, at, text, next)
            })
        }
        _ => interface(at, name, guard).err(),
    }
}

/// Whether the interface that is written at `at` runs this hookgate's guard; false: it is free.
///
/// Errors: it is not there, or somebody else has it.
pub fn interface(at: Key, name: &str, guard: &Guard) -> Result<bool, Fault> {
    match guard::holder(name) {
        Err(Error::NoInterface { name, present }) => {
            let text = format!("there is no interface {name:?} here; there are: {}", present.join(", "));
            Err(Fault::new(Severity::Error, at, text, "name those that packets come in at"))
        }
        Err(error) => Err(Fault::new(Severity::Warning, at, error, "run this as root")),
        Ok(None) => Ok(false),
        Ok(Some(Holder::Hookgate(folder))) if folder.file_name().is_some_and(|pin| pin == &*guard.pin) => {
            Ok(true)
        }
        Ok(Some(holder @ Holder::Unknown)) => {
            let text = format!("{name} runs {holder}");
            Err(Fault::new(Severity::Warning, at, text, "run this as root to see whose it is"))
        }
        Ok(Some(holder)) => {
            let text = format!("{name} already runs {holder}");
            let next =
                format!("detach that first (`ip link set dev {name} xdp off`), or leave the interface out");
            Err(Fault::new(Severity::Error, at, text, next))
        }
    }
}
