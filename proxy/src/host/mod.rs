//! Where this process runs: on a machine or in a container, and what of the machine that one has.

mod mounts;
mod network;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use mounts::Mounts;
pub use network::{Bridge, is_ipv6_only};

use crate::config::Config;
use crate::sys::interface_addresses;

/// What is around this process, read from the system's files.
#[derive(Debug)]
pub struct Host {
    pub container: Option<Container>,
    /// The bridge network that it is in.
    pub bridge: Option<Bridge>,
    pub is_ipv6_only: bool,
    pub mounts: Mounts,
}

/// Who has made the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    Docker,
    Podman,
    Kubernetes,
    Lxc,
    Nspawn,
    /// By what systemd calls it.
    Other(String),
}

impl Host {
    pub fn examine() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let addresses = interface_addresses().unwrap_or_default();
        let mounts = Mounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let mounts = mounts.without_covered(&["bpf", "cgroup", "cgroup2"]);
        let container = container(Path::new("/"), &variable, &mounts);
        let bridge = container.is_some().then(|| network::bridge(Path::new("/sys/class/net"), &addresses));
        Self { container, bridge: bridge.flatten(), is_ipv6_only: is_ipv6_only(&addresses), mounts }
    }

    /// The configured folders whose content goes with the container.
    pub fn unkept<'c>(&self, config: &'c Config) -> Vec<&'c Path> {
        match self.container {
            // The whole system is the container's there.
            None | Some(Container::Lxc | Container::Nspawn) => Vec::new(),
            Some(_) => state_folders(config).filter(|folder| !self.mounts.is_volume(folder)).collect(),
        }
    }

    /// What a start says of it: a line each.
    pub fn remarks(&self, config: &Config) -> Vec<String> {
        let Some(container) = &self.container else { return Vec::new() };
        let hidden = self.bridge.as_ref().filter(|_| config.listen.proxy_protocol_from.is_empty());
        let hidden = hidden.map(|bridge| format!("{bridge}: {}", Bridge::NEXT));
        let unkept = self.unkept(config);
        let unkept = (!unkept.is_empty()).then(|| format!("{}: {VOLUME}", in_words(&unkept)));
        let remarks = hidden.into_iter().chain(unkept);
        remarks.map(|remark| format!("in a container ({container}): {remark}")).collect()
    }
}

/// What is lost with the container.
pub fn in_words(unkept: &[&Path]) -> String {
    let folders: Vec<String> = unkept.iter().map(|folder| folder.display().to_string()).collect();
    format!("{} on no volume: what is kept there goes with the container", folders.join(", "))
}

/// What helps against that.
pub const VOLUME: &str = "mount a volume at /var/lib/hookgate";

/// Where the configuration has something kept.
pub fn state_folders(config: &Config) -> impl Iterator<Item = &Path> {
    let acme = config.acme.as_ref().map(|acme| acme.state.as_path());
    acme.into_iter().chain([config.insight.state.as_path()])
}

/// `root`: the root of the file system. `variable`: of this process's environment.
fn container(root: &Path, variable: &dyn Fn(&str) -> Option<String>, mounts: &Mounts) -> Option<Container> {
    let read = |path: &str| fs::read(root.join(path)).ok();
    // systemd's convention for the first process; engines give it to all.
    let own = variable("container").filter(|name| !name.is_empty());
    let first = || first_process(&read("proc/1/environ")?);
    let noted = || Some(String::from_utf8_lossy(&read("run/systemd/container")?).trim().to_owned());
    let there = |path: &str| root.join(path).exists();
    if variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Some(Container::Kubernetes);
    }
    // A virtual machine's disk that was made from an image has the file, too.
    if there(".dockerenv") && mounts.has_made_up_root() {
        return Some(Container::Docker);
    }
    if there("run/.containerenv") {
        return Some(Container::Podman);
    }
    let named = own.or_else(first).or_else(noted).map(|name| Container::named(&name));
    named.or_else(|| by_names(mounts.source_of("/etc/resolv.conf").or(mounts.source_of("/etc/hostname"))?))
}

/// Engines mount a container's names over its own, from a folder of theirs. `source`: that file.
fn by_names(source: &str) -> Option<Container> {
    let of = |mark: &str| source.contains(mark);
    if of("/docker/") {
        Some(Container::Docker)
    } else if of("-containers/") && of("/userdata/") {
        Some(Container::Podman)
    } else if of("/containerd/") || of("io.containerd.") || of("/kubelet/") {
        Some(Container::Kubernetes)
    } else {
        None
    }
}

