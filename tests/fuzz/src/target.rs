use std::path::Path;
use std::sync::LazyLock;

use hookgate::access::Disk;
use hookgate::config::Config;
use hookgate::http::target::{Target, is_authority, parse, split};
use hookgate::upstream::Directory;

const UPSTREAM: &str = "chatwoot.example.com";

static DIRECTORY: LazyLock<Directory> = LazyLock::new(|| {
    let text =
        format!("[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"{UPSTREAM}\" = {{ tls = false }}");
    let config = Config::parse(Path::new("hookgate.toml"), &text).expect("a valid configuration");
    Directory::new(&config.upstreams, &Disk).expect("a usable one")
});

/// A target's path travels byte for byte, and leads nowhere but to the upstream that it names.
pub fn check(bytes: &[u8]) {
    let visible = bytes.iter().all(|b| b.is_ascii_graphic() && *b != b'#');
    for method in ["GET", "OPTIONS", "CONNECT"] {
        let parsed = parse(method, bytes);
        assert!(visible || parsed.is_err(), "a byte that may not stand there");
        match parsed {
            Ok(Target::Path(path)) if bytes.starts_with(b"/") => assert_eq!(path, bytes),
            Ok(Target::Path(path)) => {
                let before = bytes.strip_suffix(path).expect("the path is the end of the target");
                let lower = before.to_ascii_lowercase();
                let scheme = lower.strip_prefix(b"https://").or_else(|| lower.strip_prefix(b"http://"));
                check_authority(scheme.expect("http or https"));
                assert!(path.is_empty() || path.starts_with(b"/") || path.starts_with(b"?"));
            }
            Ok(Target::Asterisk) => assert_eq!((method, bytes), ("OPTIONS", &b"*"[..])),
            Ok(Target::Authority) => {
                assert_eq!(method, "CONNECT");
                check_authority(bytes);
            }
            Err(_) => assert!(!visible || !bytes.starts_with(b"/"), "a path is refused"),
        }
    }
    if is_authority(bytes) {
        check_authority(bytes);
    }
    check_split(bytes);
}

/// A host, perhaps a port; no user, no path.
fn check_authority(authority: &[u8]) {
    let text = std::str::from_utf8(authority).expect("ASCII");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    assert!(!host.is_empty() && !host.contains(['@', '/', '?', '#', ' ', '\\']), "{text}");
    assert!(port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()), "{text}");
    assert!(!host.contains([':', '[', ']']) || (host.starts_with('[') && host.ends_with(']')), "{text}");
}

fn check_split(bytes: &[u8]) {
    let path = bytes.split(|b| *b == b'?').next().unwrap_or_default();
    let slashes = path.iter().filter(|b| **b == b'/').count();
    assert_eq!(split(bytes).is_some(), path.starts_with(b"/") && slashes >= 2, "404 or not");
    let Some((segment, rest)) = split(bytes) else { return };
    assert_eq!([b"/", segment, rest].concat(), bytes);
    assert!(rest.starts_with(b"/") && !segment.iter().any(|b| b"/?".contains(b)));
    assert_eq!(DIRECTORY.find(segment).is_some(), segment.eq_ignore_ascii_case(UPSTREAM.as_bytes()));
}
