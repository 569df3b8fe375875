//! A DNS server that answers by script.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use harness::{free_port, pace};

use crate::local;

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;

pub const FORMERR: u8 = 1;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const REFUSED: u8 = 5;
pub const UNASSIGNED: u8 = 12;

/// Over UDP and TCP on one port.
pub struct Server {
    pub address: SocketAddr,
    pub state: Arc<State>,
}

#[derive(Default)]
pub struct State {
    /// What every name has; the TTL is [`Server::start`]'s.
    pub addresses: Mutex<Vec<IpAddr>>,
    /// Over UDP: takes questions and says nothing.
    pub silent: AtomicBool,
    /// Over UDP: says only that the answer is too long.
    pub truncates: AtomicBool,
    /// There is no such name.
    pub denies: AtomicBool,
    /// Error code of all answers; 0: none.
    pub code: AtomicU8,
    /// TTL and minimum of the SOA in answers without addresses; 0: no SOA.
    pub negative_ttl: AtomicU32,
    /// Answers FORMERR to questions with EDNS.
    pub lacks_edns: AtomicBool,
    /// Over UDP: ignores questions for IPv6 addresses.
    pub ignores_aaaa: AtomicBool,
    /// Answers from another port than the one that was asked.
    pub answers_from_elsewhere: AtomicBool,
    /// Answers with the name in capitals.
    pub shouts: AtomicBool,
    /// Length of the chain of aliases before the addresses; one alias per answer.
    pub aliases: AtomicUsize,
    /// Over UDP: milliseconds before an answer.
    pub delay: AtomicUsize,
    /// The same for questions for IPv4 addresses alone; other questions do not wait.
    pub delay_a: AtomicUsize,
    pub udp: AtomicUsize,
    pub tcp: AtomicUsize,
    /// Questions with EDNS.
    pub edns: AtomicUsize,
}

impl Server {
    pub fn start(ttl: u32, addresses: &[IpAddr]) -> Result<Self> {
        let (udp, tcp) = sockets()?;
        let state = State { addresses: Mutex::new(addresses.to_vec()), ..State::default() };
        Self::serve(udp, Some(tcp), ttl, state)
    }

    /// A server without TCP.
    pub fn without_tcp(ttl: u32, addresses: &[IpAddr]) -> Result<Self> {
        let state = State { addresses: Mutex::new(addresses.to_vec()), ..State::default() };
        Self::serve(sockets()?.0, None, ttl, state)
    }

    pub fn at(address: SocketAddr, addresses: &[IpAddr]) -> Result<Self> {
        let state = State { addresses: Mutex::new(addresses.to_vec()), ..State::default() };
        Self::serve(UdpSocket::bind(address)?, Some(TcpListener::bind(address)?), 60, state)
    }

    fn serve(udp: UdpSocket, tcp: Option<TcpListener>, ttl: u32, state: State) -> Result<Self> {
        let (address, state) = (udp.local_addr()?, Arc::new(state));
        let (of_udp, of_tcp) = (state.clone(), state.clone());
        thread::spawn(move || of_udp.serve_udp(udp, ttl));
        if let Some(tcp) = tcp {
            thread::spawn(move || {
                for stream in tcp.incoming().map_while(Result::ok) {
                    of_tcp.tcp.fetch_add(1, Ordering::SeqCst);
                    let state = of_tcp.clone();
                    // A client that leaves ends its own connection, nothing else.
                    thread::spawn(move || state.serve_tcp(stream, ttl));
                }
            });
        }
        Ok(Self { address, state })
    }

    /// Questions over UDP so far.
    pub fn questions(&self) -> usize {
        self.state.udp.load(Ordering::SeqCst)
    }

    pub fn set(&self, flag: impl Fn(&State) -> &AtomicBool, value: bool) {
        flag(&self.state).store(value, Ordering::SeqCst);
    }

    /// What every name has from now on.
    pub fn knows(&self, addresses: &[IpAddr]) {
        *self.state.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }
}

