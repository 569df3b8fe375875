use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};

use crate::{Client, Message};

/// What a page in the Prometheus text format (0.0.4) says, read more strictly than Prometheus does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The samples as they are written, labels and all.
    samples: BTreeMap<String, f64>,
    /// Name to type.
    families: BTreeMap<String, String>,
}

/// Asks the admin listener at `address` for `path`.
///
/// # Errors
/// The listener does not answer.
pub fn ask_admin(address: SocketAddr, path: &str) -> Result<Message> {
    let mut client = Client::plain(address)?;
    client.ask(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

impl Metrics {
    /// What the admin listener at `address` says now.
    ///
    /// # Errors
    /// The listener does not answer, or as [`Metrics::parse`].
    pub fn read(address: SocketAddr) -> Result<Self> {
        let page = ask_admin(address, "/metrics")?;
        ensure!(page.status() == 200, "{page:?}");
        let content_type = page.field("Content-Type");
        ensure!(content_type == Some("text/plain; version=0.0.4; charset=utf-8"), "{content_type:?}");
        Self::parse(&String::from_utf8(page.body)?)
    }

    /// # Errors
    /// Anything but families that each begin with HELP and TYPE, in one piece, without a sample
    /// twice, counters and gauges of their own names only, and histograms whose buckets rise to
    /// their count.
    pub fn parse(text: &str) -> Result<Self> {
        let mut metrics = Self::default();
        let mut family = String::new();
        ensure!(text.ends_with('\n'), "the last line has no end");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, sentence) = help.split_once(' ').context("HELP without a text")?;
                ensure!(is_name(name) && !sentence.is_empty(), "{line}");
                let type_line = lines.next().context("HELP without TYPE")?;
                let kind = type_line.strip_prefix(&format!("# TYPE {name} ")).context("HELP without TYPE")?;
                ensure!(matches!(kind, "counter" | "gauge" | "histogram"), "{type_line}");
                ensure!((kind == "counter") == name.ends_with("_total"), "{name} is a {kind}");
                let again = metrics.families.insert(name.to_owned(), kind.to_owned());
                ensure!(again.is_none(), "{name} comes twice");
                family = name.to_owned();
                continue;
            }
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line:?}"))?;
            let value: f64 = value.parse().with_context(|| line.to_owned())?;
            let name = series.split('{').next().unwrap_or_default();
            let suffix = name.strip_prefix(&family).with_context(|| format!("{line:?} within {family}"))?;
            match metrics.families.get(&family).map(String::as_str) {
                Some("histogram") => ensure!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
                Some(_) => ensure!(suffix.is_empty(), "{line} within {family}"),
                None => bail!("{line:?} before any family"),
            }
            labels(series)?;
            let again = metrics.samples.insert(series.to_owned(), value);
            ensure!(again.is_none(), "{series} comes twice");
        }
        metrics.check_histograms(text)?;
        Ok(metrics)
    }

    /// Buckets as they stand in `text` rise with their bounds, and the last is everything.
    fn check_histograms(&self, text: &str) -> Result<()> {
        for name in self.families.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut last = BTreeMap::<String, (f64, f64)>::new();
            for line in text.lines().filter(|line| line.starts_with(&format!("{name}_bucket{{"))) {
                let (series, count) = line.rsplit_once(' ').context("no value")?;
                let mut labels = labels(series)?;
                let bound: f64 = labels.remove("le").context("a bucket without a bound")?.parse()?;
                let count: f64 = count.parse()?;
                let before = last.insert(format!("{labels:?}"), (bound, count));
                let rises = before.is_none_or(|(b, c)| b < bound && c <= count);
                ensure!(rises, "{line} after {before:?}");
            }
            let counts: BTreeSet<String> = last.keys().cloned().collect();
            for (labels, (bound, count)) in last {
                ensure!(bound.is_infinite(), "{name} {labels} ends at {bound}");
                let total = self.samples.iter().find(|(series, _)| {
                    series.starts_with(&format!("{name}_count{{"))
                        && self::labels(series).is_ok_and(|own| format!("{own:?}") == labels)
                });
                ensure!(total.is_some_and(|(_, total)| *total == count), "{name} {labels}: {total:?}");
            }
            let whole =
                |suffix| self.samples.keys().filter(move |s| s.starts_with(&format!("{name}{suffix}{{")));
            ensure!(
                whole("_count").count() == counts.len() && whole("_sum").count() == counts.len(),
                "{name}"
            );
        }
        Ok(())
    }

    /// A sample as it is written, such as `hookgate_connections{class="meta"}`; 0 where there is
    /// none yet.
    pub fn value(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// All samples of a family, without its name.
    pub fn family(&self, name: &str) -> BTreeMap<&str, f64> {
        let own =
            |series: &'_ str| series.strip_prefix(name).is_some_and(|l| l.is_empty() || l.starts_with('{'));
        let samples = self.samples.iter().filter(|(series, _)| own(series));
        samples.map(|(series, value)| (&series[name.len()..], *value)).collect()
    }

    /// Names and types of the families.
    pub fn families(&self) -> &BTreeMap<String, String> {
        &self.families
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The labels of `name{label="value",…}`; values without escapes, for none is needed in what
/// hookgate writes.
fn labels(series: &str) -> Result<BTreeMap<String, String>> {
    let Some((name, labels)) = series.split_once('{') else {
        ensure!(is_name(series), "{series:?} is no name");
        return Ok(BTreeMap::new());
    };
    ensure!(is_name(name), "{name:?} is no name");
    let labels = labels.strip_suffix('}').with_context(|| format!("labels without an end: {series}"))?;
    let mut found = BTreeMap::new();
    for label in labels.split(',') {
        let value = label.split_once("=\"").and_then(|(n, v)| Some((n, v.strip_suffix('"')?)));
        let (name, value) = value.with_context(|| format!("{label:?} in {series}"))?;
        ensure!(is_name(name) && !value.contains(['"', '\\']), "{label:?} in {series}");
        ensure!(found.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice in {series}");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total What\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
        # HELP h_seconds How long\n# TYPE h_seconds histogram\n\
        h_seconds_bucket{u=\"\",le=\"0.1\"} 1\nh_seconds_bucket{u=\"\",le=\"+Inf\"} 2\n\
        h_seconds_sum{u=\"\"} 3.5\nh_seconds_count{u=\"\"} 2\n";

    #[test]
    fn reads_what_is_well_formed() {
        let metrics = Metrics::parse(GOOD).unwrap();
        assert_eq!(metrics.value("a_total{x=\"1\"}"), 2.0);
        assert_eq!(metrics.value("a_total{x=\"2\"}"), 0.0);
        assert_eq!(metrics.family("h_seconds_sum"), [("{u=\"\"}", 3.5)].into());
    }

    #[test]
    fn each_flaw_is_found() {
        for (from, to) in [
            ("# HELP a_total What\n", ""),
            ("# TYPE a_total counter\n", ""),
            ("a_total{x=\"1\"} 2", "a_total{x=\"1\"} two"),
            ("a_total{x=\"1\"} 2", "b_total{x=\"1\"} 2"),
            ("a_total{x=\"1\"} 2", "a_total{x=1} 2"),
            ("a_total{x=\"1\"} 2", "a_total{x=\"1\"} 2\na_total{x=\"1\"} 2"),
            ("a_total counter", "a_total gauge"),
            ("a_total counter", "a_total thing"),
            ("le=\"0.1\"} 1", "le=\"0.1\"} 3"),
            ("le=\"+Inf\"} 2", "le=\"1\"} 2"),
            ("h_seconds_count{u=\"\"} 2", "h_seconds_count{u=\"\"} 3"),
            ("h_seconds_sum{u=\"\"} 3.5\n", ""),
        ] {
            let flawed = GOOD.replace(from, to);
            assert_ne!(flawed, GOOD, "{from}");
            assert!(Metrics::parse(&flawed).is_err(), "{flawed}");
        }
    }
}
