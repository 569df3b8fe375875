//! Meta's prefixes: the keys of `[guard]` that say where they come from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HostName;
use super::document::Section;
use super::value::{address_with_port, duration, path, text};
use crate::prefixes::{BadState, FileError, Network, PrefixState, Table};

/// Where Meta's prefixes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefixes {
    pub source: PrefixSource,
    /// How often the registry is asked; `None`: never by itself.
    pub refresh: Option<Duration>,
    pub registry: Registry,
    /// The file that keeps the last good refresh.
    pub state: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrefixSource {
    Builtin,
    File(PathBuf),
}

/// A routing registry's whois server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    pub host: RegistryHost,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistryHost {
    Name(HostName),
    Address(IpAddr),
}

/// The shortest interval at which a registry that is not one's own should be asked.
const HOUR: Duration = Duration::from_secs(3600);

/// The well-known port of whois (RFC 3912).
const WHOIS: u16 = 43;

/// Reads them from `[guard]`, which may be absent: then nothing is asked by itself.
pub(super) fn keys(section: &mut Section<'_>, base: &Path) -> Prefixes {
    let source = section.value("prefixes", |value| match text(value)? {
        "builtin" => Ok(PrefixSource::Builtin),
        _ => path(base)(value).map(PrefixSource::File),
    });
    let refresh = section.value("refresh", |value| match value.as_str() {
        Some("off") => Ok(None),
        _ => duration(value).map(Some),
    });
    let registry = section.value("registry", |value| {
        let written = text(value)?;
        let wrong = || format!("`{written}` is not a whois server: write \"host:port\"");
        Registry::parse(written).ok_or_else(wrong)
    });
    let default_refresh = section.is_present().then_some(24 * HOUR);
    Prefixes {
        source: source.unwrap_or(PrefixSource::Builtin),
        refresh: refresh.unwrap_or(default_refresh),
        registry: registry.unwrap_or_else(Registry::radb),
        state: section.value("state", path(base)).unwrap_or_else(|| "/var/lib/hookgate/prefixes".into()),
    }
}

impl Prefixes {
    /// Whether a registry that is everybody's would be asked more often than it changes.
    pub fn ask_too_often(&self) -> bool {
        self.refresh.is_some_and(|every| every < HOUR) && !self.registry.is_own()
    }

    /// The prefixes as they stand, and what is wrong with the state file if it can't be used: the
    /// configured list stands alone then.
    ///
    /// Errors: the configured list can't be read.
    pub fn load(&self) -> Result<(PrefixState, Option<BadState>), FileError> {
        let configured = self.source.read()?;
        Ok(match PrefixState::load(configured.clone(), &self.state) {
            Ok(standing) => (standing, None),
            Err(bad) => (PrefixState { configured, refresh: None }, Some(bad)),
        })
    }
}

impl PrefixSource {
    /// The configured list.
    pub fn read(&self) -> Result<Table, FileError> {
        match self {
            Self::Builtin => Ok(Table::builtin()),
            Self::File(path) => Table::from_file(path),
        }
    }
}

impl Registry {
    fn radb() -> Self {
        Self { host: RegistryHost::Name(HostName::radb()), port: WHOIS }
    }

    /// Whether it has an address that is not public, and so can only be the operator's.
    fn is_own(&self) -> bool {
        match self.host {
            RegistryHost::Name(_) => false,
            RegistryHost::Address(address) => Network::around(address, u8::MAX).special_purpose().is_some(),
        }
    }

    /// A host's name or address, with a port or without.
    fn parse(written: &str) -> Option<Self> {
        if let Some(address) = address_with_port(written, WHOIS) {
            return Some(Self { host: RegistryHost::Address(address.ip()), port: address.port() });
        }
        let (name, port) = match written.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)?),
            None => (written, WHOIS),
        };
        Some(Self { host: RegistryHost::Name(name.parse().ok()?), port })
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            RegistryHost::Name(name) => write!(f, "{name}:{}", self.port),
            RegistryHost::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

impl fmt::Display for PrefixSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_names_or_addresses() {
        let shown = |written: &str| Registry::parse(written).map(|registry| registry.to_string());
        for (written, expected) in [
            ("whois.radb.net:43", Some("whois.radb.net:43")),
            ("WHOIS.example", Some("whois.example:43")),
            ("127.0.0.1:4343", Some("127.0.0.1:4343")),
            ("192.0.2.1", Some("192.0.2.1:43")),
            ("[2001:db8::1]:43", Some("[2001:db8::1]:43")),
            ("2001:db8::1", Some("[2001:db8::1]:43")),
            ("", None),
            (":43", None),
            ("whois.example:0", None),
            ("whois.example:65536", None),
            ("whois.example:", None),
            ("whois://whois.example", None),
            ("999.1.1.1:43", None),
        ] {
            assert_eq!(shown(written).as_deref(), expected, "{written}");
        }
    }
}
