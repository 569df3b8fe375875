use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{NetNs, Running, TempDir, wait_until};

/// Counts TCP packets on one end of a link, by source address. It shares nothing with what it
/// checks: tcpdump captures, and the few lines below read its file.
pub struct Tap {
    running: Running,
    file: PathBuf,
    port: u16,
    /// Packets that came before its filter was set: the kernel counts them.
    unread: u64,
    _dir: TempDir,
}

/// What came from one source; `bytes` are whole frames, `syns` are SYN without ACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets: u64,
    pub bytes: u64,
    pub syns: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
        self.syns += more.syns;
    }
}

const MAX_WAIT: Duration = Duration::from_secs(10);

impl Tap {
    /// Listens on `device` for TCP towards `port`. Not on a loopback device, where tcpdump leaves
    /// out half of what it is given.
    ///
    /// # Errors
    /// No tcpdump, not root, or no such device.
    pub fn start(ns: &NetNs, device: &str, port: u16) -> Result<Self> {
        let dir = TempDir::new("tap")?;
        let file = dir.path().join("packets.pcap");
        let mut command = ns.command("tcpdump");
        command.args(["-i", device, "-nn", "-U", "--immediate-mode", "-s", "128", "-B", "65536", "-w", "-"]);
        command.arg(format!("tcp dst port {port} or (ip6 and tcp)"));
        let mut running = Running::start_into(command, Stdio::from(File::create(&file)?))?;
        running.wait_for_stderr("listening on", MAX_WAIT)?;
        let unread = ask(&mut running)?.unread();
        Ok(Self { running, file, port, unread, _dir: dir })
    }

    /// tcpdump's.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it saw so far, by source address.
    ///
    /// # Errors
    /// The capture can't be read.
    pub fn counts(&self) -> Result<BTreeMap<IpAddr, Counts>> {
        let capture =
            std::fs::read(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        let mut counts = BTreeMap::<IpAddr, Counts>::new();
        for frame in frames(&capture)? {
            if let Some(segment) = Segment::parse(&frame).filter(|segment| segment.to_port == self.port) {
                *counts.entry(segment.from).or_default() +=
                    Counts { packets: 1, bytes: frame.bytes, syns: u64::from(segment.opens) };
            }
        }
        Ok(counts)
    }

    /// Stops, and says what it saw altogether.
    ///
    /// # Errors
    /// The kernel had to drop packets before tcpdump saw them: the counts would be worth nothing.
    pub fn finish(mut self) -> Result<BTreeMap<IpAddr, Counts>> {
        // SIGTERM ends it with packets unread that the kernel has for it.
        let (_, totals) = wait_until("tcpdump has read what the kernel has for it", MAX_WAIT, || {
            let totals = ask(&mut self.running)?;
            Ok((totals.unread() == self.unread, totals))
        })?;
        ensure!(totals.dropped == 0, "the tap missed packets: {totals:?}");
        self.running.stop()?;
        self.counts()
    }
}

/// What tcpdump says of its packets.
#[derive(Clone, Copy, Debug)]
struct Totals {
    captured: u64,
    received: u64,
    dropped: u64,
}

impl Totals {
    /// "tcpdump: 8 packets captured, 9 packets received by filter, 0 packets dropped by kernel".
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix("tcpdump: ")?.split(", ");
        let mut count = |what| {
            let (count, rest) = parts.next()?.split_once(' ')?;
            rest.ends_with(what).then(|| count.parse::<u64>().ok())?
        };
        Some(Self {
            captured: count("captured")?,
            received: count("received by filter")?,
            dropped: count("dropped by kernel")?,
        })
    }

    /// The kernel's "received" has those that it dropped.
    fn unread(self) -> u64 {
        self.received.saturating_sub(self.captured + self.dropped)
    }
}

/// Asks `tcpdump` once: an answer that was due to an earlier question would tell of the past.
fn ask(tcpdump: &mut Running) -> Result<Totals> {
    let said = tcpdump.stderr().len();
    tcpdump.signal(Signal::USR1)?;
    let answer = wait_until("tcpdump says its totals", MAX_WAIT, || {
        tcpdump.still_running()?;
        let answer = tcpdump.stderr().split_off(said);
        Ok((answer.ends_with('\n'), answer))
    })?;
    let totals = answer.1.lines().find_map(Totals::parse);
    totals.with_context(|| format!("tcpdump said {:?}", answer.1))
}

struct Frame<'a> {
    kind: LinkType,
    start: &'a [u8],
    bytes: u64,
}

/// What a device's frames begin with, as pcap files name it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkType {
    Ethernet,
    /// The IP header.
    Raw,
    /// A header that tcpdump makes up, of 16 bytes.
    Cooked,
}

