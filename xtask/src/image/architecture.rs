//! The processors that there are images for.

use std::process::Command;

use anyhow::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Amd64,
    Arm64,
}

/// `--arch`.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Choice {
    Amd64,
    Arm64,
    Both,
}

impl Choice {
    /// # Errors
    /// There is no image for it.
    pub fn of_this_machine() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => anyhow::bail!("there is no image for {other}"),
        }
    }

    pub fn architectures(self) -> &'static [Architecture] {
        match self {
            Self::Amd64 => &[Architecture::Amd64],
            Self::Arm64 => &[Architecture::Arm64],
            Self::Both => &[Architecture::Amd64, Architecture::Arm64],
        }
    }
}

impl Architecture {
    /// What Debian and the OCI call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust calls it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Debian's name for its folders and tools.
    pub fn triplet(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Where its programs expect the dynamic loader.
    pub fn loader(self) -> &'static str {
        match self {
            Self::Amd64 => "lib64/ld-linux-x86-64.so.2",
            Self::Arm64 => "lib/ld-linux-aarch64.so.1",
        }
    }

    /// One of binutils, also where it is the machine's own.
    pub fn tool(self, name: &str) -> Command {
        Command::new(format!("{}-{name}", self.triplet()))
    }
}
