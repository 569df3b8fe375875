//! Tens of thousands of hosts, read without a tree of them: lines of `[upstreams]` that say of
//! their hosts, word for word, what a line above says of another.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::upstream_names::UpstreamNames;
use super::{HostName, Upstream};

const HEADER: &str = "[upstreams]";

/// The hosts below a header `[upstreams]` that have a line each, up to the first line that is
/// anything else.
pub(super) struct HostLines<'t> {
    lines: Vec<HostLine<'t>>,
    /// The text without the lines that repeat another; each leaves an empty one.
    pub(super) rest: String,
}

/// `"host" = { … }`
struct HostLine<'t> {
    host: &'t str,
    /// From 1.
    number: usize,
    /// The first line that says the same.
    first: usize,
}

impl<'t> HostLines<'t> {
    /// `None`: no line repeats another.
    pub(super) fn of(text: &'t str) -> Option<Self> {
        let is_header = |at: usize| {
            let after = text[at + HEADER.len()..].lines().next();
            (at == 0 || text[..at].ends_with('\n')) && after.is_none_or(is_blank)
        };
        let header = text.match_indices(HEADER).map(|(at, _)| at).find(|at| is_header(*at))?;
        let header_number = memchr::memchr_iter(b'\n', &text.as_bytes()[..header]).count() + 1;
        let mut rest = String::from(&text[..header]);
        let (mut lines, mut first_of) = (Vec::new(), HashMap::new());
        let mut left = text[header..].split_inclusive('\n');
        rest.extend(left.next());
        let mut repeats = false;
        for (number, line) in (header_number + 1..).zip(left.by_ref()) {
            match host_and_keys(line) {
                Some((host, keys)) => {
                    let this = lines.len();
                    let first = *first_of.entry(keys).or_insert(this);
                    lines.push(HostLine { host, number, first });
                    repeats |= first != this;
                    rest.push_str(if first == this { line } else { "\n" });
                }
                None => {
                    rest.push_str(line);
                    if !is_blank(line) {
                        break;
                    }
                }
            }
        }
        rest.extend(left);
        repeats.then_some(Self { lines, rest })
    }

    /// Adds the hosts whose lines are not in [`Self::rest`] to those of `file` that are, each in
    /// its place.
    ///
    /// `None`: the header is none, or a host has no valid name or is named twice.
    pub(super) fn add_to(
        &self,
        file: &Path,
        upstreams: Vec<Upstream>,
        named: &mut UpstreamNames,
    ) -> Option<Vec<Upstream>> {
        // The tree has the first host on this very line: the header is one, not part of a string.
        // Lines below are whole statements, the same with and without their neighbours.
        let header_is_real = |line: &HostLine<'_>| named.line_of(line.host, file) == Some(line.number);
        let first = self.lines.first().filter(|line| header_is_real(line))?;
        let before = upstreams.iter().position(|upstream| &*upstream.name == first.host)?;
        let file: Arc<Path> = file.into();
        let mut all = Vec::with_capacity(upstreams.len() + self.lines.len());
        let mut read = upstreams.into_iter();
        all.extend(read.by_ref().take(before));
        for (index, line) in self.lines.iter().enumerate() {
            let upstream = if line.first == index {
                read.next().filter(|upstream| &*upstream.name == line.host)?
            } else {
                let name: HostName = line.host.parse().ok()?;
                named.add(&name, &file, line.number).ok()?;
                let like = &all[before + line.first];
                Upstream { name, settings: Arc::clone(&like.settings) }
            };
            all.push(upstream);
        }
        all.extend(read);
        Some(all)
    }
}

/// The host of a line, in lower case, and its keys with their braces.
fn host_and_keys(line: &str) -> Option<(&str, &str)> {
    const BLANKS: [char; 2] = [' ', '\t'];
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (host, after) = line.trim_start_matches(BLANKS).strip_prefix('"')?.split_once('"')?;
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let value = after.trim_start_matches(BLANKS).strip_prefix('=')?.trim_start_matches(BLANKS);
    let end = value.find('}')? + 1;
    let (keys, comment) = value.split_at(end);
    let comment = comment.trim_start_matches(BLANKS);
    // What could go on behind this brace, or on the next line, is left to the tree.
    let is_whole = keys.starts_with('{')
        && !keys[1..].contains(['{', '#', '\'', '\\'])
        && !keys.contains("\"\"\"")
        && keys.matches('"').count().is_multiple_of(2)
        && (comment.is_empty() || comment.starts_with('#'));
    let is_valid = |b: u8| b == b'\t' || !b.is_ascii_control();
    (!host.is_empty() && host.bytes().all(is_plain) && is_whole && comment.bytes().all(is_valid))
        .then_some((host, keys))
}

/// Whether a line has at most a comment.
fn is_blank(line: &str) -> bool {
    let text = line.trim_start();
    text.is_empty() || text.starts_with('#')
}

#[cfg(test)]
mod tests;
