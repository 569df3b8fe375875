//! Who may use whom in `proxy/src`: each layer only what stands below it, and within a layer nobody but oneself.

use super::source::{PathUse, SourceFile};

/// From the top down. A module that is not here is refused: somebody has to decide where it stands.
const LAYERS: [&[&str]; 12] = [
    &["main", "bin", "lib"],
    &["cli"],
    &["doctor"],
    &["check"],
    &["server"],
    &["datapath", "admin", "acme", "registry", "probe"],
    &["stats"],
    &["upstream", "guard"],
    &["tls", "net", "nginx"],
    &["config", "observe"],
    &["http", "prefixes"],
    &["access", "sys"],
];

pub fn findings(file: &SourceFile<'_>) -> Vec<String> {
    let Some(inside) = file.path.strip_prefix("proxy/src/") else { return Vec::new() };
    let modules = module_path(inside);
    let user = modules.first().map_or("lib", String::as_str);
    let Some(layer) = layer(user) else {
        return vec![format!(
            "{}: `{user}` has no place in the layers of xtask/src/tidy/layers.rs",
            file.path
        )];
    };
    let uses = file.source.paths().into_iter().flat_map(|path| used(&path, modules.len()));
    let wrong =
        uses.filter(|(_, used)| used != user && self::layer(used).is_some_and(|other| other <= layer));
    wrong
        .map(|(line, used)| {
            format!("{}:{line}: `{user}` may not use `{used}`, which stands above or beside it", file.path)
        })
        .collect()
}

/// `http/head.rs` is `http::head`, `http/mod.rs` is `http`; `main.rs` and `lib.rs` are the root itself.
fn module_path(inside: &str) -> Vec<String> {
    let names = inside.trim_end_matches(".rs").split('/').map(str::to_owned);
    let names = names.filter(|name| name != "mod").collect::<Vec<_>>();
    if names == ["lib"] { Vec::new() } else { names }
}

/// The modules at the crate's root that a path leads to, if it starts there.
fn used(path: &PathUse, depth: usize) -> Vec<(usize, String)> {
    let from_root = path.supers.as_ref().is_none_or(|supers| supers.count >= depth + supers.inline_modules);
    if from_root { path.next.iter().map(|name| (path.line, name.clone())).collect() } else { Vec::new() }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}
