//! Other servers' configurations, written as hookgate's.

mod amount;
pub mod caddy;
mod directive;
mod files;
mod follow;
mod forward;
mod gather;
pub mod haproxy;
mod imported;
pub mod nginx;
mod notes;
mod pattern;
mod plan;
mod prefix_index;
mod probes;
mod sequence;
mod write;

pub use directive::SyntaxError;
pub use files::BadFile;
pub use imported::Imported;
pub use notes::Group;
pub use write::open_title;
