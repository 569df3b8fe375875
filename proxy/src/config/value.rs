//! Single values: from TOML to what they mean, or a sentence on what is wrong.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use crate::prefixes::Network;

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("must be a string, not {}", value.type_str()))
}

/// Text of a form that its type checks.
pub(super) fn checked<T: FromStr<Err = &'static str>>(value: &DeValue<'_>) -> Result<T, String> {
    text(value)?.parse().map_err(str::to_owned)
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, not {}", value.type_str()))
}

/// A whole number within `range`.
pub(super) fn number(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let integer =
            value.as_integer().ok_or_else(|| format!("must be a whole number, not {}", value.type_str()))?;
        let digits = integer.as_str().replace('_', "");
        let number = u64::from_str_radix(digits.trim_start_matches('+'), integer.radix());
        number
            .ok()
            .filter(|n| range.contains(n))
            .ok_or_else(|| format!("must be between {} and {}", range.start(), range.end()))
    }
}

/// `"auto"`, as `None`, or a whole number within `range`.
pub(super) fn auto_or_number(
    range: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<u64>, String> {
    move |value| match value.as_str() {
        Some("auto") => Ok(None),
        Some(_) => Err("must be \"auto\" or a whole number".into()),
        None => number(range.clone())(value).map(Some),
    }
}

/// A share, from 0 to 1.
pub(super) fn share(value: &DeValue<'_>) -> Result<f64, String> {
    let written = value.as_float().map(|f| f.as_str().to_owned());
    let written = written.or_else(|| value.as_integer().map(|i| i.as_str().to_owned()));
    let share = written.and_then(|digits| digits.replace('_', "").parse::<f64>().ok());
    share.filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "must be between 0.0 and 1.0".into())
}

/// A duration such as `"250ms"`, `"5s"`, `"1m30s"`, `"24h"` or `"7d"`; zero and more than a year
/// are refused.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let wrong = || "must be a duration such as \"250ms\", \"5s\", \"2m\" or \"24h\"".to_owned();
    let mut rest = value.as_str().ok_or_else(wrong)?;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86400),
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        total = unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if total.is_zero() || total > YEAR {
        return Err("must be longer than nothing and at most 365d".into());
    }
    Ok(total)
}

/// `IP:port` to listen on, which none of `listened` stands in the way of; it is added to them.
pub(super) fn free_address(
    listened: &RefCell<Vec<SocketAddr>>,
) -> impl Fn(&DeValue<'_>) -> Result<SocketAddr, String> + '_ {
    move |value| {
        let written = text(value)?;
        let address = written.parse().ok().filter(has_port).ok_or_else(|| {
            format!("`{written}` is not an address to listen on: write \"0.0.0.0:443\" or \"[::]:443\"")
        })?;
        let mut listened = listened.borrow_mut();
        if let Some(other) = listened.iter().find(|other| collide(**other, address)) {
            return Err(format!("`{written}` is taken by the listener on {other}; remove one of the two"));
        }
        listened.push(address);
        Ok(address)
    }
}

/// Port 0 stands for whichever is free.
fn has_port(address: &SocketAddr) -> bool {
    address.port() != 0
}

/// Whether the kernel refuses to listen on both; each family has its own ports here.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// `IP` or `IP:port`.
pub(super) fn address_with_port(written: &str, default_port: u16) -> Option<SocketAddr> {
    let bare = |ip: IpAddr| SocketAddr::new(ip, default_port);
    written.parse().ok().or_else(|| written.parse().ok().map(bare)).filter(has_port)
}

pub(super) fn network(value: &DeValue<'_>) -> Result<Network, String> {
    let written = text(value)?;
    written.parse().map_err(|bad: crate::prefixes::BadNetwork| format!("`{written}`: {bad}"))
}

pub(super) fn port(value: &DeValue<'_>) -> Result<u16, String> {
    let number = number(1..=u64::from(u16::MAX))(value)?;
    u16::try_from(number).map_err(|_| "must be a port".into())
}

/// A file's path; a relative one counts from the configuration file's folder.
pub(super) fn path(base: &Path) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, String> {
    move |value| {
        let written = text(value)?;
        if written.is_empty() { Err("must not be empty".into()) } else { Ok(base.join(written)) }
    }
}

/// The first that stands in a list a second time.
pub(super) fn again<T: PartialEq>(list: &[T]) -> Option<&T> {
    list.iter().enumerate().find_map(|(n, element)| list[..n].contains(element).then_some(element))
}

/// One of a few words, each with its meaning.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let known = |w: &str| words.iter().find(|(word, _)| *word == w).map(|(_, meaning)| *meaning);
        value.as_str().and_then(known).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("must be {}", words.join(" or "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let read = |written: &str| duration(&DeValue::String(written.into()));
        assert_eq!(read("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(read("24h"), Ok(Duration::from_secs(86400)));
        for wrong in ["", "5", "s", "-1s", "5 s", "1.5s", "0s", "400d", "5x", "99999999999s", "١s"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_take_a_port_or_get_one() {
        assert_eq!(address_with_port("1.1.1.1", 53), Some("1.1.1.1:53".parse().unwrap()));
        assert_eq!(address_with_port("::1", 53), Some("[::1]:53".parse().unwrap()));
        assert_eq!(address_with_port("[::1]:5353", 53), Some("[::1]:5353".parse().unwrap()));
        assert_eq!(address_with_port("dns.example", 53), None);
        assert_eq!(address_with_port("1.1.1.1:0", 53), None);
    }
}
