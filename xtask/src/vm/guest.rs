//! A machine that lives as long as its tests.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use harness_core::{Cleanup, Running, TempDir, quoted_path, wait_until, wrapped};

use super::debian::Debian;
use super::initramfs;
use crate::arch::Arch;
use crate::test_summary::TestSummary;

const MAX_WAIT: Duration = Duration::from_secs(10);
/// `timeout`'s exit status when it had to end what it ran.
const TOOK_TOO_LONG: i32 = 124;
/// How much of the console is shown when something went wrong.
const CONSOLE_LINES: usize = 40;

/// Starts a guest with one processor, and firmware that announces `processors`, with the script
/// `tests`; shows and counts what its second serial line says, for no longer than `limit`.
///
/// # Errors
/// It can't be started.
pub fn run(
    debian: &Debian,
    processors: u32,
    tests: &str,
    limit: Duration,
    summary: &mut TestSummary,
) -> Result<()> {
    let dir = TempDir::new("vm")?;
    let cleanup = Cleanup::new()?;
    cleanup.add(&format!("rm -rf {}", quoted_path(dir.path())))?;
    let initramfs = initramfs::write(debian, tests, &dir)?;
    let [socket, console] = ["virtiofs", "console"].map(|name| dir.path().join(name));

    let mut files = Running::start(files(debian, &socket))?;
    files.wait_for_stderr("Waiting for vhost-user socket connection", MAX_WAIT)?;
    let machine = machine(debian, processors, &initramfs, &socket, &console);
    let (output, input) = std::io::pipe()?;
    let mut machine = Running::start_into(limited(limit, &machine), Stdio::from(input))?;
    let followed = summary.follow(output)?;
    if followed.last == "done" {
        return Ok(());
    }

    // One that goes on is as bad as one that ended too early.
    let _ = wait_until("the machine ends", MAX_WAIT, || Ok(machine.ended()?.is_some()));
    let status = machine.ended()?.and_then(|status| status.code());
    let how = if status == Some(TOOK_TOO_LONG) {
        format!("did not end within {} s", limit.as_secs())
    } else {
        "ended before its tests did".to_owned()
    };
    println!("\ntest the emulated machine ... FAILED: it {how}; its console, and the emulator:");
    println!("{}\n{}", tail(&console)?, machine.stderr());
    summary.fail();
    Ok(())
}

/// The host's files, for one guest. It could write to them; the guest's first program sees to it
/// that none does.
fn files(debian: &Debian, socket: &Path) -> Command {
    let mut virtiofsd = debian.virtiofsd();
    virtiofsd.arg(format!("--socket-path={}", socket.display()));
    virtiofsd.args(["-f", "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always"]);
    virtiofsd
}

/// One processor and 1 GiB, without disk. Its two network cards reach only each other. Nothing of
/// it is accelerated by the host's processor: that works everywhere. Its clock counts instructions,
/// 2² ns each, about what an idle host needs for one: a busy host makes the guest take longer, but
/// no time-out in it come sooner.
fn machine(debian: &Debian, processors: u32, initramfs: &Path, socket: &Path, console: &Path) -> Command {
    let mut qemu = debian.emulator();
    qemu.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
    qemu.args(["-accel", "tcg", "-icount", "shift=2", "-m", "1G"]);
    qemu.args(["-smp", &format!("1,maxcpus={processors}")]);
    // The file server reads and writes the guest's memory.
    qemu.args(["-object", "memory-backend-memfd,id=memory,size=1G,share=on", "-numa", "node,memdev=memory"]);
    qemu.arg("-chardev").arg(format!("socket,id=files,path={}", socket.display()));
    qemu.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    for card in ["one", "other"] {
        qemu.args(["-netdev", &format!("hubport,id={card},hubid=0")]);
        qemu.args(["-device", &format!("virtio-net-pci,netdev={card},romfile=")]);
    }
    qemu.arg("-serial").arg(format!("file:{}", console.display()));
    let line = match debian.arch {
        Arch::Amd64 => {
            qemu.args(["-machine", "q35", "-cpu", "max", "-serial", "stdio"]);
            "ttyS0"
        }
        Arch::Arm64 => {
            // It has one serial line.
            qemu.args(["-machine", "virt", "-cpu", "cortex-a72", "-chardev", "stdio,id=tests"]);
            qemu.args(["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=tests"]);
            "ttyAMA0"
        }
    };
    qemu.arg("-kernel").arg(debian.kernel()).arg("-initrd").arg(initramfs);
    // A kernel that stumbles ends the machine.
    qemu.args(["-append", &format!("console={line} quiet oops=panic panic=-1")]);
    qemu
}

/// With less of the host's processors than others get, and gone when we are.
fn limited(limit: Duration, machine: &Command) -> Command {
    let machine = wrapped("setpriv", &["--pdeathsig", "KILL", "--", "nice", "-n", "5"], machine);
    wrapped("timeout", &["--kill-after=5", &limit.as_secs().to_string()], &machine)
}

fn tail(console: &Path) -> Result<String> {
    let text = std::fs::read(console).with_context(|| format!("reading {}", console.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().collect::<Vec<_>>();
    Ok(lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n"))
}
