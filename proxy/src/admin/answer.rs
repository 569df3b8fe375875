use std::fmt::Write as _;

use serde::Serialize;

use super::pages::{Origin, Pages};
use super::{host, page};
use crate::http::head::{HeadLimits, RequestHead, slots};
use crate::http::target::Target;
use crate::insight::Query;
use crate::messages::Document as Messages;
use crate::observe::{Exposition, Trace};

/// What a request's head may measure.
pub(super) const LIMITS: HeadLimits = HeadLimits { bytes: 8192, target_bytes: 1024, field_lines: 64 };

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const END_OF_HEAD: &str = "\r\n\r\n";
const NOWHERE: &str = "/, /health, /ready, /metrics, /status.json, /stats.json, /lost.json, /history.json, /messages.json and /deliveries.json are here\n";

const BAD_WINDOW: &str = "?minutes=60 is expected, and &upstream=HOST or &prefix=CIDR may follow\n";

/// A whole response to a request of which this is the whole head, if it is one.
pub(super) fn respond(head: Option<&[u8]>, pages: &dyn Pages, origin: Origin) -> String {
    let mut slots = slots();
    let head = head.and_then(|head| RequestHead::parse(head, &mut slots, &LIMITS).ok());
    let Some(head) = head else {
        return response("400 Bad Request", TEXT, "not a valid HTTP request\n");
    };
    let target = match head.target {
        Target::Path(path) => path,
        Target::Asterisk | Target::Authority => b"",
    };
    let question = target.iter().position(|b| *b == b'?');
    let (path, query) = target.split_at(question.unwrap_or(target.len()));
    match (head.method, origin) {
        ("GET" | "HEAD", Origin::Anybody)
            if !is_for_anybody(path) && !host::is_ours(&head, &pages.hosts()) =>
        {
            for_method(head.method, response("421 Misdirected Request", TEXT, host::REFUSAL))
        }
        ("GET" | "HEAD", _) => for_method(head.method, get(path, query, pages, origin)),
        ("POST", Origin::CommandLine) => act(path, pages),
        (_, Origin::Anybody) => not_allowed("GET, HEAD"),
        (_, Origin::CommandLine) => not_allowed("GET, HEAD, POST"),
    }
}

/// HEAD is answered with the head that GET would be (RFC 9110 §9.3.2).
fn for_method(method: &str, mut response: String) -> String {
    if method == "HEAD"
        && let Some(end) = response.find(END_OF_HEAD)
    {
        response.truncate(end + END_OF_HEAD.len());
    }
    response
}

fn not_allowed(methods: &str) -> String {
    with("405 Method Not Allowed", TEXT, &[("Allow", methods)], NOWHERE)
}

/// Whether a load balancer asks whether the proxy serves.
pub(super) fn is_probe(head: &[u8]) -> bool {
    let mut words = head.splitn(3, |byte| *byte == b' ');
    matches!(words.next(), Some(b"GET" | b"HEAD")) && words.next().is_some_and(is_for_anybody)
}

/// What load balancers ask for, by whatever name they like; a stranger learns little from it.
fn is_for_anybody(path: &[u8]) -> bool {
    matches!(path, b"/health" | b"/ready")
}

fn act(path: &[u8], pages: &dyn Pages) -> String {
    match path {
        b"/prefixes" => match pages.take_prefixes() {
            Ok(count) => response("200 OK", TEXT, &format!("{count} in force\n")),
            Err(why) => response("409 Conflict", TEXT, &format!("{why}\n")),
        },
        b"/reload" => match pages.reload() {
            Ok(report) => response("200 OK", TEXT, &report),
            Err(why) => response("409 Conflict", TEXT, &format!("{why}\n")),
        },
        _ => response("404 Not Found", TEXT, "/prefixes and /reload are here\n"),
    }
}

