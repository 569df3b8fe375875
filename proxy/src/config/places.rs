//! Where in its files a configuration says something: values carry no places once they are read.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::Files;
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
}

impl<'f> Places<'f> {
    pub fn of(files: &'f Files) -> Self {
        let text = |file: &'f super::files::File| Text {
            path: &file.path,
            text: &file.text,
            lines: Lines::of(&file.text),
            top: DeTable::parse_recoverable(&file.text).0,
        };
        Self { main: files.path(), files: files.all().map(text).collect() }
    }

    /// The file that has `key`, and where its value lies; where it is not written, the table that would have it.
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

impl Text<'_> {
    /// How many steps of the way to `key` there are, and where they lead.
    fn find(&self, key: &Key) -> (usize, Range<usize>) {
        let mut reached = self.top.span();
        let (mut table, mut list) = (Some(self.top.get_ref()), None);
        for (steps, step) in key.steps().iter().enumerate() {
            let Some((at, value)) = next(table, list, step) else { return (steps, reached) };
            reached = at;
            (table, list) = (value.get_ref().as_table(), value.get_ref().as_array());
        }
        (key.steps().len(), reached)
    }
}

type Value<'t> = Spanned<DeValue<'t>>;

fn next<'t>(
    table: Option<&'t DeTable<'t>>,
    list: Option<&'t toml::de::DeArray<'t>>,
    step: &Step,
) -> Option<(Range<usize>, &'t Value<'t>)> {
    match step {
        Step::Key(key) => table?.get(key.as_str()).map(|value| (value.span(), value)),
        Step::Element(number) => list?.get(*number).map(|value| (value.span(), value)),
        Step::Host(host) => {
            // As it is written nearly always, and otherwise in another case.
            let written = table?.get_key_value(host.as_str());
            let other = || table?.iter().find(|(key, _)| key.get_ref().eq_ignore_ascii_case(host));
            written.or_else(other).map(|(key, value)| (key.span(), value))
        }
    }
}

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
