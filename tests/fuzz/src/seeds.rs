//! Where a search begins: what the tests' data says about each target.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

#[path = "../../data/escapes.rs"]
mod escapes;

use crate::connection::{AND_THE_UPSTREAM, UPSTREAM};
use crate::{config, packet};
use escapes::unescape;

/// The inputs for `target` that the repository's tests have.
///
/// # Panics
/// The tests' data is not there, or not as it should be.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "head" => [cases("heads.toml", "head"), samples()].concat(),
        "response" => cases("responses.toml", "head"),
        "chunked" => cases("bodies.toml", "body"),
        "proxy_protocol" => proxy_headers(),
        "target" => cases("targets.toml", "target"),
        "config" => configurations(),
        "packet" => packet::frames().collect(),
        _ => conversations(),
    }
}

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(file)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What `key` is in every case of `file`; the longest are for tests alone.
fn cases(file: &str, key: &str) -> Vec<Vec<u8>> {
    const LONGEST: usize = 2048;
    let text = read(&data(file));
    let table = DeTable::parse(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let cases = table.get_ref().get("case").and_then(|cases| cases.get_ref().as_array());
    let cases = cases.unwrap_or_else(|| panic!("{file} has no [[case]]"));
    let value =
        |case: &toml::Spanned<DeValue<'_>>| Some(unescape(case.get_ref().get(key)?.get_ref().as_str()?));
    cases.iter().filter_map(value).filter(|bytes| bytes.len() <= LONGEST).collect()
}

/// The heads of real webhooks.
fn samples() -> Vec<Vec<u8>> {
    let folder = data("requests");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let heads = paths.filter(|path| path.extension().is_some_and(|extension| extension == "http"));
    heads.map(|path| read(&path).into_bytes()).collect()
}

/// What is wrong in one way, and every setting alone.
fn configurations() -> Vec<Vec<u8>> {
    cases("broken_configs.toml", "text").into_iter().chain(config::spelled_seeds()).collect()
}

fn proxy_headers() -> Vec<Vec<u8>> {
    let v2 = |fixed: [u8; 4], rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", &fixed[..], rest].concat();
    let v4 = [157, 240, 1, 1, 10, 0, 0, 1, 0x30, 0x39, 1, 187];
    let ssl = [&v4[..], &[0x03, 0, 1, 9, 0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    vec![
        b"PROXY TCP4 157.240.1.1 10.0.0.1 12345 443\r\nGET".to_vec(),
        b"PROXY TCP6 2a03:2880::1 ::1 80 443\r\n".to_vec(),
        b"PROXY UNKNOWN whatever\r\n".to_vec(),
        v2([0x21, 0x11, 0, 12], &v4),
        v2([0x21, 0x21, 0, 36], &[7; 36]),
        v2([0x21, 0x11, 0, 24], &ssl),
        v2([0x20, 0, 0, 0], b""),
    ]
}

/// Every response to the same request, and every body in a request.
fn conversations() -> Vec<Vec<u8>> {
    let said = |request: &[u8], response: &[u8]| [request, AND_THE_UPSTREAM, response].concat();
    let get = format!("GET /{UPSTREAM}/x HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let post =
        format!("POST /{UPSTREAM}/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies = cases("bodies.toml", "body");
    let old = format!("GET /{UPSTREAM}/x HTTP/1.0\r\n\r\n").into_bytes();
    let responses =
        cases("responses.toml", "head").into_iter().map(|head| said(&get, &[&head[..], b"ok"].concat()));
    let refused =
        format!("POST /other.example/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", get.len());
    let refused = said(&[refused.as_bytes(), &get, &get].concat(), ok);
    let pipelined =
        said(&[&post[..], b"2\r\nhi\r\n0\r\n\r\n", &get, &post, b"1\r\nx\r\n0\r\n\r\n"].concat(), ok);
    let requests = cases("heads.toml", "head").into_iter().map(|head| said(&head, ok));
    let uploads = bodies.iter().map(|body| said(&[&post[..], body].concat(), ok));
    let elsewhere = String::from_utf8_lossy(&post).replace(UPSTREAM, "other.example").into_bytes();
    let refused_uploads = bodies.iter().map(|body| said(&[&elsewhere[..], body, &get, &get].concat(), ok));
    let downloads = bodies.iter().map(|body| said(&get, &[&chunked[..], body].concat()));
    let to_old = bodies.iter().map(|body| said(&old, &[&chunked[..], body].concat()));
    responses
        .chain(requests)
        .chain(uploads)
        .chain(refused_uploads)
        .chain(downloads)
        .chain(to_old)
        .chain([pipelined, refused])
        .collect()
}
