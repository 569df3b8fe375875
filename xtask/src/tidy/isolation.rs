//! The code that handles what comes from the internet opens no file and starts no process.

use super::paths::paths;
use super::ratchet::{Hit, Rule};
use super::source::SourceFile;

const HOMES: [&str; 4] =
    ["proxy/src/acme/", "proxy/src/admin/", "proxy/src/datapath/", "proxy/src/server/worker/"];
const REFUSED: [&[&str]; 7] = [
    &["crate", "access", "Disk"],
    &["rustix", "fs"],
    &["std", "fs"],
    &["std", "os", "unix", "fs"],
    &["std", "process"],
    &["tokio", "fs"],
    &["tokio", "process"],
];
/// Methods of `Path` that ask the file system.
const METHODS: [&str; 9] = [
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Code for tests is left out.
pub fn hits(file: &SourceFile<'_>) -> Vec<Hit> {
    if !HOMES.iter().any(|home| file.path.starts_with(home)) {
        return Vec::new();
    }
    let hit = |line, what| Hit { rule: Rule::Files, path: file.path.to_owned(), line, what };
    let paths = paths(file).into_iter().filter(|path| !path.in_test);
    let paths = paths.filter(|path| REFUSED.iter().any(|refused| leads_to(&path.names, refused)));
    let mut hits: Vec<Hit> =
        paths.map(|path| hit(path.line, format!("{} in the worker", path.names.join("::")))).collect();
    for call in file.tokens.windows(3).filter(|tokens| tokens[0].text == "." && tokens[2].text == "(") {
        if METHODS.contains(&&*call[1].text) && !call[1].in_test {
            hits.push(hit(call[1].line, format!(".{}() in the worker", call[1].text)));
        }
    }
    hits
}

/// Also where all that is inside is imported.
fn leads_to(names: &[String], refused: &[&str]) -> bool {
    let is_glob = names.last().is_some_and(|name| name == "*") && names.len() <= refused.len();
    let fixed = if is_glob { &names[..names.len() - 1] } else { names };
    let length = fixed.len().min(refused.len());
    (is_glob || fixed.len() >= refused.len()) && fixed.iter().zip(refused).take(length).all(|(a, b)| a == b)
}
