//! The odd requests, from the tests' data.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use toml::de::{DeTable, DeValue};

#[path = "../../data/escapes.rs"]
mod escapes;

use escapes::unescape;

/// All the bytes of one connection.
pub struct Odd {
    pub name: String,
    pub bytes: Vec<u8>,
    /// How many requests an upstream may see, and the statuses that the client is told, where the
    /// data says so.
    pub expected: Option<(usize, String)>,
}

/// What stands for the upstream in the data.
const PLACEHOLDERS: [&[u8]; 3] = [b"/up/", b"/h/", b"/chatwoot.example.com/"];
/// Follows a head or a body: a peer that finds the wrong end takes this for something else.
const NEXT: &[u8] = b"GET /up/next HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n";

impl Odd {
    /// The bytes with `upstream` in their paths.
    pub fn to(&self, upstream: &str) -> Vec<u8> {
        let name = format!("/{upstream}/").into_bytes();
        PLACEHOLDERS.iter().fold(self.bytes.clone(), |bytes, placeholder| replace(&bytes, placeholder, &name))
    }
}

/// All of them.
pub fn all() -> Result<Vec<Odd>> {
    let whole = cases("odd_requests.toml", |case| {
        let expected = (case.number("forwarded")?, case.text("answers")?.to_owned());
        Some((unescape(case.text("bytes")?), Some(expected)))
    })?;
    let heads = cases("heads.toml", |case| {
        let head = unescape(case.text("head")?);
        Some(([&head[..], NEXT].concat(), None))
    })?;
    let bodies = cases("bodies.toml", |case| {
        let framing = match case.number("length") {
            Some(length) => format!("Content-Length: {length}"),
            // A response's.
            None if case.0.contains_key("until_close") => return None,
            None => "Transfer-Encoding: chunked".to_owned(),
        };
        let head = format!("POST /up/body HTTP/1.1\r\nHost: p\r\n{framing}\r\n\r\n");
        Some(([head.as_bytes(), &unescape(case.text("body")?), NEXT].concat(), None))
    })?;
    let targets = cases("targets.toml", |case| {
        let method = case.text("method").unwrap_or("POST");
        let target = unescape(case.text("target")?);
        Some(([method.as_bytes(), b" ", &target, b" HTTP/1.1\r\nHost: p\r\n\r\n", NEXT].concat(), None))
    })?;
    Ok([whole, heads, bodies, targets].into_iter().flatten().collect())
}

struct Case<'t>(&'t DeTable<'t>);

impl Case<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.get_ref().as_str()
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.0.get(key)?.get_ref().as_integer()?.as_str().parse().ok()
    }
}

/// What `read` makes of the cases of `file`, without those of which it makes nothing. Names are the
/// file's and the case's.
fn cases(
    file: &str,
    read: impl Fn(&Case<'_>) -> Option<(Vec<u8>, Option<(usize, String)>)>,
) -> Result<Vec<Odd>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let table = DeTable::parse(&text).with_context(|| file.to_owned())?;
    let cases = table.get_ref().get("case").and_then(|cases| cases.get_ref().as_array());
    let cases = cases.with_context(|| format!("{file} has no [[case]]"))?;
    let subject = file.trim_end_matches(".toml");
    let odd = cases.iter().filter_map(|case| {
        let case = Case(case.get_ref().as_table()?);
        let (bytes, expected) = read(&case)?;
        Some(Odd { name: format!("{subject}: {}", case.text("name")?), bytes, expected })
    });
    let odd: Vec<Odd> = odd.collect();
    // One kind of body is a response's alone.
    ensure!(
        odd.len() * 10 > cases.len() * 9,
        "{file}: only {} of {} cases can be read",
        odd.len(),
        cases.len()
    );
    Ok(odd)
}

/// The committed list under `key` of `file`.
pub fn list(file: &str, key: &str) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let table = DeTable::parse(&text).with_context(|| file.to_owned())?;
    let list = table.get_ref().get(key).and_then(|list| list.get_ref().as_array());
    let list = list.with_context(|| format!("{file} has no list {key}"))?.iter();
    let text = |value: &toml::Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
    list.map(text).collect::<Option<_>>().with_context(|| format!("{file}: {key} is not a list of strings"))
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
