//! The network of a container: the machine's, or one behind a bridge.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::net::is_private;

/// A network behind the machine's: its one interface is an end of a veth pair, with a private
/// address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    interface: String,
    address: IpAddr,
}

impl Bridge {
    pub const NEXT: &str = "use the machine's network (compose: network_mode: host; podman and docker run: --network host; \
        Kubernetes: hostNetwork), or have what lies before hookgate send PROXY headers ([listen] proxy_protocol_from)";
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, address } = self;
        write!(
            f,
            "on a bridge network ({interface}, {address}): Meta's addresses are hidden by the NAT or the proxy that publishes \
             its ports"
        )
    }
}

/// `net`: /sys/class/net. `addresses`: of all interfaces.
pub fn bridge(net: &Path, addresses: &[(String, IpAddr)]) -> Option<Bridge> {
    let mut others =
        addresses.iter().filter(|(_, address)| !address.is_loopback() && !is_link_local(*address));
    let (interface, address) = others.next()?;
    let is_behind = |(interface, address): &(String, IpAddr)| {
        is_private(*address) && is_end_of_pair(&net.join(interface))
    };
    let all = is_behind(&(interface.clone(), *address)) && others.all(is_behind);
    all.then(|| Bridge { interface: interface.clone(), address: *address })
}

/// Of a veth pair. VLANs and macvlans have another interface below them too, and say what they are.
fn is_end_of_pair(interface: &Path) -> bool {
    let read = |file: &str| fs::read_to_string(interface.join(file)).unwrap_or_default();
    let (index, below) = (read("ifindex"), read("iflink"));
    !below.is_empty() && index != below && !read("uevent").contains("DEVTYPE=")
}

/// Whether there is an IPv6 address, and no IPv4 one, by which other machines can be reached.
pub fn is_ipv6_only(addresses: &[(String, IpAddr)]) -> bool {
    let global = |address: &IpAddr| !address.is_loopback() && !is_link_local(*address);
    let mut global = addresses.iter().map(|(_, address)| address).filter(|address| global(address));
    let mut any = false;
    let no_ipv4 = global.all(|address| {
        any = true;
        address.is_ipv6()
    });
    any && no_ipv4
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str, address: &str) -> (String, IpAddr) {
        (interface.into(), address.parse().unwrap())
    }

    /// eth0 as engines make it, lan0 as a macvlan, ens3 as a card.
    fn interfaces() -> std::path::PathBuf {
        let net = std::env::temp_dir().join(format!("hookgate-net-{}", std::process::id()));
        for (name, index, below, uevent) in [
            ("eth0", "2\n", "17\n", "INTERFACE=eth0\nIFINDEX=2\n"),
            ("lan0", "3\n", "2\n", "DEVTYPE=macvlan\nINTERFACE=lan0\n"),
            ("ens3", "2\n", "2\n", "INTERFACE=ens3\n"),
        ] {
            let interface = net.join(name);
            fs::create_dir_all(&interface).unwrap();
            for (file, content) in [("ifindex", index), ("iflink", below), ("uevent", uevent)] {
                fs::write(interface.join(file), content).unwrap();
            }
        }
        net
    }

    #[test]
    fn a_bridge_network_is_one_private_end_of_a_pair() {
        let net = interfaces();
        let lo = on("lo", "127.0.0.1");
        for (addresses, expected) in [
            (vec![lo.clone(), on("eth0", "172.17.0.2")], true),
            (vec![lo.clone(), on("eth0", "10.88.0.5"), on("eth0", "fe80::1"), on("eth0", "fd00::5")], true),
            // Routed to the container as it is.
            (vec![lo.clone(), on("eth0", "192.0.2.7")], false),
            (vec![lo.clone(), on("eth0", "10.88.0.5"), on("eth0", "2001:db8::5")], false),
            (vec![lo.clone(), on("lan0", "192.168.1.9")], false),
            // The machine's own, beside its bridge.
            (vec![lo.clone(), on("ens3", "10.0.0.4"), on("eth0", "172.17.0.1")], false),
            (vec![lo], false),
        ] {
            assert_eq!(bridge(&net, &addresses).is_some(), expected, "{addresses:?}");
        }
        fs::remove_dir_all(net).unwrap();
    }

    #[test]
    fn addresses_of_one_family_alone() {
        let [lo, six] = [on("lo", "127.0.0.1"), on("eth0", "2001:db8::5")];
        assert!(is_ipv6_only(&[lo.clone(), six.clone()]));
        assert!(!is_ipv6_only(&[lo.clone(), six, on("eth0", "192.0.2.1")]));
        assert!(!is_ipv6_only(&[lo, on("eth0", "fe80::1")]));
    }
}
