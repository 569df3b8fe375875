//! TCP that does not behave: segments of our own making, from whomever.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::NetNs;
use socket2::{Domain, Protocol, Socket, Type};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH_URG: u8 = 0x28;
pub const ACK: u8 = 0x10;

/// IPPROTO_RAW: what is sent begins with an IP header.
const RAW: i32 = 255;

#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    pub hop_limit: u8,
    /// Whole words.
    pub options: &'static [u8],
}

impl Segment {
    pub fn new(from: &str, from_port: u16, to: &str, to_port: u16, flags: u8) -> Result<Self> {
        let (from, to) = ((from.parse()?, from_port), (to.parse()?, to_port));
        Ok(Self { from, to, flags, sequence: 0x0102_0304, acknowledged: 0, hop_limit: 64, options: &[] })
    }

    fn tcp(&self) -> Vec<u8> {
        let mut tcp = [
            &self.from.1.to_be_bytes()[..],
            &self.to.1.to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &self.acknowledged.to_be_bytes(),
            &[self.tcp_bytes() / 4 * 16, self.flags, 0xff, 0xff, 0, 0, 0, 0],
            self.options,
        ]
        .concat();
        let sum = checksum(&[&self.pseudo_header(), &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        tcp
    }

    fn tcp_bytes(&self) -> u8 {
        20 + self.options.len() as u8
    }

    /// RFC 9293 §3.1, RFC 8200 §8.1.
    fn pseudo_header(&self) -> Vec<u8> {
        match (self.from.0, self.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                [&from.octets()[..], &to.octets(), &[0, 6, 0, self.tcp_bytes()]].concat()
            }
            (from, to) => [v6(from), v6(to), vec![0, 0, 0, self.tcp_bytes(), 0, 0, 0, 6]].concat(),
        }
    }

    /// Over IPv4, in two fragments, of which the first ends behind the first `bytes` bytes of the
    /// TCP header.
    pub fn in_fragments(&self, bytes: u8) -> [Vec<u8>; 2] {
        const MORE: u8 = 0x20;
        let packet = self.packet();
        let (header, tcp) = packet.split_at(20);
        let (first, rest) = tcp.split_at(bytes.into());
        let fragment = |flags: u8, offset: u8, payload: &[u8]| {
            let mut fragment = [header, payload].concat();
            fragment[3] = fragment.len() as u8;
            // The kernel gives those without an identification one each.
            fragment[4..8].copy_from_slice(&[self.sequence as u8, self.flags, flags, offset]);
            fragment
        };
        [fragment(MORE, 0, first), fragment(0, bytes / 8, rest)]
    }

    /// Over IPv6, behind `count` headers of destination options.
    pub fn behind_options(&self, count: usize) -> Vec<u8> {
        const OPTIONS: u8 = 60;
        const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0]; // PadN, RFC 8200 §4.2
        let mut packet = self.packet();
        let tcp = packet.split_off(40);
        packet[5] += 8 * count as u8;
        packet[6] = OPTIONS;
        for number in 1..=count {
            packet.extend([if number == count { 6 } else { OPTIONS }, 0]);
            packet.extend(PAD);
        }
        [packet, tcp].concat()
    }

    /// From the IP header on.
    pub fn packet(&self) -> Vec<u8> {
        let header = match (self.from.0, self.to.0) {
            // Length and checksum are the kernel's to fill in.
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                [&[0x45, 0, 0, 40, 0, 0, 0x40, 0, self.hop_limit, 6, 0, 0][..], &from.octets(), &to.octets()]
                    .concat()
            }
            (from, to) => {
                [vec![0x60, 0, 0, 0, 0, self.tcp_bytes(), 6, self.hop_limit], v6(from), v6(to)].concat()
            }
        };
        [header, self.tcp()].concat()
    }
}

fn v6(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071, of parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends from one machine.
pub struct Sender {
    v4: Socket,
    v6: Socket,
}

impl Sender {
    pub fn new(ns: &NetNs) -> Result<Self> {
        ns.inside(|| {
            let socket = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)));
            Ok(Self { v4: socket(Domain::IPV4)?, v6: socket(Domain::IPV6)? })
        })
    }

    pub fn send(&self, segment: &Segment) -> Result<()> {
        self.send_packet(segment, &segment.packet())
    }

    /// Sends `packet`, which carries `segment` in a way of its own.
    pub fn send_packet(&self, segment: &Segment, packet: &[u8]) -> Result<()> {
        // The port stands in the packet; here it would be taken for a protocol.
        let to = SocketAddr::new(segment.to.0, 0);
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        socket.send_to(packet, &to.into()).with_context(|| format!("sending {segment:?}"))?;
        Ok(())
    }
}

/// Sees the TCP segments that one machine's kernel receives over IPv4.
pub struct Listener(Socket);

impl Listener {
    pub fn new(ns: &NetNs) -> Result<Self> {
        ns.inside(|| Ok(Self(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?)))
    }

    /// The next one with exactly these flags.
    pub fn next(&self, flags: u8) -> Result<Segment> {
        let found = self.find(Duration::from_secs(5), |segment| segment.flags == flags)?;
        found.context("waiting for a segment")
    }

    /// The next one that is `wanted`; `None`: none came within `limit`.
    pub fn find(&self, limit: Duration, wanted: impl Fn(&Segment) -> bool) -> Result<Option<Segment>> {
        let until = Instant::now() + limit;
        let mut packet = [0; 2048];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.0.set_read_timeout(Some(left))?;
            match (&self.0).read(&mut packet) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.context("waiting for a segment")?,
            };
            let header = usize::from(packet[0] & 0x0f) * 4;
            let tcp = &packet[header..];
            let address =
                |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
            let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
            let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
            let segment = Segment {
                from: (address(12).into(), port(0)),
                to: (address(16).into(), port(2)),
                flags: tcp[13],
                sequence: word(4),
                acknowledged: word(8),
                hop_limit: packet[8],
                options: &[],
            };
            if wanted(&segment) {
                return Ok(Some(segment));
            }
        }
    }
}
