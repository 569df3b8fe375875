//! Files of maps and of patterns.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::import::files::{self, MAX_BYTES};

/// Keys with their values.
#[derive(Debug)]
pub struct Map(BTreeMap<String, String>);

impl Map {
    fn parse(text: &str) -> Self {
        let mut map = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            // The first one counts.
            map.entry(key.to_owned()).or_insert_with(|| value.trim().to_owned());
        }
        Self(map)
    }

    pub fn exact(&self, text: &str) -> Option<&str> {
        self.0.get(text).map(String::as_str)
    }

    /// Of the longest key that `text` begins with.
    pub fn by_prefix(&self, text: &str) -> Option<&str> {
        let ends = (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
        ends.map(|end| &text[..end]).find_map(|start| self.exact(start))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The files that were read.
#[derive(Debug)]
pub struct Maps {
    /// Relative paths count from here; `None`: no file is read.
    folder: Option<PathBuf>,
    bytes_left: u64,
    maps: HashMap<String, Option<Rc<Map>>>,
    /// Those that cannot be read.
    pub unread: Vec<String>,
}

impl Maps {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, bytes_left: MAX_BYTES, maps: HashMap::new(), unread: Vec::new() }
    }

    pub fn map(&mut self, file: &str) -> Option<Rc<Map>> {
        if let Some(known) = self.maps.get(file) {
            return known.clone();
        }
        let map = self.read(file).map(|text| Rc::new(Map::parse(&text)));
        self.maps.insert(file.to_owned(), map.clone());
        map
    }

    /// The patterns of a file, a line each.
    pub fn patterns(&mut self, file: &str) -> Option<Vec<String>> {
        let text = self.read(file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Some(lines.map(str::to_owned).collect())
    }

    fn read(&mut self, file: &str) -> Option<String> {
        let path = self.folder.as_ref()?.join(Path::new(file));
        let text = files::read(&path, &mut self.bytes_left).ok();
        if text.is_none() {
            self.unread.push(file.to_owned());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_prefixes() {
        let map = Map::parse("# c\na.example  one two \n\n/a b\n/a/b c\na.example other\nalone\n");
        assert_eq!(map.exact("a.example"), Some("one two"));
        assert_eq!((map.exact("alone"), map.exact("c")), (Some(""), None));
        assert_eq!(
            (map.by_prefix("/a/bc"), map.by_prefix("/ab"), map.by_prefix("x")),
            (Some("c"), Some("b"), None)
        );
    }
}
