use std::time::Duration;

use anyhow::Result;

use crate::figures::Figures;
use crate::kind::{Kind, Route};
use crate::peer::Peer;
use crate::testbed::Testbed;
use crate::{fresh, neighbours, running, scale, spread};

/// One sort of load.
#[derive(Clone, Copy)]
pub struct Load {
    pub name: &'static str,
    /// For readers of the report.
    pub what: &'static str,
    pub compared: &'static [Figure],
    how: How,
}

/// A figure that peers are compared by; less is better in all of them.
#[derive(Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    /// For readers of the report, with its unit.
    pub what: &'static str,
    pub goals: Goals,
}

/// The most that hookgate's figure may be; what is `None` is not asked for.
#[derive(Clone, Copy, Default)]
pub struct Goals {
    /// As a share of the best peer's.
    pub of_best: Option<f64>,
    /// As a multiple of the floor's.
    pub of_floor: Option<f64>,
    /// By itself, in the figure's unit.
    pub itself: Option<f64>,
}

#[derive(Clone, Copy)]
enum How {
    /// Webhooks through a peer that has been running for a while; with `--seconds` where it takes
    /// so long.
    Webhooks { route: Route, args: &'static [&'static str], timed: bool },
    /// Large bodies through such a peer.
    Bodies { route: Route, args: &'static [&'static str] },
    /// A peer of its own for each measurement: its start, and what it holds while connections idle.
    Fresh,
    /// The same, and what it holds while uploads don't get on.
    Uploads { args: &'static [&'static str] },
    /// Two of each, with few and with many hosts.
    Scale,
    /// New connections among the threads of a peer.
    Spread,
    /// Webhooks beside other work on the threads of a peer.
    Neighbours,
}

const CPU_US: Figure = Figure::new("cpu_us", "µs of processor time a request");
const CPU_MS_PER_GIB: Figure = Figure::new("cpu_ms_per_gib", "ms of processor time a GiB");
const HELD_MIB: Figure = Figure::new("held_mib", "MiB (PSS) more than before");
const HELD_CGROUP_MIB: Figure =
    Figure::new("held_cgroup_mib", "MiB of its control group's peak more than before");

