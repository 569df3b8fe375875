//! Servers with unusual or wrong answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::server::{REFUSED, SERVFAIL, Server, UNASSIGNED};
use super::{ask, assert_serves, loopback, origin, relay};

const MAX_WAIT: Duration = Duration::from_millis(900);

#[test]
fn an_answer_that_may_not_be_kept_is_used_once() -> Result<()> {
    let (server, origin) = (Server::start(0, &[loopback()])?, origin()?);
    let relay = relay(&[&server], "", &origin)?;
    for questions in [2, 4, 6] {
        assert_serves(&relay, MAX_WAIT)?;
        assert!(server.questions() >= questions, "{} of {questions}", server.questions());
    }
    Ok(())
}

#[test]
fn aliases_are_followed_and_not_for_ever() -> Result<()> {
    let (server, origin) = (Server::start(60, &[loopback()])?, origin()?);
    for aliases in [1, 3, 8] {
        server.state.aliases.store(aliases, Ordering::SeqCst);
        assert_serves(&relay(&[&server], "", &origin)?, MAX_WAIT)?;
    }
    server.state.aliases.store(9, Ordering::SeqCst);
    let (status, error, took) = ask(&relay(&[&server], "", &origin)?)?;
    assert_eq!((status, &error[..]), (502, "dns_error"));
    assert!(took < MAX_WAIT, "{took:?}");
    Ok(())
}

#[test]
fn a_long_answer_that_can_not_be_had_over_tcp_is_no_answer() -> Result<()> {
    let (server, origin) = (Server::without_tcp(60, &[loopback()])?, origin()?);
    server.set(|state| &state.truncates, true);
    let mut alone = relay(&[&server], "", &origin)?;
    let (status, error, took) = ask(&alone)?;
    assert_eq!((status, &error[..]), (502, "dns_error"));
    assert!(took < MAX_WAIT, "{took:?}");
    alone.proxy.wait_for_stderr(" is too long for UDP, and TCP to it fails", Duration::from_secs(5))?;
    let other = Server::start(60, &[loopback()])?;
    other.state.delay.store(50, Ordering::SeqCst);
    assert_serves(&relay(&[&server, &other], "", &origin)?, MAX_WAIT)
}

#[test]
fn a_server_that_is_older_than_edns_is_asked_without_it() -> Result<()> {
    let (server, origin) = (Server::start(0, &[loopback()])?, origin()?);
    server.set(|state| &state.lacks_edns, true);
    let relay = relay(&[&server], "", &origin)?;
    assert_serves(&relay, MAX_WAIT)?;
    let with_edns = || server.state.edns.load(Ordering::SeqCst);
    let tried = with_edns();
    for _ in 0..2 {
        assert_serves(&relay, MAX_WAIT)?;
    }
    assert_eq!(with_edns(), tried, "EDNS is not tried again");
    Ok(())
}

#[test]
fn a_server_that_ignores_one_family_costs_a_moment_once() -> Result<()> {
    let (server, origin) = (Server::start(60, &[loopback()])?, origin()?);
    server.set(|state| &state.ignores_aaaa, true);
    let relay = relay(&[&server], "", &origin)?;
    assert_serves(&relay, MAX_WAIT)?;
    let asked = server.questions();
    for _ in 0..2 {
        assert_serves(&relay, MAX_WAIT)?;
    }
    assert_eq!(server.questions(), asked);
    Ok(())
}

#[test]
fn an_answer_from_another_port_is_none() -> Result<()> {
    let (server, origin) = (Server::start(60, &[loopback()])?, origin()?);
    server.set(|state| &state.answers_from_elsewhere, true);
    let (status, error, _) = ask(&relay(&[&server], "", &origin)?)?;
    assert_eq!((status, &error[..]), (504, "dns_timeout"));
    Ok(())
}

#[test]
fn the_case_of_a_name_does_not_matter() -> Result<()> {
    let (server, origin) = (Server::start(60, &[loopback()])?, origin()?);
    server.set(|state| &state.shouts, true);
    assert_serves(&relay(&[&server], "", &origin)?, MAX_WAIT)
}

#[test]
fn one_server_that_knows_is_enough() -> Result<()> {
    let (origin, knows) = (origin()?, Server::start(60, &[loopback()])?);
    // The failing server answers first.
    knows.state.delay.store(50, Ordering::SeqCst);
    for code in [SERVFAIL, REFUSED, UNASSIGNED] {
        let fails = Server::start(60, &[])?;
        fails.state.code.store(code, Ordering::SeqCst);
        assert_serves(&relay(&[&fails, &knows], "", &origin)?, MAX_WAIT)?;
        assert_serves(&relay(&[&knows, &fails], "", &origin)?, MAX_WAIT)?;
    }
    Ok(())
}

#[test]
fn where_one_server_fails_and_the_other_is_silent_the_name_is_no_mystery_for_long() -> Result<()> {
    let (origin, fails, silent) = (origin()?, Server::start(60, &[])?, Server::start(60, &[])?);
    fails.state.code.store(SERVFAIL, Ordering::SeqCst);
    silent.set(|state| &state.silent, true);
    let (status, error, took) = ask(&relay(&[&fails, &silent], "", &origin)?)?;
    assert_eq!((status, &error[..]), (502, "dns_error"));
    assert!(took < Duration::from_secs(3), "{took:?}");
    Ok(())
}
