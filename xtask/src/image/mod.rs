//! The container image: the binary, what it is linked to, and the certificate authorities, as an
//! OCI layout for each architecture.

mod authorities;
mod build;
mod containers;
mod layout;
mod libraries;
mod root;

use std::process::ExitCode;

use anyhow::Result;
use harness_core::Workspace;

use crate::arch::Arch;
pub use containers::test;

/// Builds the container image, as an OCI layout in target/image
#[derive(clap::Args)]
pub struct Args {
    /// What it is to run on
    #[arg(long, value_enum, default_value_t = Choice::Both)]
    arch: Choice,
}

/// The processors that an image is for.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Choice {
    Amd64,
    Arm64,
    Both,
}

impl Choice {
    fn architectures(self) -> &'static [Arch] {
        match self {
            Self::Amd64 => &[Arch::Amd64],
            Self::Arm64 => &[Arch::Arm64],
            Self::Both => &[Arch::Amd64, Arch::Arm64],
        }
    }
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let made = build::layout(workspace, args.arch.architectures())?;
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}
