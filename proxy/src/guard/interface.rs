//! Interfaces that are guarded or not, and why not.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::netlink::Refusal;

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Xdp {
    /// In the interface's driver.
    Native,
    /// In the network stack, as a tc program.
    Tc,
    /// In the network stack, as an XDP program.
    Generic,
}

impl Xdp {
    pub const ALL: [Self; 3] = [Self::Native, Self::Tc, Self::Generic];
}

impl fmt::Display for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Tc => "tc",
            Self::Generic => "generic",
        })
    }
}

/// An interface, and the mode in which the program sits on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    pub xdp: Xdp,
    /// Why `auto` found no better one.
    pub reason: Option<String>,
}

/// A configured interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceState {
    Guarded(Interface),
    Unguarded { name: String, reason: Reason },
}

impl InterfaceState {
    pub fn name(&self) -> &str {
        match self {
            Self::Guarded(Interface { name, .. }) | Self::Unguarded { name, .. } => name,
        }
    }

    pub fn is_guarded(&self) -> bool {
        matches!(self, Self::Guarded(_))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&interface_in_words(&self.name, self.xdp, self.reason.as_deref()))
    }
}

/// `eth0 (native)`, or `eth0 (tc: why not native)`.
pub fn interface_in_words(name: &str, xdp: impl fmt::Display, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{name} ({xdp}: {reason})"),
        None => format!("{name} ({xdp})"),
    }
}

/// `eth0 (native), eth1 (tc)`
pub fn in_words(interfaces: &[Interface]) -> String {
    interfaces.iter().map(Interface::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a configured interface is not guarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Missing,
    NoEthernet,
    /// It lies above that one, which is guarded.
    Above(String),
    /// There, and without the guard.
    Unattached,
    /// Attaching failed, in words.
    Refused(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such interface"),
            Self::NoEthernet => f.write_str(
                "its packets have no Ethernet header, which XDP needs: set [guard] xdp = \"auto\" or \"tc\", or name the \
                 Ethernet interface below it",
            ),
            Self::Above(lower) => write!(f, "its packets come in at {lower} first, which is guarded"),
            Self::Unattached => f.write_str("the guard is not on it: `hookgate guard attach` puts it there"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Why the kernel does not run the program on an interface in some mode.
#[derive(Debug)]
pub struct ModeRefusal {
    pub xdp: Xdp,
    pub refusal: Refusal,
}

impl fmt::Display for ModeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { errno, words } = &self.refusal;
        if self.xdp == Xdp::Tc {
            return match words {
                Some(words) => write!(f, "the kernel says: {words}"),
                None => write!(f, "{errno}"),
            };
        }
        match (words, *errno) {
            (Some(words), Errno::RANGE) => write!(f, "the driver says: {words} (lower the MTU)"),
            (Some(words), _) => write!(f, "the driver says: {words}"),
            (None, Errno::RANGE) => f.write_str("the MTU is too large for the driver (lower it)"),
            (None, Errno::OPNOTSUPP) => f.write_str("the driver does not support it"),
            (None, errno) => write!(f, "{errno}"),
        }
    }
}

impl std::error::Error for ModeRefusal {}
