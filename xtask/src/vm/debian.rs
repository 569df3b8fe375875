//! Debian 12's kernel and an emulator for it, fetched and verified by apt and unpacked into the cache. Nothing is
//! installed: a kernel would want to be booted, and an emulator may clash with parts of a newer one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cache, install};

/// The newest kernel is what this depends on.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Named one by one, so that they are fetched where they are installed, too.
const EMULATOR: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// A folder with what the packages hold.
pub struct Debian {
    root: PathBuf,
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
        let said = harness::run(show)?;
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
        let version = field("Version: ").context("apt-cache tells no version")?;
        ensure!(version.starts_with("6.1."), "{KERNEL} is {version} here: this needs Debian 12's archive");
        let package = field("Depends: ").and_then(|all| all.split([' ', ',']).next());
        let package = package.with_context(|| format!("{KERNEL} depends on no kernel"))?;
        let release = package.strip_prefix("linux-image-").context("a kernel of another name")?;
        let at = |root: &Path| Self { root: root.to_owned(), release: release.to_owned() };
        let root = cache::find_or_make(
            &format!("{KERNEL}-{version}"),
            |root| at(root).works(),
            |aside, home| fetch(package, aside, home).and_then(|()| at(aside).index_modules()),
        )?;
        Ok(at(&root))
    }

    pub fn kernel(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The folder with the kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
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
            harness::run(program).is_ok()
        })
    }

    /// What installing the kernel's package would do: without it modprobe does not know who needs whom.
    fn index_modules(&self) -> Result<()> {
        let mut depmod = Command::new(self.busybox());
        depmod.args(["depmod", "-b"]).arg(&self.root).arg(&self.release);
        harness::run(depmod).map(|_| ())
    }
}

/// Into `root`, to be moved to `home`.
fn fetch(kernel: &str, root: &Path, home: &Path) -> Result<()> {
    eprintln!("xtask: fetching {kernel} and QEMU once, into {} (45 MB to download)", home.display());
    let archives = root.join("archives");
    install::download(&[kernel, "busybox-static"], &archives)?;
    install::download_with_dependencies(&EMULATOR, &archives)?;
    for archive in std::fs::read_dir(&archives)?.collect::<Result<Vec<_>, _>>()? {
        if archive.path().extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(archive.path()).arg(root);
            harness::run(unpack)?;
        }
    }
    Ok(std::fs::remove_dir_all(archives)?)
}
