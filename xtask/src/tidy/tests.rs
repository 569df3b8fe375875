use spdx::Licensee;

use super::circles;
use super::isolation;
use super::language::Glossary;
use super::licences;
use super::ratchet::{Hit, Ratchet};
use super::source::SourceFile;

fn file<'a>(path: &'a str, text: &str) -> SourceFile<'a> {
    SourceFile::parse(path, text).unwrap()
}

fn findings(path: &str, text: &str) -> Vec<String> {
    super::in_source(&file(path, text))
}

#[test]
fn a_layer_may_use_only_what_stands_below_it() {
    let good = [
        ("proxy/src/datapath/forward.rs", "use crate::upstream::pool;\nuse crate::{http, net::stream};"),
        ("proxy/src/datapath/forward.rs", "use crate::datapath::body; use super::body;"),
        ("proxy/src/http/head.rs", "// crate::net is above us\nconst S: &str = \"crate::net\";"),
        ("proxy/src/http/head.rs", "mod tests { use super::super::target; use super::*; }"),
        ("proxy/src/http/head.rs", "pub(in crate::net) fn f() {}"),
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
fn an_import_says_which_module_it_uses() {
    for text in ["use crate::*;", "use crate::{self as c};", "use super::*;", "use crate::Server;"] {
        let found = findings("proxy/src/http/mod.rs", text);
        assert!(
            found.len() == 1 && found[0].contains("does not say which module is used"),
            "{text}: {found:?}"
        );
    }
    assert_eq!(findings("proxy/src/http/mod.rs", "mod tests { use super::*; }"), [""; 0]);
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
fn comments_are_read_line_by_line() {
    let text = "//! one\nfn f() { // two\n    /* three\n    four */ g(\"// none\")\n}\n/// é five\nstruct S;\n// six";
    let file = file("xtask/src/a.rs", text);
    let comments = file.comments.iter().map(|comment| (comment.line, &*comment.text)).collect::<Vec<_>>();
    let expected =
        [(1, "//! one"), (2, "// two"), (3, "/* three"), (4, "four */"), (6, "/// é five"), (8, "// six")];
    assert_eq!(comments, expected);
    assert_eq!(file.comments[1].columns, "fn f() { // two".len());
    let line_of = |name: &str| file.tokens.iter().find(|token| token.text == name).map(|token| token.line);
    assert_eq!((line_of("g"), line_of("S"), line_of("none")), (Some(4), Some(7), None));
}

#[test]
fn circles_inside_a_folder_are_found() {
    let found = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| file(path, text)).collect::<Vec<_>>();
        circles::find(&files).into_iter().map(|found| found.circle.to_string()).collect::<Vec<_>>()
    };
    let root = ("proxy/src/lib.rs", "mod guard;");
    let (link, pins) = ("proxy/src/guard/link.rs", "proxy/src/guard/pins.rs");
    let parent = "proxy/src/guard/mod.rs";
    let declares = (parent, "mod link;\nmod pins;\n#[cfg(test)]\nmod tests;\npub use link::Xdp;");
    let uses_link = (pins, "use super::link::release;");
    assert_eq!(
        found(&[root, declares, (link, "use super::pins;"), uses_link]),
        ["proxy/src/guard: link pins"]
    );
    // By the parent's export, by a path in an expression, by what a module inside of one uses.
    assert_eq!(
        found(&[root, declares, (link, "fn f() { super::pins::g() }"), (pins, "use crate::guard::Xdp;")]),
        ["proxy/src/guard: link pins"]
    );
    let inside = ("proxy/src/guard/pins/folder.rs", "use crate::guard::link::{self, release};");
    assert_eq!(
        found(&[root, declares, (link, "use super::pins;"), (pins, "mod folder;"), inside]),
        ["proxy/src/guard: link pins"]
    );
    // A parent that only declares can't be in a circle; one that does more can.
    let works = (parent, "mod link;\nmod pins;\npub struct Guard;\nfn f() { link::attach() }");
    assert_eq!(found(&[root, works, (link, "use super::Guard;"), (pins, "")]), ["proxy/src/guard: link mod"]);
    // One direction, code for tests, and other crates are no circles.
    for (in_link, in_pins) in [
        ("use super::pins;", ""),
        ("use super::pins;", "#[cfg(test)]\nmod tests { use crate::guard::link; }"),
        ("use super::pins;", "use std::link;"),
    ] {
        assert_eq!(
            found(&[root, declares, (link, in_link), (pins, in_pins)]),
            [""; 0],
            "{in_link} {in_pins}"
        );
    }
    let tests = ("proxy/src/guard/tests.rs", "use super::{link, pins};");
    assert_eq!(found(&[root, declares, (link, ""), (pins, "use super::tests;"), tests]), [""; 0]);
}

const GLOSSARY: &str = "# Glossary\n\n## Not in names\n\n| not | but |\n| --- | --- |\n| `Told`, `MOST_`, `wish` | `x` |\n\n\
                        ## Not in comments\n\n| not | but |\n| --- | --- |\n| `whom` | the name |\n";

fn hits(path: &str, text: &str) -> Vec<Hit> {
    Glossary::parse(GLOSSARY).unwrap().hits(&file(path, text))
}

#[test]
fn names_and_comments_keep_to_the_glossary() {
    let what = |text: &str| {
        hits("xtask/src/a.rs", text).into_iter().map(|hit| (hit.line, hit.what)).collect::<Vec<_>>()
    };
    let name = |line, name: &str, word: &str| (line, format!("the name {name}: not {word}"));
    assert_eq!(what("struct Told;\nfn f(_: Told) {}"), [name(1, "Told", "Told")]);
    assert_eq!(what("const MOST_IDLE: u8 = 1;"), [name(1, "MOST_IDLE", "MOST_")]);
    assert_eq!(what("struct LastWish;"), [name(1, "LastWish", "wish")]);
    for good in [
        "fn told() {}",
        "struct ToldYou;",
        "fn wishes() {}",
        "const MOST: u8 = 1;",
        "const S: &str = \"wish whom\";",
    ] {
        assert!(what(good).is_empty(), "{good}");
    }
    assert_eq!(what("// Whom? To whom."), [(1, "a comment: not \"whom\"".to_owned())]);
    assert!(what("// whomever").is_empty());
    assert!(what(&format!("//{}", "x".repeat(98))).is_empty());
    assert_eq!(what(&format!("//{}", "x".repeat(99))), [(1, "a comment up to column 101".to_owned())]);
    assert!(Glossary::parse("# Glossary\n").is_err());
}

#[test]
fn the_worker_opens_no_file() {
    for text in [
        "use std::{fs, io};",
        "use std::fs::File;",
        "use std::*;",
        "fn f() { tokio::fs::read(p) }",
        "fn f() { std::process::id() }",
        "fn f() { path.exists() }",
    ] {
        assert_eq!(isolation::hits(&file("proxy/src/datapath/a.rs", text)).len(), 1, "{text}");
        assert_eq!(isolation::hits(&file("proxy/src/access/a.rs", text)).len(), 0, "{text}");
    }
    for good in [
        "use std::path::Path;",
        "use crate::fs;",
        "fn f() { exists() }",
        "#[cfg(test)] mod tests { use std::fs; }",
    ] {
        assert_eq!(isolation::hits(&file("proxy/src/acme/a.rs", good)).len(), 0, "{good}");
    }
}

#[test]
fn long_files_are_found() {
    assert_eq!(super::long(&file("xtask/src/a.rs", &"\n".repeat(500))).len(), 0);
    assert_eq!(super::long(&file("xtask/src/a.rs", &"\n".repeat(501))).len(), 1);
}

#[test]
fn what_is_left_may_only_shrink() {
    let told = |folder: &str, count: usize| {
        let path = format!("{folder}/a.rs");
        hits(&path, &format!("struct Told; // {}", "whom\n// ".repeat(count)))
    };
    let circle = |members: &[(&str, &str)]| {
        let names = members.iter().map(|(name, _)| format!("mod {name};")).collect::<String>();
        let mut files = vec![file("xtask/src/main.rs", &names)];
        let paths = members.iter().map(|(name, _)| format!("xtask/src/{name}.rs")).collect::<Vec<_>>();
        files.extend(
            paths.iter().zip(members).map(|(path, (_, used))| file(path, &format!("use crate::{used};"))),
        );
        circles::find(&files)
    };
    let three = circle(&[("a", "b"), ("b", "c"), ("c", "a")]);
    let two = circle(&[("a", "b"), ("b", "a")]);
    let ratchet = Ratchet::of(&told("xtask/src/docs", 2), &three);
    assert_eq!(Ratchet::parse(&ratchet.text()).unwrap(), ratchet);
    assert_eq!(ratchet.findings(&told("xtask/src/docs", 2), &three), [""; 0]);
    assert_eq!(ratchet.lowered(&ratchet), ratchet);

    // The same name in another file of the folder is no more of it.
    let other_file = hits("xtask/src/docs/b.rs", "struct Told;");
    let split = told("xtask/src/docs", 2).into_iter().chain(other_file).collect::<Vec<_>>();
    assert_eq!(ratchet.findings(&split, &three), [""; 0]);

    // More of it, or elsewhere; another circle.
    let more = ratchet.findings(&told("xtask/src/docs", 3), &three);
    assert!(more.last().unwrap().starts_with("xtask/src/docs: 3 comments, and"), "{more:?}");
    let elsewhere = ratchet.findings(&told("xtask/src/vm", 2), &three);
    assert!(
        elsewhere.iter().any(|finding| finding.starts_with("xtask/src/vm: 1 names, and")),
        "{elsewhere:?}"
    );
    let other = circle(&[("a", "b"), ("b", "d"), ("d", "a")]);
    let found = ratchet.findings(&told("xtask/src/docs", 2), &other);
    assert!(
        found[0].starts_with("xtask/src: a b d: a circle, which") && found[0].contains("a uses b"),
        "{found:?}"
    );

    // Less of it has to be written down, and is not given back.
    let less = ratchet.findings(&told("xtask/src/docs", 1), &two);
    assert!(less.len() == 1 && less[0].contains("--lower"), "{less:?}");
    let lowered = ratchet.lowered(&Ratchet::of(&told("xtask/src/docs", 1), &two));
    assert_eq!(lowered.findings(&told("xtask/src/docs", 1), &two), [""; 0]);
    assert_eq!(lowered.lowered(&ratchet), lowered);
    assert_ne!(lowered.findings(&told("xtask/src/docs", 2), &three), [""; 0]);
    let nothing = lowered.lowered(&Ratchet::default());
    assert_eq!(nothing, Ratchet::default());
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
