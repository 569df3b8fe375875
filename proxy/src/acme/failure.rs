use std::time::Duration;

use instant_acme::{Error, Problem};

use super::refusal::{Refusal, printable};
use super::store::BadState;
use crate::config::Challenge;
use crate::tls::{BadCertificate, CannotSign};

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    State(#[from] BadState),
    #[error("{}", printable(.0))]
    Authority(Error),
    #[error(transparent)]
    Refused(Refusal),
    #[error("the authority offers no {challenge} challenge for {name}")]
    NotOffered { name: String, challenge: Challenge },
    #[error("the authority could not convince itself of {name}: {why}; {}", remedy(.challenge))]
    Unconvinced { name: String, why: String, challenge: Challenge },
    #[error("the authority has made the order invalid")]
    Invalid,
    #[error(transparent)]
    Answer(#[from] CannotSign),
    #[error("what the authority sent cannot be used: {0}")]
    Unusable(#[from] BadCertificate),
    #[error("not finished within {} s", .0.as_secs())]
    Slow(Duration),
}

fn remedy(challenge: &Challenge) -> &'static str {
    match challenge {
        Challenge::Http01 => "does the name lead to this machine, and port 80 to [listen] http?",
        Challenge::TlsAlpn01 => "does the name lead to this machine, and port 443 to [listen] https?",
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(problem) => Refusal::of(problem).map_or(Self::Authority(error), Self::Refused),
            _ => Self::Authority(error),
        }
    }
}

/// What is said of an authority's problem document, and whether only the operator can mend it;
/// `None`: it is none.
pub fn explain(document: &[u8]) -> Option<(String, bool)> {
    let problem: Problem = serde_json::from_slice(document).ok()?;
    let failure = Failure::from(Error::Api(problem));
    Some((failure.to_string(), matches!(failure, Failure::Refused(_))))
}
