//! Files and what they include, as one list of directives.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

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

/// The directives of `path`, with those of included files in the place of each `include`; one that leads to no file that
/// can be read stays.
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

/// The files that a pattern leads to, in order of their names. nginx counts relative paths from the folder of its
/// nginx.conf, which may lie above the one of the file that was given.
fn files(pattern: &str, base: &Path) -> Vec<PathBuf> {
    let found = base.ancestors().map(|base| matching(&base.join(pattern)));
    found.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
}

/// Wildcards are understood in the last part alone.
fn matching(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return if path.is_file() { vec![path.to_owned()] } else { Vec::new() };
    }
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|entry| is_match(name.as_bytes(), entry.as_bytes()))
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// `*` stands for any bytes, `?` for one; a leading dot must be written.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    fn rest(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', after)), _) => (0..=name.len()).any(|taken| rest(after, &name[taken..])),
            (Some((b'?', after)), Some((_, name))) => rest(after, name),
            (Some((byte, after)), Some((first, name))) => byte == first && rest(after, name),
            _ => false,
        }
    }
    (name.first() != Some(&b'.') || pattern.first() == Some(&b'.')) && rest(pattern, name)
}

#[cfg(test)]
mod tests {
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
        ] {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
