//! Where messages were lost: figures a minute, kept on disk, and the verdict that they give.

mod chart;
mod figures;
mod history;
mod period;
mod report;
mod row;
mod sample;
mod sentences;
mod stage;
mod tally;

pub use chart::{Chart, Point};
pub use figures::{Group, Loss};
pub use history::{Damage, FILE, HISTORY_BYTES, History};
pub use period::{LimitCode, Period, Window};
pub use report::{Query, Report, StageReport, Verdict};
pub use row::{Field, Row};
pub use sample::{Baseline, KernelSample, attribute};
pub use stage::{Stage, Unit};
