//! `import` of files and snippets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::syntax::{MAX_LEVELS, parse};
use crate::import::directive::{Directive, SyntaxError};
use crate::import::files::{self, BadFile, MAX_BYTES, is_pattern, matching};

/// Imports within imports.
const MAX_IMPORTS: usize = 16;
/// What all imports may lead to.
const MAX_DIRECTIVES: usize = 500_000;

/// Reads a file with what it imports; an import that leads to nothing stays.
pub fn read(path: &Path) -> Result<Vec<Directive>, BadFile> {
    let mut reader = Reader { bytes_left: MAX_BYTES, ..Reader::new(true) };
    let text = files::read(path, &mut reader.bytes_left)?;
    let parsed = parse(&path.into(), &text)?;
    reader.expand(parsed, 0, 0)
}

/// The same of a text; no file is opened.
pub fn read_text(path: &Path, text: &str) -> Result<Vec<Directive>, BadFile> {
    let parsed = parse(&path.into(), text)?;
    Reader::new(false).expand(parsed, 0, 0)
}

struct Reader {
    opens_files: bool,
    bytes_left: u64,
    directives_left: usize,
    snippets: HashMap<String, Arc<Vec<Directive>>>,
}

impl Reader {
    fn new(opens_files: bool) -> Self {
        Self { opens_files, bytes_left: 0, directives_left: MAX_DIRECTIVES, snippets: HashMap::new() }
    }

    fn expand(
        &mut self,
        directives: Vec<Directive>,
        levels: usize,
        imports: usize,
    ) -> Result<Vec<Directive>, BadFile> {
        let mut all = Vec::new();
        for mut directive in directives {
            let snippet = directive.name.strip_prefix('(').and_then(|name| name.strip_suffix(')'));
            if let (Some(name), Some(block), 0) = (snippet, &directive.block, levels) {
                self.snippets.insert(name.to_owned(), Arc::new(block.clone()));
                continue;
            }
            self.directives_left = self.directives_left.saturating_sub(1);
            if self.directives_left == 0 || levels > MAX_LEVELS {
                let what = "imports lead to too many directives";
                return Err(SyntaxError { place: directive.place, what }.into());
            }
            match self.imported(&directive, imports)? {
                Some(imported) => all.extend(self.expand(imported, levels, imports + 1)?),
                None => {
                    let block = directive.block.take();
                    let block = block.map(|block| self.expand(block, levels + 1, imports)).transpose()?;
                    all.push(Directive { block, ..directive });
                }
            }
        }
        Ok(all)
    }

    /// What an `import` leads to.
    fn imported(&mut self, directive: &Directive, imports: usize) -> Result<Option<Vec<Directive>>, BadFile> {
        let Some((name, arguments)) = directive.arguments.split_first() else { return Ok(None) };
        if directive.name != "import" || imports >= MAX_IMPORTS || directive.block.is_some() {
            return Ok(None);
        }
        if let Some(snippet) = self.snippets.get(name) {
            return Ok(Some(snippet.iter().map(|inside| with_arguments(inside, arguments)).collect()));
        }
        if !self.opens_files {
            return Ok(None);
        }
        let folder = directive.place.file.parent().unwrap_or(Path::new(""));
        let files: Vec<PathBuf> = matching(&folder.join(name));
        if files.is_empty() && !is_pattern(name) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for file in files {
            let text = files::read(&file, &mut self.bytes_left)?;
            let parsed = parse(&file.as_path().into(), &text)?;
            all.extend(parsed.iter().map(|inside| with_arguments(inside, arguments)));
        }
        Ok(Some(all))
    }
}

/// With the import's arguments in the place of `{args[0]}`, or `{args.0}`.
fn with_arguments(directive: &Directive, arguments: &[String]) -> Directive {
    let filled = |text: &String| {
        let mut text = text.clone();
        let is_filled = !text.contains("{args");
        for (number, argument) in arguments.iter().enumerate().filter(|_| !is_filled) {
            for placeholder in [format!("{{args[{number}]}}"), format!("{{args.{number}}}")] {
                text = text.replace(&placeholder, argument);
            }
        }
        text
    };
    Directive {
        name: filled(&directive.name),
        arguments: directive.arguments.iter().map(filled).collect(),
        place: directive.place.clone(),
        block: directive
            .block
            .as_ref()
            .map(|block| block.iter().map(|inside| with_arguments(inside, arguments)).collect()),
    }
}
