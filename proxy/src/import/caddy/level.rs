//! The directives of a block, in the order in which Caddy runs them.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::matcher::{Matcher, NamedMatchers};
use super::proxy::Proxy;
use super::values::size;
use crate::import::amount::{Amount, BODY_BYTES, Key};
use crate::import::directive::Directive;
use crate::import::notes::Group;
use crate::import::prefix_index::PrefixIndex;

/// Caddy's own order (`directiveOrder`). Those that are not here have no place of their own.
const ORDER: [&str; 37] = [
    "tracing",
    "map",
    "vars",
    "fs",
    "root",
    "log_append",
    "skip_log",
    "log_skip",
    "header",
    "copy_response_headers",
    "request_body",
    "redir",
    "method",
    "rewrite",
    "uri",
    "try_files",
    "basicauth",
    "basic_auth",
    "forward_auth",
    "request_header",
    "encode",
    "push",
    "intercept",
    "templates",
    "invoke",
    "handle",
    "handle_path",
    "route",
    "abort",
    "error",
    "copy_response",
    "respond",
    "metrics",
    "reverse_proxy",
    "php_fastcgi",
    "file_server",
    "acme_server",
];

/// Whether Caddy's order has a place for a directive.
pub fn is_ordered(name: &str) -> bool {
    ORDER.contains(&name)
}

/// The routes of one block.
#[derive(Debug, Default)]
pub struct Level<'d> {
    pub routes: Vec<Route<'d>>,
    /// By the beginnings of the paths that they are for.
    pub index: PrefixIndex,
    /// Whether Caddy sorts them.
    pub is_sorted: bool,
}

#[derive(Debug)]
pub struct Route<'d> {
    pub directive: &'d Directive,
    pub matcher: Option<Matcher<'d>>,
    pub step: Step<'d>,
    /// Routes of the same rank are sorted by their paths.
    pub rank: usize,
}

