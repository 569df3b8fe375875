//! The file that keeps the last good refresh for the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{BadRefresh, Network, ObjectError, PrefixState, Refresh, Table};
use crate::access;

const FIRST_LINE: &str = "hookgate prefixes 1";
/// The largest file that is read, in bytes: more than the longest list can take.
const MAX_BYTES: u64 = 1 << 20;
/// Anybody may read Meta's prefixes.
const FILE_MODE: u32 = 0o666;

/// A state file that can't be used, or not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct BadState {
    pub path: PathBuf,
    pub fault: StateFault,
}

#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it does not begin with `{FIRST_LINE}`")]
    Version,
    #[error("line {number} makes no sense: `{line}`")]
    Line { number: usize, line: String },
    #[error("line {number}: {network} can't be one of Meta's prefixes: {fault}")]
    Network { number: usize, network: Network, fault: ObjectError },
    #[error("it breaks off: the last line is not `end {expected}`")]
    Incomplete { expected: usize },
    #[error(transparent)]
    Bounds(#[from] BadRefresh),
}

impl PrefixState {
    /// What the configured list and the file make together. `None` for the refresh: there is no
    /// such file.
    ///
    /// Errors: the file can't be used, or what it says exceeds the bounds that refreshes have.
    pub fn load(configured: Table, path: &Path) -> Result<Self, BadState> {
        let standing = Self { configured, refresh: Refresh::load(path)? };
        let bounded = standing.ensure_bounded();
        bounded.map_err(|bad| BadState { path: path.to_owned(), fault: bad.into() })?;
        Ok(standing)
    }
}

impl Refresh {
    /// `None`: there is no such file.
    fn load(path: &Path) -> Result<Option<Self>, BadState> {
        let at = |fault| BadState { path: path.to_owned(), fault };
        let text = match read(path) {
            Err(StateFault::Io(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(at)?,
        };
        Self::parse(&text).map(Some).map_err(at)
    }

    /// Replaces the file as a whole, or leaves the old one as it was. Its folder is made if it is
    /// missing.
    pub fn store(&self, path: &Path) -> Result<(), BadState> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = path.with_file_name(name);
        let stored = fs::create_dir_all(access::folder_of(path)).and_then(|()| {
            access::replace(path, &new, FILE_MODE, |file| file.write_all(self.text().as_bytes()))
        });
        stored.map_err(|error| BadState { path: path.to_owned(), fault: error.into() })
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\n# AS32934's prefixes after the last good refresh. Written by hookgate; removing this \
             file undoes it.\nasked {}\nregistry {}\n",
            self.asked, self.registry
        );
        for network in &self.registered {
            text += &format!("registered {network}\n");
        }
        for network in &self.removed {
            text += &format!("removed {network}\n");
        }
        // Only the operator's command writes these: what a worker asks its parent to store has none
        // of its own.
        for network in &self.forced {
            text += &format!("forced {network}\n");
        }
        text + &format!("end {}\n", self.registered.len() + self.removed.len() + self.forced.len())
    }

    fn parse(text: &str) -> Result<Self, StateFault> {
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(line, _)| line != FIRST_LINE) {
            return Err(StateFault::Version);
        }
        let (mut asked, mut registry) = (None, None);
        let (mut registered, mut removed, mut forced) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut end = None;
        for (line, number) in lines.filter(|(line, _)| !line.starts_with('#')) {
            let nonsense = || StateFault::Line { number, line: line.chars().take(80).collect() };
            let (word, value) = line.split_once(' ').ok_or_else(nonsense)?;
            let network = || value.parse::<Network>().map_err(|_| nonsense());
            match word {
                _ if end.is_some() => return Err(nonsense()),
                "asked" => asked = Some(value.parse::<Timestamp>().map_err(|_| nonsense())?),
                "registry" => registry = Some(value.to_owned()),
                "registered" => {
                    let network = network()?;
                    if let Some(fault) = network.unlikely() {
                        return Err(StateFault::Network { number, network, fault });
                    }
                    registered.insert(network);
                }
                "removed" => drop(removed.insert(network()?)),
                "forced" => drop(forced.insert(network()?)),
                "end" => end = Some(value.parse::<usize>().map_err(|_| nonsense())?),
                _ => return Err(nonsense()),
            }
        }
        let expected = registered.len() + removed.len() + forced.len();
        match (asked, registry) {
            (Some(asked), Some(registry)) if end == Some(expected) && !registered.is_empty() => {
                Ok(Self { asked, registry, registered, removed, forced })
            }
            _ => Err(StateFault::Incomplete { expected }),
        }
    }
}

fn read(path: &Path) -> Result<String, StateFault> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = access::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES { Err(StateFault::TooLarge) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refresh() -> Refresh {
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Refresh {
            asked: "2026-11-24T16:00:00Z".parse().unwrap(),
            registry: "whois.example:43".into(),
            registered: networks(&["157.240.0.0/17", "2a03:2880::/32"]),
            removed: networks(&["31.13.24.0/21"]),
            forced: BTreeSet::new(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let forced = Refresh { forced: refresh().registered, ..refresh() };
        for refresh in [refresh(), forced] {
            assert_eq!(Refresh::parse(&refresh.text()).unwrap(), refresh);
        }
    }

    #[test]
    fn a_file_that_breaks_off_anywhere_is_refused() {
        let text = refresh().text();
        // Without its last newline it is still whole.
        for length in 0..text.len() - 1 {
            let part = text.get(..length).unwrap();
            let parsed = Refresh::parse(part);
            assert!(parsed.is_err(), "{length}: {part}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = refresh().text();
        for (from, to, expected) in [
            ("prefixes 1", "prefixes 2", "it does not begin with `hookgate prefixes 1`"),
            ("asked 2026", "asked soon", "line 3 makes no sense: `asked soon-11-24T16:00:00Z`"),
            ("157.240.0.0/17", "157.240.0.1/17", "line 5 makes no sense: `registered 157.240.0.1/17`"),
            (
                "157.240.0.0/17",
                "10.0.0.0/12",
                "line 5: 10.0.0.0/12 can't be one of Meta's prefixes: not public: private (RFC 1918)",
            ),
            ("end 3", "end 4", "it breaks off: the last line is not `end 3`"),
            ("removed 31.13.24.0/21\n", "", "it breaks off: the last line is not `end 2`"),
            ("end 3", "end 3\nremoved 1.1.1.0/24", "line 9 makes no sense: `removed 1.1.1.0/24`"),
        ] {
            let error = Refresh::parse(&text.replace(from, to)).unwrap_err();
            assert_eq!(error.to_string(), expected, "{to}");
        }
        assert!(Refresh::parse("\0\0\0").is_err());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = std::env::temp_dir().join(format!("hookgate-state-{}", std::process::id()));
        let path = folder.join("below/prefixes");
        assert!(Refresh::load(&path).unwrap().is_none());
        refresh().store(&path).unwrap();
        let later = Refresh { registry: "other.example:43".into(), ..refresh() };
        later.store(&path).unwrap();
        assert_eq!(Refresh::load(&path).unwrap(), Some(later));
        let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let error = refresh().store(&path.join("no-folder")).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
