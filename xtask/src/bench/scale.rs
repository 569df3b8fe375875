//! What it costs that there are many hosts.

use std::time::Duration;

use anyhow::Result;

use super::generator::Generator;
use super::loads::{Figures, number, words};
use super::peer::{Kind, Peer, Prepared, Way};
use super::scene::{NEW, Scene};
use super::{fresh, running};

const FEW: usize = 10;
const MANY: usize = 50_000;

/// One process with few hosts and one with many, side by side.
pub fn measure(kind: Kind, scene: &Scene, duration: Duration) -> Result<Figures> {
    let (few, _) = fresh::start(Prepared::with_hosts(kind, scene, FEW)?, scene)?;
    let (many, start) = fresh::start(Prepared::with_hosts(kind, scene, MANY)?, scene)?;
    let pss_mib = many.pss_kib()? as f64 / 1024.0;
    // Whatever drifts meanwhile drifts for both.
    let order = [&few, &many, &many, &few];
    let [a, b, c, d] = order.map(|peer| kept(peer, scene, duration / 2));
    let (few_us, many_us) = (f64::midpoint(a?, d?), f64::midpoint(b?, c?));
    let reload_ms = reload(&many, scene)?;
    Ok(Figures::from([
        ("cpu_us", many_us),
        ("cpu_ratio", many_us / few_us),
        ("start_ms", start.answered_ms),
        ("reload_ms", reload_ms),
        ("pss_mib", pss_mib),
    ]))
}

fn kept(peer: &Peer, scene: &Scene, duration: Duration) -> Result<f64> {
    let args = ["kept", "--connections", "32"];
    let figures = running::webhooks(peer, scene, Way::Webhooks, &args, Some(duration))?;
    Ok(figures["cpu_us"])
}

/// Milliseconds from the signal to the first answer from a host that is new. Asked for without TLS, as the questions
/// take their time from the core that reloads.
fn reload(peer: &Peer, scene: &Scene) -> Result<f64> {
    let args = words(&["learned", "--target", &format!("/{NEW}/up")]);
    let mut learned = Generator::prepare(scene, &peer.addresses, Way::Plain, &args)?;
    learned.start()?;
    peer.learn_new_host()?;
    Ok(number(&learned.finish()?, "seconds")? * 1e3)
}
