use spdx::Licensee;

use super::licences;
use super::source::{Source, SourceFile};

fn findings(path: &str, text: &str) -> Vec<String> {
    super::in_source(&SourceFile::new(path, text))
}

#[test]
fn a_layer_may_use_only_what_stands_below_it() {
    let good = [
        ("proxy/src/datapath/forward.rs", "use crate::upstream::pool;\nuse crate::{http, net::stream};"),
        ("proxy/src/datapath/forward.rs", "use crate::datapath::body; use super::body;"),
        ("proxy/src/http/head.rs", "// crate::net is above us\nconst S: &str = \"crate::net\";"),
        ("proxy/src/http/head.rs", "mod tests { use super::super::target; use super::*; }"),
        ("proxy/src/main.rs", "use hookgate::cli;"),
        ("proxy/src/lib.rs", "pub use crate::server::Server;"),
        ("xtask/src/run.rs", "use crate::server;"),
    ];
    for (path, text) in good {
        assert_eq!(findings(path, text), [""; 0], "{path}: {text}");
    }
    let bad = [
        ("proxy/src/http/head.rs", "use crate::net::stream;", "http", "net"),
        ("proxy/src/http/head.rs", "fn f() { crate::net::stream() }", "http", "net"),
        ("proxy/src/http/mod.rs", "use super::net;", "http", "net"),
        ("proxy/src/http/head.rs", "use super::super::net;", "http", "net"),
        (
            "proxy/src/http/head.rs",
            "mod tests { fn f() { {} } use super::super::super::net; }",
            "http",
            "net",
        ),
        ("proxy/src/upstream/dns.rs", "use crate::{config, guard::pin};", "upstream", "guard"),
        ("proxy/src/config/mod.rs", "use crate::{\n    http,\n    server::{a, tls},\n};", "config", "server"),
    ];
    for (path, text, user, used) in bad {
        let found = findings(path, text);
        assert!(
            found.len() == 1 && found[0].contains(&format!("`{user}` may not use `{used}`")),
            "{text}: {found:?}"
        );
    }
    assert!(findings("proxy/src/cache.rs", "")[0].contains("no place in the layers"));
}

#[test]
fn unsafe_is_found_where_it_is_code() {
    for text in [
        "// unsafe",
        "/* unsafe /* */ unsafe */",
        "#![deny(unsafe_code)]",
        "const A: &str = \"\\\"unsafe\";",
        "const A: &str = r#\"\" unsafe\"#;",
        "const A: &[u8] = br\"unsafe\"; const B: char = '\"'; // unsafe",
        "fn r#match<'a>(_: &'a str) -> char { '\\'' } // unsafe '",
    ] {
        assert_eq!(findings("xtask/src/a.rs", text), [""; 0], "{text}");
    }
    let found = findings("proxy/src/net/splice.rs", "fn f() {\n    let a = 'x';\n    unsafe { g('\"') }\n}");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("proxy/src/net/splice.rs:3: unsafe belongs into"), "{found:?}");
    assert_eq!(findings("proxy/src/sys/ktls.rs", "unsafe { f() }"), [""; 0]);
}

#[test]
fn names_that_say_nothing_are_refused() {
    assert!(findings("tests/harness/utils.rs", "")[0].contains("called utils"));
    assert!(findings("proxy/src/http/common/mod.rs", "")[0].contains("called common"));
}

#[test]
fn code_stays_where_it_was() {
    let source = Source::new("/* é */ a // ü\nb");
    assert_eq!(source.words("b").collect::<Vec<_>>(), [2]);
    assert_eq!(source.words("é").count(), 0);
}

#[test]
fn licences_are_read_as_spdx_means_them() {
    let list =
        ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(|name| Licensee::parse(name).unwrap());
    for (text, allowed) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("(GPL-3.0 OR MIT) AND Unicode-3.0", true),
        ("MIT AND GPL-3.0 OR MPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(licences::is_allowed(text, &list).unwrap(), allowed, "{text}");
    }
    for text in ["", "MIT OR", "(MIT", "MIT Apache-2.0"] {
        assert!(licences::is_allowed(text, &list).is_err(), "{text}");
    }
}
