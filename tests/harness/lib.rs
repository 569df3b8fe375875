//! Values that start real peers and clean up when dropped.
//!
//! A test reads as a list of machines: a [`NetNs`] is a machine of its own, [`Nginx`],
//! [`DnsServer`], [`Server`] and [`Receiver`] are what hookgate talks to, [`Origin`], [`Whois`] and
//! [`Client`] misbehave on cue, [`Webhooks`] play Meta and [`Strangers`] attack, [`Proxy`] is the
//! real binary, [`Tap`] counts what a wire carried. Whatever a test does, even `kill -9`, its
//! children go with it: each asks the kernel for that ([`Running`]).
#![forbid(unsafe_code)]

mod browser;
mod certs;
mod client;
mod dns;
mod full_queue;
mod hostile_upstream;
mod message;
pub mod meta_tls;
mod metrics;
mod needs;
mod netns;
mod nginx;
mod one_packet;
mod origin;
mod pace;
mod pebble;
mod priority;
mod proxy;
mod receiver;
mod records;
mod renewal_info;
mod sample;
pub mod sender;
mod server;
mod strangers;
mod tap;
mod updates;
mod webhooks;
mod whois;
mod wire;

pub use browser::Browser;
pub use certs::{Ca, Certs};
pub use client::Client;
pub use dns::DnsServer;
pub use full_queue::FullQueue;
pub use harness_core::{
    Moments, Observation, Running, Stopped, TempDir, cargo, ensure_stays, equal, free_port, in_path,
    is_there, outlast, pace, pace_until, run, wait_until, wait_until_still, wrapped,
};
pub use hostile_upstream::HostileUpstream;
pub use message::Message;
pub use metrics::{Metrics, ask_admin};
pub use needs::{KernelTlsCounts, Need, memory_control, require, wire};
pub use netns::NetNs;
pub use nginx::Nginx;
pub use one_packet::OnePacketDevice;
pub use origin::{Conversation, End, Origin, over_tls};
pub use pace::{pace_task, pace_task_until};
pub use pebble::{Pebble, Settings as PebbleSettings};
pub use priority::prefer;
pub use proxy::{Proxy, binary, counting_binary, listens};
pub use receiver::{APP_SECRET, Received, Receiver, VERIFY_TOKEN, signature};
pub use records::Records;
pub use renewal_info::RenewalInfo;
pub use sample::Sample;
pub use server::Server;
pub use strangers::{Attack, Counts as StrangerCounts, Strangers, TlsTcp};
pub use tap::{Counts, Tap};
pub use updates::{Reading, Update};
pub use webhooks::{Webhook, Webhooks};
pub use whois::Whois;
pub use wire::{Closed, Wire};
