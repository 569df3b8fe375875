use super::PrefixSource;
use crate::prefixes::{FileError, Table};

impl PrefixSource {
    /// Errors: the file can't be read, or a line of it is no network.
    pub fn load(&self) -> Result<Table, FileError> {
        match self {
            Self::Builtin => Ok(Table::builtin()),
            Self::File(path) => Table::from_file(path),
        }
    }
}
