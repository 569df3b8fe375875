//! Links to files of the repository, and to headings in them.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::markdown::Page;

/// A line for every link that leads nowhere. Those to other machines are not followed.
pub fn findings(root: &Path, pages: &[Page]) -> Vec<String> {
    let by_path = pages.iter().map(|page| (page.path.clone(), page)).collect::<HashMap<_, _>>();
    let mut findings = Vec::new();
    for page in pages {
        for link in page.links.iter().filter(|link| !link.text.contains("://")) {
            let (file, anchor) = link.text.split_once('#').unwrap_or((&link.text, ""));
            let target = if file.is_empty() { page.path.clone() } else { beside(&page.path, file) };
            let missing = match by_path.get(&target) {
                None if !root.join(&target).exists() => "no such file",
                Some(page) if !anchor.is_empty() && !page.anchors.iter().any(|a| a == anchor) => {
                    "no such heading"
                }
                _ => continue,
            };
            findings.push(format!("{}:{}: {missing}: {}", page.path, link.line, link.text));
        }
    }
    findings
}

/// `file` as it is meant on the page at `path`.
fn beside(path: &str, file: &str) -> String {
    let mut target = PathBuf::from(path);
    target.pop();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => drop(target.pop()),
            part => target.push(part),
        }
    }
    target.to_string_lossy().into_owned()
}
