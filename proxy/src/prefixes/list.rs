//! Lists of prefixes as text: one CIDR a line, `#` begins a comment.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::{BadNetwork, Network, ObjectError, Table};
use crate::access;

/// AS32934 as registered and announced; its own comments say from where and when.
const BUILTIN: &str = include_str!("as32934.txt");

impl Table {
    /// The prefixes that this version of hookgate was built with.
    pub fn builtin() -> Self {
        Self::parse(BUILTIN).expect("a test reads the built-in list")
    }

    /// Errors: the file can't be read, or lines of it are no prefixes that Meta can have.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let at = |error| FileError { path: path.into(), error };
        let text = access::open(path)
            .and_then(io::read_to_string)
            .map_err(|error| at(BadList::Unreadable(error)))?;
        Self::parse(&text).map_err(at)
    }

    fn parse(text: &str) -> Result<Self, BadList> {
        let lines = text.lines().zip(1..).filter_map(|(line, number)| {
            let network = line.split('#').next().unwrap_or_default().trim();
            (!network.is_empty()).then_some((network, number))
        });
        let (mut networks, mut wrong) = (Vec::new(), Vec::new());
        for (text, number) in lines {
            match prefix(text) {
                Ok(network) => networks.push(network),
                Err(error) => wrong.push(BadLine { number, error }),
            }
        }
        match (wrong.is_empty(), networks.is_empty()) {
            (false, _) => Err(BadList::Lines(wrong)),
            (true, true) => Err(BadList::Empty),
            (true, false) => Ok(networks.into_iter().collect()),
        }
    }
}

/// What stands in a line, checked as a registry's answer is.
fn prefix(text: &str) -> Result<Network, BadPrefix> {
    let network: Network = text.parse()?;
    match network.unlikely() {
        Some(fault) => Err(BadPrefix::Unlikely { network, fault }),
        None => Ok(network),
    }
}

/// A file of prefixes that can't be used.
#[derive(Debug)]
pub struct FileError {
    pub path: PathBuf,
    pub error: BadList,
}

#[derive(Debug)]
pub enum BadList {
    Unreadable(io::Error),
    Empty,
    /// In their order; never empty.
    Lines(Vec<BadLine>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub number: usize,
    pub error: BadPrefix,
}

/// Why a line holds no prefix of Meta's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    #[error(transparent)]
    Malformed(#[from] BadNetwork),
    #[error("{network} can't be a prefix of Meta's: {fault}")]
    Unlikely { network: Network, fault: ObjectError },
}

impl Error for FileError {}

/// Each line that is wrong with the file's name before it, as compilers and editors have it.
impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        let path = self.path.display();
        let lines = match &self.error {
            BadList::Unreadable(error) => return write!(f, "{path}: {error}"),
            BadList::Empty => return write!(f, "{path}: it holds no prefix"),
            BadList::Lines(lines) => lines,
        };
        for (index, BadLine { number, error }) in lines.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{path}:{number}: {error}")?;
        }
        match lines.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, "; and {more} lines more"),
            _ => Ok(()),
        }
    }
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

    #[test]
    fn every_line_that_can_not_be_metas_is_named() {
        let said = |text: &str| {
            let refused = Table::parse(text).map_err(|error| FileError { path: "list".into(), error });
            refused.err().map(|error| error.to_string()).unwrap_or_default()
        };
        for (line, why) in [
            ("0.0.0.0/0", "not public: \"this network\" (RFC 791)"),
            ("::/0", "not public: not global unicast (RFC 4291)"),
            ("8.0.0.0/8", "shorter than /12"),
            ("2a00::/27", "shorter than /28"),
            ("10.0.0.0/16", "not public: private (RFC 1918)"),
            ("127.0.0.0/8", "not public: loopback (RFC 1122)"),
            ("fd00::/32", "not public: not global unicast (RFC 4291)"),
        ] {
            let expected = format!("list:2: {line} can't be a prefix of Meta's: {why}");
            assert_eq!(said(&format!("157.240.0.0/17\n{line}\n")), expected);
        }
        assert_eq!(said("157.240.0.0/12\n2a03:2880::/28\n157.240.3.1\n"), "");
        let two = said("10.0.0.0/16\n157.240.0.0/17\n1.2.3/8\n");
        let (first, second) = two.split_once("; ").unwrap();
        assert!(first.starts_with("list:1: 10.0.0.0/16") && second.starts_with("list:3: `1.2.3/8`"), "{two}");
        let many = said(&"10.0.0.0/16\n".repeat(13));
        assert!(many.contains("list:10: ") && many.ends_with("; and 3 lines more"), "{many}");
    }
}
