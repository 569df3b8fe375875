//! Strangers attack, and Meta's webhooks go on: a row of the table in docs/security.md each.
//!
//! Beside each attack runs a steady stream of webhooks. All of them must be answered 200, and what
//! strangers take must stay within the memory that is planned for them. Times are printed, not
//! judged: `cargo xtask bench --hostile` measures them for longer, with the release build.

mod bodies;
mod connections;
mod handshakes;
mod heads;
mod http_listener;
mod row;
mod testbed;
mod upstreams;
