//! Other servers' configurations, written as hookgate's.

pub mod nginx;
