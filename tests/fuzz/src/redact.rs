use hookgate::observe::redact::target;

/// Ways in which clients write the name, each of which a receiver may understand.
const NAMES: [&str; 6] = [
    "hub.verify_token",
    "hub_verify_token",
    "HUB%2EVERIFY%5fTOKEN",
    "%68ub.verify%2Dtoken",
    "hub[verify_token]",
    "verifyToken",
];
const SEPARATORS: [&str; 5] = ["&", "?", ";", "%26", "%3b"];
const EQUALS: [&str; 2] = ["=", "%3D"];
const SECRET: &str = "s3cr3t-0123";

/// No value of a verify token is left, in any spelling behind anything; all else is as it came.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let masked = masked(bytes);
    assert_eq!(masked, plain(&text), "{text}");
    assert_eq!(self::masked(masked.as_bytes()), masked, "masking again changes something");
    if text.contains(SECRET) {
        return;
    }
    for name in NAMES {
        for separator in SEPARATORS {
            for equals in EQUALS {
                let with_token = format!("{text}{separator}{name}{equals}{SECRET}");
                let masked = self::masked(with_token.as_bytes());
                assert!(!masked.contains(SECRET), "{with_token} is written down as {masked}");
            }
        }
    }
}

fn masked(path_and_query: &[u8]) -> String {
    let mut masked = String::new();
    target(path_and_query, &mut masked);
    masked
}

fn plain(text: &str) -> String {
    let parameters = text.split('&').map(|parameter| match end_of_name(parameter) {
        Some(end) => format!("{}***", &parameter[..end]),
        None => parameter.to_owned(),
    });
    parameters.collect::<Vec<_>>().join("&")
}

/// Where the value of the first verify token begins: behind an `=` that has, since the last
/// separator, the letters `verifytoken` before it.
fn end_of_name(parameter: &str) -> Option<usize> {
    let decoded = decoded(parameter);
    let mut begin = 0;
    for (index, (byte, end)) in decoded.iter().enumerate() {
        if b"/?;".contains(byte) || *byte == b'&' {
            begin = index;
        }
        if *byte == b'=' {
            let letters = decoded[begin..index].iter().map(|(byte, _)| byte.to_ascii_lowercase() as char);
            if letters.filter(char::is_ascii_alphabetic).collect::<String>().contains("verifytoken") {
                return Some(*end);
            }
        }
    }
    None
}

/// Each byte that is meant, and where what it is written as ends.
fn decoded(text: &str) -> Vec<(u8, usize)> {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                at += 3;
                decoded.push((u8::try_from(16 * high + low).expect("two digits"), at));
            }
            (byte, ..) => {
                at += 1;
                decoded.push((byte, at));
            }
        }
    }
    decoded
}
