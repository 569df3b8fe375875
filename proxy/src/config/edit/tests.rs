use super::*;

fn keys(text: &str) -> InlineTable {
    let value: Value = text.parse().unwrap();
    value.as_inline_table().unwrap().clone()
}

#[test]
fn a_host_is_added_at_the_end_of_upstreams_and_nothing_else_changes() {
    for (before, after) in [
        ("", "[upstreams]\n\"new.example\" = { port = 1 }\n"),
        ("# nothing", "# nothing\n\n[upstreams]\n\"new.example\" = { port = 1 }\n"),
        ("[upstreams]", "[upstreams]\n\"new.example\" = { port = 1 }\n"),
        (
            "[upstreams] # all of them\n# none yet\n\n[log]\n",
            "[upstreams] # all of them\n\"new.example\" = { port = 1 }\n# none yet\n\n[log]\n",
        ),
        (
            "[upstreams]\n# a's\n\t\"a.example\" = {}   # yes\n# more\n[log]\nformat='json'",
            "[upstreams]\n# a's\n\t\"a.example\" = {}   # yes\n\t\"new.example\" = { port = 1 }\n# more\n[log]\nformat='json'",
        ),
        (
            "[upstreams]\r\n\"a.example\" = {}\r\n\r\n[log]\r\n",
            "[upstreams]\r\n\"a.example\" = {}\r\n\"new.example\" = { port = 1 }\r\n\r\n[log]\r\n",
        ),
        (
            "[upstreams]\n\"a.example\".tls = false\n\"b.example\" = {}\n\"a.example\".port = 3\n\n[upstreams.\"c.example\"]\nport = 2\n",
            "[upstreams]\n\"a.example\".tls = false\n\"b.example\" = {}\n\"a.example\".port = 3\n\"new.example\" = { port = 1 }\n\n[upstreams.\"c.example\"]\nport = 2\n",
        ),
        (
            "[upstreams.\"c.example\"]\nport = 2\n[log]\naccess = true\n",
            "[upstreams.\"c.example\"]\nport = 2\n[log]\naccess = true\n\n[upstreams]\n\"new.example\" = { port = 1 }\n",
        ),
        (
            "upstreams.\"a.example\" = {}\nupstreams.\"b.example\".port = 2 # b\n[log]\n",
            "upstreams.\"a.example\" = {}\nupstreams.\"b.example\".port = 2 # b\nupstreams.\"new.example\" = { port = 1 }\n[log]\n",
        ),
        (
            "upstreams = { \"a.example\" = { port = 7 } } # all\n[log]\n",
            "upstreams = { \"a.example\" = { port = 7 }, \"new.example\" = { port = 1 } } # all\n[log]\n",
        ),
        ("upstreams = {}", "upstreams = { \"new.example\" = { port = 1 } }"),
    ] {
        let edited = add(before, "new.example", &keys("{ port = 1 }")).unwrap();
        assert_eq!(edited, after, "{before}");
        assert!(Document::parse(&*edited).is_ok(), "{edited}");
    }
    assert_eq!(add("", "a", &keys("{}")).unwrap(), "[upstreams]\n\"a\" = {}\n");
    assert!(add("[upstreams", "a", &keys("{}")).is_err());
}

#[test]
fn a_host_is_removed_with_its_lines_and_nothing_else_changes() {
    for (before, after) in [
        ("[upstreams]\n\"old.example\" = {}", "[upstreams]\n"),
        (
            "[upstreams]\n# comments stay\n\"OLD.example\" = { # this one not\n port = 1 } # nor this\n\"a.example\" = {}\n",
            "[upstreams]\n# comments stay\n\"a.example\" = {}\n",
        ),
        (
            "[upstreams]\r\n'old.example' = {}\r\n\"a.example\" = {}\r\n",
            "[upstreams]\r\n\"a.example\" = {}\r\n",
        ),
        (
            "[upstreams]\n\"old.example\".tls = false\n\"b.example\" = {}\n\"old.example\".port = 3 # three\n",
            "[upstreams]\n\"b.example\" = {}\n",
        ),
        (
            "[log]\naccess = true\n\n[upstreams.\"old.example\"] # old\nport = 2\n# within\ntls = false\n\n# b's\n[upstreams.\"b.example\"]\n",
            "[log]\naccess = true\n\n# b's\n[upstreams.\"b.example\"]\n",
        ),
        ("[log]\n\n[upstreams.\"old.example\"]\n", "[log]\n"),
        ("[upstreams.\"old.example\"]\n\n[log]\n", "[log]\n"),
        ("[upstreams.\"old.example\"]\nport = 1", ""),
        ("upstreams.\"old.example\" = {}\nupstreams.\"b.example\" = {}\n", "upstreams.\"b.example\" = {}\n"),
        (
            "upstreams = { \"a.example\" = { port = 7 }, \"old.example\".port = 1, \"b.example\" = {} } # all\n[log]\n",
            "upstreams = { \"a.example\" = { port = 7 }, \"b.example\" = {} } # all\n[log]\n",
        ),
    ] {
        let edited = remove(before, "old.example").unwrap();
        assert_eq!(edited.as_deref(), Some(after), "{before}");
        assert!(Document::parse(after).is_ok(), "{after}");
    }
    for absent in
        ["", "[log]\n\"old.example\" = {}\n", "[upstreams]\n\"a.old.example\" = {}\n", "upstreams = 3"]
    {
        assert_eq!(remove(absent, "old.example").unwrap(), None, "{absent}");
    }
}

#[test]
fn what_is_added_and_removed_again_leaves_no_trace() {
    let shipped = include_str!("../../../../packaging/hookgate.toml");
    let added = add(shipped, "new.example", &keys("{}")).unwrap();
    assert_eq!(added.lines().count(), shipped.lines().count() + 1);
    assert_eq!(remove(&added, "new.example").unwrap().as_deref(), Some(shipped));
}
