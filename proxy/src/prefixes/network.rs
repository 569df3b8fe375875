use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A CIDR network, IPv4 or IPv6, whose host bits are zero (RFC 4632, RFC 4291).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Errors: a length beyond the address's bits, or bits set beyond the length.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, BadNetwork> {
        let network = Self { address, length };
        if length > network.bits() {
            return Err(BadNetwork::Length { length, most: network.bits() });
        }
        if network.masked(address) != address {
            return Err(BadNetwork::HostBits(Self { address: network.masked(address), length }));
        }
        Ok(network)
    }

    /// The network of that length which holds `address`. A `length` beyond the address's bits
    /// counts as all of them.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let any = Self { address, length: 0 };
        let network = Self { address, length: length.min(any.bits()) };
        Self { address: network.masked(address), ..network }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that all its addresses share.
    pub fn length(&self) -> u8 {
        self.length
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.masked(address) == self.address
    }

    /// Whether it holds every address of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Whether there is an address in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    fn bits(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        let host_bits = u32::from(self.bits() - self.length);
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    /// `address/length`, or an address alone for that one host.
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Syntax(text.into()))?;
        let length = match length {
            None if address.is_ipv4() => 32,
            None => 128,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| BadNetwork::Syntax(text.into()))?
            }
            Some(_) => return Err(BadNetwork::Syntax(text.into())),
        };
        Self::new(address, length)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    #[error("`{0}` is not a network: write it as `192.0.2.0/24` or `2001:db8::/32`")]
    Syntax(String),
    #[error("/{length} is longer than an address of this family (/{most})")]
    Length { length: u8, most: u8 },
    #[error("it has bits set beyond its length; did you mean {0}?")]
    HostBits(Network),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_contains() {
        let network: Network = "157.240.0.0/17".parse().unwrap();
        assert!(network.contains("157.240.127.255".parse().unwrap()));
        assert!(!network.contains("157.240.128.0".parse().unwrap()));
        assert!(!network.contains("::".parse().unwrap()));
        let everything: Network = "::/0".parse().unwrap();
        assert!(everything.contains("2a03:2880::1".parse().unwrap()));
        assert_eq!("192.0.2.1".parse::<Network>().unwrap().length(), 32);
    }

    #[test]
    fn networks_lie_inside_each_other_or_apart() {
        let overlap = |a: &str, b: &str| {
            let (a, b): (Network, Network) = (a.parse().unwrap(), b.parse().unwrap());
            (a.covers(&b), b.covers(&a), a.overlaps(&b))
        };
        assert_eq!(overlap("157.240.0.0/16", "157.240.128.0/17"), (true, false, true));
        assert_eq!(overlap("157.240.0.0/17", "157.240.0.0/17"), (true, true, true));
        assert_eq!(overlap("157.240.0.0/17", "157.240.128.0/17"), (false, false, false));
        assert_eq!(overlap("0.0.0.0/0", "::/0"), (false, false, false));
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in
            ["", "/", "1.2.3/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/33", "::/129", "10.0.0.1/8", "x/8"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let hint = "10.0.0.1/8".parse::<Network>().unwrap_err();
        assert_eq!(hint, BadNetwork::HostBits("10.0.0.0/8".parse().unwrap()));
    }
}