impl State {
    fn serve_udp(self: Arc<Self>, udp: UdpSocket, ttl: u32) {
        let (udp, mut question) = (Arc::new(udp), [0; 1500]);
        while let Ok((length, peer)) = udp.recv_from(&mut question) {
            self.udp.fetch_add(1, Ordering::SeqCst);
            pace(Duration::from_millis(self.delay.load(Ordering::SeqCst) as u64));
            let question = question[..length].to_vec();
            let ignores = self.is(|state| &state.ignores_aaaa) && family(&question) == Some(AAAA);
            if ignores || self.is(|state| &state.silent) {
                continue;
            }
            let Some(answer) = self.answer(&question, ttl, self.is(|state| &state.truncates)) else {
                continue;
            };
            let of_ipv4 = self.delay_a.load(Ordering::SeqCst) as u64;
            if of_ipv4 > 0 && family(&question) == Some(A) {
                let udp = Arc::clone(&udp);
                thread::spawn(move || {
                    pace(Duration::from_millis(of_ipv4));
                    udp.send_to(&answer, peer)
                });
                continue;
            }
            let elsewhere = self.is(|state| &state.answers_from_elsewhere);
            // A client that does not get the answer asks again.
            let _ = match elsewhere.then(|| UdpSocket::bind(local(0))) {
                Some(Ok(other)) => other.send_to(&answer, peer),
                Some(Err(error)) => Err(error),
                None => udp.send_to(&answer, peer),
            };
        }
    }

    fn serve_tcp(&self, mut stream: impl Read + Write, ttl: u32) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            let answer = self.answer(&question, ttl, false).ok_or(io::ErrorKind::InvalidData)?;
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
        }
    }

    fn is(&self, flag: impl Fn(&Self) -> &AtomicBool) -> bool {
        flag(self).load(Ordering::SeqCst)
    }

    /// RFC 1035 §4.1: header, question, and addresses of the requested family.
    fn answer(&self, question: &[u8], ttl: u32, truncate: bool) -> Option<Vec<u8>> {
        let (name_end, family) = (name_end(question)?, family(question)?);
        let mut asked = question.get(12..name_end + 4)?.to_vec();
        let has_edns = question.get(10..12)? != [0, 0];
        self.edns.fetch_add(usize::from(has_edns), Ordering::SeqCst);
        if self.is(|state| &state.shouts) {
            let name = name_end - 12;
            asked[..name].make_ascii_uppercase();
        }
        let code = match self.code.load(Ordering::SeqCst) {
            _ if has_edns && self.is(|state| &state.lacks_edns) => FORMERR,
            0 if self.is(|state| &state.denies) => NXDOMAIN,
            code => code,
        };
        let records = if truncate || code != 0 { Vec::new() } else { self.records(&asked, family, ttl) };
        let negative_ttl = self.negative_ttl.load(Ordering::SeqCst);
        let soa = (records.is_empty() && [0, NXDOMAIN].contains(&code) && negative_ttl > 0 && !truncate)
            .then(|| record(SOA, negative_ttl, &soa(negative_ttl)));
        let counts = [0, 1, 0, u8::try_from(records.len()).ok()?, 0, u8::from(soa.is_some()), 0, 0];
        let flags = [0x81 | u8::from(truncate) << 1, 0x80 | code];
        let mut answer = [question.get(..2)?, &flags, &counts, &asked].concat();
        answer.extend(records.concat());
        answer.extend(soa.into_iter().flatten());
        Some(answer)
    }

    /// The next alias, or addresses.
    fn records(&self, asked: &[u8], family: u16, ttl: u32) -> Vec<Vec<u8>> {
        // An alias is called by its number.
        let number = match asked {
            [1, digit, ..] => usize::from(digit - b'0'),
            _ => 0,
        };
        if number < self.aliases.load(Ordering::SeqCst) {
            // `number + 1` and the last label of the name: `example` of `up.example` or
            // `1.example`.
            let last = if number == 0 { 12 + 3 } else { 12 + 2 };
            return vec![record(CNAME, ttl, &[1, b'1' + number as u8, 0xc0, last])];
        }
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let of_family = addresses.iter().filter(|ip| (if ip.is_ipv4() { A } else { AAAA }) == family);
        let record = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => record(family, ttl, &v4.octets()),
            IpAddr::V6(v6) => record(family, ttl, &v6.octets()),
        };
        of_family.map(record).collect()
    }
}

fn name_end(question: &[u8]) -> Option<usize> {
    Some(12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1)
}

fn family(question: &[u8]) -> Option<u16> {
    let end = name_end(question)?;
    Some(u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?))
}

/// Of the name that was asked for.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let head = [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes()];
    [&head.concat(), data].concat()
}

/// Names of the root's, then serial, refresh, retry, expire and minimum (RFC 1035 §3.3.13).
fn soa(minimum: u32) -> Vec<u8> {
    [&[0, 0][..], &[0; 16], &minimum.to_be_bytes()].concat()
}

/// On one port; resolvers send from any, so that one may be taken in between.
fn sockets() -> Result<(UdpSocket, TcpListener)> {
    loop {
        let address = local(free_port()?);
        if let (Ok(udp), Ok(tcp)) = (UdpSocket::bind(address), TcpListener::bind(address)) {
            return Ok((udp, tcp));
        }
    }
}
