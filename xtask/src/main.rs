//! `cargo xtask`: builds, runs, tests and measures hookgate. A file a command; this one only
//! dispatches.
#![forbid(unsafe_code)]

mod advisories;
mod apt;
mod arch;
mod archive;
mod bench;
mod booted_root;
mod build;
mod cache;
mod commit;
mod debootstrap;
mod demo;
mod docs;
mod ebpf;
mod folder;
mod fresh;
mod fuzz;
mod image;
mod install;
mod overlay_root;
mod package;
mod profile;
mod python;
mod release;
mod run;
mod runs;
mod sbom;
mod setup;
mod source_paths;
mod test;
mod test_summary;
mod tidy;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser};
use harness_core::Workspace;

/// Builds, runs, tests and measures hookgate.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    Build(build::Args),
    Run(run::Args),
    Demo(demo::Args),
    Fuzz(fuzz::Args),
    Setup(setup::Args),
    Test(test::Args),
    Bench(bench::Args),
    Package(package::Args),
    Image(image::Args),
    Apt(apt::Args),
    /// Compiles the XDP program and puts its object, with a record of sources and tools, into
    /// proxy-ebpf/object
    Object,
    /// Records how often each path is taken under the bench's loads, for release builds to go by,
    /// into proxy/profile
    Profile,
    /// Tries what README.md and docs/ say: configurations, commands, links, names
    Docs,
    Advisories(advisories::Args),
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    match dispatch(Command::parse()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Build(args) => build::main(&workspace, &args),
        Command::Run(args) => run::main(&workspace, &args),
        Command::Demo(args) => demo::main(&workspace, &args),
        Command::Fuzz(args) => fuzz::main(&workspace, &args),
        Command::Setup(args) => setup::main(&args),
        Command::Test(args) => test::main(&workspace, &args, &Command::command()),
        Command::Bench(args) => bench::main(&workspace, &args),
        Command::Package(args) => package::main(&workspace, &args),
        Command::Image(args) => image::main(&workspace, &args),
        Command::Apt(args) => apt::main(&workspace, &args),
        Command::Object => ebpf::main(&workspace),
        Command::Profile => profile::main(&workspace),
        Command::Docs => docs::main(&workspace, &Command::command()),
        Command::Advisories(args) => advisories::main(&workspace, &args),
        Command::Tidy(args) => tidy::main(&workspace, &args),
    }
}