pub const ALL: [Load; 18] = [
    Load {
        name: "kept-1",
        what: "one kept connection",
        compared: &[CPU_US.of_best(0.55).of_floor(1.3)],
        how: How::Webhooks { route: Route::Webhooks, args: &["kept", "--connections", "1"], timed: true },
    },
    Load {
        name: "kept-32",
        what: "32 kept connections",
        compared: &[CPU_US.of_best(0.6).of_floor(1.35)],
        how: How::Webhooks { route: Route::Webhooks, args: &["kept", "--connections", "32"], timed: true },
    },
    Load {
        name: "kept-256",
        what: "256 kept connections",
        compared: &[CPU_US.of_best(0.5).of_floor(1.4)],
        how: How::Webhooks { route: Route::Webhooks, args: &["kept", "--connections", "256"], timed: true },
    },
    Load {
        name: "paced",
        what: "300 requests/s in an open loop, over 32 kept connections",
        compared: &[
            CPU_US.of_best(0.6).of_floor(1.6),
            Figure::new("p99.9_ms", "ms within which 999 of 1,000 are answered, from when each was due")
                .of_best(1.0),
        ],
        how: How::Webhooks {
            route: Route::Webhooks,
            args: &["paced", "--connections", "32", "--per-second", "300"],
            timed: true,
        },
    },
    Load {
        name: "full",
        what: "a connection each with a full handshake, 8 at a time",
        compared: &[CPU_US.of_best(0.6).of_floor(1.1)],
        how: How::Webhooks { route: Route::Handshakes, args: &["handshakes", "--senders", "8"], timed: true },
    },
    Load {
        name: "full-hybrid",
        what: "the same with clients that prefer X25519MLKEM768",
        compared: &[CPU_US],
        how: How::Webhooks {
            route: Route::Handshakes,
            args: &["handshakes", "--senders", "8", "--hybrid"],
            timed: true,
        },
    },
    Load {
        name: "resumed",
        what: "a connection each with a resumed handshake, 8 at a time",
        compared: &[CPU_US.of_best(0.6).of_floor(1.1)],
        how: How::Webhooks {
            route: Route::Handshakes,
            args: &["handshakes", "--senders", "8", "--resumed"],
            timed: true,
        },
    },
    Load {
        name: "burst",
        what: "500 new connections at once, until all are answered",
        compared: &[Figure::new("elapsed_ms", "ms").of_best(0.7), CPU_US.of_best(0.7)],
        how: How::Webhooks { route: Route::Webhooks, args: &["burst", "--connections", "500"], timed: false },
    },
    Load {
        name: "up-tls",
        what: "64 MiB to the upstream, TLS on both sides",
        compared: &[CPU_MS_PER_GIB.of_floor(1.2)],
        how: How::Bodies {
            route: Route::Bodies,
            args: &["--target", "/bodies.example.com/up", "--up-bytes", "67108864"],
        },
    },
    Load {
        name: "down-tls",
        what: "64 MiB from the upstream, TLS on both sides",
        compared: &[CPU_MS_PER_GIB.of_floor(1.2)],
        how: How::Bodies { route: Route::Bodies, args: &["--target", "/bodies.example.com/down"] },
    },
    Load {
        name: "up-plain",
        what: "64 MiB to the upstream, plaintext on both sides",
        compared: &[CPU_MS_PER_GIB.of_floor(1.08)],
        how: How::Bodies {
            route: Route::Plain,
            args: &["--target", "/plain.example.com/up", "--up-bytes", "67108864"],
        },
    },
    Load {
        name: "down-plain",
        what: "64 MiB from the upstream, plaintext on both sides",
        compared: &[CPU_MS_PER_GIB.of_floor(1.08)],
        how: How::Bodies { route: Route::Plain, args: &["--target", "/plain.example.com/down"] },
    },
    Load {
        name: "fresh",
        what: "a process that was just started",
        compared: &[
            Figure::new("start_ms", "ms to the first 200").of_best(0.6),
            Figure::new("rss_mib", "MiB resident then").of_best(0.6),
            Figure::new("pss_mib", "the same, shared pages divided among those that share them").of_best(0.6),
            Figure::new("worked_mib", "MiB more after a second of work"),
            Figure::new("idle_kib", "KiB for each of 500 idle TLS connections then").of_best(0.7),
            Figure::new("idle_cgroup_kib", "KiB of its control group's peak for each of them"),
        ],
        how: How::Fresh,
    },
    Load {
        name: "slow-client",
        what: "200 uploads of 1 MiB whose clients send 64 KiB, then trickle",
        compared: &[HELD_MIB.of_best(0.6), HELD_CGROUP_MIB],
        how: How::Uploads { args: &["--target", "/bodies.example.com/up", "--at-once", "65536"] },
    },
    Load {
        name: "slow-upstream",
        what: "200 uploads of 1 MiB that the upstream does not read",
        compared: &[HELD_MIB.of_best(0.6), HELD_CGROUP_MIB],
        how: How::Uploads { args: &["--target", "/bodies.example.com/stalled", "--at-once", "1048576"] },
    },
    Load {
        name: "scale",
        what: "50,000 hosts, over 32 kept connections",
        compared: &[
            CPU_US,
            Figure::new("cpu_ratio", "processor time a request, divided by that with 10 hosts").itself(1.05),
            Figure::new("start_ms", "ms to the first 200").of_best(1.0).itself(1000.0),
            Figure::new("reload_ms", "ms from a reload's signal to the first 200 of a new host")
                .of_best(1.0)
                .itself(1000.0),
            Figure::new("pss_mib", "MiB").of_best(1.0),
        ],
        how: How::Scale,
    },
    Load {
        name: "spread",
        what: "64 new connections among the threads",
        compared: &[
            Figure::new("one_by_one_most_pct", "% that one thread has, opened one after the other"),
            Figure::new("at_once_most_pct", "% that one thread has, opened at once"),
        ],
        how: How::Spread,
    },
    Load {
        name: "neighbours",
        what: "300 requests/s over 32 kept connections beside a long body, and beside 500 handshakes/s",
        compared: &[
            Figure::new("alone_p99_ms", "ms within which 99 of 100 are answered, beside nothing"),
            Figure::new("body_ratio", "beside a body, divided by that"),
            Figure::new("with_body_ratio", "the same on the thread that has the body"),
            Figure::new("others_ratio", "the same on the threads that do not have the body"),
            Figure::new("body_elsewhere_ratio", "beside a body in another process, divided by that alone"),
            Figure::new("flood_ratio", "beside handshakes, divided by that alone"),
            Figure::new("flood_elsewhere_ratio", "the same with the handshakes in another process"),
        ],
        how: How::Neighbours,
    },
];

impl Figure {
    const fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what, goals: Goals { of_best: None, of_floor: None, itself: None } }
    }

    const fn of_best(mut self, goal: f64) -> Self {
        self.goals.of_best = Some(goal);
        self
    }

    const fn of_floor(mut self, goal: f64) -> Self {
        self.goals.of_floor = Some(goal);
        self
    }

    const fn itself(mut self, goal: f64) -> Self {
        self.goals.itself = Some(goal);
        self
    }
}

impl Load {
    /// How many cores a proxy needs at least: with one, hookgate has one thread.
    pub fn min_cores(&self) -> usize {
        if matches!(self.how, How::Spread | How::Neighbours) { 2 } else { 1 }
    }

    /// The floor knows nothing of hosts or configurations; the others have one process or thread.
    pub fn is_for(&self, kind: Kind) -> bool {
        if self.min_cores() > 1 {
            return matches!(kind, Kind::Hookgate | Kind::Before);
        }
        kind != Kind::Floor || self.compared.iter().any(|figure| figure.goals.of_floor.is_some())
    }

    /// # Errors
    /// A request was not answered with 200, or the peer is gone.
    pub fn measure(&self, peer: &Peer, testbed: &Testbed, duration: Duration) -> Result<Figures> {
        match self.how {
            How::Webhooks { route, args, timed } => {
                running::webhooks(peer, testbed, route, args, timed.then_some(duration))
            }
            How::Bodies { route, args } => running::bodies(peer, testbed, route, args, duration),
            How::Fresh => fresh::start_and_idle(peer.kind, testbed),
            How::Uploads { args } => fresh::uploads(peer.kind, testbed, args),
            How::Scale => scale::measure(peer.kind, testbed, duration),
            How::Spread => spread::measure(peer, testbed),
            How::Neighbours => neighbours::measure(peer, testbed, duration),
        }
    }
}
