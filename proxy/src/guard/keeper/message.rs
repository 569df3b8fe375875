//! What proxy and keeper say to each other: a JSON object a line.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::guard::Stats;

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    Stats,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Stats(Option<Box<Stats>>),
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
