//! Debian 12's kernel, older ones, and an emulator for them, fetched and verified by apt and
//! unpacked into the cache. Nothing is installed: a kernel would want to be booted, and an emulator
//! may clash with parts of a newer one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::archive::{Archive, Origin, unpack};
use crate::{cache, install};

/// A kernel is what this depends on.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Named one by one, so that they are fetched where they are installed, too.
const EMULATOR: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// Debian 11, whose kernel is the newest that is too old for the guard: 5.10.
const OLD: &str = "bullseye";
/// Ubuntu 22.04, whose kernel is the oldest that is not: 5.15.
const OLDEST: &str = "jammy-updates";
const OLDEST_KERNEL: &str = "linux-image-virtual";

/// Folders with what the packages hold.
pub struct Debian {
    root: PathBuf,
    /// The kernel's, and its modules'.
    kernel: PathBuf,
    /// As `uname -r` will say.
    release: String,
}

impl Debian {
    /// # Errors
    /// apt knows no such packages or can't get them; or they are not Debian 12's.
    pub fn find_or_fetch() -> Result<Self> {
        // Lists that are missing, or of another day, name files that the archive does not have.
        Self::by_the_lists_at_hand().or_else(|_| {
            install::update()?;
            Self::by_the_lists_at_hand()
        })
    }

    fn by_the_lists_at_hand() -> Result<Self> {
        ensure!(cfg!(target_arch = "x86_64"), "only x86-64 is emulated, on x86-64");
        let mut show = Command::new("apt-cache");
        show.args(["show", "--no-all-versions", KERNEL]);
        let said = harness_core::run(show)?;
        let (version, package) = kernel_package(&said)?;
        ensure!(version.starts_with("6.1."), "{KERNEL} is {version} here: this needs Debian 12's archive");
        let release = package.strip_prefix("linux-image-").context("a kernel of another name")?;
        let at = |root: &Path| Self {
            root: root.to_owned(),
            kernel: root.to_owned(),
            release: release.to_owned(),
        };
        let root = cache::find_or_make(
            &format!("{KERNEL}-{version}"),
            |root| at(root).works(),
            |aside, home| fetch(package, aside, home).and_then(|()| at(aside).index_modules()),
        )?;
        Ok(at(&root))
    }

    /// The same with Debian 11's kernel.
    ///
    /// # Errors
    /// It can't be fetched.
    pub fn with_old_kernel(&self) -> Result<Self> {
        self.with_kernel(KERNEL, OLD, |scratch| {
            let archive = Archive::read(&Origin::debian(), OLD, scratch)?;
            archive.download(kernel_package(&archive.show(KERNEL)?)?.1, scratch)
        })
    }

    /// The same with Ubuntu 22.04's kernel, the oldest that the guard runs on.
    ///
    /// # Errors
    /// It can't be fetched.
    pub fn with_oldest_kernel(&self) -> Result<Self> {
        self.with_kernel(OLDEST_KERNEL, OLDEST, |scratch| {
            let archive = Archive::read(&Origin::ubuntu(scratch)?, OLDEST, scratch)?;
            let said = archive.show(OLDEST_KERNEL)?;
            let (_, package) = kernel_package(&said)?;
            archive.download(package, scratch)?;
            archive.download(&package.replace("-image-", "-modules-"), scratch)
        })
    }

    /// `fetch` puts the packages of a kernel into a folder.
    fn with_kernel(&self, name: &str, suite: &str, fetch: impl Fn(&Path) -> Result<()>) -> Result<Self> {
        let at = |kernel: &Path| {
            let release = release_in(kernel)?;
            Ok::<_, anyhow::Error>(Self { root: self.root.clone(), kernel: kernel.to_owned(), release })
        };
        let works = |kernel: &Path| at(kernel).is_ok_and(|debian| debian.kernel().exists());
        let kernel = cache::find_or_make(&format!("{name}-{suite}"), works, |aside, home| {
            eprintln!("xtask: fetching {suite}'s kernel once, into {} (30 MB to download)", home.display());
            let scratch = aside.join("archives");
            fetch(&scratch)?;
            unpack(&scratch, aside)?;
            at(aside)?.index_modules()
        })?;
        at(&kernel)
    }

    pub fn kernel(&self) -> PathBuf {
        self.kernel.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The folder with the kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.kernel.join("lib/modules").join(&self.release)
    }

    pub fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    pub fn emulator(&self) -> Command {
        let mut qemu = self.command("usr/bin/qemu-system-x86_64");
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            qemu.arg("-L").arg(self.root.join(data));
        }
        qemu
    }

    /// Serves a folder to the guest.
    pub fn virtiofsd(&self) -> Command {
        self.command("usr/lib/qemu/virtiofsd")
    }

    /// A program of theirs, which finds the libraries that came with it.
    fn command(&self, program: &str) -> Command {
        let folders =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| self.root.join(folder));
        let mut command = Command::new(self.root.join(program));
        command.env("LD_LIBRARY_PATH", folders.map(|folder| folder.display().to_string()).join(":"));
        command
    }

    fn works(&self) -> bool {
        [self.emulator(), self.virtiofsd()].into_iter().all(|mut program| {
            program.arg("--version");
            harness_core::run(program).is_ok()
        })
    }

    /// What installing the kernel's package would do: modprobe needs the index of dependencies.
    fn index_modules(&self) -> Result<()> {
        let mut depmod = Command::new(self.busybox());
        depmod.args(["depmod", "-b"]).arg(&self.kernel).arg(&self.release);
        harness_core::run(depmod).map(|_| ())
    }
}

/// The version, and the kernel's own package, by what apt-cache says of [`KERNEL`].
fn kernel_package(said: &str) -> Result<(&str, &str)> {
    let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
    let version = field("Version: ").context("apt-cache tells no version")?;
    let package = field("Depends: ").and_then(|all| all.split([' ', ',']).next());
    Ok((version, package.with_context(|| format!("{KERNEL} depends on no kernel"))?))
}

/// The release of the only kernel whose modules are in `root`.
fn release_in(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let mut releases =
        std::fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))?;
    let release = releases.next().with_context(|| format!("{} is empty", modules.display()))??;
    Ok(release.file_name().to_string_lossy().into_owned())
}

/// Into `root`, to be moved to `home`.
fn fetch(kernel: &str, root: &Path, home: &Path) -> Result<()> {
    eprintln!("xtask: fetching {kernel} and QEMU once, into {} (45 MB to download)", home.display());
    let archives = root.join("archives");
    install::download(&[kernel, "busybox-static"], &archives)?;
    install::download_with_dependencies(&EMULATOR, &archives)?;
    unpack(&archives, root)
}
