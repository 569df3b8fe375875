//! Files and what they include, as one list of directives.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::syntax::{Directive, SyntaxError, parse};
use crate::access;

/// Includes within includes; nginx itself knows no bound.
const DEEPEST: usize = 16;
/// A file with all that it includes, in bytes: room for a map of half a million hosts.
const LARGEST: u64 = 32 << 20;

/// A file that cannot be read as nginx's.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

/// The directives of `path`, with those of included files in the place of each `include`; one that
/// leads to no file that can be read stays.
pub fn read(path: &Path) -> Result<Vec<Directive>, BadFile> {
    let base = path.parent().unwrap_or(Path::new(""));
    let mut left = LARGEST;
    with_includes(read_one(path, 0, &mut left)?, base, At { includes_left: DEEPEST, levels: 0 }, &mut left)
}

/// How deep a directive lies.
#[derive(Clone, Copy)]
struct At {
    /// How many includes may still follow within one another.
    includes_left: usize,
    /// The blocks around it.
    levels: usize,
}

/// `left`: how many bytes may still be read.
fn read_one(path: &Path, levels: usize, left: &mut u64) -> Result<Vec<Directive>, BadFile> {
    let text =
        read_at_most(path, *left).map_err(|error| BadFile::Unreadable { path: path.to_owned(), error })?;
    *left -= text.len() as u64;
    Ok(parse(&path.into(), &String::from_utf8_lossy(&text), levels)?)
}

fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    access::open(path)?.take(bytes + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes {
        return Err(io::Error::other(format!(
            "no configuration is so long: {LARGEST} bytes are read at most, with all that is included; name the files \
             that matter"
        )));
    }
    Ok(text)
}

fn with_includes(
    directives: Vec<Directive>,
    base: &Path,
    at: At,
    left: &mut u64,
) -> Result<Vec<Directive>, BadFile> {
    let mut all = Vec::new();
    for mut directive in directives {
        let pattern =
            directive.arguments.first().filter(|_| directive.name == "include" && at.includes_left > 0);
        let files = pattern.map(|pattern| files(pattern, base)).unwrap_or_default();
        // nginx takes a pattern that leads to nothing for nothing.
        if files.is_empty() && pattern.is_some_and(|pattern| is_pattern(pattern)) {
            continue;
        }
        if files.is_empty() {
            let inside = At { levels: at.levels + 1, ..at };
            let block =
                directive.block.take().map(|block| with_includes(block, base, inside, left)).transpose()?;
            all.push(Directive { block, ..directive });
        }
        for file in files {
            let included = At { includes_left: at.includes_left.saturating_sub(1), ..at };
            all.extend(with_includes(read_one(&file, at.levels, left)?, base, included, left)?);
        }
    }
    Ok(all)
}

/// The files that a pattern leads to, in order of their names. nginx counts relative paths from the
/// folder of its nginx.conf, which may lie above the one of the file that was given.
fn files(pattern: &str, base: &Path) -> Vec<PathBuf> {
    let found = base.ancestors().map(|base| matching(&base.join(pattern)));
    found.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
}

/// What glob(3) finds, in order of the names.
fn matching(path: &Path) -> Vec<PathBuf> {
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

fn is_pattern(text: &str) -> bool {
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
    use std::fs;

    use super::*;

    #[test]
    fn levels_are_counted_over_includes() {
        let folder = std::env::temp_dir().join(format!("hookgate-include-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let nested = |name: &str, levels: usize, inside: &str| {
            let text = "a{".repeat(levels) + inside + &"}".repeat(levels);
            fs::write(folder.join(name), text).unwrap();
        };
        nested("outer", 40, "include inner;");
        nested("inner", 24, "");
        assert_eq!(read(&folder.join("outer")).unwrap().len(), 1);
        nested("inner", 25, "");
        let error = read(&folder.join("outer")).unwrap_err().to_string();
        let expected =
            format!("{}:1: more than 64 blocks lie within one another", folder.join("inner").display());
        assert_eq!(error, expected);
        fs::remove_dir_all(folder).unwrap();
    }

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
