//! What it costs that there are many hosts.

use std::time::Duration;

use anyhow::Result;

use crate::figures::{Figures, number, words};
use crate::generator::Generator;
use crate::kind::{Kind, Route};
use crate::peer::{Peer, Prepared};
use crate::testbed::{NEW, Testbed};
use crate::{fresh, running};

const FEW: usize = 10;
const MANY: usize = 50_000;

/// One process with few hosts and one with many, side by side.
pub fn measure(kind: Kind, testbed: &Testbed, duration: Duration) -> Result<Figures> {
    let (few, _) = fresh::start(Prepared::with_hosts(kind, testbed, FEW)?, testbed)?;
    let (many, start) = fresh::start(Prepared::with_hosts(kind, testbed, MANY)?, testbed)?;
    let pss_mib = many.pss_kib()? as f64 / 1024.0;
    // Whatever drifts meanwhile drifts for both.
    let order = [&few, &many, &many, &few];
    let [a, b, c, d] = order.map(|peer| kept(peer, testbed, duration / 2));
    let (few_us, many_us) = (f64::midpoint(a?, d?), f64::midpoint(b?, c?));
    let reload_ms = reload(&many, testbed)?;
    Ok(Figures::from([
        ("cpu_us", many_us),
        ("cpu_ratio", many_us / few_us),
        ("start_ms", start.answered_ms),
        ("reload_ms", reload_ms),
        ("pss_mib", pss_mib),
    ]))
}

fn kept(peer: &Peer, testbed: &Testbed, duration: Duration) -> Result<f64> {
    let args = ["kept", "--connections", "32"];
    let figures = running::webhooks(peer, testbed, Route::Webhooks, &args, Some(duration))?;
    Ok(figures["cpu_us"])
}

/// Milliseconds from the signal to the first answer from a host that is new. Asked for without TLS,
/// as the questions take their time from the core that reloads.
fn reload(peer: &Peer, testbed: &Testbed) -> Result<f64> {
    let args = words(&["learned", "--target", &format!("/{NEW}/up")]);
    let mut learned = Generator::prepare(testbed, &peer.addresses, Route::Plain, &args)?;
    learned.start()?;
    peer.learn_new_host()?;
    Ok(number(&learned.finish()?, "seconds")? * 1e3)
}
