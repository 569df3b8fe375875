//! Whose address is probably forged: SYNs that look unlike those of their network's senders.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::{Need, require, wait_until};
use hookgate_ebpf::abi::{self, Suspect, Unproven};
use hookgate_ebpf::attempt;
use hookgate_ebpf::fingerprint::{Fingerprint, Variants};
use hookgate_ebpf::packet::Address;

use super::frames::{self, Bytes};
use super::kernel::{FIRST, Program, hands_over_fragments};
use super::segments;

const SYN: u8 = 0x02;
const META: Address = Address::V4(frames::SOURCE_V4);
const META_V6: Address = Address::V6(frames::SOURCE_V6);
/// Index and length of a prefix; sources in blocks of it whose SYNs are known, that have completed
/// nothing, and whose SYNs are not known.
const FAMILIES: [(u32, u32, [Address; 3]); 2] = [
    (FIRST, 16, [META, Address::V4([157, 240, 2, 7]), Address::V4([157, 240, 3, 7])]),
    (FIRST + 1, 32, [META_V6, in_v6(2), in_v6(3)]),
];

const fn in_v6(network: u8) -> Address {
    Address::V6([0x2a, 0x03, 0x28, 0x80, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7])
}

const HOPS: u8 = 57;
const FORGED_HOPS: u8 = 40;
const LINUX: &[u8] = b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x5e\x2f\x91\x03\0\0\0\0\x01\x03\x03\x07";
/// The same later.
const LINUX_LATER: &[u8] = b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x6e\x2f\x91\x04\0\0\0\0\x01\x03\x03\x07";
const WINDOWS: &[u8] = b"\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02";
const THE_END: Duration = Duration::from_nanos(attempt::ATTEMPT_TIMEOUT + 8 * abi::SWEEP_INTERVAL);

/// A SYN, as Ethernet carries it.
fn syn(source: Address, port: u16, hop_limit: u8, options: &[u8]) -> Vec<u8> {
    let mut frame = segments::with(source, SYN, port, 7);
    let bytes = 20 + options.len();
    let tcp = match source {
        Address::V4(_) => {
            frame[14 + 3] = (20 + bytes) as u8;
            frame[14 + 8] = hop_limit;
            segments::V4.1
        }
        Address::V6(_) => {
            frame[14 + 5] = bytes as u8;
            frame[14 + 7] = hop_limit;
            segments::V6.1
        }
    };
    frame[tcp + 12] = (bytes / 4 * 16) as u8;
    frame.extend(options);
    frame
}

fn fingerprint(hop_limit: u8, options: &[u8]) -> Fingerprint {
    Fingerprint::of(&Bytes(&syn(META, 1, hop_limit, options)), segments::V4.1, hop_limit)
}

/// Hop limit, options, and whether such a SYN is suspect.
const SYNS: [(u8, &[u8], bool); 12] = [
    (HOPS, LINUX, false),
    (HOPS, LINUX_LATER, false),
    // Another client of the same network, another route.
    (HOPS, WINDOWS, false),
    (HOPS, &[], false),
    (HOPS + 2, WINDOWS, false),
    (HOPS - 2, &[], false),
    (FORGED_HOPS, LINUX_LATER, false),
    (FORGED_HOPS, WINDOWS, true),
    (FORGED_HOPS, &[], true),
    (HOPS + 3, WINDOWS, true),
    // As long as they can be; malformed.
    (FORGED_HOPS, &[1; 40], true),
    (FORGED_HOPS, &[2, 0, 1, 3], true),
];

fn suspects() -> u64 {
    SYNS.iter().filter(|(.., is_suspect)| *is_suspect).count() as u64
}

#[test]
fn a_syn_unlike_those_of_its_network_is_suspect() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let mut programs = vec![Program::linear()?, Program::tc()?, Program::bare()?];
    if hands_over_fragments()? {
        programs.push(Program::load()?);
    }
    let variants = Variants::default().with(fingerprint(HOPS, LINUX));
    for program in &mut programs {
        for (index, length, [known, unproven, unknown]) in FAMILIES {
            program.add(known, length, index)?;
            program.prove_with(known, variants)?;
            program.prove_with(unknown, Variants::default())?;
            for source in [known, unproven, unknown] {
                for (port, (hop_limit, options, _)) in (1..).zip(SYNS) {
                    program.run(&syn(source, port, hop_limit, options))?;
                }
            }
            // One that comes again is no forged one; of one that is seen in part nothing is known.
            let again = syn(known, 100, FORGED_HOPS, WINDOWS);
            program.run(&again)?;
            program.run(&again)?;
            let whole = syn(known, 101, FORGED_HOPS, WINDOWS);
            program.run(&whole[..whole.len() - 4])?;
        }
    }
    for (number, program) in programs.iter().enumerate() {
        for (index, _, [known, unproven, unknown]) in FAMILIES {
            let all = 3 * SYNS.len() as u64 + 2;
            let counters = || program.counters(index);
            let ended = || Ok(counters()?.failed_by.unanswered == all);
            wait_until("each attempt has failed", THE_END, ended)
                .with_context(|| format!("program {number}: {:?}", counters()))?;
            let each = SYNS.len() as u64;
            let unproven_in_all = Unproven { unanswered: each, ..Unproven::default() };
            let suspect = Suspect { unanswered: suspects(), ..Suspect::default() };
            let (no_unproven, no_suspect) = (Unproven::default(), Suspect::default());
            for (counters, expected) in [
                (counters(), (all, unproven_in_all, suspect)),
                (program.proven(known), (each + 2, no_unproven, suspect)),
                (program.seen(unproven), (each, unproven_in_all, no_suspect)),
                (program.proven(unknown), (each, no_unproven, no_suspect)),
            ] {
                let counters = counters?;
                let counted = (counters.failed_by.unanswered, counters.unproven, counters.suspect);
                assert_eq!(counted, expected, "program {number}, index {index}");
            }
        }
    }
    Ok(())
}
