use std::time::Duration;

use tokio::time::Instant;

/// [`pace`](crate::pace) for a task.
pub async fn pace_task(interval: Duration) {
    pace_task_until(Instant::now() + interval).await;
}

/// [`pace_until`](crate::pace_until) for a task.
#[expect(
    clippy::disallowed_methods,
    reason = "only peers that are slow on purpose, or send at a rate, use it"
)]
pub async fn pace_task_until(due: Instant) {
    tokio::time::sleep_until(due).await;
}
