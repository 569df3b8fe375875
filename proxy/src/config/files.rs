//! The files that a configuration is made of, as text.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Upstream, sections, upstreams};

/// The main file, and the `upstreams.d/*.toml` beside it.
#[derive(Clone, Debug)]
pub struct Files {
    main: File,
    beside: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    text: String,
}

/// Where the files of the configuration at `path` lie; alone, if what is beside it cannot be seen.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let beside = upstreams::files_beside(path).unwrap_or_default();
    std::iter::once(path.to_owned()).chain(beside).collect()
}

impl Files {
    /// Reads them all.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let main = File::read(path.to_owned())?;
        let beside = upstreams::files_beside(path)?.into_iter().map(File::read).collect::<Result<_, _>>()?;
        Ok(Self { main, beside })
    }

    /// What they mean.
    ///
    /// Errors: every problem that was found.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let (mut config, mut problems) = sections::config(&self.main.path, &self.main.text);
        for file in &self.beside {
            problems.extend(upstreams::add_from(&file.path, &file.text, &mut config.upstreams));
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(problems)) }
    }

    /// Which upstreams each file holds, in order.
    pub fn upstreams(&self) -> Vec<(&Path, Vec<Upstream>)> {
        let main = sections::config(&self.main.path, &self.main.text).0.upstreams;
        let beside = self.beside.iter().map(|file| {
            let mut upstreams = Vec::new();
            // Problems are told by `config`.
            upstreams::add_from(&file.path, &file.text, &mut upstreams);
            (&*file.path, upstreams)
        });
        std::iter::once((&*self.main.path, main)).chain(beside).collect()
    }

    /// The same files but for the first that `edit` makes a new text of; and that one's path and new text. `None` when
    /// it leaves all as they are.
    ///
    /// Errors: those of `edit`.
    pub fn edited<E>(
        mut self,
        mut edit: impl FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Option<(Self, PathBuf, String)>, E> {
        for file in std::iter::once(&mut self.main).chain(&mut self.beside) {
            if let Some(text) = edit(&file.text)? {
                file.text.clone_from(&text);
                let path = file.path.clone();
                return Ok(Some((self, path, text)));
            }
        }
        Ok(None)
    }
}

impl File {
    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => Err(ConfigError::Unreadable { path, error }),
        }
    }
}
