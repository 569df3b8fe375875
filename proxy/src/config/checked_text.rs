//! Text of a certain form, checked where it comes in: who holds a value need not check it again.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use serde::{Deserialize, Serialize};

/// A type of text that only its own parser makes, also when it comes from another process.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(written: String) -> Result<Self, Self::Error> {
                written.parse()
            }
        }

        impl From<$name> for String {
            fn from(checked: $name) -> Self {
                checked.0.as_ref().into()
            }
        }
    };
}

checked_text! {
    /// A whole DNS host name, in lower case: what may stand as the first path segment, and as the
    /// allowlist compares it.
    HostName
}

checked_text! {
    /// A token (RFC 9110 §5.6.2).
    Token
}

checked_text! {
    /// An absolute URL with the scheme https and a host.
    HttpsUrl
}

checked_text! {
    /// The name of one folder under `/sys/fs/bpf`; bpffs keeps names with a dot for itself.
    PinName
}

impl FromStr for HostName {
    type Err = &'static str;

    /// Errors: what is wrong with `written`.
    fn from_str(written: &str) -> Result<Self, Self::Err> {
        if Self::is_address(written) {
            return Err("an IP address is no host name; name the host and write its address = \"IP:port\"");
        }
        if written.ends_with('.') {
            return Err("must not end with a dot");
        }
        let label_is_valid = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if written.len() > 253 || !written.split('.').all(label_is_valid) {
            return Err("not a DNS host name; write it without scheme, port or path");
        }
        Ok(Self(written.to_ascii_lowercase().into()))
    }
}

impl HostName {
    /// The routing registry that all others mirror to.
    pub(super) fn radb() -> Self {
        Self("whois.radb.net".into())
    }

    /// Whether browsers and resolvers would take `written` for an IP address.
    pub(super) fn is_address(written: &str) -> bool {
        written.parse::<IpAddr>().is_ok() || written.rsplit('.').next().is_some_and(is_number)
    }
}

fn is_number(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit())
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let is_token = !written.is_empty() && written.bytes().all(crate::http::is_token_byte);
        let wrong = "must be a token (letters, digits, - . _ and the like): it goes into Via";
        if is_token { Ok(Self(written.into())) } else { Err(wrong) }
    }
}

impl FromStr for HttpsUrl {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let uri = written.parse::<Uri>().ok();
        let is_https = uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
        if is_https { Ok(Self(written.into())) } else { Err("must be an https URL") }
    }
}

impl HttpsUrl {
    /// The directory of Let's Encrypt.
    pub fn lets_encrypt() -> Self {
        Self("https://acme-v02.api.letsencrypt.org/directory".into())
    }
}

impl FromStr for PinName {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let is_valid = (1..=64).contains(&written.len())
            && written.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let wrong = "must be a folder's name of letters, digits, - and _";
        if is_valid { Ok(Self(written.into())) } else { Err(wrong) }
    }
}

impl Default for Token {
    /// The name of a relay whose configuration gives it none.
    fn default() -> Self {
        Self("hookgate".into())
    }
}

impl Default for PinName {
    fn default() -> Self {
        Self("hookgate".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_names_are_plain() {
        assert_eq!("hookgate".parse(), Ok(PinName::default()));
        let too_long = "a".repeat(65);
        for name in ["", ".", "..", "a/b", "/etc", "a.b", "a b", &too_long] {
            assert!(name.parse::<PinName>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_another_process_sends_is_checked_too() {
        let name = |json: &str| serde_json::from_str::<HostName>(json).ok();
        assert_eq!(name("\"Hooks.example\"").as_deref(), Some("hooks.example"));
        assert_eq!(name("\"127.0.0.1\""), None);
        assert_eq!(name("\"a/b\""), None);
        assert!(serde_json::from_str::<PinName>("\"../x\"").is_err());
        assert!(serde_json::from_str::<HttpsUrl>("\"http://ca.example/\"").is_err());
        assert!(serde_json::from_str::<Token>("\"a b\"").is_err());
    }
}