/// What a directive does with a request.
#[derive(Debug)]
pub enum Step<'d> {
    /// Only the first one of a block that matches is run.
    Handle {
        strip: Option<String>,
        level: Level<'d>,
    },
    Route(Level<'d>),
    StripPrefix(String),
    Proxy(Box<Proxy<'d>>),
    Refuse,
    Answer,
    Redirect {
        to_https: bool,
    },
    /// Some requests are refused by what the path does not decide.
    Guard(&'static str),
    Set(Key, Amount),
    Note(Group, &'static str),
    Unclear(&'static str),
}

/// Directives that configure the site and handle no request.
const OF_SITE: &[&str] = &["bind", "log", "tls"];
/// Requests and responses are the same with them.
const NO_CONSEQUENCE: &[&str] =
    &["encode", "log_append", "log_skip", "push", "root", "skip_log", "tracing", "vars", "fs"];
const UNCLEAR: &str = "what this directive does to requests is not understood";

impl<'d> Level<'d> {
    /// `is_route`: a `route` block, which is not sorted.
    pub fn new(block: &'d [Directive], outer: &NamedMatchers<'d>, is_route: bool) -> Self {
        let mut named = outer.clone();
        for directive in block {
            if directive.name.starts_with('@') {
                named.insert(&directive.name, directive);
            }
        }
        let handlers = block
            .iter()
            .filter(|directive| !directive.name.starts_with('@') && !OF_SITE.contains(&&*directive.name));
        let mut routes: Vec<Route<'d>> = handlers.map(|directive| Route::new(directive, &named)).collect();
        if !is_route {
            sort(&mut routes);
        }
        let mut index = PrefixIndex::default();
        for (position, route) in routes.iter().enumerate() {
            match &route.matcher {
                Some(matcher) => {
                    matcher.prefixes().iter().for_each(|prefix| index.add(prefix.as_bytes(), position));
                }
                None => index.add(b"", position),
            }
        }
        Self { routes, index, is_sorted: !is_route }
    }
}

/// As Caddy sorts them (`sortRoutes`).
fn sort(routes: &mut [Route<'_>]) {
    let prefixes: HashSet<(usize, String)> = routes
        .iter()
        .filter_map(|route| Some((route.rank, route.only_path()?.strip_suffix('*')?.to_owned())))
        .collect();
    routes.sort_by_cached_key(|route| {
        let path = route.only_path().unwrap_or_default();
        // Of two that differ by an asterisk alone, the one without it comes first.
        let has_longer = prefixes.contains(&(route.rank, path.to_owned()));
        let length = path.len() + usize::from(has_longer);
        (route.rank, route.matcher.is_none(), Reverse(length), !has_longer)
    });
}

impl<'d> Route<'d> {
    /// The one path that Caddy sorts by.
    pub fn only_path(&self) -> Option<&str> {
        self.matcher.as_ref()?.only_path()
    }

    fn new(directive: &'d Directive, named: &NamedMatchers<'d>) -> Self {
        let (matcher, arguments) = Matcher::of(directive, named);
        let name = match &*directive.name {
            "handle_path" => "handle",
            "basic_auth" => "basicauth",
            name => name,
        };
        let rank = ORDER.iter().position(|known| *known == name).unwrap_or(0);
        let step = Step::new(directive, arguments, named);
        Self { directive, matcher, step, rank }
    }
}

impl<'d> Step<'d> {
    fn new(directive: &'d Directive, arguments: &'d [String], named: &NamedMatchers<'d>) -> Self {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let block = directive.block.as_deref().unwrap_or_default();
        match (&*directive.name, &*words) {
            ("handle", []) => Self::Handle { strip: None, level: Level::new(block, named, false) },
            ("handle_path", []) => {
                let path = directive.arguments.first().filter(|path| path.starts_with('/'));
                let Some(path) = path.filter(|path| !path.contains('{')) else {
                    return Self::Unclear(UNCLEAR);
                };
                let strip = path.trim_end_matches('*').trim_end_matches('/').to_owned();
                Self::Handle { strip: Some(strip), level: Level::new(block, named, false) }
            }
            ("route", []) => Self::Route(Level::new(block, named, true)),
            ("uri", ["strip_prefix", prefix]) if !prefix.contains(['{', '%']) && prefix.starts_with('/') => {
                Self::StripPrefix((*prefix).to_owned())
            }
            ("reverse_proxy", _) => Self::Proxy(Box::new(Proxy::new(directive, arguments))),
            ("abort" | "error", _) => Self::Refuse,
            ("respond", words) => Self::respond(words, block),
            ("redir", [to, ..]) => Self::Redirect { to_https: to.starts_with("https://") },
            ("basicauth" | "basic_auth" | "forward_auth", _) => {
                Self::Guard("hookgate has nothing in its place; the receiver has to check the requests")
            }
            ("request_body", []) => match block {
                [only] if only.name == "max_size" => {
                    let bytes = only.arguments.first().and_then(|text| size(text));
                    bytes.map_or(Self::Unclear(UNCLEAR), |bytes| Self::Set(BODY_BYTES, Amount::Number(bytes)))
                }
                _ => Self::Unclear(UNCLEAR),
            },
            ("file_server" | "php_fastcgi" | "metrics" | "acme_server", _) => Self::Answer,
            ("request_header", [field, ..]) if !field.to_ascii_lowercase().contains("host") => Self::Note(
                Group::Elsewhere,
                "Caddy changes this field for the upstream; hookgate adds no fields but X-Forwarded-For, X-Forwarded-Proto, \
                 X-Real-IP, X-Request-Id and Via",
            ),
            ("header" | "intercept" | "copy_response_headers", _) => {
                Self::Note(Group::Different, "Caddy changes the response, hookgate relays it as it is")
            }
            ("handle_errors", _) => Self::Note(
                Group::Different,
                "Caddy has answers of its own for errors; hookgate answers 502 or 504, so that Meta sends again",
            ),
            ("import", _) => Self::Guard("no such file or snippet can be read here: what it refuses is open"),
            (name, _) if NO_CONSEQUENCE.contains(&name) => Self::Note(Group::NoConsequence, ""),
            _ => Self::Unclear(UNCLEAR),
        }
    }

    /// A body and a status, in any order and number.
    fn respond(words: &[&str], block: &[Directive]) -> Self {
        let status = |word: &str| word.parse::<u16>().ok().filter(|code| word.len() == 3 && *code >= 100);
        let code = words.iter().rev().find_map(|word| status(word));
        let is_plain = block.iter().all(|inside| matches!(&*inside.name, "body" | "close"));
        match code.unwrap_or(200) {
            _ if !is_plain => Self::Unclear(UNCLEAR),
            400.. => Self::Refuse,
            _ => Self::Answer,
        }
    }
}
