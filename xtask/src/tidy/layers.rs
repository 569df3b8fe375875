//! The layers of `proxy/src`: a module uses only the layers below its own.

use super::paths::paths;
use super::source::SourceFile;

/// From the top down. A module that is not here is refused: its author decides where it stands.
const LAYERS: [&[&str]; 14] = [
    &["main", "bin", "lib"],
    &["cli"],
    &["doctor"],
    &["check"],
    &["server"],
    &["datapath", "admin", "acme", "registry", "probe"],
    &["stats"],
    &["insight"],
    &["upstream", "guard", "host"],
    &["tls", "net", "import"],
    &["config", "observe"],
    &["messages"],
    &["http", "prefixes"],
    &["access", "sys"],
];

pub fn findings(file: &SourceFile<'_>) -> Vec<String> {
    let Some(inside) = file.path.strip_prefix("proxy/src/") else { return Vec::new() };
    let module = super::modules::names(inside);
    let user = module.first().map_or("lib", String::as_str);
    let Some(layer) = layer(user) else {
        return vec![format!(
            "{}: `{user}` has no place in the layers of xtask/src/tidy/layers.rs",
            file.path
        )];
    };
    let mut findings = Vec::new();
    for path in paths(file) {
        let Some(target) = path.resolve(&module, |_| false).filter(|_| !module.is_empty()) else {
            continue;
        };
        let used = target.first().map_or("crate", String::as_str);
        let what = match self::layer(used) {
            _ if used == user => continue,
            Some(other) if other > layer => continue,
            Some(_) => format!("`{user}` may not use `{used}`, which stands above or beside it"),
            None => format!("`{}` does not say which module is used", path.names.join("::")),
        };
        findings.push(format!("{}:{}: {what}", file.path, path.line));
    }
    findings.dedup(); // branches of one group
    findings
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}
