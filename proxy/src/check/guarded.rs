//! `[guard]`: the interfaces, Meta's prefixes, and the clients that the filter would shut out.

use super::diagnostic::Diagnostic;
use super::holder::is_hookgate_running;
use super::purpose::Purpose;
use crate::config::{Config, Guard, Interfaces, Key, Severity};
use crate::guard::{self, Error, Holder};
use crate::prefixes::{BadLine, BadList, BadPrefix, BadState, FileError};

/// `may_lock_out`: the operator insists on a filter that will most likely lock the operator or Meta
/// out.
pub(super) fn faults(config: &Config, may_lock_out: bool, purpose: Purpose) -> Vec<Diagnostic> {
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
        faults.push(Diagnostic::new(
            Severity::Warning,
            Key::new("guard.refresh"),
            text,
            "write \"1h\" or more",
        ));
    }
    for (at, name) in interfaces(guard) {
        faults.extend(match purpose {
            Purpose::Check => candidate_interface(at, &name, guard),
            Purpose::Start { .. } => interface(at, &name, guard).err(),
        });
    }
    faults.extend(stacked(guard));
    faults.extend(no_default_route(guard));
    let table = standing.map(|standing| standing.table());
    if let Some(Err(error)) =
        table.filter(|_| !may_lock_out).map(|table| guard::ensure_none_locked_out(guard, &table))
    {
        faults.push(Diagnostic::of(Severity::Error, Key::new("guard.mode"), &error));
    }
    faults
}

/// The interfaces, and where each is written. With "auto", where nothing can be asked, none.
pub fn interfaces(guard: &Guard) -> Vec<(Key, String)> {
    let key = || Key::new("guard.interfaces");
    match &guard.interfaces {
        Interfaces::Listed(names) => {
            names.iter().enumerate().map(|(number, name)| (key().element(number), name.clone())).collect()
        }
        found @ Interfaces::DefaultRoutes => {
            guard::configured(found).unwrap_or_default().into_iter().map(|name| (key(), name)).collect()
        }
    }
}

/// Whether the program is of a guard with the configured pin folder.
fn is_own(holder: &Holder, guard: &Guard) -> bool {
    let Holder::Hookgate { folder, .. } = holder else { return false };
    folder.file_name().is_some_and(|pin| pin == &*guard.pin)
}

/// "auto" without a default route.
fn no_default_route(guard: &Guard) -> Option<Diagnostic> {
    let found = guard.interfaces == Interfaces::DefaultRoutes && interfaces(guard).is_empty();
    let text = "\"auto\": there is no default route, and so no interface to guard yet";
    let next = "name interfaces, such as [\"eth0\"], or see to a default route (`ip route`)";
    found.then(|| Diagnostic::new(Severity::Warning, Key::new("guard.interfaces"), text, next))
}

/// Interfaces of which one lies above another: the guard would count and limit twice.
fn stacked(guard: &Guard) -> Vec<Diagnostic> {
    let Interfaces::Listed(names) = &guard.interfaces else { return Vec::new() };
    let stacked = guard::stacked(guard).unwrap_or_default().into_iter();
    stacked
        .map(|(upper, lower)| {
            let number = names.iter().position(|name| *name == upper).unwrap_or_default();
            let text = format!(
                "{upper} lies above {lower}: its packets come in at {lower} first and would be counted twice"
            );
            let at = Key::new("guard.interfaces").element(number);
            Diagnostic::new(Severity::Error, at, text, format!("name {lower} alone"))
        })
        .collect()
}

/// What is wrong with the list of prefixes.
pub fn list(error: &FileError) -> Diagnostic {
    let is_unlikely = |line: &BadLine| matches!(line.error, BadPrefix::Unlikely { .. });
    let next = match &error.error {
        BadList::Unreadable(_) => "correct the path, or write \"builtin\"",
        BadList::Lines(lines) if lines.iter().all(is_unlikely) => {
            "write public networks no wider than /12 (IPv6: /28); others than Meta's belong into [guard] allow"
        }
        BadList::Empty | BadList::Lines(_) => "write one network a line, such as 157.240.0.0/17",
    };
    Diagnostic::new(Severity::Fatal, Key::new("guard.prefixes"), error, next)
}

/// What is wrong with the last refresh.
pub fn state(bad: &BadState) -> Diagnostic {
    let text =
        format!("the last refresh of the prefixes can't be used, the configured list stands alone: {bad}");
    Diagnostic::new(
        Severity::Warning,
        Key::new("guard.state"),
        text,
        "make a new one (`hookgate prefixes update`)",
    )
}

/// An interface that a running hookgate guards under another `pin` is no fault of a candidate.
fn candidate_interface(at: Key, name: &str, guard: &Guard) -> Option<Diagnostic> {
    match guard::holder(name, guard.xdp) {
        Ok(Some(holder @ Holder::Hookgate { .. })) if is_hookgate_running() => {
            interface(at.clone(), name, guard).err().map(|_| {
                let text = format!("{name} runs {holder}");
                let next =
                    "where this is to take its place, `hookgate guard detach` that one before the start";
                Diagnostic::new(Severity::Warning, at, text, next)
            })
        }
        _ => interface(at, name, guard).err(),
    }
}

/// Whether the interface that is written at `at` runs this hookgate's guard; false: it is free.
///
/// Errors: it is not there, or another program has it.
pub fn interface(at: Key, name: &str, guard: &Guard) -> Result<bool, Diagnostic> {
    match guard::holder(name, guard.xdp) {
        Err(Error::NoInterface { name, present }) => {
            let text = format!("there is no interface {name:?} here; there are: {}", present.join(", "));
            Err(Diagnostic::new(Severity::Error, at, text, "name those that packets come in at"))
        }
        Err(Error::NoEthernet { name }) => {
            let text = format!("{name}: its packets have no Ethernet header, which XDP needs");
            let next = "set [guard] xdp = \"auto\" or \"tc\", or name the Ethernet interface below it";
            Err(Diagnostic::new(Severity::Error, at, text, next))
        }
        // A start lets go of that one.
        Err(Error::HeldAbove { holder, .. }) if is_own(&holder, guard) => Ok(false),
        Err(error @ Error::HeldAbove { .. }) => Err(Diagnostic::of(Severity::Error, at, &error)),
        Err(error) => Err(Diagnostic::new(Severity::Warning, at, error, "run this as root")),
        Ok(None) => Ok(false),
        Ok(Some(holder)) if is_own(&holder, guard) => Ok(true),
        Ok(Some(holder @ Holder::Unknown)) => {
            let text = format!("{name} runs {holder}");
            Err(Diagnostic::new(Severity::Warning, at, text, holder.remedy()))
        }
        Ok(Some(holder)) => {
            let text = format!("{name} already runs {holder}");
            let next = format!("{}, or leave the interface out", holder.remedy());
            Err(Diagnostic::new(Severity::Error, at, text, next))
        }
    }
}
