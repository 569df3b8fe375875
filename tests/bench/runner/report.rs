use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::chart::{Chart, rounded};
use crate::environment::{self, Environment};
use crate::figures::Figures;
use crate::kind::Kind;
use crate::loads::{self, Figure, Goals, Load};
use crate::testbed::Testbed;

/// What one load on one peer showed in one round.
pub struct Measurement {
    pub round: usize,
    pub load: &'static str,
    pub peer: &'static str,
    pub figures: Figures,
}

/// Everything measured so far, and where.
pub struct Report {
    environment: Environment,
    measurements: Vec<Measurement>,
}

/// What readers want to know besides, of loads that have it.
const DETAILS: [&[&str]; 5] = [
    &["cpu_us", "requests_per_s", "p50_ms", "p99_ms", "p99.9_ms"],
    &["cpu_ms_per_gib", "mib_per_s", "busy"],
    &["start_ms", "accepted_ms", "shaken_ms"],
    &["one_by_one_least_pct", "at_once_least_pct"],
    &[
        "alone_p50_ms",
        "alone_p99_ms",
        "body_p50_ms",
        "body_p99_ms",
        "with_body_p50_ms",
        "with_body_p99_ms",
        "others_p50_ms",
        "others_p99_ms",
        "body_elsewhere_p50_ms",
        "body_elsewhere_p99_ms",
        "flood_p50_ms",
        "flood_p99_ms",
        "flood_elsewhere_p50_ms",
        "flood_elsewhere_p99_ms",
        "body_mib_per_s",
        "handshakes_per_s",
    ],
];

