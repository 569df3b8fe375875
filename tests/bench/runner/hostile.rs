//! Attacks of strangers beside Meta's webhooks: tests/tests/hostile with the release build, for
//! longer.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::environment::{self, Environment};
use crate::prepare;

/// What the goals are for.
const CORES: usize = 2;

/// `rows`: all where it is empty. Fails where a webhook was not answered, memory was not kept, or
/// an attack did not show.
///
/// # Errors
/// Nothing can be built or started, or there is no such row.
pub fn measure(
    workspace: &Workspace,
    rounds: usize,
    seconds: f64,
    rows: &[String],
    publish: bool,
) -> Result<ExitCode> {
    ensure!((1.0..=3600.0).contains(&seconds), "--seconds is from 1 to 3600 for attacks");
    prepare::install(workspace, "tests")?;
    let hookgate = prepare::hookgate(workspace)?;
    let environment = environment::of_machine(&hookgate)?;
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let figures = folder.join("hostile.json");
    // It is appended to, a line for each row.
    fs::write(&figures, "").with_context(|| format!("writing {}", figures.display()))?;

    let mut cargo = workspace.cargo();
    cargo.args(["test", "--release", "--package", "hookgate-tests", "--test", "hostile"]);
    cargo.args(["--no-fail-fast", "--", "--test-threads=1", "--nocapture"]);
    cargo.args(rows.iter().map(|row| row.replace('-', "_")));
    cargo.env("HOOKGATE_BIN", &hookgate).env("HOOKGATE_HOSTILE_FIGURES", &figures);
    cargo.env("HOOKGATE_HOSTILE_SECONDS", seconds.to_string());
    cargo.env("HOOKGATE_HOSTILE_ROUNDS", rounds.to_string());
    stay_on_its_cores()?;
    let status = cargo.status().context("starting cargo")?;

    let measured = fs::read_to_string(&figures)?;
    let measured = measured.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    let measured = measured.with_context(|| format!("reading {}", figures.display()))?;
    for row in rows {
        ensure!(
            measured.iter().any(|figures| figures["row"] == **row),
            "nothing was measured of a row {row}"
        );
    }
    let report = markdown(&environment, &measured)?;
    println!("{report}");
    write(&folder, &report)?;
    if publish {
        let folder = workspace.root.join("docs/performance");
        let published = folder.join("hostile.md");
        let report = match rows {
            [] => report,
            rows => {
                let published = fs::read_to_string(&published)
                    .with_context(|| format!("{}: publish all rows first", published.display()))?;
                renewed(&published, &report, &format!("{}: {}", environment["started"], rows.join(", ")))
            }
        };
        write(&folder, &report)?;
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(folder: &Path, report: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join("hostile.md");
    fs::write(&path, report).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("bench: report in {}", path.display());
    Ok(())
}

/// All that we start goes to two cores, on machines that have more.
fn stay_on_its_cores() -> Result<()> {
    let mut cores = CpuSet::new();
    (0..CORES).for_each(|core| cores.set(core));
    sched_setaffinity(None, &cores).context("staying on two cores")
}

fn markdown(environment: &Environment, measured: &[Value]) -> Result<String> {
    let mut text = String::from("# Attacks of strangers beside Meta's webhooks\n\n");
    for (name, value) in environment {
        writeln!(text, "- {name}: {value}")?;
    }
    if let Some(first) = measured.first() {
        let rounds = number(first, "/rounds");
        writeln!(text, "- rounds: {rounds:.0}, each a calm time, an attack, and a calm time")?;
    }
    text += "\n50 webhooks/s, each from when it was due to the end of its 200; p99 in ms, the median of the rounds. \
             Memory is what the worker held at most beyond what it had at rest, in MiB, and what is \
             planned for strangers.\n\n";
    text += "| row | before | during | after | of before | goal | memory | attack | webhooks | failed | |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- |\n";
    for figures in measured {
        let at = |path: &str| number(figures, path);
        let word = |path: &str| figures.pointer(path).and_then(Value::as_str).unwrap_or("?");
        writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {:.0} (≤ {:.0}) | {} {}/s | {:.0} | {:.0} | {} |",
            word("/row"),
            at("/p99_ms/before"),
            at("/p99_ms/during"),
            at("/p99_ms/after"),
            at("/ratio"),
            at("/goal"),
            at("/memory_mib/growth"),
            at("/memory_mib/plan"),
            rounded(at("/per_second/actions")),
            word("/actions"),
            at("/webhooks"),
            at("/failed"),
            verdict(figures),
        )?;
    }
    Ok(text)
}

/// A report of all rows, with those of another one in their places, which were measured `when`.
fn renewed(published: &str, again: &str, when: &str) -> String {
    let name = |line: &str| line.strip_prefix("| ").and_then(|row| row.split(' ').next()).map(str::to_owned);
    let fresh = |line: &str| again.lines().find(|fresh| name(line).is_some() && name(fresh) == name(line));
    let mut lines = published.lines().map(|line| fresh(line).unwrap_or(line)).collect::<Vec<_>>();
    let note = format!("- measured again: {when}");
    // Behind the others of its kind.
    let at = lines.iter().rposition(|line| line.starts_with("- ")).map_or(0, |last| last + 1);
    lines.insert(at, &note);
    lines.join("\n") + "\n"
}

fn verdict(figures: &Value) -> &'static str {
    let at = |path: &str| number(figures, path);
    let is_kept = at("/failed") == 0.0 && at("/memory_mib/growth") <= at("/memory_mib/plan");
    if is_kept && at("/ratio") <= at("/goal") { "reached" } else { "not reached" }
}

fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// Whole from ten on: a rate needs no more digits.
fn rounded(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(ratio: f64, failed: u64, growth: f64) -> Value {
        json!({
            "row": "slow-heads", "actions": "bytes", "goal": 1.5, "ratio": ratio, "failed": failed, "webhooks": 3000,
            "p99_ms": { "before": 2.0, "during": 2.0 * ratio, "after": 2.25 }, "rounds": 5,
            "memory_mib": { "growth": growth, "plan": 234.4 }, "per_second": { "actions": 1500.4 },
        })
    }

    #[test]
    fn a_row_reaches_its_goal_with_all_three() {
        assert_eq!(verdict(&figures(1.5, 0, 30.0)), "reached");
        for missed in [figures(1.51, 0, 30.0), figures(1.0, 1, 30.0), figures(1.0, 0, 240.0), json!({})] {
            assert_eq!(verdict(&missed), "not reached", "{missed}");
        }
    }

    #[test]
    fn rows_that_are_measured_again_take_their_old_places() -> Result<()> {
        let row = |name: &str, ratio: f64| {
            let mut row = figures(ratio, 0, 30.0);
            row["row"] = json!(name);
            row
        };
        let all = markdown(&Environment::new(), &[row("a", 1.0), row("b", 9.0), row("c", 1.0)])?;
        let renewed = renewed(&all, &markdown(&Environment::new(), &[row("b", 1.25)])?, "today: b");
        let expected = markdown(&Environment::new(), &[row("a", 1.0), row("b", 1.25), row("c", 1.0)])?;
        let (again, rest): (Vec<_>, Vec<_>) =
            renewed.lines().partition(|line| line.starts_with("- measured"));
        assert_eq!(again, ["- measured again: today: b"]);
        assert_eq!(rest, expected.lines().collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn a_row_is_a_line() -> Result<()> {
        let text = markdown(&Environment::new(), &[figures(1.25, 0, 30.0)])?;
        let line = "| slow-heads | 2.00 | 2.50 | 2.25 | 1.25 | 1.5 | 30 (≤ 234) | 1500 bytes/s | 3000 | 0 | reached |";
        assert_eq!(text.lines().last(), Some(line));
        Ok(())
    }
}
