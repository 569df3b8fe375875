//! What an import has to tell beside the settings themselves, in groups by consequence.

use std::collections::HashMap;

use super::directive::{Directive, Place};

/// What a difference means to the operator, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The other server refused requests that hookgate forwards.
    Open,
    /// Requests arrive elsewhere or otherwise, or are no longer forwarded.
    Elsewhere,
    /// A setting has another value, or none.
    Different,
    /// Nothing that a sender or an upstream can see.
    NoConsequence,
}

/// One difference, and where the other server's side of it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub group: Group,
    pub place: Place,
    /// The directive, as far as one line holds it.
    pub written: String,
    /// What the other server did, what hookgate does, and what to write.
    pub why: String,
    /// The first hosts that it concerns, and how many there are in all; none: all of them.
    pub hosts: Vec<String>,
    pub host_count: usize,
    /// The one that was added last.
    last_host: String,
}

/// All notes, each once.
#[derive(Debug, Default)]
pub struct Notes {
    notes: Vec<Note>,
    positions: HashMap<(Group, Place, String), usize>,
}

/// How many hosts a note names.
const MAX_NAMED_HOSTS: usize = 5;
/// The longest excerpt of a directive, in characters.
const MAX_WRITTEN_CHARS: usize = 70;

impl Notes {
    pub fn add(&mut self, group: Group, directive: &Directive, why: impl Into<String>) {
        self.entry(group, directive, why.into());
    }

    /// The same, for one of the hosts that it concerns.
    pub fn add_for(&mut self, group: Group, directive: &Directive, host: &str, why: impl Into<String>) {
        let note = self.entry(group, directive, why.into());
        if note.last_host == host || note.hosts.iter().any(|known| known == host) {
            return;
        }
        host.clone_into(&mut note.last_host);
        note.host_count += 1;
        if note.hosts.len() < MAX_NAMED_HOSTS {
            note.hosts.push(host.to_owned());
        }
    }

    fn entry(&mut self, group: Group, directive: &Directive, why: String) -> &mut Note {
        let key = (group, directive.place.clone(), why);
        let position = *self.positions.entry(key).or_insert_with_key(|(_, place, why)| {
            self.notes.push(Note {
                group,
                place: place.clone(),
                written: excerpt(directive),
                why: why.clone(),
                hosts: Vec::new(),
                host_count: 0,
                last_host: String::new(),
            });
            self.notes.len() - 1
        });
        &mut self.notes[position]
    }

    /// Adds those of the groups that `takes` names.
    pub fn extend(&mut self, other: Self, takes: impl Fn(Group) -> bool) {
        for note in other.notes.into_iter().filter(|note| takes(note.group)) {
            let key = (note.group, note.place.clone(), note.why.clone());
            match self.positions.get(&key) {
                None => {
                    self.positions.insert(key, self.notes.len());
                    self.notes.push(note);
                }
                Some(position) => self.notes[*position].add_hosts(&note),
            }
        }
    }

    /// Those of a group, in the order of their files and lines.
    pub fn of(&self, group: Group) -> Vec<&Note> {
        let mut notes: Vec<&Note> = self.notes.iter().filter(|note| note.group == group).collect();
        notes.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        notes
    }

    pub fn count(&self, group: Group) -> usize {
        self.notes.iter().filter(|note| note.group == group).count()
    }
}

impl Note {
    /// Those of the same difference seen at another server.
    fn add_hosts(&mut self, other: &Self) {
        let unknown: Vec<String> =
            other.hosts.iter().filter(|host| !self.hosts.contains(host)).cloned().collect();
        let room = MAX_NAMED_HOSTS - self.hosts.len();
        self.hosts.extend(unknown.into_iter().take(room));
        self.host_count = self.host_count.max(other.host_count).max(self.hosts.len());
    }

    /// As one line: `file:line: directive: why (host, host)`.
    pub fn line(&self) -> String {
        let mut line = format!("{}: {}: {}", self.place, self.written, self.why);
        if !self.hosts.is_empty() {
            let more = self.host_count - self.hosts.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            line += &format!(" ({}{more})", self.hosts.join(", "));
        }
        one_line(&line)
    }
}

/// A quoted word may hold line ends, which would end a comment.
pub fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'), " ")
}

fn excerpt(directive: &Directive) -> String {
    // The bracket of a condition may be a word of its own.
    let mut written = directive.to_string().replace(" )", ")");
    if let Some((cut, _)) = written.char_indices().nth(MAX_WRITTEN_CHARS) {
        written.truncate(cut);
        written.push('…');
    }
    written
}
