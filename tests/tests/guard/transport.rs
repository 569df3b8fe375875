//! Delays of handshakes, and what this machine sends again: with the kernel's own TCP on the
//! guarded side, beside what a tap sees and the namespace's own counters.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Need, NetNs, Running, pace};
use serde_json::{Value, json};

use super::answers::{NORMAL, QUEUED, UNANSWERED, UNHEARD, attach, drop, testbed};
use super::peers::{Server, connect, visit};
use super::raw::{ACK, Listener, SYN, Segment, Sender};
use super::testbed::{EDGE_V4, EDGE_V6, Shakes, Testbed, can_run, row};

const A_MOMENT: Duration = Duration::from_secs(4);
const SYN_ACK: u8 = SYN | ACK;
const IS_DATA: &str = "meta length > 500";

/// Sends each client as much, then reads to its end. For some connections.
fn serve(ns: &NetNs, bytes: usize, connections: usize) -> Result<thread::JoinHandle<Result<()>>> {
    let listener = ns.inside(|| Ok(TcpListener::bind("[::]:443")?))?;
    Ok(thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(&vec![b'x'; bytes])?;
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    }))
}

fn read_all(ns: &NetNs, from: &str, to: &str) -> Result<usize> {
    let mut stream = connect(ns, from, to, 443)?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    Ok(received.len())
}

/// tcpdump where Meta's segments arrive, before anything there drops them.
struct Repeats {
    running: Running,
    file: std::path::PathBuf,
}

impl Repeats {
    fn start(testbed: &Testbed) -> Result<Self> {
        let file = testbed.dir.path().join("answers.pcap");
        let mut command = testbed.meta.command("tcpdump");
        command.args(["-i", "wan0", "-nn", "-U", "--immediate-mode", "-s", "128", "-B", "65536", "-w", "-"]);
        command.arg("tcp src port 443 or (ip6 and tcp)");
        let mut running = Running::start_into(command, Stdio::from(File::create(&file)?))?;
        running.wait_for_stderr("listening on", Duration::from_secs(10))?;
        Ok(Self { running, file })
    }

    /// Segments from port 443 to this address that came before, with the same first number:
    /// those with data or FIN.
    fn to(&self, testbed: &Testbed, address: &str) -> Result<u64> {
        let text = testbed.meta.run(&format!("tcpdump -nn -S -r {}", self.file.display()))?;
        let (mut seen, mut repeats) = (HashSet::new(), 0);
        for line in text.lines() {
            // `… IP a.443 > b.40000: Flags [P.], seq 1:101, ack 1, …`
            let Some((_, rest)) = line.split_once(" > ") else { continue };
            let Some((to, rest)) = rest.split_once(": Flags [") else { continue };
            let (Some((flags, rest)), Some((host, _))) = (rest.split_once("], "), to.rsplit_once('.')) else {
                continue;
            };
            let Some(numbers) = rest.strip_prefix("seq ") else { continue };
            let first = numbers.split([':', ',']).next().unwrap_or_default();
            if host == address && !flags.contains('S') && !seen.insert((to.to_owned(), first.to_owned())) {
                repeats += 1;
            }
        }
        Ok(repeats)
    }

    fn finish(mut self, testbed: &Testbed, address: &str) -> Result<u64> {
        self.running.stop()?;
        let stderr = self.running.stderr();
        ensure!(stderr.contains("\n0 packets dropped by kernel"), "the tap missed packets:\n{stderr}");
        self.to(testbed, address)
    }
}

