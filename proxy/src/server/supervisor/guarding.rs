//! The guard under the supervisor: attached as configured, also to interfaces that appear later.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, anyhow, bail};

use super::takeover;
use crate::config::{self, PinName};
use crate::guard::{self, Absence, Diagnostics, EarlierGuard, Interface, InterfaceState, Look, Reason};
use crate::observe::Log;
use crate::prefixes::Table;
use crate::server::ipc::AttachedGuard;

pub(super) struct SupervisedGuard {
    /// The pin folder whose maps are in use.
    pub(super) pin: Option<PinName>,
    /// What this process has put in force.
    config: Option<config::Guard>,
    /// The interfaces' states at the last look.
    states: Vec<InterfaceState>,
    /// Why failed handshakes were not classified at the last look.
    answers_unseen: Option<String>,
    /// Why the last look failed.
    fault: Option<String>,
    /// Of the programs that this process has attached.
    diagnostics: Option<Diagnostics>,
    /// The guard may filter even where that will most likely lock the operator or Meta out.
    pub(super) may_lock_out: bool,
}

impl SupervisedGuard {
    pub(super) fn new(may_lock_out: bool) -> Self {
        let (states, answers_unseen, fault) = (Vec::new(), None, None);
        Self { pin: None, config: None, states, answers_unseen, fault, diagnostics: None, may_lock_out }
    }

    /// Puts in force what is configured. `absence`: of its interfaces.
    ///
    /// Errors: all is as it was.
    pub(super) fn start(
        &mut self,
        guard: &config::Guard,
        table: &Table,
        absence: Absence,
    ) -> anyhow::Result<(AttachedGuard, OwnedFd)> {
        if self.pin.as_ref().is_some_and(|pin| *pin != guard.pin) {
            bail!("[guard] pin changed, and needs a restart");
        }
        if absence == Absence::Awaited
            && let Some(attached) = self.attached_already(guard)
        {
            return Ok(attached);
        }
        match self.attach(guard, table, absence) {
            Ok(attached) => {
                let words = format!("{attached}, mode {}", guard.mode);
                let left_out = attached.left_out.into_iter();
                let unguarded = left_out.map(|(name, reason)| InterfaceState::Unguarded { name, reason });
                let guarded = attached.interfaces.into_iter().map(InterfaceState::Guarded);
                self.states = guarded.chain(unguarded).collect();
                self.answers_unseen = attached.answers_unseen;
                self.diagnostics = attached.diagnostics.ok();
                (self.pin, self.config) = (Some(guard.pin.clone()), Some(guard.clone()));
                Ok((AttachedGuard { rows: attached.rows, words }, attached.funnel))
            }
            // To an operator who has asked for it, it is refused.
            Err(error) if absence == Absence::Awaited => self.use_earlier(guard, error),
            Err(error) => Err(error),
        }
    }

    /// What this process has attached with the same configuration, for a worker that follows a
    /// crashed one.
    fn attached_already(&self, guard: &config::Guard) -> Option<(AttachedGuard, OwnedFd)> {
        self.config.as_ref().filter(|config| *config == guard)?;
        let EarlierGuard { interfaces, maps, .. } = guard::earlier(&guard.pin).ok()??;
        let (funnel, rows) = maps?;
        let words = format!("attached to {}, mode {}", guard::in_words(&interfaces), guard.mode);
        Some((AttachedGuard { rows, words }, funnel))
    }

    fn attach(
        &self,
        guard: &config::Guard,
        table: &Table,
        absence: Absence,
    ) -> anyhow::Result<guard::Attached> {
        if !self.may_lock_out {
            guard::ensure_none_locked_out(guard, table)?;
        }
        guard::start(guard, table, absence).map_err(|error| match error {
            guard::Error::NotPermitted { .. } if takeover::is_by_predecessor() => anyhow!(
                "the process before this one ran without [guard], and has given up the capabilities for it: \
                 restart from outside (`systemctl restart hookgate`)"
            ),
            error => error.into(),
        })
    }