fn get(path: &[u8], query: &[u8], pages: &dyn Pages, origin: Origin) -> String {
    match path {
        b"/" | b"/status" => {
            with("200 OK", HTML, &[("Content-Security-Policy", &page::policy())], &page::html())
        }
        b"/health" => response("200 OK", TEXT, "serving\n"),
        b"/ready" => match pages.unready() {
            reasons if reasons.is_empty() => {
                let lines = std::iter::once("ready".to_owned()).chain(pages.remarks());
                response("200 OK", TEXT, &lines.map(|line| line + "\n").collect::<String>())
            }
            reasons => response("503 Service Unavailable", TEXT, &(reasons.join("\n") + "\n")),
        },
        b"/metrics" => response("200 OK", Exposition::CONTENT_TYPE, &pages.metrics().into_text()),
        b"/stats.json" => {
            let within = std::str::from_utf8(query).ok().and_then(Query::parse);
            if within.is_none() && !query.is_empty() {
                return response("400 Bad Request", TEXT, BAD_WINDOW);
            }
            match pages.stats(within.as_ref()) {
                Ok(stats) => json(&stats),
                Err(why) => response("503 Service Unavailable", TEXT, &format!("{why}\n")),
            }
        }
        b"/status.json" => match pages.status(query.strip_prefix(b"?upstream=")) {
            Some(status) => json(&status),
            None => response("404 Not Found", TEXT, "no such upstream is allowed\n"),
        },
        b"/lost.json" => with_window(query, |query| pages.lost(query)),
        b"/history.json" => with_window(query, |query| pages.chart(query)),
        b"/messages.json" => match messages(query, pages) {
            Some(Ok(Some(messages))) => json(&messages),
            Some(Ok(None)) => response("404 Not Found", TEXT, "[insight] messages is false\n"),
            Some(Err(why)) => response("503 Service Unavailable", TEXT, &format!("{why}\n")),
            None => response("400 Bad Request", TEXT, "?upstream=HOST may follow\n"),
        },
        // Followed requests cost a little: it is for the command line alone.
        b"/trace.json" if matches!(origin, Origin::CommandLine) => {
            let (latest, traces) = pages.traces(number(query));
            json(&Traces { latest, traces })
        }
        b"/deliveries.json" => json(&pages.deliveries(number(query).unwrap_or(0))),
        _ => response("404 Not Found", TEXT, NOWHERE),
    }
}

/// `None`: the query is not understood.
fn messages(query: &[u8], pages: &dyn Pages) -> Option<Result<Option<Messages>, String>> {
    let query = std::str::from_utf8(query).ok()?;
    let upstream = match query.is_empty() {
        true => None,
        false => Some(query.strip_prefix("?upstream=")?.to_ascii_lowercase()),
    };
    Some(pages.messages(upstream.as_deref()))
}

#[derive(Serialize)]
struct Traces {
    latest: u64,
    traces: Vec<Trace>,
}

/// Of `?after=7`.
fn number(query: &[u8]) -> Option<u64> {
    std::str::from_utf8(query).ok()?.strip_prefix("?after=")?.parse().ok()
}

fn with_window<D: Serialize>(query: &[u8], document: impl FnOnce(&Query) -> Result<D, String>) -> String {
    let Some(query) = std::str::from_utf8(query).ok().and_then(Query::parse) else {
        return response("400 Bad Request", TEXT, BAD_WINDOW);
    };
    match document(&query) {
        Ok(document) => json(&document),
        Err(why) => response("503 Service Unavailable", TEXT, &format!("{why}\n")),
    }
}

fn json(document: &impl Serialize) -> String {
    match serde_json::to_string(document) {
        Ok(json) => response("200 OK", JSON, &json),
        Err(error) => response("500 Internal Server Error", TEXT, &format!("{error}\n")),
    }
}

fn response(status: &str, content_type: &str, body: &str) -> String {
    with(status, content_type, &[], body)
}

/// With `more` fields. A browser keeps nothing, and takes nothing for what it is not called.
fn with(status: &str, content_type: &str, more: &[(&str, &str)], body: &str) -> String {
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in more {
        // Writing to a String does not fail.
        let _ = write!(response, "{name}: {value}\r\n");
    }
    response + "\r\n" + body
}
