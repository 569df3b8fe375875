//! Ports that are published: the packets that the guard sees are not addressed to the socket that
//! takes them.

use std::time::Duration;

use anyhow::Result;
use harness::{Need, NetNs};
use serde_json::Value;

use super::peers::{Server, visit};
use super::testbed::{EDGE_V4, META, Shakes, Testbed, can_run, row};

const NEEDS: [Need; 1] = [Need::Program("nft")];
const VISITS: u64 = 5;
/// Neither guarded nor what clients ask for.
const BEHIND: u16 = 9443;

fn counted(testbed: &Testbed) -> Result<Shakes> {
    let of = |stats: &Value| Shakes::of(row(stats, META[0].1));
    let ended = |stats: &Value| Ok(of(stats).fins == VISITS);
    Ok(of(&testbed.wait_for(Duration::from_secs(5), ended)?))
}

const ALL_IN: Shakes = Shakes {
    syns: VISITS,
    retransmitted: 0,
    handshakes: VISITS,
    failed: 0,
    untracked: 0,
    fins: VISITS,
    rsts: 0,
    dropped: 0,
};

fn redirect(testbed: &Testbed, to: &str) -> Result<()> {
    testbed.edge.run("nft add table ip published")?;
    let chain = "prerouting { type nat hook prerouting priority -100 ; }";
    testbed.edge.run(&format!("nft add chain ip published {chain}"))?;
    testbed.edge.run(&format!("nft add rule ip published prerouting iifname wan0 tcp dport 443 {to}"))?;
    Ok(())
}

#[test]
fn handshakes_behind_a_redirected_port_are_counted() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let _server = Server::start(&testbed.edge, &format!("0.0.0.0:{BEHIND}"))?;
    redirect(&testbed, &format!("redirect to :{BEHIND}"))?;
    testbed.run("", "guard attach")?;
    for _ in 0..VISITS {
        visit(&testbed.meta, META[0].0, EDGE_V4, 443)?;
    }
    assert_eq!(counted(&testbed)?, ALL_IN);
    Ok(())
}

/// As container engines publish ports: another network namespace behind a bridge or a veth, and
/// DNAT to it.
#[test]
fn handshakes_of_a_container_are_counted() -> Result<()> {
    if !can_run(&NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new()?;
    let container = NetNs::new()?;
    NetNs::link((&testbed.edge, "inside0"), (&container, "eth0"))?;
    testbed.edge.address("inside0", "10.99.0.1/24")?;
    container.address("eth0", "10.99.0.2/24")?;
    container.run("ip route add default via 10.99.0.1")?;
    testbed.edge.run("sysctl -qw net.ipv4.ip_forward=1")?;
    let _server = Server::start(&container, &format!("0.0.0.0:{BEHIND}"))?;
    redirect(&testbed, &format!("dnat to 10.99.0.2:{BEHIND}"))?;
    testbed.run("", "guard attach")?;
    for _ in 0..VISITS {
        visit(&testbed.meta, META[0].0, EDGE_V4, 443)?;
    }
    assert_eq!(counted(&testbed)?, ALL_IN);
    Ok(())
}
