//! What is told to people and to their monitoring: the log, the metrics.

pub mod clock;
mod deliveries;
mod funnel;
mod line_budget;
mod log;
mod lost_at;
mod metrics;
mod progress;
pub mod redact;
mod request;
mod sink;
mod words;

pub use deliveries::{Deliveries, Delivery, Outcome};
pub use funnel::{Counts as FunnelCounts, Funnel, Step};
pub use log::{Format, Log};
pub use lost_at::LostAt;
pub use metrics::{
    ConnectionRefusal, Counter, Exposition, Handshake, HiddenSources, LatestFailure, MANY_HIDDEN, Metrics,
    Totals, UpstreamMetrics,
};
pub use progress::BodyProgress;
pub use request::{Request, Sender};
