//! Medians, ratios, Markdown, JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::loads::{self, Figures, Load};
use super::peer::Kind;
use super::scene::Scene;

/// What one load on one peer showed in one round.
pub struct Measurement {
    pub round: usize,
    pub load: &'static str,
    pub peer: &'static str,
    pub figures: Figures,
}

/// Everything measured so far, and where.
pub struct Report {
    setting: BTreeMap<&'static str, String>,
    measurements: Vec<Measurement>,
}

/// What readers want to know of each load with requests, besides the processor time.
const DETAILS: [&str; 5] = ["cpu_us", "requests_per_s", "p50_ms", "p99_ms", "p99.9_ms"];

impl Report {
    /// # Errors
    /// The machine, or one of the programs, does not say what it is.
    pub fn new(scene: &Scene, rounds: usize, seconds: f64) -> Result<Self> {
        let setting = BTreeMap::from([
            ("command", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
            ("haproxy", said("haproxy", &["-v"])?),
            ("hookgate", said(&scene.hookgate.to_string_lossy(), &["--version"])?),
            ("kernel", read("/proc/sys/kernel/osrelease")?.trim().to_owned()),
            ("load before", read("/proc/loadavg")?.trim().to_owned()),
            ("machine", machine()?),
            ("nginx", said("nginx", &["-v"])?),
            ("openssl", said("openssl", &["version"]).unwrap_or_else(|_| "unknown".to_owned())),
            ("request", format!("{} bytes, head and body", scene.webhook_bytes)),
            ("rounds", format!("{rounds} of {seconds} s each")),
            ("started", said("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"])?),
        ]);
        Ok(Self { setting, measurements: Vec::new() })
    }

    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// Writes `bench.md` and `bench.json` into `folder`, and prints the former.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let markdown = self.markdown()?;
        for (name, text) in
            [("bench.md", &markdown), ("bench.json", &serde_json::to_string_pretty(&self.json())?)]
        {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        println!("{markdown}");
        eprintln!("xtask: the same in {0}/bench.md and, with every round, {0}/bench.json", folder.display());
        Ok(())
    }

    fn markdown(&self) -> Result<String> {
        let peers = Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        let mut text = String::from("# hookgate beside nginx and HAProxy\n\n");
        for (name, value) in &self.setting {
            writeln!(text, "- {name}: {value}")?;
        }
        text += "\nMedians over the rounds; less is better. The last columns are hookgate's figure divided by \
                 the best peer's, and by that of nginx as today.\n\n";
        writeln!(text, "| load | figure | {} | of the best | of today |", peers.join(" | "))?;
        writeln!(text, "| --- | --- |{}", " ---: |".repeat(peers.len() + 2))?;
        for (load, figure) in compared() {
            let medians = peers.iter().map(|peer| self.median(load.name, peer, figure));
            let medians = medians.collect::<Vec<_>>();
            if medians.iter().any(Option::is_some) {
                let cells = medians.iter().map(|median| cell(*median)).collect::<Vec<_>>().join(" | ");
                let best = cell(self.ratio(load.name, figure, &Kind::PEERS));
                let today = cell(self.ratio(load.name, figure, &[Kind::NginxToday]));
                writeln!(text, "| {} | {figure} | {cells} | {best} | {today} |", load.what)?;
            }
        }
        for load in loads::ALL {
            self.details(&load, &peers, &mut text)?;
        }
        Ok(text)
    }

    fn details(&self, load: &Load, peers: &[&str], text: &mut String) -> Result<()> {
        let measured = |peer: &&&str| self.median(load.name, peer, DETAILS[1]).is_some();
        let measured = peers.iter().filter(measured).collect::<Vec<_>>();
        if measured.is_empty() {
            return Ok(());
        }
        writeln!(text, "\n## {}\n", load.what)?;
        writeln!(text, "| | {} |\n| --- |{}", DETAILS.join(" | "), " ---: |".repeat(DETAILS.len()))?;
        for peer in measured {
            let cells = DETAILS.map(|figure| cell(self.median(load.name, peer, figure)));
            writeln!(text, "| {peer} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let ratios = compared().filter_map(|(load, figure)| {
            let of_best = self.ratio(load.name, figure, &Kind::PEERS)?;
            let of_today = self.ratio(load.name, figure, &[Kind::NginxToday]);
            Some(json!({ "load": load.name, "figure": figure, "of_best": of_best, "of_today": of_today }))
        });
        let measurements = self.measurements.iter().map(|measurement| {
            let Measurement { round, load, peer, figures } = measurement;
            json!({ "round": round, "load": load, "peer": peer, "figures": figures })
        });
        json!({
            "setting": self.setting,
            "loads": loads::ALL.map(|load| json!({ "name": load.name, "what": load.what })),
            "ratios": ratios.collect::<Vec<_>>(),
            "measurements": measurements.collect::<Vec<_>>(),
        })
    }

    /// hookgate's median divided by the best of `peers`.
    fn ratio(&self, load: &str, figure: &str, peers: &[Kind]) -> Option<f64> {
        let own = self.median(load, Kind::Hookgate.name(), figure)?;
        let medians = peers.iter().filter_map(|kind| self.median(load, kind.name(), figure));
        Some(own / medians.reduce(f64::min)?)
    }

    fn median(&self, load: &str, peer: &str, figure: &str) -> Option<f64> {
        let of_both = self.measurements.iter().filter(|it| it.load == load && it.peer == peer);
        median(of_both.filter_map(|it| it.figures.get(figure).copied()).collect())
    }
}

fn compared() -> impl Iterator<Item = (Load, &'static str)> {
    loads::ALL.into_iter().flat_map(|load| load.compared.iter().map(move |figure| (load, *figure)))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Three digits that mean something.
fn cell(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn machine() -> Result<String> {
    let cpus = read("/proc/cpuinfo")?;
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let models = models.map(|(_, model)| model).collect::<Vec<_>>();
    let memory = read("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("?").trim();
    Ok(format!("{} × {}, {total}", models.len(), models.first().unwrap_or(&"unknown processor")))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

/// The first line that a program says, on whichever of the two outputs.
fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("starting {program}"))?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_the_rounds_and_ratios_those_of_the_medians() {
        let mut report = Report { setting: BTreeMap::new(), measurements: Vec::new() };
        let values =
            [("hookgate", [9.0, 20.0, 10.0]), ("nginx-tuned", [50.0, 39.0, 40.0]), ("haproxy", [80.0; 3])];
        for (peer, rounds) in values {
            for (round, value) in rounds.into_iter().enumerate() {
                let figures = Figures::from([("cpu_us", value)]);
                report.add(Measurement { round, load: "kept-32", peer, figures });
            }
        }
        assert_eq!(report.median("kept-32", "hookgate", "cpu_us"), Some(10.0));
        assert_eq!(report.ratio("kept-32", "cpu_us", &Kind::PEERS), Some(0.25));
        assert_eq!(report.ratio("kept-256", "cpu_us", &Kind::PEERS), None);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