    /// Uses the maps of a guard that an earlier start has left, since that one goes on filtering.
    ///
    /// Errors: `why` attaching failed, if there is no such guard or its maps can't be used.
    fn use_earlier(
        &mut self,
        guard: &config::Guard,
        why: anyhow::Error,
    ) -> anyhow::Result<(AttachedGuard, OwnedFd)> {
        let Ok(Some(earlier)) = guard::earlier(&guard.pin) else { return Err(why) };
        let words = format!("not attached: {why:#}; {earlier}");
        let EarlierGuard { maps: Some((funnel, rows)), .. } = earlier else { bail!("{words}") };
        self.pin = Some(guard.pin.clone());
        Ok((AttachedGuard { rows, words }, funnel))
    }

    /// Attaches to interfaces that have come (back). Returns a line for each change; `configured`:
    /// the section in force.
    pub(super) fn attach_missing(
        &mut self,
        configured: Option<&config::Guard>,
        table: &Table,
    ) -> anyhow::Result<Vec<String>> {
        let Some(config) = &self.config else {
            let configured = configured.context("[guard]: not in the configuration")?;
            return Ok(vec![self.start(configured, table, Absence::Refused)?.0.words]);
        };
        let Look { states, added, answers_unseen } = guard::attach_missing(config)?;
        let mut changes = changes(&self.states, &states, &added);
        // A start has said it more precisely.
        if self.answers_unseen.is_some() != answers_unseen.is_some() {
            changes.push(match &answers_unseen {
                Some(why) => format!("failed handshakes are not classified: {why}"),
                None => "failed handshakes are classified again".into(),
            });
        }
        (self.states, self.answers_unseen) = (states, answers_unseen);
        Ok(changes)
    }

    /// The same after a change of interfaces or routes, reported to the log. Whether a state has
    /// changed.
    pub(super) fn follow(&mut self, log: &Log) -> bool {
        if self.config.is_none() {
            return false;
        }
        let before = self.states.clone();
        match self.attach_missing(None, &Table::default()) {
            Ok(changes) => {
                self.fault = None;
                changes.iter().for_each(|change| log.note(&format!("guard: {change}")));
                self.states != before
            }
            Err(error) => {
                let fault = format!("guard: can't follow the interfaces: {error:#}");
                if self.fault.as_ref() != Some(&fault) {
                    log.note(&fault);
                }
                self.fault = Some(fault);
                false
            }
        }
    }

    /// What the programs said of themselves since the last call.
    pub(super) fn log_diagnostics(&mut self, log: &Log) {
        let lines = self.diagnostics.as_mut().map(Diagnostics::take).unwrap_or_default();
        lines.iter().for_each(|line| log.note(&format!("guard: {line}")));
    }

    /// The states of the interfaces at the last look. Where this process has attached nothing:
    /// those of now.
    pub(super) fn states(&self, configured: Option<&config::Guard>) -> Vec<InterfaceState> {
        match (&self.config, configured) {
            // Why the kernel can't be asked has been reported when attaching failed.
            (None, Some(configured)) => guard::interfaces(configured).unwrap_or_default(),
            _ => self.states.clone(),
        }
    }
}

/// A line for each interface that the program was put on, or whose state is another one.
fn changes(before: &[InterfaceState], after: &[InterfaceState], added: &[Interface]) -> Vec<String> {
    let is_new = |state: &&InterfaceState| {
        !before.contains(state) || added.iter().any(|interface| interface.name == state.name())
    };
    let new = after.iter().filter(is_new).map(|state| match state {
        InterfaceState::Guarded(interface) => format!("attached to {interface}"),
        InterfaceState::Unguarded { name, reason: Reason::Missing } => format!("{name} is gone"),
        InterfaceState::Unguarded { name, reason } => format!("not on {name}: {reason}"),
    });
    let is_gone = |state: &&InterfaceState| after.iter().all(|now| now.name() != state.name());
    let gone = before.iter().filter(is_gone);
    let gone = gone.map(|state| format!("no longer on {}: it has no default route", state.name()));
    new.chain(gone).collect()
}
