//! What is told to people and to their monitoring: the log, the metrics.

mod cause;
pub mod clock;
mod counter;
mod deliveries;
mod exposition;
mod funnel;
mod line_budget;
mod log;
mod losses;
mod lost_at;
mod metrics;
mod open_posts;
mod progress;
pub mod redact;
mod request;
mod sink;
mod totals;
mod trace;
mod upstream;
mod words;

pub use cause::Cause;
pub use counter::{Counter, grown};
pub use deliveries::{Deliveries, Delivery, Outcome};
pub use exposition::Exposition;
pub use funnel::{Counts as FunnelCounts, Funnel, Step};
pub use log::{Format, Log};
pub use losses::{Loss, Losses};
pub use lost_at::LostAt;
pub use metrics::{ConnectionRefusal, Handshake, HiddenSources, MANY_HIDDEN, Metrics};
pub use open_posts::{Interrupted, OPEN_POSTS_FILE, OpenPosts};
pub use progress::BodyProgress;
pub use request::{Request, Sender};
pub use totals::Totals;
pub use trace::{KernelTimes, Steps, Trace, TraceStep, Tracer};
pub use upstream::{LatestFailure, UpstreamMetrics};
