use std::path::Path;

use anyhow::Result;
use clap::CommandFactory as _;
use harness::{Need, binary, require};

use super::findings;
use super::known_names::KnownNames;
use super::markdown::Page;
use super::report::Report;

fn report(text: &str, can_try: bool) -> Result<Report> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = binary()?;
    let names = KnownNames::read(&root, &binary, &crate::Command::command(), "Options:\n      --hostile\n")?;
    findings(&root, &binary, &names, &[Page::parse("docs/page.md", text)], can_try)
}

/// Whether each of `expected` is the start of one finding, and there are no others.
#[track_caller]
fn assert_found(report: &Report, expected: &[&str]) {
    let all = report.findings.join("\n");
    assert_eq!(report.findings.len(), expected.len(), "{all}");
    for start in expected {
        assert!(report.findings.iter().any(|finding| finding.starts_with(start)), "no {start} in\n{all}");
    }
}

#[test]
fn words_for_what_there_is_not_are_found() -> Result<()> {
    let page = "# Title\n\n[a](json.md) [b](gone.md) [c](#title) [d](#other) [e](https://gone.example/)\n\
                `hookgate stats --watch` `hookgate stat` `hookgate stats --wach`\n\
                `--takeover` `--takover` `cargo xtask docs` `cargo xtask dogs` `cargo xtask bench --hostil`\n\
                `[guard] mode` `[guard] mood` `[gard]` `mode = \"limit\"` `mood = 1`\n\n\
                ```toml needs=luck\n```\n\n```basic\nPRINT\n```\n\n```json\n{}\n```\n\n```sh needs=live\nhookgate guess\n```\n";
    assert_found(
        &report(page, false)?,
        &[
            "docs/page.md:3: no such file: gone.md",
            "docs/page.md:3: no such heading: #other",
            "docs/page.md:4: there is no command `stat`",
            "docs/page.md:4: `stats` has no option --wach",
            "docs/page.md:5: no command has an option --takover",
            "docs/page.md:5: there is no command `dogs`",
            "docs/page.md:5: `bench` has no option --hostil",
            "docs/page.md:6: no such key: [guard] mood",
            "docs/page.md:6: no such section: [gard]",
            "docs/page.md:6: no such key: mood = 1",
            "docs/page.md:8: unknown mark: needs=luck",
            "docs/page.md:11: a block is ",
            "docs/page.md:15: its heading names no command",
            "docs/page.md:19: there is no command `guess`",
        ],
    );
    Ok(())
}

#[test]
fn blocks_that_do_not_hold_are_found() -> Result<()> {
    if !require(&[Need::Root, Need::Guard, Need::Program("nginx"), Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let page = "```toml\n[log]\nformat = \"text\"\n```\n\n```toml\n[log]\nformat = \"txt\"\n```\n\n```toml\n[log\n```\n\n\
                ```sh\nhookgate probe chatwoot.example.com\nhookgate run\n```\n\n\
                ```sh\nfalse\ntrue\n```\n\n```sh\nhookgate prefixes lookup 192.0.2.1 --watch\n```\n\n\
                ```nginx\nserver { listen 80; }\n```\n\n```nginx\nserver { lisen 80; }\n```\n\n\
                # `hookgate prefixes lookup IP --json`\n\n```json\n{ \"version\": 1, \"address\": \"\", \"colour\": \"\" }\n```\n";
    let report = report(page, true)?;
    assert_found(
        &report,
        &[
            "docs/page.md:6: exit code 1",
            "docs/page.md:11: TOML parse error",
            "docs/page.md:20: exit code 1",
            "docs/page.md:25: exit code",
            "docs/page.md:25: `prefixes lookup` has no option --watch",
            "docs/page.md:33: exit code 1",
            "docs/page.md:39: .colour is not in the real document",
            "docs/page.md:39: the page does not say what `class` is",
            "docs/page.md:39: the page does not say what `network` is",
        ],
    );
    // One of each kind, the printed document among them.
    assert_eq!(report.tried, 4);
    Ok(())
}
