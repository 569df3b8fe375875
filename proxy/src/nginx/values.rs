//! Single values of nginx's: times, sizes, addresses, patterns of hosts.

use std::net::{IpAddr, SocketAddr};

/// A time (`60`, `1m30s`, `500ms`), in milliseconds.
pub fn time(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// A size (`8k`, `10m`, `1g`), in bytes.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// What `listen` says; `None` for names and Unix sockets.
pub fn listen(text: &str) -> Option<SocketAddr> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    if let Ok(port) = text.parse() {
        return Some(any(port));
    }
    if let Some(port) = text.strip_prefix("*:") {
        return port.parse().ok().map(any);
    }
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare_ip(text)?, 80)))
}

/// An address without a port, IPv6 in brackets.
pub fn bare_ip(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Where `proxy_pass` leads: `https://host:port/uri`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub is_https: bool,
    /// May hold variables.
    pub host: String,
    pub port: Option<u16>,
    /// `None`: the request's own.
    pub uri: Option<String>,
}

pub fn pass(text: &str) -> Option<Pass> {
    let (is_https, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return None,
    };
    // A variable after the host's begins the URI.
    let after_host = |at: usize| rest.get(at + 1..).and_then(|more| Some(at + 1 + more.find(['$', '/'])?));
    let end = if rest.starts_with('$') { after_host(0) } else { rest.find(['/', '$']) };
    let (authority, uri) = rest.split_at(end.unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    let uri = (!uri.is_empty()).then(|| uri.to_owned());
    Some(Pass { is_https, host: host.to_owned(), port, uri })
}

/// The hosts that a pattern stands for when it names each: `^/(a|b)\.example\.com(/.*)$`.
pub fn hosts(pattern: &str) -> Option<Vec<String>> {
    let pattern = pattern.strip_prefix('^')?;
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    let (start, rest) = until(pattern, &['/', '$', '(']);
    let (alternatives, rest) = match rest.strip_prefix('(').filter(|group| !group.starts_with(['/', '?'])) {
        Some(group) => group.split_once(')')?,
        None => match named_group(rest) {
            Some(group) => group.split_once(')')?,
            None => ("", rest),
        },
    };
    let (end, rest) = until(rest, &['/', '$', '(']);
    let is_path =
        |rest: &str| rest.starts_with(['/', '$']) || rest.starts_with("(/") || rest.starts_with("(?");
    if !(rest.is_empty() || is_path(rest)) {
        return None;
    }
    alternatives.split('|').map(|alternative| literal(&[start, alternative, end].concat())).collect()
}

/// What is in a group that has a name, or is not kept, unless it is that of a path.
fn named_group(text: &str) -> Option<&str> {
    let inside = match text.strip_prefix("(?<") {
        Some(named) => named.split_once('>')?.1,
        None => text.strip_prefix("(?:")?,
    };
    (!inside.starts_with('/')).then_some(inside)
}

fn until<'t>(text: &'t str, ends: &[char]) -> (&'t str, &'t str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// A host's name with its dots escaped, or not, as many are careless.
fn literal(pattern: &str) -> Option<String> {
    let name = pattern.replace("\\.", ".").replace("\\-", "-");
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_whole = name.contains('.') && !name.starts_with('.') && !name.ends_with('.');
    (is_whole && name.bytes().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        for (text, expected) in
            [("60", Some(60_000)), ("1m30s", Some(90_000)), ("500ms", Some(500)), ("1d", Some(86_400_000))]
        {
            assert_eq!(time(text), expected, "{text}");
        }
        for wrong in ["", "s", "1x", "-1", "1 s", "99999999999999999999"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        for (text, expected) in
            [("0", Some(0)), ("8k", Some(8192)), ("10M", Some(10 << 20)), ("1t", None), ("", None)]
        {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        for (text, expected) in [
            ("443", "0.0.0.0:443"),
            ("*:8443", "0.0.0.0:8443"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("192.0.2.1:443", "192.0.2.1:443"),
            ("[::]:443", "[::]:443"),
            ("[2001:db8::1]", "[2001:db8::1]:80"),
        ] {
            assert_eq!(listen(text), expected.parse().ok(), "{text}");
        }
        assert_eq!((listen("unix:/run/n.sock"), listen("localhost:80")), (None, None));
    }

    #[test]
    fn where_requests_are_passed_to() {
        for (text, (is_https, host, port, uri)) in [
            ("https://$h$p$is_args$args", (true, "$h", None, Some("$p$is_args$args"))),
            ("https://$h:8443/x", (true, "$h", Some(8443), Some("/x"))),
            ("http://10.0.0.5:3000", (false, "10.0.0.5", Some(3000), None)),
            ("https://chatwoot.example.com/", (true, "chatwoot.example.com", None, Some("/"))),
            ("https://chatwoot.example.com$1", (true, "chatwoot.example.com", None, Some("$1"))),
        ] {
            let expected = Pass { is_https, host: host.into(), port, uri: uri.map(str::to_owned) };
            assert_eq!(pass(text), Some(expected), "{text}");
        }
        assert_eq!(pass("$backend"), None);
    }

    #[test]
    fn patterns_that_name_every_host() {
        for (pattern, expected) in [
            (r"^/(a\.example|b-c\.example)(/.*)$", Some(vec!["a.example", "b-c.example"])),
            (r"^chatwoot.example.com$", Some(vec!["chatwoot.example.com"])),
            (r"^(?<h>a\.example)(?<p>/.*)$", Some(vec!["a.example"])),
            (r"^/(?:a\.example)/", Some(vec!["a.example"])),
            (r"^(a|b)\.example\.com$", Some(vec!["a.example.com", "b.example.com"])),
            (r"^/chat-(?:a|b)\.example(?<p>/.*)$", Some(vec!["chat-a.example", "chat-b.example"])),
            (r"^/a\.example(/|$)", Some(vec!["a.example"])),
            (r"^/(?<h>[^/]+)(?<p>/.*)$", None),
            (r"^/(.*)", None),
            ("^(/.*)$", None),
            ("/a.example/", None),
            (r"^/([^/]+)(/.*)$", None),
            (r"^.+\.example\.com$", None),
            (r"^\.example\.com$", None),
            ("^(a\\.example", None),
            ("^(a\\.example)x", Some(vec!["a.examplex"])),
            ("^(a\\.example)[x]", None),
        ] {
            let expected = expected.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect());
            assert_eq!(hosts(pattern), expected, "{pattern}");
        }
    }
}
