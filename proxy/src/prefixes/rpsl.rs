//! Objects as routing registries write them (RPSL, RFC 2622 §2).

/// An object: its attributes in order, the first of which names its class.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// Name in lower case; value without comments, continuation lines joined.
    attributes: Vec<(String, String)>,
}

impl Object {
    /// The object's class and key: the name and value of its first attribute.
    pub fn class_and_key(&self) -> (&str, &str) {
        self.attributes.first().map_or(("", ""), |(name, value)| (name, value))
    }

    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The value of an attribute that is there exactly once.
    pub fn single<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }
}

/// A line that is neither attribute, continuation, comment nor blank. Counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRpsl {
    pub line: usize,
}

/// The objects in a server's answer: separated by blank lines, `%` and `#` begin lines that are no
/// part of one.
pub fn objects(answer: &str) -> Result<Vec<Object>, NotRpsl> {
    let mut objects = Vec::new();
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (line, number) in answer.lines().zip(1..) {
        if line.is_empty() {
            if !attributes.is_empty() {
                objects.push(Object { attributes: std::mem::take(&mut attributes) });
            }
        } else if line.starts_with(['%', '#']) {
            continue;
        } else if let Some(more) = line.strip_prefix([' ', '\t', '+']) {
            let (_, value) = attributes.last_mut().ok_or(NotRpsl { line: number })?;
            let more = without_comment(more);
            if !value.is_empty() && !more.is_empty() {
                value.push(' ');
            }
            value.push_str(more);
        } else {
            attributes.push(attribute(line).ok_or(NotRpsl { line: number })?);
        }
    }
    objects.extend((!attributes.is_empty()).then_some(Object { attributes }));
    Ok(objects)
}

fn attribute(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    is_name.then(|| (name.to_ascii_lowercase(), without_comment(value).to_owned()))
}

fn without_comment(value: &str) -> &str {
    value.split('#').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_attributes_continuations_and_comments() {
        let answer = "% a banner\n\n\
                      route:  157.240.0.0/17 # ours\ndescr: one\n  two # three\n+\n\tfour\nMNT-By: A,\n+ B\n\
                      # aside\nsource: RADB\r\n\r\n\
                      route6: 2a03:2880::/32\nmnt-by: C\nmnt-by: D\nremarks:\n\n\n";
        let objects = objects(answer).unwrap();
        assert_eq!(objects.len(), 2);
        let [first, second] = &objects[..] else { panic!("{objects:?}") };
        assert_eq!(first.class_and_key(), ("route", "157.240.0.0/17"));
        assert_eq!(first.single("descr"), Some("one two four"));
        assert_eq!(first.single("mnt-by"), Some("A, B"));
        assert_eq!(first.single("source"), Some("RADB"));
        assert_eq!(second.values("mnt-by").collect::<Vec<_>>(), ["C", "D"]);
        assert_eq!(second.single("mnt-by"), None);
        assert_eq!(second.single("remarks"), Some(""));
        assert_eq!(second.single("source"), None);
    }

    #[test]
    fn names_the_line_that_is_none() {
        for (answer, line) in [
            ("<html>\n", 1),
            ("route: 1.2.3.0/24\nsource RADB\n", 2),
            ("\n  continued: nothing\n", 2),
            ("a: b\n\n: c\n", 3),
            ("a b: c\n", 1),
        ] {
            assert_eq!(objects(answer), Err(NotRpsl { line }), "{answer:?}");
        }
        assert_eq!(objects("% none\n\n\n"), Ok(Vec::new()));
    }
}
