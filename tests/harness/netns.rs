use std::fs::File;
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Running, run, wrapped};

/// A network namespace without a name, alive as long as this value; or the one we are in
/// ([`NetNs::here`]).
///
/// Namespaces made here have mounts of their own too: a `/sys` that shows their interfaces, a BPF
/// file system, so that whatever is pinned in one goes with it, and the machine's cgroups (v2),
/// where systemd would have them.
pub struct NetNs(Option<Running>);

/// Makes mounts that only this namespace has, reports that, and then keeps the namespace alive.
const HOLD: &str = "mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf && \
    mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo ready >&2 && exec sleep infinity";

impl NetNs {
    /// The namespace of the test itself: nothing to set up, nothing to clean up.
    pub fn here() -> Self {
        Self(None)
    }

    /// A new one, with its loopback up.
    ///
    /// # Errors
    /// Not root, or a kernel without namespaces.
    pub fn new() -> Result<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "--mount", "sh", "-c", HOLD]);
        let mut holder = Running::start(holder)?;
        holder.wait_for_stderr("ready", Duration::from_secs(10)).context("making a network namespace")?;
        let ns = Self(Some(holder));
        ns.run("ip link set lo up")?;
        Ok(ns)
    }

    /// `program`, to be run inside.
    pub fn command(&self, program: &str) -> Command {
        self.enter(&Command::new(program))
    }

    /// The same command, to be run inside; its process id will be the program's own.
    pub fn enter(&self, command: &Command) -> Command {
        let Some(holder) = &self.0 else { return wrapped("env", &[], command) };
        let (net, mount) = (
            format!("--net=/proc/{}/ns/net", holder.pid()),
            format!("--mount=/proc/{}/ns/mnt", holder.pid()),
        );
        // nsenter goes to the root folder when it changes mounts.
        let folder = command.get_current_dir().unwrap_or(Path::new("/")).to_string_lossy();
        wrapped("nsenter", &[&net, &mount, "--", "env", &format!("--chdir={folder}")], command)
    }

    /// Runs `work` inside, on a thread of its own. A socket belongs to the namespace in which it
    /// was made, also when it is used elsewhere afterwards. Files are those of the test.
    ///
    /// # Errors
    /// The namespace can't be entered, or `work` failed.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(holder) = &self.0 else { return work() };
        let door = File::open(format!("/proc/{}/ns/net", holder.pid())).context("a network namespace")?;
        let entered = || {
            move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering a network namespace")?;
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs a command line of plain words inside and returns what it printed.
    ///
    /// # Errors
    /// It can't be started or fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("no command")?);
        command.args(words);
        run(command)
    }

    /// Joins two namespaces by a veth pair, both ends up, with every offload off: a packet on it is
    /// a frame as a wire would carry it, so that what one end counts the other end counts too.
    ///
    /// # Errors
    /// One of the namespaces is [`NetNs::here`], or an interface of that name is there already.
    pub fn link(a: (&Self, &str), b: (&Self, &str)) -> Result<()> {
        let (Some(_), Some(holder)) = (&a.0.0, &b.0.0) else {
            bail!("a link joins namespaces made for it, never the one everything else uses");
        };
        // Made inside, so that the machine's own namespace never sees it.
        a.0.run(&format!("ip link add {} type veth peer name {} netns {}", a.1, b.1, holder.pid()))?;
        for (ns, end) in [a, b] {
            ns.run(&format!("ethtool -K {end} tso off gso off gro off"))?;
            ns.run(&format!("ip link set {end} up"))?;
        }
        Ok(())
    }

    /// Takes a network card out of the namespace that everything else uses, and calls it `name`
    /// here. It goes back there when this namespace ends.
    ///
    /// # Errors
    /// There is none, or this is [`NetNs::here`].
    pub fn take(&self, card: &str, name: &str) -> Result<()> {
        let Some(holder) = &self.0 else { bail!("{card} is here already") };
        Self::here().run(&format!("ip link set {card} netns {}", holder.pid()))?;
        self.run(&format!("ip link set {card} name {name}"))?;
        self.run(&format!("ethtool -K {name} tso off gso off gro off"))?;
        self.run(&format!("ip link set {name} up")).map(|_| ())
    }

    /// Gives an interface an address, which serves at once (no duplicate address detection).
    ///
    /// # Errors
    /// There is no such interface.
    pub fn address(&self, device: &str, cidr: &str) -> Result<()> {
        let nodad = if cidr.contains(':') { "nodad" } else { "" };
        self.run(&format!("ip address add {cidr} dev {device} {nodad}")).map(|_| ())
    }
}
