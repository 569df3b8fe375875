//! Reads TOML tables key by key, and collects every problem with its place instead of stopping at
//! the first.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lines::{Lines, Place};
use super::nearest::nearest;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The proxy does not start with it.
    Fatal,
    /// It starts, but what is configured does not work.
    Error,
    /// It works, but not as well as it could, or not for ever; or it can't be seen whether it does.
    Warning,
}

/// Something wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The file that has to be corrected.
    pub file: PathBuf,
    /// Where in it; `None`: all of it.
    pub place: Option<Place>,
    /// Whose value is wrong, as messages spell it; `None` where the text itself is.
    pub key: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        self.place.iter().try_for_each(|place| write!(f, "{place}:"))?;
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        self.key.iter().try_for_each(|key| write!(f, " {key}:"))?;
        write!(f, " {}", self.message)
    }
}

/// One file's text, and what was found wrong in it.
pub(super) struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    lines: OnceCell<Lines>,
    problems: RefCell<Vec<Problem>>,
    /// It is not TOML: whatever else seems wrong may only follow from that.
    is_broken: Cell<bool>,
}

impl<'t> Document<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        let (lines, problems, is_broken) = (OnceCell::new(), RefCell::default(), Cell::default());
        Self { file, text, lines, problems, is_broken }
    }

    /// The file's top table. The first syntax error is the only problem then.
    pub(super) fn parse(&self) -> Spanned<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if let Some(first) = errors.first() {
            let at = first.span().unwrap_or_default();
            let message = match (first.message(), self.text.get(at.clone())) {
                ("duplicate key", Some(key)) => {
                    format!(
                        "duplicate key: {key} is there already: keep one of the two, with the lines of both"
                    )
                }
                (message, _) => message.to_owned(),
            };
            self.problem(at, None, message);
            self.is_broken.set(true);
        }
        table
    }

    pub(super) fn file(&self) -> &'t Path {
        self.file
    }

    /// Where a byte of the text stands.
    pub(super) fn place(&self, offset: usize) -> Place {
        self.lines.get_or_init(|| Lines::of(self.text)).place(self.text, offset)
    }

    /// `key`: whose value is wrong, if the text is right.
    pub(super) fn problem(&self, at: Range<usize>, key: Option<String>, message: String) {
        if self.is_broken.get() {
            return;
        }
        let place = self.place(at.start);
        self.problems.borrow_mut().push(Problem {
            severity: Severity::Fatal,
            file: self.file.to_owned(),
            place: Some(place),
            key,
            message,
        });
    }

    /// Whether `key` was found wrong so far: what follows from its default may only follow from
    /// that.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|problem| problem.key.as_deref() == Some(key))
    }

    /// Whether it is TOML, so far as it was parsed.
    pub(super) fn is_toml(&self) -> bool {
        !self.is_broken.get()
    }

    /// In the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place);
        problems
    }
}

