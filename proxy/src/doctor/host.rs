//! Where hookgate runs, and what that takes away from it.

use std::path::Path;

use super::Finding;
use crate::config::Config;
use crate::host::{Bridge, Host, VOLUME, in_words, state_folders, unwritable};

const SUBJECT: &str = "where it runs";

pub fn findings(config: &Config, host: &Host) -> Vec<Finding> {
    let place = match &host.container {
        None => Finding::ok(SUBJECT, "on the machine itself, as far as can be seen"),
        Some(container) => Finding::ok(SUBJECT, format!("in a container ({container})")),
    };
    let unkept = host.unkept(config);
    let unkept = (!unkept.is_empty()).then(|| Finding::warn(SUBJECT, in_words(&unkept), VOLUME));
    let bridge = host.bridge.as_ref().map(|bridge| published(bridge, config));
    let six = host.is_ipv6_only.then(six);
    [place].into_iter().chain(bridge).chain(unkept).chain(read_only(config, host)).chain(six).collect()
}

/// Behind a bridge, where a PROXY header may say what the NAT hides.
fn published(bridge: &Bridge, config: &Config) -> Finding {
    if config.listen.proxy_protocol_from.is_empty() {
        return Finding::warn(SUBJECT, bridge.to_string(), Bridge::NEXT);
    }
    Finding::ok(SUBJECT, format!("{bridge}; PROXY headers name the clients"))
}

/// A root that can't be written in, and whether that matters.
fn read_only(config: &Config, host: &Host) -> Option<Finding> {
    host.mounts.has_read_only_root().then(|| {
        let socket = config.admin_socket().and_then(Path::parent);
        let locked = unwritable(state_folders(config).chain(socket));
        if locked.is_empty() {
            return Finding::ok(SUBJECT, "on a read-only root, with folders of its own to write in");
        }
        let locked: Vec<String> = locked.iter().map(|folder| folder.display().to_string()).collect();
        Finding::warn(
            SUBJECT,
            format!("on a read-only root: nothing can be written in {}", locked.join(", ")),
            "mount a volume at /var/lib/hookgate and a tmpfs at /run/hookgate",
        )
    })
}

fn six() -> Finding {
    Finding::warn(
        SUBJECT,
        "on a machine with IPv6 alone: upstreams whose names have IPv4 addresses alone can't be reached",
        "name resolvers of a NAT64 in [dns] servers (DNS64), or give the machine an IPv4 address, a private one behind NAT will do",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::host::{Container, Mounts};

    fn host(container: Option<Container>, mounts: &str) -> Host {
        Host { container, bridge: None, is_ipv6_only: false, mounts: Mounts::parse(mounts) }
    }

    fn config() -> Config {
        let text = "[listen]\nplain = [\"127.0.0.1:1\"]\n[insight]\nstate = \"/var/lib/hookgate/insight\"\n";
        Config::parse(Path::new("/etc/hookgate/hookgate.toml"), text).unwrap()
    }

    #[test]
    fn state_that_goes_with_the_container_is_named() {
        let root = "522 381 0:62 / / rw,relatime - overlay overlay rw\n";
        let found = findings(&config(), &host(Some(Container::Docker), root));
        let warning = found.iter().find(|finding| finding.level == Level::Warn).unwrap();
        assert!(warning.text.starts_with("/var/lib/hookgate/insight on no volume"), "{warning}");
        // A machine's own root, and a container that is a whole system.
        for container in [None, Some(Container::Lxc)] {
            let found = findings(&config(), &host(container, root));
            assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:?}");
        }
    }
}
