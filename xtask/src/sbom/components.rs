//! The crates that are linked into the binary and into the XDP program inside it, as cargo resolves
//! them for that target and these features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use serde_json::Value;
use toml_edit::{DocumentMut, Item};

use crate::arch::Arch;
use crate::release;

pub const HOOKGATE: &str = "hookgate";
pub const GUARD: &str = "hookgate-ebpf";
/// What the compiler links in by itself.
pub const STD: &str = "rust-std";

/// Name and version.
pub type Id = (String, String);

pub struct Component {
    /// An SPDX expression.
    pub licence: String,
    /// SHA-256 of the crate's archive, as Cargo.lock has it. Our own have none.
    pub checksum: Option<String>,
    /// Where its sources lie, with the licence's text. The standard library's are not there.
    pub folder: Option<PathBuf>,
    /// Its build script compiles C or assembly that it brings.
    pub has_c: bool,
}

pub struct Components {
    pub all: BTreeMap<Id, Component>,
    /// User and used.
    pub edges: BTreeSet<(Id, Id)>,
}

impl Components {
    /// # Errors
    /// cargo or rustc fail, or a crate names no licence.
    pub fn of(workspace: &Workspace, arch: Arch) -> Result<Self> {
        let relay = Tree::read(workspace, &["--package", HOOKGATE, "--target", arch.triple()])?;
        let guard = ["--package", GUARD, "--features", "program", "--target", "bpfel-unknown-none"];
        let guard = Tree::read(workspace, &guard)?;
        let with_c = compiles_c(workspace, arch)?;
        let checksums = checksums(workspace)?;
        let mut described = describe(workspace)?;

        let mut edges: BTreeSet<_> = relay.edges.into_iter().chain(guard.edges).collect();
        let mut all = BTreeMap::new();
        for id in relay.ids.into_iter().chain(guard.ids) {
            if all.contains_key(&id) {
                continue;
            }
            let (licence, folder) =
                described.remove(&id).with_context(|| format!("cargo metadata has no {} {}", id.0, id.1))?;
            let licence = licence.with_context(|| format!("{} {} names no licence", id.0, id.1))?;
            let checksum = checksums.get(&id).cloned();
            let has_c = with_c.contains(&id);
            all.insert(id, Component { licence, checksum, folder: Some(folder), has_c });
        }
        let std = (STD.to_owned(), release::compiler(arch)?);
        let hookgate = all.keys().find(|(name, _)| name == HOOKGATE).cloned();
        edges.insert((hookgate.context("cargo tree without hookgate")?, std.clone()));
        let licence = "MIT OR Apache-2.0".to_owned();
        all.insert(std, Component { licence, checksum: None, folder: None, has_c: false });
        Ok(Self { all, edges })
    }
}

/// What `cargo tree` says.
struct Tree {
    ids: BTreeSet<Id>,
    edges: BTreeSet<(Id, Id)>,
}

impl Tree {
    fn read(workspace: &Workspace, args: &[&str]) -> Result<Self> {
        let mut cargo = workspace.cargo();
        // A macro is gone when the program is linked.
        cargo.args(["tree", "--quiet", "--locked", "--edges", "normal,no-proc-macro"]);
        cargo.args(["--prefix", "depth", "--format", " {p}"]).args(args);
        let tree = Self::parse(&harness_core::run(cargo)?)?;
        ensure!(!tree.ids.is_empty(), "cargo tree {} names no package", args.join(" "));
        Ok(tree)
    }

    /// `2 bytes v1.12.2 (*)`, below what needs it.
    fn parse(said: &str) -> Result<Self> {
        let mut tree = Self { ids: BTreeSet::new(), edges: BTreeSet::new() };
        let mut above: Vec<Id> = Vec::new();
        for line in said.lines().filter(|line| !line.is_empty()) {
            let mut words = line.split(' ');
            let depth = words.next().and_then(|depth| depth.parse::<usize>().ok());
            let id = words.next().zip(words.next().and_then(|version| version.strip_prefix('v')));
            let (depth, (name, version)) =
                depth.zip(id).with_context(|| format!("cargo tree says {line:?}"))?;
            let id = (name.to_owned(), version.to_owned());
            above.truncate(depth);
            if let Some(user) = above.last() {
                tree.edges.insert((user.clone(), id.clone()));
            }
            tree.ids.insert(id.clone());
            above.push(id);
        }
        Ok(tree)
    }
}

/// The crates whose build scripts need a C compiler.
fn compiles_c(workspace: &Workspace, arch: Arch) -> Result<BTreeSet<Id>> {
    let mut cargo = workspace.cargo();
    cargo.args(["tree", "--quiet", "--locked", "--package", HOOKGATE, "--target", arch.triple()]);
    cargo.args(["--edges", "normal,build", "--invert", "cc", "--depth", "1"]);
    cargo.args(["--prefix", "depth", "--format", " {p}"]);
    Ok(Tree::parse(&harness_core::run(cargo)?)?.edges.into_iter().map(|(_, user)| user).collect())
}

fn checksums(workspace: &Workspace) -> Result<BTreeMap<Id, String>> {
    let file = workspace.root.join("Cargo.lock");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let lock: DocumentMut = text.parse().context("reading Cargo.lock")?;
    let packages = lock.get("package").and_then(Item::as_array_of_tables).context("an empty Cargo.lock")?;
    let checksum = |package: &toml_edit::Table| {
        let field = |key: &str| Some(package.get(key)?.as_str()?.to_owned());
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    Ok(packages.iter().filter_map(checksum).collect())
}

/// The licence and the folder of each package.
fn describe(workspace: &Workspace) -> Result<BTreeMap<Id, (Option<String>, PathBuf)>> {
    let describe = |package: Value| {
        let text = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
        let folder = PathBuf::from(text("manifest_path")?).parent()?.to_owned();
        Some(((text("name")?, text("version")?), (text("license"), folder)))
    };
    let packages = workspace.packages()?;
    packages.into_iter().map(|package| describe(package).context("a package without a name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_says_what_needs_what() {
        let said = "0 a v1.0.0 (/a)\n1 b v2.0.0\n2 c v3.0.0\n1 c v3.0.0 (*)\n";
        let tree = Tree::parse(said).unwrap();
        let edges: Vec<_> = tree.edges.iter().map(|(user, used)| (&*user.0, &*used.0)).collect();
        assert_eq!(edges, [("a", "b"), ("a", "c"), ("b", "c")]);
        assert_eq!(tree.ids.len(), 3);
        assert!(Tree::parse("b v2.0.0").is_err());
    }
}
