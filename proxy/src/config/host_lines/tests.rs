use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::config::sections::{Meaning, meaning, of_tree};
use crate::config::upstreams;
use crate::config::{Config, Problem};

const FILE: &str = "/etc/hookgate/hookgate.toml";
const BESIDE: &str = "/etc/hookgate/upstreams.d/more.toml";

/// Lines with which hosts begin.
const HOSTS: [&str; 9] = [
    "\"a.example\"",
    "\"b.example\"",
    "\"c.example\"",
    " \"d_1.example\"\t",
    "\"taken.example\"",
    "\"A.example\"",
    "\"127.0.0.1\"",
    "'e.example'",
    "f.example",
];
/// What may be said of them.
const KEYS: [&str; 14] = [
    "{}",
    "{}",
    "{ tls = false }",
    "{ tls = false }",
    "{ ca = \"x.pem\", port = 81 } # why",
    "{} # \u{7f}",
    "{ port = 0 }",
    "{ unknown = 1 }",
    "{ ca = \"}#x\" }",
    "{ ca = \"}#y\" }",
    "{ ca = '}#\"x\"' }",
    "{ ca = \"\"\"}",
    "{ ca = \"x }",
    "{",
];
/// What else a line may be.
const OTHERS: [&str; 17] = [
    "",
    "# text",
    "  # \"g.example\" = {}",
    "[upstreams]",
    "[upstreams] # hosts",
    "[upstreams.\"a.example\"]",
    "[upstreams.\"h.example\"]",
    "[relay]",
    "name = \"x\"",
    "name = \"\"\"",
    "\"\"\"",
    "'''",
    "ca = [",
    "]",
    "}",
    "\"a.example\".port = 81",
    "upstreams = {",
];

fn line() -> impl Strategy<Value = String> {
    let host = (select(&HOSTS), select(&KEYS)).prop_map(|(host, keys)| format!("{host} = {keys}"));
    let numbered = (0..20, select(&KEYS[..4])).prop_map(|(n, keys)| format!("\"{n}.example\" = {keys}"));
    prop_oneof![2 => host, 4 => numbered, 1 => select(&OTHERS).prop_map(str::to_owned)]
}

fn text() -> impl Strategy<Value = String> {
    let begun =
        select(&["[upstreams]\n", "", "[upstreams.\"z.example\"]\n[upstreams]\n", "x = '''\n[upstreams]\n"]);
    let lines = prop::collection::vec((line(), select(&["\n", "\n", "\r\n"])), 0..12);
    (begun, lines)
        .prop_map(|(begun, lines)| lines.iter().fold(begun.to_owned(), |text, (line, end)| text + line + end))
}

fn all_of(meaning: Meaning) -> (Config, Vec<String>, Vec<Problem>, UpstreamNames) {
    let Meaning { config, pairs, named, problems, .. } = meaning;
    (config, pairs.iter().map(ToString::to_string).collect(), problems, named)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn it_is_read_as_by_a_tree_of_all(text in text()) {
        let text = format!("[listen]\nplain = [\"127.0.0.1:1\"]\n{text}");
        let file = Path::new(FILE);
        prop_assert_eq!(all_of(meaning(file, &text)), all_of(of_tree(file, &text)));
    }

    #[test]
    fn beside_others_too(text in text()) {
        let mut named = UpstreamNames::default();
        named.add(&"taken.example".parse().unwrap(), &Path::new(FILE).into(), 7).unwrap();
        let (mut named_by_tree, mut read) = (named.clone(), Vec::new());
        let (upstreams, problems) = upstreams::of_tree(Path::new(BESIDE), &text, &mut named_by_tree);
        prop_assert_eq!(upstreams::add_from(Path::new(BESIDE), &text, &mut named, &mut read), problems);
        prop_assert_eq!((read, named), (upstreams, named_by_tree));
    }
}

#[test]
fn the_tree_is_of_what_differs() {
    let text = "[upstreams] # ours\n\"a.example\" = {}\n\"b.example\" = {  } # b\n\n# more\n\
                \"c.example\" = {}\n\"d.example\" = {  }\nlocalhost = {}\n\"e.example\" = {}\n";
    let lines = HostLines::of(text).unwrap();
    let rest = "[upstreams] # ours\n\"a.example\" = {}\n\"b.example\" = {  } # b\n\n# more\n\
                \n\nlocalhost = {}\n\"e.example\" = {}\n";
    assert_eq!(lines.rest, rest);
    let names = |upstreams: &[Upstream]| upstreams.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
    let mut read = Vec::new();
    let problems = upstreams::add_from(Path::new(BESIDE), text, &mut UpstreamNames::default(), &mut read);
    assert_eq!(problems, []);
    assert_eq!(names(&read), ["a.example", "b.example", "c.example", "d.example", "localhost", "e.example"]);
    assert!(Arc::ptr_eq(&read[0].settings, &read[2].settings));
    assert!(HostLines::of("[upstreams]\n\"a.example\" = {}\n").is_none(), "nothing is there twice");
}
