//! Where messages were lost: figures a minute, kept on disk, and the verdict that they give.

mod chart;
mod document;
mod figures;
mod history;
mod limit;
mod minute;
mod period;
mod query;
mod report;
mod row;
mod sample;
mod sentences;
mod stage;
mod sums;

pub use chart::{Chart, MessagesPoint, Point};
pub use document::{Report, StageReport, Verdict};
pub use figures::{Group, Loss};
pub use history::{Damage, FILE, HISTORY_BYTES, History};
pub use limit::LimitCode;
pub use minute::MINUTE;
pub use period::{Period, Window};
pub use query::Query;
pub use row::{Field, Row};
pub use sample::{Baseline, KernelSample, attribute};
pub use stage::{Stage, Unit};
