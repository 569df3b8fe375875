//! The files that a configuration is made of, as text.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::document::{Problem, Severity};
use super::host_lines::HostLines;
use super::key::Key;
use super::lines::Lines;
use super::upstream_names::UpstreamNames;
use super::{Config, ConfigError, Upstream, sections, upstreams};
use crate::access::{Access as _, Disk};

/// The main file, and the `upstreams.d/*.toml` beside it, as far as they can be read.
#[derive(Clone, Debug)]
pub struct Files {
    path: PathBuf,
    main: Option<File>,
    beside: Vec<File>,
    /// Those that cannot.
    unreadable: Vec<Problem>,
}

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// What files mean.
#[derive(Debug)]
pub struct Reading {
    /// What is wrong stands at its default. `None`: there is nothing to rely on.
    pub config: Option<Config>,
    /// Where each of the certificate pairs is written: the table of its `cert` and `key`.
    pub pairs: Vec<Key>,
    /// Everything that is wrong with the text itself, file by file.
    pub problems: Vec<Problem>,
}

/// Where the files of the configuration at `path` lie; alone, if what is beside it cannot be seen.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let beside = upstreams::files_beside(path).unwrap_or_default();
    std::iter::once(path.to_owned()).chain(beside).collect()
}

impl Files {
    /// Reads them all.
    pub fn read(path: &Path) -> Self {
        let mut unreadable = Vec::new();
        let mut read = |path| File::read(path).map_err(|problem| unreadable.push(problem)).ok();
        let main = read(path.to_owned());
        let (beside, bad_folder) = match upstreams::files_beside(path) {
            Ok(paths) => (paths.into_iter().filter_map(read).collect(), None),
            Err((folder, error)) => (Vec::new(), Some(unread(folder, &error))),
        };
        unreadable.extend(bad_folder);
        Self { path: path.to_owned(), main, beside, unreadable }
    }

    /// The main one's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What they mean.
    ///
    /// Errors: every problem that was found.
    pub fn config(&self) -> Result<Config, ConfigError> {
        match self.reading() {
            Reading { config: Some(config), problems, .. } if problems.is_empty() => Ok(config),
            Reading { problems, .. } => Err(ConfigError(problems)),
        }
    }

    /// As much as can be made out of them.
    pub fn reading(&self) -> Reading {
        let mut problems = self.unreadable.clone();
        let meaning = self.main.as_ref().map(|main| sections::meaning(&main.path, &main.text));
        let (mut config, mut pairs, mut named) = (None, Vec::new(), UpstreamNames::default());
        if let Some(meaning) = meaning {
            problems.extend(meaning.problems);
            pairs = meaning.pairs;
            if meaning.is_toml {
                (config, named) = (Some(meaning.config), meaning.named);
            }
        }
        let mut alone = Vec::new();
        let to = config.as_mut().map_or(&mut alone, |config| &mut config.upstreams);
        for file in &self.beside {
            problems.extend(upstreams::add_from(&file.path, &file.text, &mut named, to));
        }
        Reading { config, pairs, problems }
    }

    /// Which upstreams each file holds, in order.
    pub fn upstreams(&self) -> Vec<(&Path, Vec<Upstream>)> {
        let main = self.main.as_ref().map(|main| {
            let meaning = sections::meaning(&main.path, &main.text);
            (&*main.path, meaning.config.upstreams)
        });
        let beside = self.beside.iter().map(|file| {
            let mut upstreams = Vec::new();
            // Problems are told by `config`.
            upstreams::add_from(&file.path, &file.text, &mut UpstreamNames::default(), &mut upstreams);
            (&*file.path, upstreams)
        });
        main.into_iter().chain(beside).collect()
    }

    /// The same files, with the first that `edit` changes; and that one's path and new text. `None`
    /// when it leaves all as they are.
    ///
    /// Errors: those of `edit`.
    pub fn edited<E>(
        mut self,
        mut edit: impl FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Option<(Self, PathBuf, String)>, E> {
        for file in self.main.iter_mut().chain(&mut self.beside) {
            if let Some(text) = edit(&file.text)? {
                file.text.clone_from(&text);
                let path = file.path.clone();
                return Ok(Some((self, path, text)));
            }
        }
        Ok(None)
    }

    /// The same without lines of hosts that repeat others; every other key keeps its place.
    pub fn without_repeats(&self) -> Self {
        let without = |File { path, text }: &File| {
            let text = HostLines::of(text).map_or_else(|| text.clone(), |lines| lines.rest);
            File { path: path.clone(), text }
        };
        Self {
            path: self.path.clone(),
            main: self.main.as_ref().map(without),
            beside: self.beside.iter().map(without).collect(),
            unreadable: self.unreadable.clone(),
        }
    }

    /// The main one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &File> {
        self.main.iter().chain(&self.beside)
    }
}

impl File {
    fn read(path: PathBuf) -> Result<Self, Problem> {
        let bytes = Disk.read(&path).map_err(|error| unread(path.clone(), &error))?;
        String::from_utf8(bytes).map(|text| Self { path: path.clone(), text }).map_err(|error| {
            let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            Problem {
                severity: Severity::Fatal,
                place: Some(Lines::of(&valid).place(&valid, valid.len())),
                file: path,
                key: None,
                message: "not UTF-8, as TOML has to be: save the file in that encoding".into(),
            }
        })
    }
}

fn unread(file: PathBuf, error: &std::io::Error) -> Problem {
    let next = match error.kind() {
        ErrorKind::NotFound => "write it, or name another with --config",
        ErrorKind::PermissionDenied => "run this as a user who may read it",
        _ => "put a regular file there, or take that away",
    };
    let message = format!("cannot be read: {error}: {next}");
    Problem { severity: Severity::Fatal, file, place: None, key: None, message }
}
