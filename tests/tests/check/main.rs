//! `hookgate check` on set-ups with something wrong in them: all that is wrong is told, with its
//! place and what to do.

mod beside;
mod files;
mod report;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use harness::{TempDir, free_port};
use toml::de::DeTable;

const SETUPS: &str = include_str!("../../data/broken_setups.toml");

/// What `hookgate check` says in `folder`, where its configuration lies.
fn check(folder: &Path, options: &[&str]) -> Result<Output> {
    // Whatever the files are, it ends.
    let mut command = Command::new("timeout");
    command
        .arg("20")
        .arg(harness::binary()?)
        .args(["check", "--config", "hookgate.toml"])
        .args(options)
        .current_dir(folder);
    Ok(command.output()?)
}

struct Case<'t> {
    about: &'t str,
    /// By their paths.
    files: Vec<(&'t str, &'t str)>,
    problems: Vec<&'t str>,
}

impl<'t> Case<'t> {
    fn of(case: &'t DeTable<'t>) -> Result<Self> {
        let about = case.get("about").and_then(|about| about.get_ref().as_str()).context("nameless")?;
        let problems = case
            .get("problems")
            .and_then(|list| list.get_ref().as_array())
            .with_context(|| about.to_owned())?;
        let files = case
            .get("files")
            .and_then(|files| files.get_ref().as_table())
            .with_context(|| about.to_owned())?;
        Ok(Self {
            about,
            files: files
                .iter()
                .filter_map(|(path, text)| Some((&**path.get_ref(), text.get_ref().as_str()?)))
                .collect(),
            problems: problems.iter().filter_map(|line| line.get_ref().as_str()).collect(),
        })
    }

    /// `free`, `taken`: what stands for `{free}` and `{taken}`.
    fn run(&self, folder: &Path, free: u16, taken: u16) -> Result<()> {
        let filled =
            |text: &str| text.replace("{free}", &free.to_string()).replace("{taken}", &taken.to_string());
        for (path, text) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            let text = filled(text);
            let latin1 = text.strip_prefix("latin1:").map(|text| text.chars().map(|c| c as u8).collect());
            fs::write(path, latin1.unwrap_or_else(|| text.into_bytes()))?;
        }
        let output = check(folder, &[])?;
        let said = String::from_utf8(output.stderr)?;
        let expected: Vec<String> = self.problems.iter().map(|problem| filled(problem)).collect();
        let lines: Vec<&str> = said.lines().collect();
        let is_told = lines.len() == expected.len()
            && lines.iter().zip(&expected).all(|(line, pattern)| fits(line, pattern));
        ensure!(is_told, "{}:\n  expected\n{}\n  said\n{said}", self.about, expected.join("\n"));
        let is_fine = self.problems.iter().all(|problem| problem.contains(" warning: "));
        ensure!(output.status.code() == Some(i32::from(!is_fine)), "{}: {}", self.about, output.status);
        if folder.join("upstreams.d").exists() {
            fs::remove_dir_all(folder.join("upstreams.d"))?;
        }
        Ok(())
    }
}

/// Whether `line` is as `pattern` says, in which `…` stands for anything.
fn fits(line: &str, pattern: &str) -> bool {
    let (first, rest) = pattern.split_once('…').map_or((pattern, None), |(first, rest)| (first, Some(rest)));
    match (line.strip_prefix(first), rest) {
        (Some(left), None) => left.is_empty(),
        (Some(left), Some(rest)) => {
            (0..=left.len()).any(|at| left.is_char_boundary(at) && fits(&left[at..], rest))
        }
        (None, _) => false,
    }
}

#[test]
fn what_is_wrong_is_told_where_and_with_its_remedy() -> Result<()> {
    let dir = TempDir::new("check")?;
    files::write(&dir)?;
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?.port();
    let setups = DeTable::parse(SETUPS)?;
    let cases =
        setups.get_ref().get("case").and_then(|cases| cases.get_ref().as_array()).context("no cases")?;
    let cases = cases.iter().filter_map(|case| case.get_ref().as_table()).map(Case::of);
    let cases: Vec<Case<'_>> = cases.collect::<Result<_>>()?;
    ensure!(cases.iter().filter(|case| !case.problems.is_empty()).count() >= 40, "{}", cases.len());
    let failures = cases.iter().filter_map(|case| case.run(dir.path(), free_port().ok()?, taken).err());
    let failures: Vec<String> = failures.map(|error| format!("{error:#}")).collect();
    ensure!(!dir.path().join("state").exists(), "to check is to write nothing");
    ensure!(failures.is_empty(), "{} of {}:\n\n{}", failures.len(), cases.len(), failures.join("\n"));
    Ok(())
}