impl Report {
    /// # Errors
    /// The machine, or one of the programs, does not say what it is.
    pub fn new(testbed: &Testbed, rounds: usize, seconds: f64) -> Result<Self> {
        Ok(Self { environment: environment::of(testbed, rounds, seconds)?, measurements: Vec::new() })
    }

    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// Writes `bench.md` and a chart a figure into `folder`.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        write(folder, "bench.md", &self.markdown()?)?;
        for (load, figure) in self.measured() {
            write(folder, &chart_name(&load, &figure), &self.chart(&load, &figure).svg()?)?;
        }
        eprintln!("bench: report and charts in {}", folder.display());
        Ok(())
    }

    /// Writes every round to `bench.json` in `folder`.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_rounds(&self, folder: &Path) -> Result<()> {
        write(folder, "bench.json", &(serde_json::to_string_pretty(&self.json())? + "\n"))
    }

    /// # Errors
    /// Nothing: text always grows.
    pub fn markdown(&self) -> Result<String> {
        let kinds = self.kinds();
        let peers = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" | ");
        let mut text = String::from("# hookgate beside nginx and HAProxy\n\n");
        for (name, value) in &self.environment {
            writeln!(text, "- {name}: {value}")?;
        }
        text += "\nMedians over the rounds; less is better. The floor is a relay of bytes that knows no HTTP and writes \
                 no log. `of …` is hookgate's figure divided by the best peer's, by that of nginx as today, and by the \
                 floor's; what it should be at most stands behind it.\n\n";
        writeln!(text, "| load | figure | {peers} | of the best | of today | of the floor | goals |")?;
        writeln!(text, "| --- | --- |{} --- |", " ---: |".repeat(kinds.len() + 3))?;
        for (load, figure) in self.measured() {
            let [of_best, of_today, of_floor] = self.ratios(load.name, figure.name);
            let own = self.median(load.name, Kind::Hookgate, figure.name);
            let goals = &figure.goals;
            let of_kinds = kinds.iter().map(|kind| {
                let goal = goals.itself.filter(|_| *kind == Kind::Hookgate);
                cell(self.median(load.name, *kind, figure.name), goal)
            });
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                load.name,
                figure.what,
                of_kinds.collect::<Vec<_>>().join(" | "),
                cell(of_best, goals.of_best),
                cell(of_today, None),
                cell(of_floor, goals.of_floor),
                verdict(goals, [of_best, of_floor, own]),
            )?;
        }
        for load in loads::ALL {
            self.details(&load, &mut text)?;
        }
        Ok(text)
    }

    /// Those that were measured.
    fn kinds(&self) -> Vec<Kind> {
        let is_measured = |kind: &Kind| self.measurements.iter().any(|it| it.peer == kind.name());
        Kind::ALL.into_iter().filter(is_measured).collect()
    }

    /// A load's charts, and its other figures.
    fn details(&self, load: &Load, text: &mut String) -> Result<()> {
        let measured = self.measured().filter(|(other, _)| other.name == load.name).collect::<Vec<_>>();
        if measured.is_empty() {
            return Ok(());
        }
        writeln!(text, "\n## {}: {}\n", load.name, load.what)?;
        for (load, figure) in measured {
            writeln!(text, "![{}: {}]({})\n", load.what, figure.what, chart_name(&load, &figure))?;
        }
        let has = |kind: Kind, details: &[&str]| self.median(load.name, kind, details[1]).is_some();
        let Some(details) =
            DETAILS.into_iter().find(|details| Kind::ALL.iter().any(|kind| has(*kind, details)))
        else {
            return Ok(());
        };
        writeln!(text, "| | {} |\n| --- |{}", details.join(" | "), " ---: |".repeat(details.len()))?;
        for kind in Kind::ALL.into_iter().filter(|kind| has(*kind, details)) {
            let cells = details.iter().map(|figure| cell(self.median(load.name, kind, figure), None));
            writeln!(text, "| {} | {} |", kind.name(), cells.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }

    fn chart(&self, load: &Load, figure: &Figure) -> Chart<'static> {
        let bars = Kind::ALL.into_iter();
        let bars = bars.filter_map(|kind| Some((kind.name(), self.median(load.name, kind, figure.name)?)));
        let Goals { of_best, of_floor, itself } = figure.goals;
        let best = self.best(load.name, figure.name);
        let floor = self.median(load.name, Kind::Floor, figure.name);
        let times = |goal: Option<f64>, base: Option<f64>| Some(goal? * base?);
        let goals = [times(of_best, best), times(of_floor, floor), itself];
        Chart {
            title: load.what,
            figure: figure.what,
            bars: bars.collect(),
            goal: goals.into_iter().flatten().reduce(f64::min),
        }
    }

    fn json(&self) -> Value {
        let ratios = self.measured().map(|(load, figure)| {
            let [of_best, of_today, of_floor] = self.ratios(load.name, figure.name);
            let own = self.median(load.name, Kind::Hookgate, figure.name);
            json!({
                "load": load.name, "figure": figure.name, "of_best": of_best, "of_today": of_today,
                "of_floor": of_floor, "goals": verdict(&figure.goals, [of_best, of_floor, own]),
            })
        });
        let measurements = self.measurements.iter().map(|measurement| {
            let Measurement { round, load, peer, figures } = measurement;
            json!({ "round": round, "load": load, "peer": peer, "figures": figures })
        });
        json!({
            "environment": self.environment,
            "loads": loads::ALL.map(|load| json!({ "name": load.name, "what": load.what })),
            "ratios": ratios.collect::<Vec<_>>(),
            "measurements": measurements.collect::<Vec<_>>(),
        })
    }

    /// Every compared figure that at least one peer has.
    fn measured(&self) -> impl Iterator<Item = (Load, Figure)> {
        let all = loads::ALL.into_iter();
        let all = all.flat_map(|load| load.compared.iter().map(move |figure| (load, *figure)));
        all.filter(|(load, figure)| {
            Kind::ALL.iter().any(|kind| self.median(load.name, *kind, figure.name).is_some())
        })
    }

    /// hookgate's median divided by the best peer's, by that of nginx as today, by the floor's.
    fn ratios(&self, load: &str, figure: &str) -> [Option<f64>; 3] {
        let own = self.median(load, Kind::Hookgate, figure);
        let to = |other: Option<f64>| Some(own? / other?);
        let [today, floor] = [Kind::NginxToday, Kind::Floor].map(|kind| to(self.median(load, kind, figure)));
        [to(self.best(load, figure)), today, floor]
    }

    fn best(&self, load: &str, figure: &str) -> Option<f64> {
        Kind::PEERS.iter().filter_map(|kind| self.median(load, *kind, figure)).reduce(f64::min)
    }

    fn median(&self, load: &str, kind: Kind, figure: &str) -> Option<f64> {
        let of_both = self.measurements.iter().filter(|it| it.load == load && it.peer == kind.name());
        median(of_both.filter_map(|it| it.figures.get(figure).copied()).collect())
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn chart_name(load: &Load, figure: &Figure) -> String {
    format!("{}-{}.svg", load.name, figure.name)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// A value, and what it should be at most.
fn cell(value: Option<f64>, goal: Option<f64>) -> String {
    let value = value.map_or("–".to_owned(), rounded);
    goal.map_or(value.clone(), |goal| format!("{value} (≤ {goal})"))
}

/// Whether the goals are reached; `shown`: the ratios to the best peer and to the floor, and the
/// figure itself.
fn verdict(goals: &Goals, shown: [Option<f64>; 3]) -> &'static str {
    let goals = [goals.of_best, goals.of_floor, goals.itself];
    let mut asked = goals.into_iter().zip(shown).filter_map(|(goal, shown)| Some((goal?, shown))).peekable();
    if asked.peek().is_none() {
        return "";
    }
    let reached = asked.map(|(goal, shown)| shown.map(|shown| shown <= goal));
    match reached.reduce(|all, one| all.zip(one).map(|(all, one)| all && one)).flatten() {
        Some(true) => "reached",
        Some(false) => "not reached",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_the_rounds_and_ratios_those_of_the_medians() {
        let mut report = Report { environment: Environment::new(), measurements: Vec::new() };
        let values = [
            (Kind::Hookgate, [9.0, 20.0, 10.0]),
            (Kind::NginxTuned, [50.0, 39.0, 40.0]),
            (Kind::Haproxy, [80.0; 3]),
            (Kind::Floor, [8.0, 5.0, 9.0]),
        ];
        for (kind, rounds) in values {
            for (round, value) in rounds.into_iter().enumerate() {
                let figures = Figures::from([("cpu_us", value)]);
                report.add(Measurement { round, load: "kept-32", peer: kind.name(), figures });
            }
        }
        assert_eq!(report.median("kept-32", Kind::Hookgate, "cpu_us"), Some(10.0));
        let [of_best, of_today, of_floor] = report.ratios("kept-32", "cpu_us");
        assert_eq!((of_best, of_today, of_floor), (Some(0.25), None, Some(1.25)));
        assert_eq!(report.ratios("kept-256", "cpu_us"), [None; 3]);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_goal_that_was_not_measured_is_not_reached() {
        let verdict = |of_best, of_floor, itself| {
            let goals = Goals { of_best: Some(0.5), of_floor: None, itself: Some(1.05) };
            verdict(&goals, [of_best, of_floor, itself])
        };
        assert_eq!(verdict(Some(0.5), None, Some(1.0)), "reached");
        assert_eq!(verdict(Some(0.6), None, Some(1.0)), "not reached");
        assert_eq!(verdict(Some(0.5), None, Some(1.1)), "not reached");
        assert_eq!(verdict(None, None, Some(1.0)), "unknown");
    }
}
