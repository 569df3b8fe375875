use std::fmt;
use std::path::PathBuf;

/// Whose XDP program sits on an interface, and the command that takes it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A hookgate's, with its pins in another folder.
    Hookgate {
        folder: PathBuf,
        removal: String,
    },
    /// Another program's.
    Program {
        name: String,
        id: u32,
        removal: String,
    },
    Unknown,
}

impl Holder {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Hookgate { removal, .. } => {
                format!("detach that first (`hookgate guard detach` with its configuration, or `{removal}`)")
            }
            Self::Program { removal, .. } => {
                format!("detach that first (`{removal}`), set [guard] xdp = \"tc\", which runs beside it")
            }
            Self::Unknown => "run this as root to see whose it is".to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hookgate { folder, .. } => {
                write!(f, "the guard of another hookgate, pinned in {}", folder.display())
            }
            Self::Program { name, id, .. } => write!(f, "the XDP program {name} (id {id})"),
            Self::Unknown => f.write_str("an XDP program that can't be named"),
        }
    }
}
