use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::config;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    pub pid: u32,
}

impl Holder {
    pub(super) fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { name: name.trim().to_owned(), pid }
    }

    /// Whether it is a hookgate with the configuration in `file`.
    pub(super) fn runs(&self, file: &Path) -> bool {
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<&OsStr> = line.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
        if !self.name.starts_with("hookgate") || !words.iter().any(|word| *word == "run") {
            return false;
        }
        let its = process.join("cwd").join(configuration(&words));
        match (fs::canonicalize(its), fs::canonicalize(file)) {
            (Ok(its), Ok(ours)) => its == ours,
            _ => false,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Which one a command line names.
fn configuration<'w>(words: &[&'w OsStr]) -> &'w Path {
    let joined = words.iter().find_map(|word| word.as_bytes().strip_prefix(b"--config="));
    let option = words.iter().position(|word| *word == "--config");
    let apart = option.and_then(|at| words.get(at + 1)).map(|word| word.as_bytes());
    let written = joined.or(apart).map_or(OsStr::new(config::DEFAULT_PATH), OsStr::from_bytes);
    Path::new(written)
}

/// The processes of this network namespace that listen on `port`, as far as they may be seen.
pub(super) fn holders(port: u16) -> Vec<Holder> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|file| fs::read_to_string(file).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holding = pids.filter(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter_map(|link| link.into_os_string().into_string().ok()).any(|link| sockets.contains(&link))
    });
    holding.map(Holder::of).collect()
}

/// The sockets that listen on `port`, as `/proc/PID/fd` names them, from a table of proc_net_tcp(5).
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let rows = table.lines().skip(1).filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let local = u16::from_str_radix(columns.get(1)?.rsplit(':').next()?, 16).ok()?;
        let is_it = local == port && *columns.get(3)? == LISTEN;
        is_it.then_some(format!("socket:[{}]", columns.get(9)?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_name_a_configuration() {
        for (line, expected) in [
            ("hookgate run", config::DEFAULT_PATH),
            ("hookgate run --config a.toml", "a.toml"),
            ("hookgate --config=/b.toml run", "/b.toml"),
            ("hookgate run --config", config::DEFAULT_PATH),
        ] {
            let words: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
            assert_eq!(configuration(&words), Path::new(expected), "{line}");
        }
    }
}
