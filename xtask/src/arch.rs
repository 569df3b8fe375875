//! The processors that hookgate is shipped for.

use std::env::consts::ARCH;
use std::fmt;

use anyhow::{Result, bail};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// This machine's.
    ///
    /// # Errors
    /// hookgate is not shipped for it.
    pub fn host() -> Result<Self> {
        match ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("packages are built on amd64 and arm64, and this machine is {other}"),
        }
    }

    /// As Debian and container images call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust calls it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As GNU's tools and Debian's folders of libraries call it.
    pub fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// A program of GNU's that works on files of this architecture, such as `strip`.
    ///
    /// # Errors
    /// As [`Self::host`].
    pub fn gnu_tool(self, name: &str) -> Result<String> {
        Ok(if self == Self::host()? { name.to_owned() } else { format!("{}-{name}", self.gnu()) })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