/// A counter of the namespace's own, of `snmp` or `netstat`.
fn own_count(ns: &NetNs, file: &str, family: &str, name: &str) -> Result<u64> {
    let text = ns.run(&format!("cat /proc/thread-self/net/{file}"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(family));
    let (names, numbers) = (lines.next().context("no names")?, lines.next().context("no numbers")?);
    let found = names.split(' ').zip(numbers.split(' ')).find(|(known, _)| *known == name);
    Ok(found.context("no such counter")?.1.parse()?)
}

fn retransmitted(stats: &Value, name: &str) -> [u64; 2] {
    ["segments_retransmitted", "rtos"].map(|field| row(stats, name)[field].as_u64().unwrap_or(u64::MAX))
}

#[test]
fn what_meta_did_not_get_is_sent_again_and_counted() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    const BYTES: usize = 200_000;
    const VISITS: usize = 4;
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    let drop_one_of = |packets: usize| {
        // Each family's packets have a count of their own: both lose some, whatever their order.
        let rules = ["ipv4", "ipv6"].map(|family| {
            format!("meta nfproto {family} tcp sport 443 {IS_DATA} numgen inc mod {packets} 0")
        });
        drop(&testbed.meta, "input", &rules.each_ref().map(String::as_str))
    };
    drop_one_of(33)?;
    let tap = Repeats::start(&testbed)?;
    let serve_all = || -> Result<_> {
        let server = serve(&testbed.edge, BYTES, 2 * VISITS)?;
        for _ in 0..VISITS {
            for ((_, from), to) in NORMAL.into_iter().zip([EDGE_V4, EDGE_V6]) {
                assert_eq!(read_all(&testbed.meta, from, to)?, BYTES);
            }
        }
        server.join().expect("the server panicked")?;
        let stats = testbed.stats()?;
        let all = own_count(&testbed.edge, "snmp", "Tcp:", "RetransSegs")?;
        let timeouts = own_count(&testbed.edge, "netstat", "TcpExt:", "TCPTimeouts")?;
        let [v4, v6] = NORMAL.map(|(prefix, _)| retransmitted(&stats, prefix));
        println!("{v4:?} {v6:?}; the kernel: {all} segments, {timeouts} timeouts");
        assert_eq!((v4[0] + v6[0], v4[1] + v6[1]), (all, timeouts));
        assert_eq!(retransmitted(&stats, "other"), [0, 0]);
        Ok([v4[0], v6[0]])
    };
    let [v4, v6] = serve_all()?;
    assert_eq!(v4, tap.to(&testbed, NORMAL[0].1)?);
    assert_eq!(v6, tap.finish(&testbed, NORMAL[1].1)?);
    assert!(v4 >= 10 && v6 >= 10);
    // Where the device cuts, a frame is several segments, and each counts. There are fewer of them.
    testbed.edge.run("ethtool -K wan0 tso on gso on")?;
    testbed.meta.run("nft delete table inet input")?;
    drop_one_of(5)?;
    let cut = serve_all()?;
    assert!(cut[0] > v4 && cut[1] > v6, "{cut:?}");
    Ok(())
}

#[test]
fn what_meta_sends_again_is_not_ours() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    drop(&testbed.edge, "input", &[&format!("tcp dport 443 {IS_DATA} numgen inc mod 33 0")])?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    for _ in 0..4 {
        let mut stream = connect(&testbed.meta, NORMAL[0].1, EDGE_V4, 443)?;
        stream.write_all(&[b'x'; 200_000])?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())?;
    }
    let stats = testbed.stats()?;
    assert_eq!(row(&stats, NORMAL[0].0)["handshakes"], 4);
    assert_eq!(retransmitted(&stats, NORMAL[0].0), [0, 0]);
    assert!(own_count(&testbed.meta, "snmp", "Tcp:", "RetransSegs")? >= 10);
    Ok(())
}

#[test]
fn timeouts_are_counted_one_by_one() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    const BYTES: usize = 1000;
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    drop(&testbed.meta, "input", &[&format!("tcp sport 443 {IS_DATA}")])?;
    let tap = Repeats::start(&testbed)?;
    let server = serve(&testbed.edge, BYTES, 1)?;
    let mut stream = connect(&testbed.meta, UNHEARD.1, EDGE_V4, 443)?;
    let some = |stats: &Value| Ok(retransmitted(stats, UNHEARD.0)[1] >= 2);
    testbed.wait_for(A_MOMENT, some)?;
    // A new program counts on what the former one has marked.
    attach(&testbed, &guard)?;
    let before = retransmitted(&testbed.stats()?, UNHEARD.0)[1];
    testbed.wait_for(2 * A_MOMENT, |stats| Ok(retransmitted(stats, UNHEARD.0)[1] > before))?;
    testbed.meta.run("nft flush chain inet input drops")?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    std::mem::drop(stream);
    server.join().expect("the server panicked")?;
    let [segments, timeouts] = retransmitted(&testbed.stats()?, UNHEARD.0);
    assert_eq!(received.len(), BYTES);
    assert_eq!(segments, tap.finish(&testbed, UNHEARD.1)?);
    assert_eq!(timeouts, own_count(&testbed.edge, "netstat", "TcpExt:", "TCPTimeouts")?);
    assert!(timeouts >= 3);
    Ok(())
}

/// The seconds of one row; `None`: nothing was measured.
fn seconds(stats: &Value, name: &str, field: &str) -> Option<[f64; 3]> {
    let seconds = &row(stats, name)[field];
    let [p50, p90, p99] = ["p50", "p90", "p99"].map(|percentile| seconds[percentile].as_f64());
    Some([p50?, p90?, p99?])
}

/// The end of the bucket that a time belongs to.
fn end(time: Duration) -> f64 {
    let mut end = 64e-6;
    while end < time.as_secs_f64() {
        end *= 2.0;
    }
    end
}

