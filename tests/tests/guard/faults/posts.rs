//! Requests that fail, beside the guard.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Need, wait_until};
use serde_json::json;
use socket2::SockRef;

use super::super::peers::connect;
use super::super::testbed::{EDGE_V4, can_run};
use super::{CONNECTIONS, Case, IS_SYN, Lab, THE_END, THREADS, drop_packets, many, request};

fn posts_with_faults(bad: usize) -> Result<()> {
    if !can_run(&[Need::Program("nft")]) {
        return Ok(());
    }
    let unknown = Case::new(30, Some(("request", "posts", &["403"])));
    let no_name = Case::new(31, Some(("request", "posts", &["404"])));
    let dns = Case::new(32, Some(("dns", "posts", &["dns_timeout", "dns_error"])));
    let down = Case::new(33, Some(("connect", "posts", &["connection_refused"])));
    let strange = Case::new(34, Some(("upstream_tls", "posts", &["tls_certificate_error"])));
    let broken = Case::new(35, Some(("upstream", "posts", &["500"])));
    let stalled = Case::new(36, Some(("upstream", "posts", &["http_response_timeout"])));
    let gone = Case::new(37, Some(("client", "posts", &["client_gone"])));
    let calm = Case::new(38, None);
    let two = Case::new(39, Some(("upstream", "posts", &["500"])));
    let cases = [&unknown, &no_name, &dns, &down, &strange, &broken, &stalled, &gone, &calm, &two];
    let lab = Lab::new(&cases)?;
    let good = CONNECTIONS - bad;
    cases.into_iter().try_for_each(|case| lab.deliver(case, good))?;
    lab.deliver(&calm, bad)?;
    for (case, path, status, threads) in [
        (&unknown, "/unknown.example/", 403, THREADS),
        (&no_name, "/", 404, THREADS),
        (&dns, "/nameless.example/", 504, bad),
        (&down, "/down.example/", 502, THREADS),
        (&strange, "/strange.example/", 502, THREADS),
        (&broken, "/broken.example/", 500, THREADS),
        (&stalled, "/stalled.example/", 504, bad),
        (&two, "/broken.example/", 500, THREADS),
    ] {
        let well = many(bad, threads, || lab.post(&case.bad, path, status))?;
        ensure!(well == bad, "{well} of {bad} to {path}");
    }
    let before = lab.stalled.heard().len();
    let clients = (0..bad).map(|_| {
        let mut client = connect(lab.meta(), &gone.bad, EDGE_V4, 443)?;
        client.write_all(request("/stalled.example/").as_bytes())?;
        Ok(client)
    });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    wait_until("they are with the upstream", THE_END, || Ok(lab.stalled.heard().len() >= before + bad))?;
    for client in clients {
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    }
    // A second fault, on 10 attempts of one of them.
    const FEW: usize = 10;
    drop_packets(&lab.testbed.edge, "input", &[format!("ip saddr {} {IS_SYN}", two.good)])?;
    lab.fail(&two.good, FEW)?;

    let (two, cases): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.prefix == two.prefix);
    cases.into_iter().try_for_each(|case| lab.judge(case, bad))?;
    for case in two {
        let mut last = json!(null);
        wait_until("both faults are told", THE_END, || {
            last = lab.lost(Some(&case.prefix))?.1;
            let lost = |stage: &str, unit: &str| {
                let mut stages = last["stages"].as_array().into_iter().flatten();
                let found = stages.find(|other| other["stage"] == stage && other["unit"] == unit);
                found.map(|found| (found["lost"].clone(), found["of"].clone()))
            };
            let machine = lost("machine", "attempts") == Some((json!(FEW), json!(CONNECTIONS + FEW)));
            Ok(machine && lost("upstream", "posts") == Some((json!(bad), json!(CONNECTIONS))))
        })
        .map_err(|error| error.context(format!("{last}")))?;
        ensure!(last["verdict"]["stage"] == "upstream" && last["verdict"]["cause"] == "500", "{last}");
    }
    Ok(())
}

#[test]
fn posts_that_fail_have_their_stage_and_share() -> Result<()> {
    posts_with_faults(CONNECTIONS / 5)
}

#[test]
#[ignore = "takes a minute"]
fn posts_that_fail_have_their_stage_and_share_where_few_do() -> Result<()> {
    posts_with_faults(CONNECTIONS / 20)
}

#[test]
#[ignore = "takes a minute"]
fn posts_that_fail_have_their_stage_and_share_where_all_do() -> Result<()> {
    posts_with_faults(CONNECTIONS)
}
