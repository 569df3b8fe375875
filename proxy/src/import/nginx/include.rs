//! Files and what they include, as one list of directives.

use std::path::{Path, PathBuf};

use super::syntax::parse;
use crate::import::directive::Directive;
use crate::import::files::{self, BadFile, MAX_BYTES, is_pattern, matching};

/// Includes within includes; nginx itself knows no bound.
const DEEPEST: usize = 16;
/// The directives of `path`, with those of included files in the place of each `include`; one that
/// leads to no file that can be read stays.
pub fn read(path: &Path) -> Result<Vec<Directive>, BadFile> {
    let base = path.parent().unwrap_or(Path::new(""));
    let mut left = MAX_BYTES;
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
    Ok(parse(&path.into(), &files::read(path, left)?, levels)?)
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
        let files = pattern.map(|pattern| included(pattern, base)).unwrap_or_default();
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
fn included(pattern: &str, base: &Path) -> Vec<PathBuf> {
    let found = base.ancestors().map(|base| matching(&base.join(pattern)));
    found.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
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
}
