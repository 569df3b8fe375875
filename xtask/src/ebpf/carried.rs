//! The object that the repository carries, and what it was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness_core::{Workspace, run_with_input};
use toml_edit::{DocumentMut, Item, Table, Value};

use super::compile::{Compiled, Tools};

/// For machines that can't compile it, and for all that need not.
const OBJECT: &str = "proxy-ebpf/object/guard.o";
const RECORD: &str = "proxy-ebpf/object/guard.toml";
const UPDATE: &str = "run `cargo xtask object` and commit proxy-ebpf/object";

pub struct Carried {
    pub object: Vec<u8>,
    record: Record,
}

/// What `guard.toml` says: SHA-256 in hexadecimal of sources and object, and the versions of the
/// tools.
pub struct Record {
    sources: String,
    object: String,
    tools: Tools,
}

impl Carried {
    /// # Errors
    /// It is not there, or its record can't be read.
    pub fn read(workspace: &Workspace) -> Result<Self> {
        let (object, record) = (workspace.root.join(OBJECT), workspace.root.join(RECORD));
        let reading = |file: &Path| format!("reading {}", file.display());
        let text = std::fs::read_to_string(&record).with_context(|| reading(&record))?;
        Ok(Self {
            object: std::fs::read(&object).with_context(|| reading(&object))?,
            record: Record::parse(&text).with_context(|| reading(&record))?,
        })
    }

    /// The compiler that made it.
    pub fn rustc(&self) -> &str {
        &self.record.tools.rustc
    }

    /// Whether it was made of `sources` and is what its record says.
    ///
    /// # Errors
    /// As [`sha256`].
    pub fn is_of(&self, sources: &str) -> Result<bool> {
        Ok(self.record.sources == sources && self.record.object == sha256(&self.object)?)
    }

    /// What keeps it from being used with `sources`.
    ///
    /// # Errors
    /// As [`sha256`].
    pub fn findings(&self, sources: &str) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        if self.record.sources != sources {
            findings.push(format!("proxy-ebpf has changed since {OBJECT} was compiled: {UPDATE}"));
        }
        if self.record.object != sha256(&self.object)? {
            findings.push(format!("{OBJECT} is not the file that {RECORD} describes: {UPDATE}"));
        }
        Ok(findings)
    }

    /// What is wrong with it, beside an object that was just compiled from the sources.
    pub fn compare(&self, compiled: &Compiled) -> Option<String> {
        if self.object == compiled.object {
            return None;
        }
        if self.record.tools != compiled.tools {
            // Another compiler makes other bytes. The tests run with what it made.
            eprintln!(
                "xtask: {OBJECT} was compiled by {}, this one by {}: not comparable; {UPDATE}",
                self.record.tools, compiled.tools
            );
            return None;
        }
        Some(format!("{OBJECT} is not what {} makes of the sources: {UPDATE}", compiled.tools))
    }
}

impl Record {
    /// # Errors
    /// As [`sha256`].
    pub fn new(compiled: &Compiled, sources: String) -> Result<Self> {
        Ok(Self { sources, object: sha256(&compiled.object)?, tools: compiled.tools.clone() })
    }

    fn parse(text: &str) -> Result<Self> {
        let table: DocumentMut = text.parse()?;
        let word = |key: &str| {
            table.get(key).and_then(Item::as_str).map(str::to_owned).with_context(|| format!("no {key}"))
        };
        let tools = Tools { rustc: word("rustc")?, cargo: word("cargo")?, bpf_linker: word("bpf_linker")? };
        Ok(Self { sources: word("sources")?, object: word("object")?, tools })
    }

    fn text(&self) -> String {
        let Self { sources, object, tools: Tools { rustc, cargo, bpf_linker } } = self;
        format!(
            "# Written by `cargo xtask object`. The gate compiles guard.o again and compares it byte for byte.\n\
             sources = {sources:?}\nobject = {object:?}\nrustc = {rustc:?}\ncargo = {cargo:?}\n\
             bpf_linker = {bpf_linker:?}\n"
        )
    }
}

