//! Debian 12's kernel, older ones, and an emulator for them, fetched and verified by apt and
//! unpacked into the cache. Nothing is installed: a kernel would want to be booted, and an emulator
//! may clash with parts of a newer one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::archive::{Archive, Origin, unpack};
use crate::{cache, install};

/// A kernel is what this depends on.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Named one by one, so that they are fetched where they are installed, too.
const EMULATOR: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// The same for arm64, with its emulator.
const ARM64_KERNEL: &str = "linux-image-cloud-arm64";
const ARM64_EMULATOR: [&str; 1] = ["qemu-system-arm"];
const SUITE: &str = "bookworm";

/// Debian 11, whose kernel is the newest that is too old for the guard: 5.10.
const OLD: &str = "bullseye";
/// Debian 13, whose kernel is 6.12.
const NEWER: &str = "trixie";
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
    /// The emulated processor's.
    pub arch: Arch,
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
            arch: Arch::Amd64,
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
        self.with_debian_kernel(OLD)
    }

    /// The same with Debian 13's kernel.
    ///
    /// # Errors
    /// It can't be fetched.
    pub fn with_newer_kernel(&self) -> Result<Self> {
        self.with_debian_kernel(NEWER)
    }

    fn with_debian_kernel(&self, suite: &str) -> Result<Self> {
        self.with_kernel(KERNEL, suite, |scratch| {
            let archive = Archive::read(&Origin::debian(), suite, scratch)?;
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

    /// Debian 12 for arm64. Its files are not this machine's: it can execute none of those.
    ///
    /// # Errors
    /// Its kernel or the emulator can't be fetched.
    pub fn for_arm64(&self) -> Result<Self> {
        let fetched = self.with_kernel(ARM64_KERNEL, SUITE, |scratch| {
            let archive = Archive::read(&Origin::debian().for_arch(Arch::Arm64), SUITE, scratch)?;
            archive.download(kernel_package(&archive.show(ARM64_KERNEL)?)?.1, scratch)?;
            archive.download("busybox-static", scratch)?;
            install::download_with_dependencies(&ARM64_EMULATOR, scratch)
        })?;
        let arm64 = Self { arch: Arch::Arm64, ..fetched };
        let mut version = arm64.emulator();
        version.arg("--version");
        harness_core::run(version)?;
        Ok(arm64)
    }

    /// `fetch` puts the packages of a kernel into a folder.
    fn with_kernel(&self, name: &str, suite: &str, fetch: impl Fn(&Path) -> Result<()>) -> Result<Self> {
        let at = |kernel: &Path| {
            let release = release_in(kernel)?;
            let (root, kernel) = (self.root.clone(), kernel.to_owned());
            Ok::<_, anyhow::Error>(Self { root, kernel, release, arch: self.arch })
        };
        let works = |kernel: &Path| at(kernel).is_ok_and(|debian| debian.kernel().exists());
        let kernel = cache::find_or_make(&format!("{name}-{suite}"), works, |aside, home| {
            eprintln!("xtask: fetching {suite}'s kernel once, into {} (30 MB to download)", home.display());
            let scratch = aside.join("archives");
            fetch(&scratch)?;
            unpack(&scratch, aside)?;
            // Newer packages know no /lib beside /usr/lib.
            let (usual, newer) = (aside.join("lib"), aside.join("usr/lib"));
            if !usual.exists() && newer.exists() {
                std::fs::rename(newer, usual)?;
            }
            self.unpack_modules(aside)?;
            at(aside)?.index_modules()
        })?;
        at(&kernel)
    }

    /// As `uname -r` will say.
    pub fn release(&self) -> &str {
        &self.release
    }

    pub fn kernel(&self) -> PathBuf {
        self.kernel.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The folder with the kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.kernel.join("lib/modules").join(&self.release)
    }

    /// One that runs on this machine.
    pub fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    /// One that runs in the guest.
    pub fn guest_busybox(&self) -> PathBuf {
        match self.arch {
            Arch::Amd64 => self.busybox(),
            Arch::Arm64 => self.kernel.join("bin/busybox"),
        }
    }

    /// The line in the guest that its tests write to.
    pub fn line(&self) -> &'static Path {
        Path::new(match self.arch {
            Arch::Amd64 => "/dev/ttyS1",
            Arch::Arm64 => "/dev/hvc0",
        })
    }

    pub fn emulator(&self) -> Command {
        let mut qemu = match self.arch {
            Arch::Amd64 => self.command(&self.root.join("usr/bin/qemu-system-x86_64")),
            Arch::Arm64 => self.command(&self.kernel.join("usr/bin/qemu-system-aarch64")),
        };
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            qemu.arg("-L").arg(self.root.join(data));
        }
        qemu
    }

    /// Serves a folder to the guest.
    pub fn virtiofsd(&self) -> Command {
        self.command(&self.root.join("usr/lib/qemu/virtiofsd"))
    }

    /// A program of theirs, which finds the libraries that came with it.
    fn command(&self, program: &Path) -> Command {
        let folders = [&self.root, &self.kernel].into_iter().flat_map(|root| {
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| root.join(folder))
        });
        let mut command = Command::new(program);
        command.env(
            "LD_LIBRARY_PATH",
            folders.map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":"),
        );
        command
    }

    fn works(&self) -> bool {
        [self.emulator(), self.virtiofsd()].into_iter().all(|mut program| {
            program.arg("--version");
            harness_core::run(program).is_ok()
        })
    }

    /// Modules of newer packages are compressed, which our modprobe does not read.
    fn unpack_modules(&self, root: &Path) -> Result<()> {
        let mut find = Command::new(self.busybox());
        find.arg("find").arg(root.join("lib/modules")).args(["-name", "*.ko.xz", "-exec"]);
        find.arg(self.busybox()).args(["unxz", "{}", ";"]);
        harness_core::run(find).map(|_| ())
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
