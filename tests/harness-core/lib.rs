//! What the harness, the bench, the demo and xtask share: processes, temporary folders, the
//! workspace.
//!
//! No TLS and no async runtime: `cargo xtask tidy` compiles this crate and little else.
#![forbid(unsafe_code)]

mod cargo;
mod cleanup;
mod ports;
mod process;
mod temp_dir;
mod wait;
mod workspace;

pub use cargo::cargo;
pub use cleanup::{Cleanup, assignments, quoted, quoted_path};
pub use ports::free_port;
pub use process::{
    Moments, Running, Stopped, in_path, is_root, is_there, run, run_aloud, run_with_input, wrapped,
};
pub use temp_dir::TempDir;
pub use wait::{Observation, ensure_stays, equal, outlast, pace, pace_until, wait_until, wait_until_still};
pub use workspace::Workspace;
