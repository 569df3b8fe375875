//! The XDP program's object: the one that the repository carries while it belongs to the sources,
//! else a compiled one.

mod candidate;
mod carried;
mod compile;
mod debian;
mod linker;
mod releases;
mod strip;
mod toolchain;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use harness_core::Workspace;

use crate::test_summary::TestSummary;
use candidate::Candidate;
pub use carried::sha256;
use carried::{Carried, Record};
use compile::Compiled;
use toolchain::Toolchain;
pub use toolchain::{ensure_new_enough, sysroot};

pub enum Object {
    /// `<target dir>/bpf/hookgate-guard.o` belongs to the sources.
    Ready,
    /// Neither a fitting object nor a compiler. `why` ends with the command that helps.
    Missing { why: String },
}

/// Puts the object where the proxy's build script looks for it.
///
/// The carried object is used before any compiler is looked for: a machine that only runs the
/// program downloads nothing. `$HOOKGATE_BPF_RUSTC` overrides that.
///
/// # Errors
/// The program does not compile.
pub fn build(workspace: &Workspace) -> Result<Object> {
    let object = workspace.target.join("bpf/hookgate-guard.o");
    let carried = Carried::read(workspace)?;
    let sources = carried::hash_sources(workspace)?;
    if std::env::var_os(candidate::CHOSEN).is_none() && carried.is_of(&sources)? {
        place(&carried.object, &object)?;
        return Ok(Object::Ready);
    }
    let no_compiler = match compile_with_first(workspace, None) {
        Ok(compiled) => {
            place(&compiled.object, &object)?;
            return Ok(Object::Ready);
        }
        Err(no_compiler) => no_compiler,
    };
    if carried.is_of(&sources)? {
        note("the object that the repository carries", "belongs to these sources");
        place(&carried.object, &object)?;
        return Ok(Object::Ready);
    }
    // An object of other sources would not do what the code next to it says.
    remove_if_there(&object)?;
    ensure!(!no_compiler.any_failed, "{no_compiler}");
    Ok(Object::Missing {
        why: format!("its sources have changed since its object was compiled; {no_compiler}"),
    })
}

/// `cargo xtask object`. The tools of the former object are preferred.
pub fn main(workspace: &Workspace) -> Result<ExitCode> {
    let former = Carried::read(workspace).ok();
    let compiled = compile_with_first(workspace, former.as_ref().map(Carried::rustc));
    let compiled = compiled.map_err(|no_compiler| anyhow!("{no_compiler}"))?;
    let record = Record::new(&compiled, carried::hash_sources(workspace)?)?;
    for file in carried::write(workspace, &compiled.object, &record)? {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Compiles the program and compares it with the carried object, byte for byte.
///
/// # Errors
/// The program does not compile, or files can't be read.
pub fn verify(workspace: &Workspace, summary: &mut TestSummary) -> Result<()> {
    const NAME: &str = "the carried object of the XDP program";
    let carried = Carried::read(workspace)?;
    let mut findings = carried.findings(&carried::hash_sources(workspace)?)?;
    match compile_with_first(workspace, Some(carried.rustc())) {
        Ok(compiled) => findings.extend(carried.compare(&compiled)),
        Err(no_compiler) if no_compiler.any_failed => findings.push(no_compiler.to_string()),
        Err(no_compiler) if findings.is_empty() => {
            summary.skip(format!("{NAME}: {no_compiler}"));
            return Ok(());
        }
        Err(_) => {}
    }
    summary.add(NAME, &findings);
    Ok(())
}

/// Why there is no compiled object.
struct NoCompiler {
    reasons: Vec<String>,
    /// At least one compiler was found and failed.
    any_failed: bool,
}

impl NoCompiler {
    fn add(&mut self, candidate: Candidate, error: &anyhow::Error) {
        note(candidate.name(), &format!("{error:#}"));
        self.reasons.push(format!("{}: {error:#}", candidate.name()));
    }
}

impl fmt::Display for NoCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the XDP program can't be compiled: {}", self.reasons.join("; "))
    }
}

/// Looks for compilers in order and prints a line for each. The first one that is `preferred`
/// compiles, or else the first that can.
fn compile_with_first(workspace: &Workspace, preferred: Option<&str>) -> Result<Compiled, NoCompiler> {
    let mut no_compiler = NoCompiler { reasons: Vec::new(), any_failed: false };
    let mut others = Vec::new();
    for candidate in Candidate::all() {
        match tools(candidate) {
            Ok((toolchain, linker)) => {
                note(candidate.name(), &toolchain.to_string());
                let is_preferred = preferred.is_none_or(|preferred| preferred == toolchain.version);
                let index = if is_preferred { 0 } else { others.len() };
                others.insert(index, (candidate, toolchain, linker));
                if is_preferred {
                    break;
                }
            }
            Err(e) => no_compiler.add(candidate, &e),
        }
    }
    for (candidate, toolchain, linker) in others {
        match compile::compile(workspace, toolchain, &linker) {
            Ok(compiled) => return Ok(compiled),
            Err(e) => {
                no_compiler.any_failed = true;
                no_compiler.add(candidate, &e);
            }
        }
    }
    Err(no_compiler)
}

fn tools(candidate: Candidate) -> Result<(Toolchain, PathBuf)> {
    let toolchain = candidate.toolchain()?;
    let linker = linker::find_or_install(&toolchain).context("bpf-linker can't be installed")?;
    Ok((toolchain, linker))
}

fn note(compiler: &str, outcome: &str) {
    eprintln!("xtask: the XDP program: {compiler}: {outcome}");
}

/// Only when changed: the proxy embeds the file, and is built anew when it is newer.
fn place(new: &[u8], object: &Path) -> Result<()> {
    if std::fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let folder = object.parent().context("an object in no folder")?;
    let beside = folder.join("hookgate-guard.o.new");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&beside, new))
        .and_then(|()| std::fs::rename(&beside, object))
        .with_context(|| format!("writing {}", object.display()))
}

fn remove_if_there(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}
