//! Lists of prefixes as text: one CIDR a line, `#` begins a comment.

use std::io;
use std::path::{Path, PathBuf};

use super::{BadNetwork, Network, Table};
use crate::access;

/// AS32934 as registered and announced; its own comments say from where and when.
const BUILTIN: &str = include_str!("as32934.txt");

impl Table {
    /// The prefixes that this version of hookgate was built with.
    pub fn builtin() -> Self {
        Self::parse(BUILTIN).expect("a test reads the built-in list")
    }

    /// Errors: the file can't be read, or its first line that is no network.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let at = |error| FileError { path: path.into(), error };
        let text = access::open(path)
            .and_then(io::read_to_string)
            .map_err(|error| at(BadList::Unreadable(error)))?;
        Self::parse(&text).map_err(at)
    }

    fn parse(text: &str) -> Result<Self, BadList> {
        let lines = text.lines().zip(1..);
        let networks = lines.filter_map(|(line, number)| {
            let network = line.split('#').next().unwrap_or_default().trim();
            let parsed = || network.parse().map_err(|error| BadLine { number, error });
            (!network.is_empty()).then(parsed)
        });
        let table: Self = networks.collect::<Result<Vec<Network>, _>>()?.into_iter().collect();
        if table.is_empty() { Err(BadList::Empty) } else { Ok(table) }
    }
}

/// A file of prefixes that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{error}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub error: BadList,
}

/// Displayed after the list's name.
#[derive(Debug, thiserror::Error)]
pub enum BadList {
    #[error(": {0}")]
    Unreadable(io::Error),
    #[error(": it holds no prefix")]
    Empty,
    #[error(transparent)]
    Line(#[from] BadLine),
}

/// Displayed after the list's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(":{number}: {error}")]
pub struct BadLine {
    /// From 1.
    pub number: usize,
    pub error: BadNetwork,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_list_is_whole() {
        let table = Table::builtin();
        let v4 = table.iter().filter(|network| network.address().is_ipv4()).count();
        assert_eq!((v4, table.len() - v4), (253, 26), "as its header says");
        let owner = |address: &str| table.longest_match(address.parse().unwrap());
        assert_eq!(owner("157.240.1.1").unwrap().to_string(), "157.240.0.0/17");
        assert!(owner("2a03:2880:f003::1").is_some());
        assert_eq!(owner("192.0.2.1"), None);
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        let table = Table::parse("# all\n\n 157.240.0.0/17 # half\r\n2a03:2880::/32\n").unwrap();
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn errors_name_the_line() {
        let error = Table::parse("# one\n157.240.0.0/17\n157.240.0.1/17\n").unwrap_err();
        let error = FileError { path: "/etc/meta".into(), error };
        let expected = "/etc/meta:3: it has bits set beyond its length; did you mean 157.240.0.0/17?";
        assert_eq!(error.to_string(), expected);
        assert!(matches!(Table::parse("# nothing\n"), Err(BadList::Empty)));
        let missing = Table::from_file(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent: No such file"), "{missing}");
    }
}
