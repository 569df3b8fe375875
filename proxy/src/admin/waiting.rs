use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

/// Connections that have no place yet, most of them silent. Their number is limited: the oldest
/// makes room for a new one, so that none has to wait until others say something or give up.
const MAX_WAITING: usize = 128;

#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// By age.
    tasks: BTreeMap<u64, AbortHandle>,
    next: u64,
}

/// One of them, until this is dropped.
pub(super) struct Registration {
    waiting: Waiting,
    number: u64,
}

impl Waiting {
    /// Starts the task of a new connection, and ends the oldest one where there are too many.
    pub(super) fn add<F>(&self, task: impl FnOnce(Registration) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.tasks.len() >= MAX_WAITING
            && let Some((_, oldest)) = inner.tasks.pop_first()
        {
            oldest.abort();
        }
        let number = inner.next;
        inner.next += 1;
        let registration = Registration { waiting: self.clone(), number };
        // It may end at once, and can't leave the table before it is in it: the lock is held.
        let task = tokio::spawn(task(registration));
        inner.tasks.insert(number, task.abort_handle());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner).tasks.remove(&self.number);
    }
}
