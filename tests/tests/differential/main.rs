//! The same odd requests through hookgate, nginx and HAProxy, in front of the same origin, which
//! records every byte.

mod corpus;
mod origins;
mod peers;
mod readers;
mod sent;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use harness::{Need, require};

use corpus::Odd;
use origins::Reader;
use peers::{Outcome, Peer};
use readers::Manners;
use sent::Sent;

/// Every case, its outcome, and what hookgate sent for it.
fn sent_by_hookgate() -> Result<(Vec<Odd>, Vec<Outcome>, Vec<Sent>)> {
    let odd = corpus::all()?;
    let outcomes = Peer::hookgate(odd.len())?.run(&odd)?;
    let mut sent = Vec::new();
    for (case, outcome) in odd.iter().zip(&outcomes) {
        for stream in &outcome.streams {
            let parsed = Sent::parse(&case.name, stream);
            sent.push(parsed.with_context(|| format!("{}: {}", case.name, stream.escape_ascii()))?);
        }
    }
    Ok((odd, outcomes, sent))
}

#[test]
fn smugglers_get_the_answers_that_they_should() -> Result<()> {
    let (odd, outcomes, _) = sent_by_hookgate()?;
    let mut wrong = Vec::new();
    for (case, outcome) in odd.iter().zip(&outcomes) {
        let Some((forwarded, answers)) = &case.expected else { continue };
        let told = outcome.answers.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        if (outcome.streams.len(), &told) != (*forwarded, answers) {
            wrong.push(format!("{}: {} forwarded, answers {told}", case.name, outcome.streams.len()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn no_reader_sees_two_requests_in_one_that_is_forwarded() -> Result<()> {
    let (.., sent) = sent_by_hookgate()?;
    ensure!(sent.len() > 150, "only {} were forwarded", sent.len());
    for sent in &sent {
        let stream = sent.with_sentinel();
        let expected = match sent.whole {
            true => vec![sent.start.clone(), "GET /sentinel HTTP/1.1".to_owned()],
            false => vec![format!("not a request: {}", sent.bytes.escape_ascii())],
        };
        for reader in Manners::all() {
            let seen = reader.read(&stream);
            ensure!(seen == expected, "{}: {reader:?} sees {seen:#?}", sent.case);
        }
    }
    Ok(())
}

#[test]
fn no_server_sees_two_requests_in_one_that_is_forwarded() -> Result<()> {
    if !require(&[Need::Program("nginx"), Need::Program("haproxy"), Need::Program("python3")]) {
        return Ok(());
    }
    let (.., sent) = sent_by_hookgate()?;
    let readers = Reader::all()?;
    let lanes = sent.chunks(sent.len().div_ceil(12));
    let understood = thread::scope(|scope| {
        let replay = |lane: &[Sent]| lane.iter().map(|sent| replay(sent, &readers)).sum::<Result<usize>>();
        let lanes: Vec<_> = lanes.map(|lane| scope.spawn(move || replay(lane))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane")).sum::<Result<usize>>()
    })?;
    eprintln!("{} requests, {understood} of {} readings understood", sent.len(), readers.len() * sent.len());
    // A server that refuses what is odd proves nothing; most must understand.
    ensure!(understood * 10 > readers.len() * sent.len() * 8, "only {understood}");
    Ok(())
}

/// How many servers understood the request; an error when one saw another than was meant.
fn replay(sent: &Sent, readers: &[Reader]) -> Result<usize> {
    let mut understood = 0;
    for reader in readers {
        let answers = reader.read(&sent.with_sentinel(), sent.start.starts_with("HEAD "))?;
        let told: Vec<_> = answers.iter().map(|answer| (answer.status, answer.id.as_deref())).collect();
        let meant: &[_] = match sent.whole {
            true => &[(200, Some(&*sent.id)), (200, Some("sentinel"))],
            false => &[(200, Some(&*sent.id))],
        };
        // One refusal, and nothing after it, is no second request either.
        let refused = matches!(&told[..], [(400.., None)] | [(400.., Some(_))] | []);
        // Refusing what it had already answered, because the rest never came.
        let gave_up = !sent.whole && matches!(&told[..], [(200, Some(id)), (400.., None)] if *id == sent.id);
        ensure!(
            told == meant || refused || gave_up,
            "{}: {} saw {told:?} in {}",
            sent.case,
            reader.name,
            sent.bytes.escape_ascii()
        );
        understood += usize::from(told == meant);
    }
    Ok(understood)
}

/// Where hookgate forwards more than another would, it is known, and written down.
#[test]
fn hookgate_is_no_more_lenient_than_is_written_down() -> Result<()> {
    if !require(&[Need::Program("nginx"), Need::Program("haproxy")]) {
        return Ok(());
    }
    let (odd, hookgate, _) = sent_by_hookgate()?;
    let [nginx, haproxy] = [Peer::nginx()?.run(&odd)?, Peer::haproxy()?.run(&odd)?];
    write_table(&odd, [&hookgate, &nginx, &haproxy])?;
    let forwarded = |outcomes: &[Outcome], index: usize| outcomes[index].streams.len();
    let more_than = |others: &[&[Outcome]]| -> BTreeSet<String> {
        let most = |index| others.iter().map(|other| forwarded(other, index)).max().unwrap_or_default();
        let more = (0..odd.len()).filter(|index| forwarded(&hookgate, *index) > most(*index));
        more.map(|index| odd[index].name.clone()).collect()
    };
    let both = more_than(&[&nginx, &haproxy]);
    let [than_nginx, than_haproxy] = [more_than(&[&nginx]), more_than(&[&haproxy])];
    for (key, found) in [
        ("both_refuse", &both),
        ("nginx_refuses", &than_nginx.difference(&both).cloned().collect()),
        ("haproxy_refuses", &than_haproxy.difference(&both).cloned().collect()),
    ] {
        let written: BTreeSet<String> = corpus::list("lenient.toml", key)?.into_iter().collect();
        let new: Vec<_> = found.difference(&written).collect();
        let gone: Vec<_> = written.difference(found).collect();
        ensure!(new.is_empty() && gone.is_empty(), "{key}: new: {new:#?}, gone: {gone:#?}");
    }
    Ok(())
}

/// Every difference, for people to read.
fn write_table(odd: &[Odd], peers: [&[Outcome]; 3]) -> Result<()> {
    let mut table = String::from("| case | hookgate | nginx | HAProxy |\n| --- | --- | --- | --- |\n");
    for (index, case) in odd.iter().enumerate() {
        let cells = peers.map(|outcomes| {
            let answers: Vec<_> = outcomes[index].answers.iter().map(u16::to_string).collect();
            format!("{} ({})", answers.join(" "), outcomes[index].streams.len())
        });
        if cells.iter().any(|cell| *cell != cells[0]) {
            writeln!(table, "| {} | {} |", case.name.replace('|', "\\|"), cells.join(" | "))?;
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("differential.md");
    std::fs::write(&path, table).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("{}: what each answers, and how many requests it forwards", path.display());
    Ok(())
}
