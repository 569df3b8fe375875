//! The routing registry: asks it for AS32934's prefixes, by hand or by itself from time to time.

mod refresher;
mod whois;

pub use refresher::Refresher;
pub use whois::WhoisError;

use std::collections::BTreeSet;

use crate::config::Registry;
use crate::observe::clock;
use crate::prefixes::{BadAnswer, BadRefresh, Changes, LeftOut, Network, PrefixState, Registered};
use crate::upstream::Dns;

/// What a refresh would bring, checked; nothing is in force or stored yet.
#[derive(Debug)]
pub struct Refreshed {
    pub standing: PrefixState,
    pub changes: Changes,
    /// What Meta has registered.
    pub registered: BTreeSet<Network>,
    pub left_out: Vec<LeftOut>,
}

/// Why there is nothing new; what was in force stays.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Whois(#[from] WhoisError),
    #[error(transparent)]
    Answer(#[from] BadAnswer),
    /// `forced`: what an operator may put in force nevertheless.
    #[error("{bad}")]
    Refresh { bad: BadRefresh, forced: Option<Box<Refreshed>> },
}

/// Asks the registry what it has of AS32934, and checks what that would make of the prefixes as
/// they stand.
pub async fn refresh(standing: &PrefixState, registry: &Registry, dns: &Dns) -> Result<Refreshed, Refused> {
    let answer = whois::ask(registry, dns).await?;
    let answer = Registered::read(&answer)?;
    let outcome = standing.refreshed(&answer, clock::now(), &registry.to_string());
    let Registered { networks: registered, left_out } = answer;
    let refreshed = |next: PrefixState| Refreshed {
        changes: standing.table().changes_to(&next.table()),
        standing: next,
        registered,
        left_out,
    };
    match outcome {
        Ok(next) => Ok(refreshed(next)),
        Err(mut bad) => {
            let forced = bad.forced.take().map(|next| Box::new(refreshed(*next)));
            Err(Refused::Refresh { bad, forced })
        }
    }
}
