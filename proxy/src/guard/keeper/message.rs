//! What proxy and keeper say to each other: a JSON object a line.

use std::collections::BTreeSet;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::guard::Stats;
use crate::prefixes::Network;

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    Stats,
    /// What the routing registry has of Meta's own: check it, put it in force, store it for the next start.
    Refreshed(BTreeSet<Network>),
    /// Put in force what lies in the state file.
    Stored,
    /// Put in force what the configuration says of the guard.
    Reload,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Stats(Option<Box<Stats>>),
    /// The prefixes in force from now on, and the index of each.
    Rows(Vec<(Network, u32)>),
    /// The same, and to what the guard is attached, in words.
    Attached(Vec<(Network, u32)>, String),
    /// Why not, causes included.
    Refused(String),
}

pub fn line(message: &impl Serialize) -> String {
    // Strings, numbers and lists of them always become JSON.
    serde_json::to_string(message).unwrap_or_default() + "\n"
}

pub fn parse<M: DeserializeOwned>(line: &str) -> io::Result<M> {
    serde_json::from_str(line).map_err(io::Error::from)
}
