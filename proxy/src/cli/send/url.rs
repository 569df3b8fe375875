use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// Where Meta would send to: an http or https URL whose path and query travel as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub is_https: bool,
    /// A DNS name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// For `Host`: host and port as written.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// The same with `%20` for each `+` in its path, as Meta sends what was entered with a `+`. The
    /// query stays.
    pub fn as_meta_sends_it(&self) -> Self {
        let (path, query) = self.target.split_at(self.target.find('?').unwrap_or(self.target.len()));
        Self { target: path.replace('+', "%20") + query, ..self.clone() }
    }
}

impl FromStr for Url {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) =
            text.split_once("://").ok_or("write the whole URL: https://proxy.example.com/…")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("only http:// and https:// can be sent to"),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL has neither spaces nor letters beyond ASCII: write them as %20 and the like");
        }
        if rest.contains('#') {
            return Err("what follows `#` never reaches a server; leave it out");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = host_and_port(authority, if is_https { 443 } else { 80 })?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_https, host, port, authority: authority.to_owned(), target })
    }
}

fn host_and_port(authority: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    const WRONG: &str = "the host must be a DNS name or an address, with or without a port";
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is followed by its bracket.
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port != 0).ok_or("the port must be between 1 and 65535")?)
        }
        _ => (authority, default_port),
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match address {
        Some(address) if address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => address,
        Some(_) => return Err(WRONG),
        None if host.contains(['[', ']', ':']) => return Err(WRONG),
        None => host,
    };
    ServerName::try_from(host).map_err(|_| WRONG)?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_nothing_in_them_changes() {
        for (text, (is_https, host, port, authority, target)) in [
            (
                "https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp/%2B55?x=1",
                (
                    true,
                    "proxy.example.com",
                    443,
                    "proxy.example.com",
                    "/chatwoot.example.com/webhooks/whatsapp/%2B55?x=1",
                ),
            ),
            ("HTTP://127.0.0.1:8080", (false, "127.0.0.1", 8080, "127.0.0.1:8080", "/")),
            ("http://[::1]/a//../b", (false, "::1", 80, "[::1]", "/a//../b")),
            ("https://[2001:db8::1]:8443?q", (true, "2001:db8::1", 8443, "[2001:db8::1]:8443", "/?q")),
        ] {
            let url: Url = text.parse().unwrap();
            let expected =
                Url { is_https, host: host.into(), port, authority: authority.into(), target: target.into() };
            assert_eq!(url, expected, "{text}");
        }
        let with_plus: Url = "https://proxy.example.com/a/+55?b=+1".parse().unwrap();
        assert_eq!(with_plus.as_meta_sends_it().target, "/a/%2055?b=+1");
        for wrong in [
            "proxy.example.com/a",
            "ftp://proxy.example.com/",
            "https:///a",
            "https://user:secret@proxy.example.com/",
            "https://proxy.example.com:0/",
            "https://proxy.example.com:https/",
            "https://[proxy]/",
            "https://::1/",
            "https://proxy.example.com/a b",
            "https://proxy.example.com/#a",
            "https://pröxy.example.com/",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
