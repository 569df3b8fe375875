//! Tries a page's snippets and commands on a machine that is thrown away; `testbed.sh` says what
//! there is on it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use harness_core::{TempDir, quoted, quoted_path};

use super::configuration::{Kind, Whole};
use crate::overlay_root::{self, Network};

const TESTBED: &str = concat!(include_str!("../retry_until.sh"), include_str!("testbed.sh"));
const TYPED: &str = include_str!("typed.sh");

/// Goes into the root, which is this machine's own underneath, with the steps.
const ENTER: &str = r#"
mkdir -p mnt/docs
mount --bind "$files" mnt/docs
mount -t cgroup2 cgroup2 sys/fs/cgroup
rm -f usr/bin/hookgate
cp "$binary" usr/bin/hookgate
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TERM=xterm HOME=/root chroot . sh /mnt/docs/steps
"#;

/// The steps to take, in their order. The files that they need are in a folder beside them.
pub struct Testbed {
    files: TempDir,
    steps: String,
    count: usize,
    has_world: bool,
}

/// What was seen of the steps.
#[derive(Debug, Default)]
pub struct Seen {
    pub passed: usize,
    /// A line for each that failed, and what it said.
    pub findings: Vec<String>,
}

impl Testbed {
    /// # Errors
    /// Files can't be written.
    pub fn new() -> Result<Self> {
        let files = TempDir::new("docs")?;
        files.write("prefixes", "157.240.0.0/17\n2a03:2880::/32\n")?;
        Ok(Self { files, steps: format!("{TESTBED}\nmachine\n"), count: 0, has_world: false })
    }

    /// Has `hookgate check` judge a snippet.
    ///
    /// # Errors
    /// Files can't be written.
    pub fn configuration(&mut self, at: &str, whole: &Whole) -> Result<()> {
        for (kind, path) in &whole.files {
            let kind = match kind {
                Kind::Certificate => "certificate",
                Kind::Key => "key",
                Kind::Authority => "authority",
                Kind::Prefixes => "prefixes",
                Kind::Folder => "folder",
            };
            writeln!(self.steps, "place {kind} {}", quoted_path(path))?;
        }
        self.step("configuration", at, &whole.text)
    }

    /// Has `nginx -t` judge a site.
    ///
    /// # Errors
    /// Files can't be written.
    pub fn nginx(&mut self, at: &str, site: &str) -> Result<()> {
        self.step("nginx_site", at, site)
    }

    /// Types commands.
    ///
    /// # Errors
    /// Files can't be written.
    pub fn commands(&mut self, at: &str, block: &str) -> Result<()> {
        self.world();
        self.step("commands", at, &format!("{TESTBED}\n{TYPED}\n{block}"))
    }

    /// Has a command print a document; [`Testbed::run`] leaves it in the file that is returned.
    pub fn document(&mut self, at: &str, command: &str) -> String {
        self.world();
        self.count += 1;
        let name = format!("document-{}", self.count);
        self.steps += &format!("document {} {name} {command}\n", quoted(at));
        name
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.count
    }

    fn step(&mut self, what: &str, at: &str, text: &str) -> Result<()> {
        self.count += 1;
        let name = format!("step-{}", self.count);
        self.files.write(&name, text)?;
        writeln!(self.steps, "{what} {} {name}", quoted(at))?;
        Ok(())
    }

    /// Snippets are judged before: a proxy that runs has taken their ports.
    fn world(&mut self) {
        if !std::mem::replace(&mut self.has_world, true) {
            self.steps += "world\n";
        }
    }

    /// Takes the steps, and hands what documents were printed to `documents`, by the names of their
    /// files.
    ///
    /// # Errors
    /// The machine can't be made, or its world does not start.
    pub fn run(
        self,
        binary: &Path,
        documents: impl FnOnce(&dyn Fn(&str) -> Result<String>) -> Result<Vec<String>>,
    ) -> Result<Seen> {
        self.files.write("steps", format!("{}echo done\n", self.steps))?;
        let overlay = TempDir::new("overlay")?;
        let paths = [("files", self.files.path()), ("binary", binary)];
        let mut shell = overlay_root::shell(overlay.path(), Path::new("/"), Network::Own, &paths, ENTER);
        let output = shell.stdin(Stdio::null()).output().context("starting unshare through setpriv")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(said.ends_with("done\n"), "the testbed ended early ({}):\n{said}{errors}", output.status);
        let mut seen = Seen::default();
        for line in said.lines().filter(|line| *line != "done") {
            match line.split_once(' ') {
                Some(("ok", _)) => seen.passed += 1,
                Some(("FAILED", at)) => seen.findings.push(at.to_owned()),
                _ => match seen.findings.last_mut().filter(|_| line.starts_with("    ")) {
                    Some(last) => *last += &format!("\n{line}"),
                    None => bail!("the testbed's world: {said}{errors}"),
                },
            }
        }
        let read = |name: &str| std::fs::read_to_string(self.files.path().join(name)).context("a document");
        seen.findings.extend(documents(&read)?);
        Ok(seen)
    }
}
