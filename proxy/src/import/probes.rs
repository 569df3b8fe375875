//! The requests that are tried: hosts and paths that a configuration names.

use std::collections::{BTreeSet, HashMap};

use crate::config::HostName;

/// Hosts, and paths behind them.
#[derive(Debug, Default)]
pub struct Probes {
    pub hosts: BTreeSet<String>,
    /// Behind each host.
    paths: BTreeSet<String>,
    /// Behind one host alone.
    by_host: HashMap<String, BTreeSet<String>>,
}

/// The most paths that are tried with each host.
const MAX_PATHS: usize = 100;

impl Probes {
    /// `paths`: those that conditions name, as they begin or with asterisks.
    pub fn new<'p>(paths: impl Iterator<Item = &'p str>) -> Self {
        let mut probes = Self::default();
        // Names that are a whole path: hosts, or files such as `/index.php`.
        let mut names = BTreeSet::new();
        for path in paths {
            let inside = path.strip_prefix('/').unwrap_or(path);
            let (first, rest) = inside.split_at(inside.find('/').unwrap_or(inside.len()));
            let first = first.strip_suffix('*').unwrap_or(first).to_ascii_lowercase();
            let is_name = path.starts_with('/') && first.parse::<HostName>().is_ok();
            if is_name {
                probes.hosts.insert(first.clone());
            }
            if !is_name || !first.contains('.') {
                probes.paths.extend(variants(path));
            } else if rest.is_empty() {
                names.insert(first);
            } else {
                probes.by_host.entry(first).or_default().extend(variants(rest));
            }
        }
        let files = names.iter().filter(|name| !probes.by_host.contains_key(*name));
        let files: Vec<String> = files.flat_map(|name| variants(&format!("/{name}"))).collect();
        probes.paths.extend(files);
        probes
    }

    /// Whether there are more paths than are tried.
    pub fn is_cut(&self) -> bool {
        self.paths.len() > MAX_PATHS
    }

    /// The targets that are tried for a host.
    pub fn targets(&self, host: &str) -> Vec<String> {
        let fixed = ["/x/y?z=1", "/", "", "/x", "/webhooks/whatsapp/x"];
        let own = self.by_host.get(host).into_iter().flatten();
        let paths = fixed.into_iter().chain(self.paths.iter().take(MAX_PATHS).chain(own).map(String::as_str));
        paths.map(|path| format!("/{host}{path}")).collect()
    }
}

/// A pattern with and without something in the place of its asterisks.
fn variants(pattern: &str) -> [String; 3] {
    let slashed = |path: String| if path.starts_with('/') { path } else { format!("/{path}") };
    let plain = slashed(pattern.replace('*', ""));
    [slashed(pattern.replace('*', "x")), format!("{}/x", plain.trim_end_matches('/')), plain]
}
