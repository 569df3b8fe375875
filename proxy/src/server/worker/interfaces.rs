//! The states of the guarded interfaces, as the supervisor last reported them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::guard::InterfaceState;
use crate::observe::{Exposition, Log};
use crate::server::ipc::SupervisorClient;

#[derive(Clone, Debug, Default)]
pub(super) struct Interfaces(Arc<RwLock<Vec<InterfaceState>>>);

impl Interfaces {
    /// Asks the supervisor again.
    pub(super) fn refresh(&self, supervisor: &SupervisorClient, log: &Log) {
        match supervisor.interfaces() {
            Ok(states) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = states,
            Err(error) => log.note(&format!("guard: the states of its interfaces are not known: {error}")),
        }
    }

    /// A line for each that is not guarded.
    pub(super) fn remarks(&self) -> Vec<String> {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let remark = |state: &InterfaceState| match state {
            InterfaceState::Guarded(_) => None,
            InterfaceState::Unguarded { name, reason } => Some(format!("guard: not on {name}: {reason}")),
        };
        states.iter().filter_map(remark).collect()
    }

    pub(super) fn expose(&self, to: &mut Exposition) {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if states.is_empty() {
            return;
        }
        to.family("hookgate_guard_attached", "gauge", "Whether the guard is on a configured interface");
        for state in states.iter() {
            to.sample(&[("interface", state.name())], u8::from(state.is_guarded()));
        }
    }
}