/// Puts both files into the repository, and returns their paths.
///
/// # Errors
/// They can't be written.
pub fn write(workspace: &Workspace, object: &[u8], record: &Record) -> Result<[PathBuf; 2]> {
    let files = [OBJECT, RECORD].map(|name| workspace.root.join(name));
    let text = record.text();
    for (file, content) in files.iter().zip([object, text.as_bytes()]) {
        std::fs::write(file, content).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(files)
}

/// SHA-256 of all that decides the object, the tools apart: the package, its profile, and its
/// locked dependencies.
///
/// # Errors
/// A file can't be read.
pub fn hash_sources(workspace: &Workspace) -> Result<String> {
    let mut parts = BTreeMap::new();
    let package = workspace.root.join("proxy-ebpf");
    read_into(&mut parts, &package, &package.join("Cargo.toml"))?;
    read_into(&mut parts, &package, &package.join("src"))?;
    let manifest: DocumentMut = read(&workspace.root.join("Cargo.toml"))?.parse()?;
    let profile = manifest.get("profile").and_then(|profiles| profiles.get("ebpf"));
    parts.insert("profile".into(), profile.context("no [profile.ebpf]")?.to_string());
    let lock: DocumentMut = read(&workspace.root.join("Cargo.lock"))?.parse()?;
    parts.insert("dependencies".into(), locked(&lock, "aya-ebpf")?);
    let mut all = String::new();
    for (name, text) in &parts {
        all += &format!("{name} {}\n{text}", text.len());
    }
    sha256(all.as_bytes())
}

/// A file, or all of a folder, by their names in `base`.
fn read_into(parts: &mut BTreeMap<String, String>, base: &Path, path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            read_into(parts, base, &entry?.path())?;
        }
        return Ok(());
    }
    let name = path.strip_prefix(base)?.to_string_lossy().into_owned();
    parts.insert(name, read(path)?);
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// A package of the lock file and all that it needs: a line each.
fn locked(lock: &Table, root: &str) -> Result<String> {
    let packages = lock.get("package").and_then(Item::as_array_of_tables);
    let packages = packages.context("a lock file without packages")?;
    let field = |package: &Table, key: &str| {
        package.get(key).and_then(Item::as_str).map(str::to_owned).unwrap_or_default()
    };
    let (mut lines, mut waiting) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(wanted) = waiting.pop() {
        // `name`, or `name version` where several are locked.
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let is_wanted = |package: &&Table| {
            field(package, "name") == name && version.is_none_or(|v| field(package, "version") == v)
        };
        let package = packages.iter().find(is_wanted).with_context(|| format!("{wanted} is not locked"))?;
        let line = ["name", "version", "checksum"].map(|key| field(package, key)).join(" ");
        if lines.insert(line) {
            let needs = package.get("dependencies").and_then(Item::as_array).into_iter().flatten();
            waiting.extend(needs.filter_map(Value::as_str).map(str::to_owned));
        }
    }
    ensure!(!lines.is_empty(), "{root} is not locked");
    Ok(lines.into_iter().collect::<Vec<_>>().join("\n"))
}

/// In hexadecimal. The program of coreutils does it: xtask has no other use for a crate of
/// cryptography.
///
/// # Errors
/// There is no sha256sum.
pub fn sha256(bytes: &[u8]) -> Result<String> {
    let sum = String::from_utf8(run_with_input(Command::new("sha256sum"), bytes)?)?;
    Ok(sum.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(object: &[u8], rustc: &str) -> Compiled {
        let tools = Tools { rustc: rustc.into(), cargo: "cargo 1".into(), bpf_linker: "0.13.0".into() };
        Compiled { object: object.to_vec(), tools }
    }

    fn carried(object: &[u8], sources: &str) -> Carried {
        let record = Record::new(&compiled(object, "rustc 1"), sources.into()).unwrap();
        Carried { object: object.to_vec(), record: Record::parse(&record.text()).unwrap() }
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-2, B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").unwrap(), expected);
    }

    #[test]
    fn changed_sources_or_a_changed_object_are_found() {
        let mut carried = carried(b"object", "sources");
        assert!(carried.is_of("sources").unwrap() && carried.findings("sources").unwrap().is_empty());
        assert!(!carried.is_of("others").unwrap());
        assert!(carried.findings("others").unwrap()[0].contains("has changed since"));
        carried.object.push(0);
        assert!(!carried.is_of("sources").unwrap());
        assert!(carried.findings("sources").unwrap()[0].contains("is not the file"));
    }

    #[test]
    fn an_object_is_compared_with_what_the_same_tools_make() {
        let carried = carried(b"object", "sources");
        assert_eq!(carried.compare(&compiled(b"object", "rustc 1")), None);
        assert!(carried.compare(&compiled(b"another", "rustc 1")).is_some());
        assert_eq!(carried.compare(&compiled(b"another", "rustc 2")), None);
    }

    #[test]
    fn every_source_decides_the_sha256() {
        let real = Workspace::find().unwrap();
        let dir = harness_core::TempDir::new("sources").unwrap();
        let copy = Workspace { root: dir.path().to_owned(), target: dir.path().join("target") };
        let mut cp = Command::new("cp");
        cp.args(["-r", "Cargo.toml", "Cargo.lock", "proxy-ebpf"]).arg(&copy.root).current_dir(&real.root);
        harness_core::run(cp).unwrap();
        let before = hash_sources(&copy).unwrap();
        assert_eq!(before, hash_sources(&real).unwrap());
        let change = |file: &str, from: &str, to: &str| {
            let path = copy.root.join(file);
            let text = read(&path).unwrap();
            assert!(text.contains(from), "{file}: {from}");
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let after = hash_sources(&copy).unwrap();
            std::fs::write(&path, text).unwrap();
            after
        };
        assert_ne!(before, change("proxy-ebpf/src/main.rs", "//!", "//! x"));
        assert_ne!(before, change("proxy-ebpf/Cargo.toml", "[features]", "[features]\nx = []"));
        assert_ne!(before, change("Cargo.toml", "debug = 2", "debug = 1"));
        let version = "name = \"aya-ebpf-bindings\"\nversion = \"";
        assert_ne!(before, change("Cargo.lock", version, &format!("{version}9")));
        assert_eq!(before, change("Cargo.toml", "lto = \"thin\"", "lto = \"fat\""), "not the program's");
    }
}