fn is_within(seconds: Option<[f64; 3]>, least: Duration, most: Duration) -> bool {
    let within = |second: f64| end(least) - 1e-9 < second && second < end(most) + 1e-9;
    seconds.is_some_and(|seconds| seconds.into_iter().all(within))
}

#[test]
fn delays_of_handshakes_are_told_to_a_factor_of_two() -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    const DELAY: Duration = Duration::from_millis(80);
    const COUNT: u16 = 40;
    let (testbed, guard) = testbed()?;
    attach(&testbed, &guard)?;
    let is_reset = "tcp flags & rst == rst";
    let raw_ones = [QUEUED.1, UNHEARD.1].map(|address| format!("ip saddr {address} {is_reset}"));
    drop(&testbed.meta, "output", &raw_ones.each_ref().map(String::as_str))?;
    drop(&testbed.edge, "input", &[&format!("ip saddr {}", UNANSWERED.1)])?;
    let _server = Server::start(&testbed.edge, "[::]:443")?;
    let nothing = json!({ "p50": null, "p90": null, "p99": null });
    assert_eq!(row(&testbed.stats()?, QUEUED.0)["rtt_seconds"], nothing);

    // A client that answers after a delay.
    let (raw, answers) = (Sender::new(&testbed.meta)?, Listener::new(&testbed.meta)?);
    let opens = |from: &str, port| Segment::new(from, port, EDGE_V4, 443, SYN);
    let completes = |from: &'static str, port: u16| -> Result<Segment> {
        let to: (IpAddr, u16) = (from.parse()?, port);
        let answer = answers.find(A_MOMENT, |answer| answer.flags == SYN_ACK && answer.to == to)?;
        let acknowledged = answer.context("no SYN-ACK")?.sequence.wrapping_add(1);
        let syn = opens(from, port)?;
        Ok(Segment { flags: ACK, sequence: syn.sequence.wrapping_add(1), acknowledged, ..syn })
    };
    let begun = Instant::now();
    let ports = 42_000..42_000 + COUNT;
    ports.clone().try_for_each(|port| raw.send(&opens(QUEUED.1, port)?))?;
    let last = ports.map(|port| completes(QUEUED.1, port)).collect::<Result<Vec<_>>>()?;
    pace(DELAY);
    last.iter().try_for_each(|ack| raw.send(ack))?;
    let most = begun.elapsed() + Duration::from_millis(20);
    let stats = testbed.wait_for(A_MOMENT, |stats| Ok(row(stats, QUEUED.0)["handshakes"] == COUNT))?;
    for field in ["rtt_seconds", "established_seconds"] {
        let told = seconds(&stats, QUEUED.0, field);
        println!("{field}: {told:?}, at most {most:?}");
        assert!(is_within(told, DELAY, most), "{field}: {told:?}, at most {most:?}");
    }

    // One that answers the second SYN-ACK, after a second: which one it answers can't be told.
    raw.send(&opens(UNHEARD.1, 42_000)?)?;
    completes(UNHEARD.1, 42_000)?;
    raw.send(&completes(UNHEARD.1, 42_000)?)?;
    let stats = testbed.wait_for(A_MOMENT, |stats| Ok(row(stats, UNHEARD.0)["handshakes"] == 1))?;
    assert_eq!(row(&stats, UNHEARD.0)["rtt_seconds"], nothing);
    let told = seconds(&stats, UNHEARD.0, "established_seconds");
    assert!(is_within(told, Duration::from_millis(900), Duration::from_secs(4)), "{told:?}");

    // One whose first SYN is lost here. The second is answered, and that one at once.
    let ends = thread::scope(|scope| -> Result<()> {
        let client = scope.spawn(|| visit(&testbed.meta, UNANSWERED.1, EDGE_V4, 443));
        testbed.wait_for(A_MOMENT, |stats| Ok(Shakes::of(row(stats, UNANSWERED.0)).syns == 1))?;
        testbed.edge.run("nft flush chain inet input drops")?;
        client.join().expect("the client panicked")
    });
    ends?;
    let stats = testbed.wait_for(A_MOMENT, |stats| Ok(row(stats, UNANSWERED.0)["handshakes"] == 1))?;
    let told = seconds(&stats, UNANSWERED.0, "established_seconds");
    assert!(is_within(told, Duration::from_millis(900), Duration::from_secs(8)), "{told:?}");
    let told = seconds(&stats, UNANSWERED.0, "rtt_seconds");
    assert!(is_within(told, Duration::ZERO, Duration::from_millis(500)), "{told:?}");
    assert_eq!(row(&stats, "other")["rtt_seconds"], nothing);
    Ok(())
}