impl LinkType {
    const MADE_UP: u32 = 16;

    fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            101 => Some(Self::Raw),
            113 => Some(Self::Cooked),
            _ => None,
        }
    }

    /// Whether a frame has IPv6, and where that begins.
    fn network(self, frame: &[u8]) -> Option<(bool, usize)> {
        match self {
            Self::Ethernet => match frame.get(12..14)? {
                [0x08, 0x00] => Some((false, 14)),
                [0x86, 0xdd] => Some((true, 14)),
                _ => None,
            },
            Self::Raw => Some((frame.first()? >> 4 == 6, 0)),
            Self::Cooked => Some((frame.get(14..16)? == [0x86, 0xdd], Self::MADE_UP as usize)),
        }
    }
}

/// The whole records of a pcap file in this machine's byte order.
fn frames(capture: &[u8]) -> Result<Vec<Frame<'_>>> {
    const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
    let word = |at: usize| Some(u32::from_ne_bytes(capture.get(at..at + 4)?.try_into().ok()?));
    ensure!(word(0) == Some(MAGIC_MICROSECONDS), "not a capture");
    let kind = word(20).and_then(LinkType::of).context("a capture of unknown frames")?;
    let made_up = if kind == LinkType::Cooked { LinkType::MADE_UP } else { 0 };
    let mut frames = Vec::new();
    let mut at = 24;
    while let (Some(kept), Some(bytes)) = (word(at + 8), word(at + 12)) {
        // Without it, the packet is still being written.
        let Some(start) = capture.get(at + 16..at + 16 + kept as usize) else { break };
        frames.push(Frame { kind, start, bytes: (bytes - made_up).into() });
        at += 16 + kept as usize;
    }
    Ok(frames)
}

struct Segment {
    from: IpAddr,
    to_port: u16,
    opens: bool,
}

impl Segment {
    /// IPv4 with or without options, IPv6 without extension headers: what Linux sends for TCP.
    fn parse(frame: &Frame<'_>) -> Option<Self> {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        let (is_v6, at) = frame.kind.network(frame.start)?;
        let packet = frame.start.get(at..)?;
        let (from, tcp) = if is_v6 {
            (IpAddr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?), 40)
        } else {
            let words = usize::from(packet.first()? & 0x0f);
            (IpAddr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?), 4 * words)
        };
        let to_port = u16::from_be_bytes(packet.get(tcp + 2..tcp + 4)?.try_into().ok()?);
        let flags = packet.get(tcp + 13)?;
        Some(Self { from, to_port, opens: flags & (SYN | ACK) == SYN })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const CAPTURE_HEAD: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 128, 1];

    fn record(frame: &[u8], bytes: u32) -> Vec<u8> {
        let words = [0, 0, frame.len() as u32, bytes].into_iter().flat_map(u32::to_ne_bytes);
        words.chain(frame.iter().copied()).collect()
    }

    /// A frame up to the TCP flags, towards port 443.
    fn frame(ethertype: [u8; 2], ip: &[u8], flags: u8) -> Vec<u8> {
        [&[0; 12], &ethertype[..], ip, &[0, 9, 1, 0xbb], &[0; 9], &[flags]].concat()
    }

    #[test]
    fn reads_both_families_and_leaves_what_is_half_written() {
        let mut v4 = [0; 24];
        v4[0] = 0x46; // one word of options
        v4[12..16].copy_from_slice(&[157, 240, 12, 1]);
        let mut v6 = [0; 40];
        v6[8..24].copy_from_slice(&"2a03:2880::7".parse::<Ipv6Addr>().unwrap().octets());
        let head = CAPTURE_HEAD.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<_>>();
        let records = [
            record(&frame([8, 0], &v4, 0x02), 78),
            record(&frame([8, 0], &v4, 0x10), 70),
            record(&frame([8, 0], &v4, 0x12), 70), // SYN and ACK opens nothing
            record(&frame([0x86, 0xdd], &v6, 0xc2), 94),
            record(&frame([8, 6], &v4, 0x02), 42), // ARP
        ];
        let capture = [head, records.concat(), record(&[0; 60], 60)[..40].to_vec()].concat();
        let segments =
            frames(&capture).unwrap().iter().map(|f| (Segment::parse(f), f.bytes)).collect::<Vec<_>>();
        let seen = segments.iter().map(|(s, bytes)| s.as_ref().map(|s| (s.from, s.to_port, s.opens, *bytes)));
        let v4 = IpAddr::from(Ipv4Addr::new(157, 240, 12, 1));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [
                Some((v4, 443, true, 78)),
                Some((v4, 443, false, 70)),
                Some((v4, 443, false, 70)),
                Some(("2a03:2880::7".parse().unwrap(), 443, true, 94)),
                None
            ]
        );
    }
}