/// A table that is being read: a key that was not read by the end is unknown.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    /// As written in the file, for messages: `limits`, or empty at the top.
    path: String,
    table: Option<&'d DeTable<'d>>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'d> Section<'d> {
    pub(super) fn top(document: &'d Document<'d>, table: &'d Spanned<DeTable<'d>>) -> Self {
        let span = table.span();
        Self { document, path: String::new(), table: Some(table.get_ref()), span, asked: Vec::new() }
    }

    pub(super) fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// The table under `key`; an absent one reads as an empty one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d> {
        let entry = self.entry(key);
        let table = entry.and_then(|value| self.as_table(key, value));
        Section {
            document: self.document,
            path: self.path_of(key),
            table,
            span: entry.map_or(self.span.clone(), Spanned::span),
            asked: Vec::new(),
        }
    }

    /// All of a table's entries as (key, its place, its own section), in the order of the file: for
    /// tables whose keys are the user's.
    pub(super) fn entries(&mut self) -> Vec<(&'d str, Range<usize>, Section<'d>)> {
        let Some(table) = self.table.take() else { return Vec::new() };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'d Spanned<_>, &'d Spanned<DeValue<'d>>)| {
            let name: &'d Cow<'d, str> = key.get_ref();
            let quoted = format!("\"{name}\"");
            let section = Section {
                document: self.document,
                path: self.path_of(&quoted),
                table: self.as_table(&quoted, value),
                span: value.span(),
                asked: Vec::new(),
            };
            (&**name, key.span(), section)
        };
        entries.into_iter().map(entry).collect()
    }

    /// The keys of the tables inside this one, each the first in the one before it, with dots
    /// between them.
    pub(super) fn tables_inside(&self) -> String {
        let first = |table: &'d DeTable<'d>| {
            table.iter().find_map(|(key, value)| Some((key.get_ref(), value.get_ref().as_table()?)))
        };
        let mut keys = String::new();
        let mut next = self.table.and_then(first);
        while let Some((key, table)) = next {
            keys.push('.');
            keys.push_str(key);
            next = first(table);
        }
        keys
    }

    /// The array of tables under `key`, each as its own section.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'d>> {
        let Some(value) = self.entry(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("must be a list of tables, not {}", value.get_ref().type_str());
            self.checked::<()>(key, value.span(), Err(message));
            return Vec::new();
        };
        let section = |(number, element): (usize, &'d Spanned<DeValue<'d>>)| Section {
            document: self.document,
            path: format!("{}[{number}]", self.path_of(key)),
            table: self.as_table(key, element),
            span: element.span(),
            asked: Vec::new(),
        };
        array.iter().enumerate().map(section).collect()
    }

    /// Whether the table is written in the file.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether `key` is written in it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether `key` is written in it, or a slip of it, which is told as an unknown key. Whatever
    /// else may be written has to be asked for before.
    pub(super) fn seems_to_have(&self, key: &str) -> bool {
        let is_slip = |name: &str| !self.asked.contains(&name) && nearest(name, &[key]).is_some();
        self.has(key) || self.table.is_some_and(|table| table.iter().any(|(name, _)| is_slip(name.get_ref())))
    }

    /// The value under `key` as `read` makes it out; `None` when absent or wrong (which is then a
    /// problem).
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.entry(key)?;
        self.checked(key, value.span(), read(value.get_ref()))
    }

    /// The array under `key`, each element as `read` makes it out; `None` when one of them is
    /// wrong.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.entry(key)?;
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("must be a list, not {}", value.get_ref().type_str());
            return self.checked(key, value.span(), Err(message));
        };
        let read =
            |element: &Spanned<DeValue<'_>>| self.checked(key, element.span(), read(element.get_ref()));
        // All of them are read before any is missed, so that every wrong one is reported.
        let elements: Vec<Option<T>> = array.iter().map(read).collect();
        elements.into_iter().collect()
    }

    /// Where the value of `key` lies, or the table when it is not written.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get(key)).map_or(self.span.clone(), Spanned::span)
    }

    /// A problem with `key`, where [`Self::span_of`] says.
    pub(super) fn problem(&self, key: &str, message: &str) {
        self.document.problem(self.span_of(key), Some(self.path_of(key)), message.to_owned());
    }

    /// Reports every key that was not asked for; returns those that were.
    pub(super) fn finish(self) -> Vec<String> {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let hint = nearest(name, &self.asked)
                    .map_or(String::new(), |known| format!("; did you mean `{}`?", self.path_of(known)));
                let message = format!("unknown key `{}`{hint}", self.path_of(name));
                self.document.problem(key.span(), None, message);
            }
        }
        self.asked.iter().map(|key| self.path_of(key)).collect()
    }

    fn entry(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        self.table?.get(key)
    }

    fn as_table(&self, key: &str, value: &'d Spanned<DeValue<'d>>) -> Option<&'d DeTable<'d>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("must be a table, not {}", value.get_ref().type_str());
            self.document.problem(value.span(), Some(self.path_of(key)), message);
        }
        table
    }

    fn checked<T>(&self, key: &str, at: Range<usize>, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.document.problem(at, Some(self.path_of(key)), message)).ok()
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
