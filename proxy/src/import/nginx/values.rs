//! Single values of nginx's: times, sizes, addresses.

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
            "M" => 30 * 86_400_000,
            "y" => 365 * 86_400_000,
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
}
