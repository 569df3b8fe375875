//! Parses resolv.conf(5) for its servers.

use crate::config::DnsServer;

/// The servers of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// In file order, without duplicates. The C library stops at three; this does not.
    pub(super) servers: Vec<DnsServer>,
    /// Line number and text of each server that is not an address.
    pub(super) unusable: Vec<(usize, String)>,
}

/// Ignores everything but `nameserver` lines. Upstream names are absolute: no search list applies.
pub(super) fn parse(text: &[u8]) -> ResolvConf {
    let text = String::from_utf8_lossy(text);
    let mut found = ResolvConf::default();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let mut words = line.split([' ', '\t', '\r', ';', '#']).filter(|word| !word.is_empty());
        let is_comment = line.trim_start().starts_with([';', '#']);
        if is_comment || words.next() != Some("nameserver") {
            continue;
        }
        let written = words.next().unwrap_or_default();
        match written.parse() {
            Ok(server) if found.servers.contains(&server) => {}
            Ok(server) => found.servers.push(server),
            Err(_) => found.unusable.push((number + 1, written.to_owned())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        parse(text.as_bytes()).servers.iter().map(DnsServer::to_string).collect()
    }

    #[test]
    fn as_they_are_written_by_hand_and_by_machines() {
        for (text, expected) in [
            ("nameserver 192.0.2.53", &["192.0.2.53"][..]),
            ("nameserver 192.0.2.53\r\nnameserver ::1\r\n", &["192.0.2.53", "::1"]),
            ("\u{feff}nameserver\t192.0.2.53\t# the router", &["192.0.2.53"]),
            ("  nameserver  192.0.2.53;x", &["192.0.2.53"]),
            ("nameserver fe80::53%dns0\noptions edns0 trust-ad\nsearch .\n", &["fe80::53%dns0"]),
            ("nameserver fe80::1%2\nnameserver fe80::1%eth1\n", &["fe80::1%2", "fe80::1%eth1"]),
            ("nameserver ::1\nnameserver ::1\n", &["::1"]),
            (
                "#nameserver 192.0.2.1\n;nameserver 192.0.2.2\nNAMESERVER 192.0.2.3\nnameservers 192.0.2.4\n",
                &[],
            ),
            (
                "domain lan\nsearch -- a..b\noptions no-aaaa ndots:x attempts:\nsortlist 1\nlookup file bind\n",
                &[],
            ),
            (
                "nameserver ::1\nnameserver ::2\nnameserver ::3\nnameserver ::4\n",
                &["::1", "::2", "::3", "::4"],
            ),
            ("", &[]),
        ] {
            assert_eq!(servers(text), expected, "{text:?}");
            assert_eq!(parse(text.as_bytes()).unusable, [], "{text:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_with_its_line() {
        let found = parse(b"# \xff\nnameserver router.lan\nnameserver\nnameserver ::1\n");
        assert_eq!(found.servers.len(), 1);
        assert_eq!(found.unusable, [(2, "router.lan".to_owned()), (3, String::new())]);
    }
}
