//! Files that are imported, and those that a pattern leads to.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::directive::SyntaxError;
use crate::access;

/// A file with all that it includes, in bytes: room for a map of half a million hosts.
pub const MAX_BYTES: u64 = 32 << 20;

/// A file that cannot be read as a configuration.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

/// The text of a file; `bytes_left`: how many may still be read.
pub fn read(path: &Path, bytes_left: &mut u64) -> Result<String, BadFile> {
    let text = read_at_most(path, *bytes_left)
        .map_err(|error| BadFile::Unreadable { path: path.to_owned(), error })?;
    *bytes_left -= text.len() as u64;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    access::open(path)?.take(bytes + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes {
        return Err(io::Error::other(format!(
            "no configuration is so long: {MAX_BYTES} bytes are read at most, with all that is included; name the files \
             that matter"
        )));
    }
    Ok(text)
}

/// What glob(3) finds, in order of the names.
pub fn matching(path: &Path) -> Vec<PathBuf> {
    let Some(pattern) = path.to_str() else { return Vec::new() };
    if !is_pattern(pattern) {
        return if path.is_file() { vec![path.to_owned()] } else { Vec::new() };
    }
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&as_crate_has_it(pattern), options);
    let files = found.into_iter().flatten().filter_map(Result::ok);
    files.filter(|path| path.is_file()).collect()
}

pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// glob(3) knows `[^a]` and escapes, and no `**`.
fn as_crate_has_it(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('*', Some('*')) => {}
            ('[', Some('^')) => {
                chars.next();
                text += "[!";
            }
            ('\\', Some(escaped)) => {
                chars.next();
                text += &glob::Pattern::escape(&escaped.to_string());
            }
            (c, _) => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*", "default", true),
            ("*", ".hidden", false),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.old", false),
            ("a?.c*", "ab.conf", true),
            ("a?", "a", false),
            ("server_proxy[.]conf", "server_proxy.conf", true),
            ("[^a]*", "b", true),
            ("[!a]*", "a", false),
            ("a**b", "axb", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (&"*a".repeat(40), &"a".repeat(60), true),
        ] {
            let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
            let matcher = glob::Pattern::new(&as_crate_has_it(pattern)).unwrap();
            assert_eq!(matcher.matches_with(name, options), expected, "{pattern} {name}");
        }
    }
}
