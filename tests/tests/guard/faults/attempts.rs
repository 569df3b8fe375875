//! Attempts to connect that fail.

use std::io::{Read as _, Write as _};

use anyhow::{Result, ensure};
use harness::Need;

use super::super::peers::connect;
use super::super::raw::{SYN, Segment, Sender};
use super::super::testbed::{CLOSED, EDGE_V4, can_run};
use super::{CONNECTIONS, Case, HTTPS, IS_SYN, IS_SYN_ACK, Lab, THREADS, drop_packets, first_syn, many};

/// A prefix with networks that completed nothing.
const WIDE: &str = "31.13.64.0/18";
/// A fatal alert, unknown_ca.
const ALERT: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 48];

fn attempts_with_faults(bad: usize) -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    // Where the kernel tells no reasons, the class.
    let here = &["netfilter_drop", "unanswered"][..];
    let dropped = Case::new(10, Some(("machine", "attempts", here)));
    let muted = Case::new(11, Some(("machine", "attempts", here)));
    let unheard = Case::new(12, Some(("outbound", "attempts", &["unheard"])));
    let silent =
        Case { bad: "157.240.13.9".into(), ..Case::new(13, Some(("inbound", "attempts", &["silent"]))) };
    let refused = Case::new(14, Some(("machine", "attempts", &["refused"])));
    let late = Case::new(15, Some(("machine", "attempts", here)));
    let alert = Case::new(16, Some(("tls", "attempts", &["unknown_ca"])));
    let reset = Case::new(17, None);
    let lost_before = Case::new(18, None);
    let calm = Case::new(19, None);
    let wide =
        Case { prefix: WIDE.into(), good: "31.13.66.7".into(), bad: "31.13.66.8".into(), expected: None };
    let cases =
        [&dropped, &muted, &unheard, &silent, &refused, &late, &alert, &reset, &lost_before, &calm, &wide];
    let at_home = cases.map(|case| match case.bad == silent.bad {
        // Its kernel would answer.
        true => {
            Case { bad: case.good.clone(), prefix: case.prefix.clone(), good: case.good.clone(), ..*case }
        }
        false => {
            Case { bad: case.bad.clone(), prefix: case.prefix.clone(), good: case.good.clone(), ..*case }
        }
    });
    let lab = Lab::new(&at_home.each_ref())?;
    // A network that has completed none proves nothing.
    let good = (CONNECTIONS - bad).max(1);
    cases.into_iter().try_for_each(|case| lab.deliver(case, good))?;
    for case in cases {
        let (code, report) = lab.lost(Some(&case.prefix))?;
        ensure!(code == Some(0) && report["verdict"].is_null(), "{report}");
    }

    let edge = [format!("ip saddr {} {IS_SYN}", dropped.bad), first_syn(&late.bad)];
    drop_packets(&lab.testbed.edge, "input", &edge)?;
    drop_packets(&lab.testbed.edge, "output", &[format!("ip daddr {} {IS_SYN_ACK}", muted.bad)])?;
    drop_packets(lab.meta(), "input", &[format!("ip daddr {} {IS_SYN_ACK}", unheard.bad)])?;
    drop_packets(lab.meta(), "output", &[first_syn(&lost_before.bad)])?;
    for case in [&dropped, &muted, &unheard] {
        lab.fail(&case.bad, bad)?;
    }
    let raw = Sender::new(lab.meta())?;
    for number in 0..bad {
        let port = u16::try_from(41_000 + number)?;
        let forged = format!("31.13.{}.9", 70 + number % 50);
        for from in [&silent.bad, &reset.bad, &forged] {
            raw.send(&Segment::new(from, port, EDGE_V4, 443, SYN)?)?;
        }
        ensure!(connect(lab.meta(), &refused.bad, EDGE_V4, CLOSED).is_err());
    }
    for case in [&late, &lost_before] {
        ensure!(many(bad, bad, || lab.post(&case.bad, "/ok.example/", 200))? == bad, "{}", case.prefix);
    }
    let refuse = || {
        let mut stream = connect(lab.meta(), &alert.bad, EDGE_V4, HTTPS)?;
        stream.write_all(&ALERT)?;
        // Until it is closed, however.
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    };
    ensure!(many(bad, THREADS, refuse)? == bad);

    let (named, unnamed): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.expected.is_some());
    named.into_iter().try_for_each(|case| lab.judge(case, bad))?;
    // What fails of theirs has failed by now, as that of the others has.
    unnamed.into_iter().try_for_each(|case| lab.judge(case, bad))?;
    let (_, report) = lab.lost(Some(WIDE))?;
    ensure!(report["not_counted"]["unproven"] == bad, "{report}");
    let (_, report) = lab.lost(Some(&reset.prefix))?;
    ensure!(report["not_counted"]["reset"] == bad, "{report}");
    Ok(())
}

#[test]
fn attempts_that_fail_have_their_stage_and_share() -> Result<()> {
    attempts_with_faults(CONNECTIONS / 5)
}

#[test]
#[ignore = "takes a minute"]
fn attempts_that_fail_have_their_stage_and_share_where_few_do() -> Result<()> {
    attempts_with_faults(CONNECTIONS / 20)
}

#[test]
#[ignore = "takes a minute"]
fn attempts_that_fail_have_their_stage_and_share_where_all_do() -> Result<()> {
    attempts_with_faults(CONNECTIONS)
}
