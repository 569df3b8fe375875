use std::net::IpAddr;

use crate::config::HostName;
use crate::http::head::RequestHead;

pub(super) const REFUSAL: &str = "this address was asked for by a name that is not known here: ask by IP address or as \
                                  localhost, or add the name to `hosts` in [admin]\n";

/// Whether the request names this machine in a way that no foreign web page can bring about. A page
/// may have its own name lead to any address (DNS rebinding), and its visitor's browser then lets
/// it read the answer; but the browser says by which name it asks. A client that names no host is
/// no browser.
pub(super) fn is_ours(head: &RequestHead<'_>, hosts: &[HostName]) -> bool {
    head.fields.values("host").all(|host| std::str::from_utf8(host).is_ok_and(|host| is_known(host, hosts)))
}

fn is_known(authority: &str, hosts: &[HostName]) -> bool {
    if let Some(literal) = authority.strip_prefix('[') {
        // Whether it is an address was checked when the head was parsed.
        return literal.contains(']');
    }
    let host = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
    host.parse::<IpAddr>().is_ok() || host == "localhost" || hosts.iter().any(|own| **own == host)
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn addresses_localhost_and_configured_names_are_known() {
        let hosts = ["edge.internal".parse().unwrap()];
        for (authority, known) in [
            ("127.0.0.1:9432", true),
            ("10.0.0.5", true),
            ("[::1]:9432", true),
            ("[::1]", true),
            ("LocalHost:9432", true),
            ("Edge.Internal:9432", true),
            ("edge.internal", true),
            ("", false),
            ("rebound.example:9432", false),
            ("127.0.0.1.rebound.example", false),
            ("localhost.rebound.example", false),
            ("edge", false),
            ("x.edge.internal", false),
            ("0x7f.1:9432", false),
        ] {
            assert_eq!(is_known(authority, &hosts), known, "{authority}");
        }
    }
}
