use super::*;

const EXCERPT: &str = r#"
state = "2026-09-14"
looked_up = ["rustls", "ring", "tokio"]
[[advisory]]
id = "RUSTSEC-2026-0285"
crate = "rustls"
patched = [">= 0.23.45"]
unaffected = ["< 0.23.13"]
[[advisory]]
id = "RUSTSEC-2023-0005"
crate = "tokio"
kind = "unsound"
patched = [">= 1.18.5, < 1.19.0", ">= 1.24.2"]
[[advisory]]
id = "RUSTSEC-2025-0010"
crate = "ring"
kind = "unmaintained"
patched = []
unaffected = [">= 0.17"]
"#;

fn lock(name: &str, version: &str) -> String {
    format!(
        "version = 4\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"registry+x\"\n\
         [[package]]\nname = \"our-own\"\nversion = \"0.1.0\"\n"
    )
}

fn report(name: &str, version: &str, ignored: &[&str]) -> Report {
    let excerpt = Excerpt::parse(EXCERPT).unwrap();
    let ignored = ignored.iter().map(|id| (*id).to_owned()).collect();
    check(&excerpt, &packages(&lock(name, version)).unwrap(), &ignored)
}

#[test]
fn a_version_that_an_advisory_covers_is_a_finding() {
    for (name, version, expected) in [
        ("rustls", "0.23.12", None),
        ("rustls", "0.23.13", Some("RUSTSEC-2026-0285")),
        ("rustls", "0.23.44", Some("RUSTSEC-2026-0285")),
        ("rustls", "0.23.45", None),
        ("rustls", "0.24.0-dev.0", Some("RUSTSEC-2026-0285")),
        ("tokio", "1.18.4", Some("RUSTSEC-2023-0005")),
        ("tokio", "1.18.5+build", None),
        ("tokio", "1.19.0", Some("RUSTSEC-2023-0005")),
        ("serde", "1.0.0", Some("cargo xtask advisories")),
    ] {
        let findings = report(name, version, &[]).findings;
        assert_eq!(findings.len(), usize::from(expected.is_some()), "{name} {version}: {findings:?}");
        assert!(expected.is_none_or(|expected| findings[0].contains(expected)), "{findings:?}");
    }
}

#[test]
fn an_unmaintained_crate_is_only_mentioned() {
    let report = report("ring", "0.16.20", &[]);
    assert_eq!(report.findings, [""; 0]);
    assert!(report.notes[0].contains("RUSTSEC-2025-0010"), "{:?}", report.notes);
}

#[test]
fn an_accepted_advisory_is_no_finding_while_it_covers_something() {
    assert_eq!(report("rustls", "0.23.44", &["RUSTSEC-2026-0285"]).findings, [""; 0]);
    let stale = report("rustls", "0.23.45", &["RUSTSEC-2026-0285"]).findings;
    assert_eq!(stale.len(), 1);
    assert!(stale[0].contains("covers nothing"), "{stale:?}");

    let rules = |ignore: &str| ignored(&format!("[advisories]\nignore = [{ignore}]"));
    let named = rules("{ id = \"RUSTSEC-2026-0285\", reason = \"no TLS 1.3\" }").unwrap();
    assert!(named.contains("RUSTSEC-2026-0285"));
    assert!(rules("\"RUSTSEC-2026-0285\"").is_err(), "without a reason");
    assert!(rules("{ id = \"RUSTSEC-2026-0285\", reason = \"\" }").is_err(), "without a reason");
}

#[test]
fn the_committed_excerpt_is_as_it_would_be_written() {
    let text = include_str!("../../advisories.toml");
    assert_eq!(Excerpt::parse(text).unwrap().to_string(), text);
}

#[test]
fn an_excerpt_is_made_from_a_clone_of_the_database() {
    let database = harness_core::TempDir::new("advisory-db").unwrap();
    let write = |path: &str, front: &str| {
        let path = database.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("```toml\n{front}\n```\n\n# Title\n\n```toml\nnot = \"this\"\n```\n"))
            .unwrap();
    };
    let about = |id: &str, name: &str| format!("[advisory]\nid = \"{id}\"\npackage = \"{name}\"");
    let versions = "[versions]\npatched = [\"^ 1.2.3\", \">= 2.0.0\"]";
    write("crates/a/RUSTSEC-2026-0002.md", &format!("{}\n{versions}", about("RUSTSEC-2026-0002", "a")));
    let unsound = format!("{}\ninformational = \"unsound\"\n{versions}", about("RUSTSEC-2026-0001", "a"));
    write("crates/a/RUSTSEC-2026-0001.md", &unsound);
    let withdrawn = format!("{}\nwithdrawn = \"2026-01-02\"\n{versions}", about("RUSTSEC-2026-0003", "a"));
    write("crates/a/RUSTSEC-2026-0003.md", &withdrawn);
    write("crates/b/RUSTSEC-2026-0004.md", &format!("{}\n{versions}", about("RUSTSEC-2026-0004", "b")));
    for args in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message", "x"]] {
        let mut git = Command::new("git");
        git.current_dir(database.path()).args(["-c", "user.name=x", "-c", "user.email=x@example.com"]);
        git.env("GIT_COMMITTER_DATE", "2026-03-01T12:00:00Z").args(args);
        harness_core::run(git).unwrap();
    }

    let names = ["a", "c"].map(str::to_owned).into_iter().collect::<BTreeSet<_>>();
    let excerpt = Excerpt::of(database.path(), names.clone()).unwrap();
    assert_eq!((&*excerpt.state, &excerpt.looked_up), ("2026-03-01", &names));
    let ids = excerpt.advisories.iter().map(|advisory| &*advisory.id).collect::<Vec<_>>();
    assert_eq!(ids, ["RUSTSEC-2026-0001", "RUSTSEC-2026-0002"]);
    assert!(excerpt.advisories[0].covers("a", &Version::new(1, 2, 2)));
    assert!(!excerpt.advisories[0].covers("a", &Version::new(1, 2, 3)));
    assert_eq!(Excerpt::parse(&excerpt.to_string()).unwrap(), excerpt);
    assert!(Excerpt::of(&database.path().join("crates"), names).is_err());
}

#[test]
fn days_are_counted_as_the_calendar_does() {
    for (date, days) in [
        ("1970-01-01", Some(0)),
        ("1970-03-01", Some(59)),
        ("2000-02-29", Some(11_016)),
        ("2026-09-14", Some(20_710)),
        ("2026-13-01", None),
        ("today", None),
    ] {
        assert_eq!(day_number(date), days, "{date}");
    }
}
