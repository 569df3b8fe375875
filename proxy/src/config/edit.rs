//! Puts a host into the text of a configuration file, or takes it out. Every other byte stays as it
//! is: the parser only says where things lie.

use std::ops::Range;

use toml_edit::{Document, InlineTable, Item, Key, Table, TomlError, Value};

const SECTION: &str = "upstreams";

/// `text` with `host` (a valid name that is not in it) and its `keys` at the end of `[upstreams]`.
///
/// Errors: it is not TOML.
pub fn add(text: &str, host: &str, keys: &InlineTable) -> Result<String, TomlError> {
    let document = Document::parse(text)?;
    let entry = format!("\"{host}\" = {keys}");
    match document.get(SECTION) {
        Some(Item::Value(section)) => {
            let at = section.span().unwrap_or_default();
            rewritten(text, at, |table| {
                if let Some((_, last)) = table.iter_mut().last() {
                    last.decor_mut().set_suffix("");
                }
                table.insert(host, keys.clone().into());
            })
        }
        Some(Item::Table(section)) if section.is_dotted() => {
            Ok(with_line_after(text, last_end(section), &format!("{SECTION}.{entry}")))
        }
        Some(Item::Table(section)) if section.position().is_some() => {
            let header = section.span().unwrap_or_default().end;
            Ok(with_line_after(text, last_end(section).max(header), &entry))
        }
        // There is none, or only tables below it: a header of its own may still follow.
        _ => {
            let newline = newline(text);
            let apart = if text.is_empty() { "" } else { newline };
            Ok(with_line_after(text, text.len(), &format!("{apart}[{SECTION}]{newline}{entry}")))
        }
    }
}

/// `text` without `host`, in whatever case it is written; `None` when it is not in it. Comments
/// above the host stay, those on its own lines go.
///
/// Errors: it is not TOML.
pub fn remove(text: &str, host: &str) -> Result<Option<String>, TomlError> {
    let document = Document::parse(text)?;
    let Some(section) = document.get(SECTION) else { return Ok(None) };
    let is_host = |key: &&str| key.eq_ignore_ascii_case(host);
    match section {
        Item::Value(section) => {
            let Some(table) = section.as_inline_table() else { return Ok(None) };
            let Some(written) = table.iter().map(|(key, _)| key).find(is_host) else { return Ok(None) };
            let at = section.span().unwrap_or_default();
            rewritten(text, at, |table| {
                table.remove(written);
            })
            .map(Some)
        }
        Item::Table(section) => {
            let Some(written) = section.iter().map(|(key, _)| key).find(is_host) else { return Ok(None) };
            let lines = section.get_key_value(written).map(|(key, item)| lines_of(text, key, item));
            Ok(lines.map(|lines| without(text, lines)))
        }
        Item::None | Item::ArrayOfTables(_) => Ok(None),
    }
}

/// `text` with the inline table that lies at `at` changed.
fn rewritten(
    text: &str,
    at: Range<usize>,
    change: impl FnOnce(&mut InlineTable),
) -> Result<String, TomlError> {
    let mut value: Value = text[at.clone()].parse()?;
    if let Some(table) = value.as_inline_table_mut() {
        change(table);
    }
    Ok([&text[..at.start], value.to_string().trim(), &text[at.end..]].concat())
}

/// Where the last statement in the table's own body ends; tables below it that have headers are not
/// in its body.
fn last_end(table: &Table) -> usize {
    let end = |item: &Item| match item {
        Item::Table(below) if below.position().is_some() => 0,
        Item::Table(below) => last_end(below),
        item => item.span().unwrap_or_default().end,
    };
    table.iter().map(|(_, item)| end(item)).max().unwrap_or_default()
}

/// The lines on which an entry is written, in order.
fn lines_of(text: &str, key: &Key, item: &Item) -> Vec<Range<usize>> {
    let statement = |key: &Key, item: &Item| {
        let (key, item) = (key.span().unwrap_or_default(), item.span().unwrap_or_default());
        line_start(text, key.start)..line_end(text, item.end)
    };
    let Item::Table(table) = item else { return vec![statement(key, item)] };
    if table.position().is_some() {
        let header = table.span().unwrap_or_default();
        let block = line_start(text, header.start)..line_end(text, header.end.max(last_end(table)));
        return vec![block];
    }
    let below = table.iter().filter_map(|(name, _)| table.get_key_value(name));
    below.map(|(key, item)| statement(key, item)).collect()
}

fn without(text: &str, lines: Vec<Range<usize>>) -> String {
    let (mut kept, mut at) = (String::with_capacity(text.len()), 0);
    for line in lines {
        kept.push_str(&text[at..line.start]);
        at = line.end;
    }
    let (newline, rest) = (newline(text), &text[at..]);
    // Where it stood between blank lines one of them is enough.
    let is_apart = kept.is_empty() || kept.ends_with(&newline.repeat(2));
    match rest.strip_prefix(newline) {
        Some(rest) if is_apart => kept + rest,
        None if is_apart && rest.is_empty() => kept.strip_suffix(newline).unwrap_or_default().to_owned(),
        _ => kept + rest,
    }
}

/// `text` with a line after the one in which byte `end` lies, as far indented as that.
fn with_line_after(text: &str, end: usize, line: &str) -> String {
    let (start, end) = (line_start(text, end), line_end(text, end));
    let newline = newline(text);
    let before = &text[..end];
    let ended = if before.is_empty() || before.ends_with('\n') { "" } else { newline };
    let indented = text[start..].trim_start_matches([' ', '\t']);
    let indent = &text[start..text.len() - indented.len()];
    [before, ended, indent, line, newline, &text[end..]].concat()
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Behind the newline.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

/// As the file has it.
fn newline(text: &str) -> &'static str {
    if text.find('\n').is_some_and(|at| text[..at].ends_with('\r')) { "\r\n" } else { "\n" }
}

#[cfg(test)]
mod tests;
