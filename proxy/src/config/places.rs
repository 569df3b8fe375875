//! Where in its files a configuration says something: values carry no places once they are read.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::files::{File, Files};
use super::key::{Key, Step};
use super::lines::{Lines, Place};

/// Finds keys in files.
pub struct Places<'f> {
    main: &'f Path,
    files: Vec<Text<'f>>,
}

struct Text<'f> {
    path: &'f Path,
    text: &'f str,
    lines: Lines,
    top: Spanned<DeTable<'f>>,
    /// How hosts are written that are not in lower case.
    written: HashMap<String, String>,
}

impl<'f> Places<'f> {
    pub fn of(files: &'f Files) -> Self {
        Self { main: files.path(), files: files.all().map(Text::of).collect() }
    }

    /// The file that has `key`, and where its value lies; where it is not written, the table that
    /// would have it.
    pub fn find(&self, key: &Key) -> (PathBuf, Option<Place>) {
        let nearest = self.files.iter().map(|text| (text, text.find(key)));
        // Of several that come as near, the first.
        let best = nearest.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
        match best {
            Some((text, (steps, at))) if steps > 0 => {
                (text.path.to_owned(), Some(text.lines.place(text.text, at.start)))
            }
            _ => (self.main.to_owned(), None),
        }
    }
}

impl<'f> Text<'f> {
    fn of(file: &'f File) -> Self {
        let (path, text) = (&*file.path, &*file.text);
        let (lines, top) = (Lines::of(text), DeTable::parse_recoverable(text).0);
        let hosts = top.get_ref().get("upstreams").and_then(|value| value.get_ref().as_table());
        let hosts = hosts
            .into_iter()
            .flatten()
            .map(|(host, _)| (host.get_ref().to_ascii_lowercase(), host.get_ref()));
        let written = hosts.filter(|(lower, host)| lower != *host);
        let written = written.map(|(lower, host)| (lower, host.to_string())).collect();
        Self { path, text, lines, top, written }
    }

    /// How many steps of the way to `key` there are, and where they lead.
    fn find(&self, key: &Key) -> (usize, Range<usize>) {
        let mut reached = self.top.span();
        let (mut table, mut list) = (Some(self.top.get_ref()), None);
        for (steps, step) in key.steps().iter().enumerate() {
            let Some((at, value)) = self.next(table, list, step) else { return (steps, reached) };
            reached = at;
            (table, list) = (value.get_ref().as_table(), value.get_ref().as_array());
        }
        (key.steps().len(), reached)
    }

    fn next<'t>(
        &self,
        table: Option<&'t DeTable<'t>>,
        list: Option<&'t DeArray<'t>>,
        step: &Step,
    ) -> Option<(Range<usize>, &'t Value<'t>)> {
        match step {
            Step::Key(key) => table?.get(key.as_str()).map(|value| (value.span(), value)),
            Step::Element(number) => list?.get(*number).map(|value| (value.span(), value)),
            Step::Host(host) => {
                let written = self.written.get(host).unwrap_or(host);
                table?.get_key_value(written.as_str()).map(|(key, value)| (key.span(), value))
            }
        }
    }
}

type Value<'t> = Spanned<DeValue<'t>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_are_written() {
        let folder = std::env::temp_dir().join(format!("hookgate-places-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("upstreams.d")).unwrap();
        let main = folder.join("hookgate.toml");
        let beside = folder.join("upstreams.d/b.toml");
        let text = "listen.https = [\"0.0.0.0:1\",\n  \"0.0.0.0:2\"]\n[tls]\ncert = \"c\"\n\
                    certs = [{ cert = \"d\", key = \"e\" }]\n[upstreams]\n\"A.example\" = { ca = \"x\" }\n";
        std::fs::write(&main, text).unwrap();
        std::fs::write(&beside, "[upstreams.\"b.example\"]\nca = \"y\"\n").unwrap();
        let files = Files::read(&main);
        let places = Places::of(&files);
        for (key, file, expected) in [
            (Key::new("listen.https").element(1), &main, Some("2:3")),
            (Key::new("listen.https").element(9), &main, Some("1:16")),
            (Key::new("tls.cert"), &main, Some("4:8")),
            (Key::new("tls.key"), &main, Some("3:1")),
            (Key::new("tls.certs").element(0).key("key"), &main, Some("5:30")),
            (Key::new("guard.mode"), &main, None),
            (Key::upstream("a.example"), &main, Some("7:1")),
            (Key::upstream("a.example").key("ca"), &main, Some("7:22")),
            (Key::upstream("b.example").key("ca"), &beside, Some("2:6")),
        ] {
            let (found, place) = places.find(&key);
            let place = place.map(|place| place.to_string());
            assert_eq!((&found, place.as_deref()), (file, expected), "{key}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