/// The variable `container` of the first process, where it may be read.
fn first_process(environment: &[u8]) -> Option<String> {
    let value = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"container="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

impl Container {
    fn named(name: &str) -> Self {
        match name {
            "docker" => Self::Docker,
            "podman" => Self::Podman,
            "lxc" | "lxc-libvirt" => Self::Lxc,
            "systemd-nspawn" => Self::Nspawn,
            other => Self::Other(other.to_owned()),
        }
    }

    /// How it gets what it lacks: a volume and a capability, in the words of its own configuration.
    pub fn grants(&self) -> Grants {
        match self {
            Self::Lxc => Grants {
                bpf: "lxc.mount.entry = /sys/fs/bpf sys/fs/bpf none bind,create=dir 0 0".into(),
                capabilities: "a privileged container, whose lxc.cap.drop names none of them".into(),
            },
            Self::Nspawn => Grants {
                bpf: "systemd-nspawn --bind=/sys/fs/bpf".into(),
                capabilities: "systemd-nspawn --capability=".into(),
            },
            Self::Kubernetes => Grants {
                bpf: "a hostPath volume /sys/fs/bpf".into(),
                capabilities: "securityContext.capabilities.add".into(),
            },
            Self::Docker | Self::Podman | Self::Other(_) => Grants {
                bpf: "the volume /sys/fs/bpf:/sys/fs/bpf".into(),
                capabilities: "cap_add (compose) or --cap-add".into(),
            },
        }
    }
}

/// See [`Container::grants`].
pub struct Grants {
    pub bpf: String,
    pub capabilities: String,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "podman",
            Self::Kubernetes => "Kubernetes",
            Self::Lxc => "LXC",
            Self::Nspawn => "systemd-nspawn",
            Self::Other(name) => name,
        })
    }
}

/// The folders among `folders` that this process can't write in.
pub fn unwritable<'f>(folders: impl Iterator<Item = &'f Path>) -> Vec<PathBuf> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let nearest = |folder: &Path| folder.ancestors().find(|path| path.exists()).map(Path::to_owned);
    let mut found: Vec<PathBuf> = folders
        .filter_map(nearest)
        .filter(|path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_err())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAY: &str = "522 381 0:62 / / rw,relatime - overlay overlay rw\n";

    fn found(files: &[(&str, &str)], variables: &[(&str, &str)], mounts: &str) -> Option<Container> {
        let root = std::env::temp_dir().join(format!("hookgate-host-{}-{}", std::process::id(), files.len()));
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let variable =
            |name: &str| variables.iter().find(|(at, _)| *at == name).map(|(_, value)| (*value).to_owned());
        let container = container(&root, &variable, &Mounts::parse(mounts));
        let _ = fs::remove_dir_all(&root);
        container
    }

    #[test]
    fn each_engine_leaves_its_mark() {
        let init = ("proc/1/environ", "TERM=linux\0container=lxc\0");
        for (files, variables, expected) in [
            (&[][..], &[][..], None),
            (&[("proc/1/environ", "HOME=/\0")], &[("HOME", "/root")], None),
            (&[(".dockerenv", "")], &[], Some(Container::Docker)),
            (&[("run/.containerenv", "engine=\"podman-4.3.1\"\n")], &[], Some(Container::Podman)),
            (&[], &[("container", "podman")], Some(Container::Podman)),
            (&[init], &[], Some(Container::Lxc)),
            (&[("run/systemd/container", "systemd-nspawn\n")], &[], Some(Container::Nspawn)),
            (&[], &[("KUBERNETES_SERVICE_HOST", "10.96.0.1")], Some(Container::Kubernetes)),
            (&[], &[("container", "oci")], Some(Container::Other("oci".into()))),
        ] {
            assert_eq!(found(files, variables, OVERLAY), expected, "{files:?} {variables:?}");
        }
        let disk = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
        assert_eq!(found(&[(".dockerenv", "")], &[], disk), None, "a machine made from an image");
    }

    #[test]
    fn engines_are_known_by_the_files_that_they_mount() {
        let id = "0f78be99facadf0d438ce3dba4fad7bf";
        for (source, expected) in [
            (format!("/var/lib/docker/containers/{id}/resolv.conf"), Some(Container::Docker)),
            (format!("/pr/vfs-containers/{id}/userdata/resolv.conf"), Some(Container::Podman)),
            (
                format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/resolv.conf"),
                Some(Container::Kubernetes),
            ),
            ("/resolvconf/resolv.conf".into(), None),
        ] {
            let line = format!("110 99 0:43 {source} /etc/resolv.conf ro,nosuid - tmpfs tmpfs rw\n");
            let found = container(Path::new("/nowhere"), &|_| None, &Mounts::parse(&line));
            assert_eq!(found, expected, "{source}");
        }
    }
}
