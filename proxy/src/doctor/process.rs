//! The running hookgate that does not answer: which of its two processes hangs.

use std::path::Path;

use super::Finding;
use crate::check::{Holder, RunState, socket_holders};

const SUBJECT: &str = "hookgate";

/// `why`: how that was noticed. `serves`: whether `/health` is answered, which takes the worker
/// alone.
pub fn silence(socket: &Path, why: &str, serves: impl FnOnce() -> bool) -> Finding {
    const RESTART: &str = "restart: `systemctl restart hookgate`; the guard and its counts stay";
    let holders = socket_holders(socket);
    let [worker, supervisor] = roles(&holders);
    let is_stopped =
        |(_, holder): &Role<'_>| holder.is_some_and(|holder| holder.run_state() == Some(RunState::Stopped));
    let stopped = [worker, supervisor].into_iter().find(is_stopped);
    let (role, holder) = stopped.unwrap_or_else(|| if serves() { supervisor } else { worker });
    let pid = holder.map(|holder| holder.pid);
    let named = pid.map_or(String::new(), |pid| format!(", pid {pid}"));
    match (stopped, pid) {
        (Some(_), Some(pid)) => Finding::fail(
            SUBJECT,
            format!("{role} hangs: it is stopped (SIGSTOP, or a debugger){named}: {why}"),
            format!("`kill -CONT {pid}` lets it go on; or {RESTART}"),
        ),
        _ => Finding::fail(SUBJECT, format!("{role} hangs{named}: {why}"), RESTART),
    }
}

/// What one of the two processes does, and which it is, where that can be seen.
type Role<'h> = (&'static str, Option<&'h Holder>);

/// Both hold the socket, and one has started the other.
fn roles(holders: &[Holder]) -> [Role<'_>; 2] {
    let is_held = |pid| holders.iter().any(|holder| holder.pid == pid);
    let worker = holders.iter().find(|holder| holder.parent().is_some_and(is_held));
    let supervisor =
        worker.and_then(|worker| holders.iter().find(|holder| worker.parent() == Some(holder.pid)));
    [("the worker", worker), ("the supervisor", supervisor)]
}
