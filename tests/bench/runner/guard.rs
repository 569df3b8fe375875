//! The guard's program beside others in C: an empty one, the least that could count, and one with
//! the same map operations. What is measured stands in tests/bench/guard.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness_core::{Workspace, is_root};
use serde_json::{Value, json};

use crate::prepare;

pub const NAME: &str = "guard";

const IN_C: [&str; 3] = ["empty", "minimal", "same"];
const GUARD: &str = "hookgate";
/// The same in tc.
const TC: &str = "tc";
const PATHS: [(&str, &str); 13] = [
    ("meta_established", "Meta, established"),
    ("meta_established_v6", "Meta, established, IPv6"),
    ("meta_syn", "Meta, SYN sent again"),
    ("meta_first_syn", "Meta, first SYN (one at a time)"),
    ("stranger_established", "stranger, established"),
    ("stranger_syn", "stranger, SYN sent again"),
    ("stranger_first_syn", "stranger, first SYN (one at a time)"),
    ("stranger_syn_dropped", "stranger, SYN, dropped"),
    ("stranger_syn_dropped_looked_up", "the same while prefixes change, with `allow`"),
    ("stranger_first_syn_looked_up", "stranger, first SYN, while prefixes change, with `allow`"),
    ("stranger_dropped", "stranger, dropped"),
    ("other_port", "other port"),
    ("non_ip", "not IP"),
];

/// # Errors
/// Not root, no program or no clang, or the kernel refuses one of the programs.
pub fn measure(workspace: &Workspace, rounds: usize, publish: bool) -> Result<()> {
    ensure!(is_root(), "XDP programs are run as root: sudo cargo xtask bench --only {NAME}");
    let folder = workspace.target.join("bpf");
    let program = folder.join("hookgate-guard.o");
    ensure!(program.is_file(), "there is no program to measure: no {}", program.display());
    prepare::install(workspace, "guard-bench")?;
    let mut cargo = workspace.cargo();
    cargo.args(["bench", "--quiet", "--package", "hookgate-tests", "--bench", "guard", "--"]);
    cargo.args(["--rounds", &(3 * rounds).to_string()]);
    for name in IN_C {
        let object = folder.join(format!("bench-{name}.o"));
        compile(workspace, name, &object)?;
        cargo.arg("--program").arg(format!("{name}={}", object.display()));
    }
    for name in [GUARD, TC] {
        cargo.arg("--program").arg(format!("{name}={}", program.display()));
    }
    eprintln!("bench: the guard's program beside others in C");
    let measured: Value =
        serde_json::from_str(&harness_core::run(cargo)?).context("what the bench has measured")?;
    let folder = workspace.target.join("bench");
    write(&Samples::of(&measured), &measured, &folder)?;
    if publish {
        let (report, published) = (folder.join("guard.md"), workspace.root.join("docs/performance/guard.md"));
        fs::copy(&report, &published).with_context(|| format!("writing {}", published.display()))?;
    }
    Ok(())
}

fn compile(workspace: &Workspace, name: &str, object: &Path) -> Result<()> {
    let source = workspace.root.join(format!("tests/bench/guard/{name}.c"));
    let mut clang = Command::new("clang");
    // Where Debian keeps the headers that depend on the machine, which linux/bpf.h wants.
    clang.arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH));
    clang.args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-c"]).arg(source).arg("-o").arg(object);
    harness_core::run(clang).map(|_| ())
}

/// Medians over the rounds.
struct Samples {
    nanoseconds: BTreeMap<(String, String), f64>,
    packets_per_s: BTreeMap<(String, String), f64>,
}

impl Samples {
    fn of(measured: &Value) -> Self {
        Self {
            nanoseconds: medians(&measured["paths"], ["path", "program"], "ns"),
            packets_per_s: medians(&measured["wire"], ["program", "xdp"], "packets_per_s"),
        }
    }

    fn ns(&self, path: &str, program: &str) -> Option<f64> {
        self.nanoseconds.get(&(path.to_owned(), program.to_owned())).copied()
    }

    fn ratio(&self, path: &str, to: &str) -> Option<f64> {
        Some(self.ns(path, GUARD)? / self.ns(path, to)?)
    }
}

fn medians(samples: &Value, keys: [&str; 2], figure: &str) -> BTreeMap<(String, String), f64> {
    let mut grouped = BTreeMap::<_, Vec<f64>>::new();
    for sample in samples.as_array().into_iter().flatten() {
        let [a, b] = keys.map(|key| sample[key].as_str().unwrap_or("none").to_owned());
        grouped.entry((a, b)).or_default().extend(sample[figure].as_f64());
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    grouped
        .into_iter()
        .filter(|(_, figures)| !figures.is_empty())
        .map(|(key, figures)| (key, median(figures)))
        .collect()
}

fn write(samples: &Samples, measured: &Value, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let markdown = markdown(samples)?;
    let ratios: BTreeMap<&str, Value> = PATHS
        .iter()
        .map(|(path, _)| {
            let of = |program: &str| samples.ratio(path, program);
            (*path, json!({ "of_same": of("same"), "of_minimal": of("minimal"), "of_empty": of("empty") }))
        })
        .collect();
    let json = serde_json::to_string_pretty(&json!({ "ratios": ratios, "samples": measured }))?;
    for (name, text) in [("guard.md", &markdown), ("guard.json", &json)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("{markdown}");
    eprintln!("bench: the same in {0}/guard.md and, with every round, {0}/guard.json", folder.display());
    Ok(())
}

fn markdown(samples: &Samples) -> Result<String> {
    let cell = |figure: Option<f64>, decimals: usize| {
        figure.map_or("-".to_owned(), |figure| format!("{figure:.decimals$}"))
    };
    let mut text =
        String::from("# The guard's program beside others in C\n\nNanoseconds a packet, medians.\n\n");
    let names = IN_C.into_iter().chain([GUARD, TC]).collect::<Vec<_>>();
    writeln!(text, "| path | {} | of same | of minimal |", names.join(" | "))?;
    writeln!(text, "| --- |{}", " ---: |".repeat(names.len() + 2))?;
    for (path, what) in PATHS {
        let figures =
            names.iter().map(|name| cell(samples.ns(path, name), 1)).collect::<Vec<_>>().join(" | ");
        let [same, minimal] = ["same", "minimal"].map(|program| cell(samples.ratio(path, program), 2));
        writeln!(text, "| {what} | {figures} | {same} | {minimal} |")?;
    }
    writeln!(text, "\nPackets over a veth in a second of processor time, both ends on one core.\n")?;
    writeln!(text, "| program | XDP | packets/s |\n| --- | --- | ---: |")?;
    for ((program, xdp), rate) in &samples.packets_per_s {
        writeln!(text, "| {program} | {xdp} | {rate:.0} |")?;
    }
    Ok(text)
}
