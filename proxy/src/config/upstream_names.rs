use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use super::HostName;

/// Which hosts were named so far, and where: the file and its line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UpstreamNames(HashMap<HostName, (Arc<Path>, usize)>);

impl UpstreamNames {
    /// Errors: the host is named already, and where.
    pub(super) fn add(
        &mut self,
        name: &HostName,
        file: &Arc<Path>,
        line: usize,
    ) -> Result<(), &(Arc<Path>, usize)> {
        match self.0.entry(name.clone()) {
            Entry::Vacant(free) => {
                free.insert((Arc::clone(file), line));
                Ok(())
            }
            Entry::Occupied(taken) => Err(taken.into_mut()),
        }
    }

    /// Where `file` names the host.
    pub(super) fn line_of(&self, name: &str, file: &Path) -> Option<usize> {
        self.0.get(name).filter(|(its, _)| **its == *file).map(|(_, line)| *line)
    }

    /// As if `file` had not been read.
    pub(super) fn forget(&mut self, file: &Path) {
        self.0.retain(|_, (its, _)| **its != *file);
    }
}
