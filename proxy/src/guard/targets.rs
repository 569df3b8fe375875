//! Which of this machine's interfaces the configuration means, and which of them can't be guarded.

use std::io;

use super::answers::Unseen;
use super::error::Error;
use super::interface::{Interface, Reason};
use super::netdev::{self, Device};
use crate::config::{Guard, Interfaces};

/// What to do about a configured interface that can't be guarded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing is attached where one can't be guarded, or none is there.
    Refused,
    /// It is left out until it can be.
    Awaited,
}

/// The interfaces that a configuration means.
pub struct Targets {
    /// All of this network namespace.
    pub machine: Vec<Device>,
    /// Those to be guarded.
    pub devices: Vec<Device>,
    /// Those that can't be.
    pub left_out: Vec<(String, Reason)>,
    /// They are not named, but found by the default routes.
    is_found: bool,
}

impl Targets {
    pub fn of(guard: &Guard) -> Result<Self, Error> {
        let Guard { interfaces, xdp, .. } = guard;
        let machine = netdev::list().map_err(Error::Netlink)?;
        let names = names(interfaces, &machine).map_err(Error::Netlink)?;
        let is_found = *interfaces == Interfaces::DefaultRoutes;
        let mut targets = Self { machine, devices: Vec::new(), left_out: Vec::new(), is_found };
        let mut devices = Vec::new();
        for name in names {
            match targets.machine.iter().find(|device| device.name == name) {
                None => targets.left_out.push((name, Reason::Missing)),
                Some(device) if !device.has_ethernet() && !xdp.takes_bare_frames() => {
                    targets.left_out.push((name, Reason::NoEthernet));
                }
                Some(device) => devices.push(device.clone()),
            }
        }
        for device in &devices {
            match targets.below(device, &devices) {
                Some(lower) => {
                    targets.left_out.push((device.name.clone(), Reason::Above(lower.name.clone())))
                }
                None => targets.devices.push(device.clone()),
            }
        }
        Ok(targets)
    }

    /// Whether no interface with a default route can be guarded. The guard then stays where it is.
    pub fn have_no_route(&self) -> bool {
        self.is_found && self.devices.is_empty()
    }

    /// The indices of interfaces, by their names.
    pub fn indices(&self, interfaces: &[Interface]) -> Vec<u32> {
        let is_meant = |device: &&Device| interfaces.iter().any(|interface| interface.name == device.name);
        self.machine.iter().filter(is_meant).map(|device| device.index).collect()
    }

    /// The interfaces with these indices.
    pub fn with_indices(&self, indices: &[u32]) -> Vec<Device> {
        self.machine.iter().filter(|device| indices.contains(&device.index)).cloned().collect()
    }

    /// The same with the interface's name.
    pub fn unseen(&self, why: Unseen) -> Error {
        let device = self.machine.iter().find(|device| device.index == why.interface);
        let interface = device.map_or_else(|| why.interface.to_string(), |device| device.name.clone());
        Error::Answers { interface, why }
    }

    /// Errors: what makes the configuration one that can't be meant, or, where absence is refused,
    /// can't be attached.
    pub fn ensure_attachable(&self, absence: Absence) -> Result<(), Error> {
        for (name, reason) in self.left_out.iter().filter(|_| !self.is_found) {
            match reason {
                Reason::Above(lower) => {
                    return Err(Error::Stacked { upper: name.clone(), lower: lower.clone() });
                }
                Reason::NoEthernet if absence == Absence::Refused => {
                    return Err(Error::NoEthernet { name: name.clone() });
                }
                _ => {}
            }
        }
        if absence == Absence::Awaited || !self.devices.is_empty() {
            return Ok(());
        }
        let present = || self.machine.iter().map(|device| device.name.clone()).collect();
        match &self.left_out[..] {
            [] => Err(Error::NoDefaultRoute { present: present() }),
            [(name, Reason::NoEthernet), ..] => Err(Error::NoEthernet { name: name.clone() }),
            [(name, _), ..] => Err(Error::NoInterface { name: name.clone(), present: present() }),
        }
    }

    /// One of `devices` in which what comes in at `upper` came in before.
    fn below<'d>(&self, upper: &Device, devices: &'d [Device]) -> Option<&'d Device> {
        let mut lower = devices.iter().filter(|lower| netdev::is_above(&self.machine, upper, lower));
        let first = lower.next()?;
        // The lowest is the one that stays.
        Some(lower.fold(
            first,
            |lowest, next| {
                if netdev::is_above(&self.machine, lowest, next) { next } else { lowest }
            },
        ))
    }
}

/// In the order of the configuration.
fn names(interfaces: &Interfaces, machine: &[Device]) -> io::Result<Vec<String>> {
    Ok(match interfaces {
        Interfaces::Listed(names) => names.clone(),
        Interfaces::DefaultRoutes => {
            let routes = netdev::default_routes()?;
            let devices = machine.iter().filter(|device| routes.contains(&device.index));
            devices.map(|device| device.name.clone()).collect()
        }
    })
}

/// The interfaces that are configured, by name.
///
/// Errors: rtnetlink's.
pub fn configured(interfaces: &Interfaces) -> Result<Vec<String>, Error> {
    let machine = netdev::list().map_err(Error::Netlink)?;
    names(interfaces, &machine).map_err(Error::Netlink)
}

/// Those that lie above another configured one, each with that.
///
/// Errors: rtnetlink's.
pub fn stacked(guard: &Guard) -> Result<Vec<(String, String)>, Error> {
    let left_out = Targets::of(guard)?.left_out.into_iter();
    Ok(left_out
        .filter_map(|(upper, reason)| match reason {
            Reason::Above(lower) => Some((upper, lower)),
            _ => None,
        })
        .collect())
}
