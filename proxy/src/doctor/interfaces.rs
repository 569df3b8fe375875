//! The guarded interfaces: there, up, whose XDP program sits on them, and in which mode one can
//! run.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::check;
use crate::config::{Config, Guard, Key, XdpMode};
use crate::guard;

/// Drivers with native XDP as of Linux 6.12, as sysfs names them: `vif` is xen_netfront, `gvnic`
/// what gve was called before. That one is not here proves nothing: attaching does.
const NATIVE: [&str; 38] = [
    "atlantic",
    "bnxt_en",
    "cpsw",
    "dpaa2",
    "ena",
    "enetc",
    "fec",
    "fsl_dpaa2_eth",
    "fsl_enetc",
    "gve",
    "gvnic",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "lan966x",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "nicvf",
    "octeontx2",
    "qede",
    "rvu_nicpf",
    "sfc",
    "stmmac",
    "thunder_nic",
    "tsnep",
    "vif",
    "virtio_net",
    "vmxnet3",
    "xen_netfront",
];

pub fn findings(config: &Config) -> Vec<Finding> {
    let Some(guard) = config.guard.as_ref().filter(|guard| guard.is_attached()) else {
        return vec![Finding::ok("guard", "not configured: nothing is counted before the proxy sees it")];
    };
    let named = check::interfaces(guard);
    let attached = guard::attached(&guard.pin).unwrap_or_default();
    let left = attached.iter().filter(|own| !named.iter().any(|(_, name)| *name == own.name)).map(|own| {
        let text = format!("the guard of an earlier start still filters here, as {}", own.xdp);
        let next =
            "run `hookgate guard attach`, which lets go of it, or name the interface in [guard] interfaces";
        Finding::warn(&own.name, text, next)
    });
    let none = named.is_empty().then(|| {
        let next = "name interfaces in [guard], or see to a default route (`ip route`)";
        Finding::warn("guard", "interfaces = \"auto\": there is no default route", next)
    });
    let interfaces = named.iter().flat_map(|(_, name)| interface(name, guard, &attached));
    interfaces.chain(none).chain(left).chain(unguarded(config, guard)).collect()
}

fn interface(name: &str, guard: &Guard, attached: &[guard::Interface]) -> Vec<Finding> {
    let is_ours = check::interface(Key::new("guard.interfaces"), name, guard);
    let own = attached.iter().find(|own| own.name == name);
    let worse = own.and_then(|own| Some((own.xdp, own.reason.as_deref()?)));
    let state = fs::read_to_string(format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
    let up = match state.trim() {
        "" => None,
        "down" => {
            let next =
                format!("run `ip link set {name} up`, or guard the interface that carries the traffic");
            Some(Finding::warn(name, "down", next))
        }
        _ => Some(Finding::ok(name, "there, and up")),
    };
    let program = match is_ours {
        Ok(true) => match worse {
            None => Finding::ok(name, "runs this hookgate's guard"),
            Some((xdp, reason)) => {
                let text = format!("runs this hookgate's guard, as {xdp}, which takes more CPU: {reason}");
                Finding::ok(name, text)
            }
        },
        Ok(false) => native(name, driver(name).as_deref(), guard.xdp),
        Err(fault) => Finding::of(name, fault),
    };
    up.into_iter().chain([program]).collect()
}

/// What its driver can do, as far as that can be told without attaching.
fn native(name: &str, driver: Option<&str>, wanted: XdpMode) -> Finding {
    let known = driver.is_some_and(|driver| NATIVE.contains(&driver));
    let text = match driver {
        Some(driver) if known => format!("its driver {driver} has native XDP"),
        Some(driver) => format!("its driver {driver} is not known to have native XDP"),
        None => "no driver to ask (a virtual interface): attaching tells whether it has native XDP".into(),
    };
    let loopback = name == "lo";
    match wanted {
        XdpMode::Native if loopback || (driver.is_some() && !known) => {
            Finding::warn(name, text, "attaching may fail: set [guard] xdp = \"auto\"")
        }
        XdpMode::Auto if driver.is_some() && !known => {
            Finding::warn(name, text, "the guard falls back to tc, which takes more CPU")
        }
        _ => Finding::ok(name, text),
    }
}

fn driver(interface: &str) -> Option<String> {
    let link = fs::read_link(Path::new("/sys/class/net").join(interface).join("device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// What is served, but not looked at.
fn unguarded(config: &Config, guard: &Guard) -> Option<Finding> {
    let served = config.listen.https.iter().map(|address| address.port());
    let mut unguarded: Vec<String> =
        served.filter(|port| !guard.ports.contains(port)).map(|port| port.to_string()).collect();
    unguarded.dedup();
    (!unguarded.is_empty()).then(|| {
        let text = format!("[listen] https serves port {}, which is not guarded", unguarded.join(", "));
        Finding::warn("guard", text, "add it to [guard] ports, unless packets come to another port here")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn what_a_driver_is_known_for() {
        for (name, driver, wanted, expected) in [
            ("eth0", Some("virtio_net"), XdpMode::Auto, Level::Ok),
            ("eth0", Some("vif"), XdpMode::Auto, Level::Ok),
            ("eth0", Some("gvnic"), XdpMode::Native, Level::Ok),
            ("eth0", Some("nicvf"), XdpMode::Auto, Level::Ok),
            ("eth0", Some("rvu_nicpf"), XdpMode::Auto, Level::Ok),
            ("eth0", Some("e1000"), XdpMode::Auto, Level::Warn),
            ("eth0", Some("e1000"), XdpMode::Native, Level::Warn),
            ("eth0", Some("e1000"), XdpMode::Generic, Level::Ok),
            ("eth0", Some("e1000"), XdpMode::Tc, Level::Ok),
            ("veth0", None, XdpMode::Native, Level::Ok),
            ("lo", None, XdpMode::Native, Level::Warn),
            ("lo", None, XdpMode::Auto, Level::Ok),
        ] {
            let finding = native(name, driver, wanted);
            assert_eq!(finding.level, expected, "{driver:?} {wanted:?}: {finding}");
        }
        assert!(NATIVE.is_sorted());
    }
}
