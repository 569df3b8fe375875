//! The `hookgate` binary with an allocator that counts: for the test that a warm request takes no
//! memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    hookgate::cli::main()
}
