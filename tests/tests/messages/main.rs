//! What messages tell: outcomes of events, lateness, status chains, and what was not looked at.

mod bodies;
mod file;
mod outcomes;
mod plan;
mod privacy;
mod samples;
mod testbed;
