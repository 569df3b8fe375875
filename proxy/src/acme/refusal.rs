//! Refusals of an authority that only the operator can mend; another attempt does not help.

use instant_acme::Problem;

/// Characters of an authority's text that are shown.
const MAX_TEXT_CHARACTERS: usize = 300;

/// Why an authority gives no certificate, however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "it is [acme] contact that the authority refuses, not the domain: {0}: write your own address, or leave \
         contact out"
    )]
    Contact(String),
    #[error(
        "this authority wants an external account (EAB), which hookgate cannot give: use Let's Encrypt (leave [acme] \
         directory out)"
    )]
    ExternalAccount,
    #[error("the authority gives no certificate for such a name: {0}: correct [acme] domains")]
    Identifier(String),
    #[error("the domain's CAA record in the DNS forbids it to this authority: {0}: add the authority there")]
    Caa(String),
    #[error("the authority wants something done by you first: {0}")]
    UserAction(String),
    #[error(
        "the authority has been asked too often: {0}: wait; it is asked again when it allows it, in hours otherwise"
    )]
    RateLimited(String),
}

impl Refusal {
    /// `None`: another attempt may succeed.
    pub(super) fn of(problem: &Problem) -> Option<Self> {
        let text = detail(problem);
        Some(match kind(problem)? {
            "invalidContact" | "unsupportedContact" => Self::Contact(text),
            "externalAccountRequired" => Self::ExternalAccount,
            "rejectedIdentifier" | "unsupportedIdentifier" => Self::Identifier(text),
            "caa" => Self::Caa(text),
            "userActionRequired" => Self::UserAction(text),
            "rateLimited" => Self::RateLimited(text),
            _ => return None,
        })
    }

    /// Whether the authority may have said when to ask again.
    pub(super) fn may_say_when(&self) -> bool {
        matches!(self, Self::RateLimited(_))
    }
}

/// Whether it is a problem of this kind (RFC 8555 §6.7).
pub(super) fn is(problem: &Problem, named: &str) -> bool {
    kind(problem) == Some(named)
}

fn kind(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.strip_prefix("urn:ietf:params:acme:error:")
}

/// The authority's text about the order and about each name.
pub(super) fn detail(problem: &Problem) -> String {
    let own = problem.detail.as_ref().or(problem.r#type.as_ref());
    let of_names = problem.subproblems.iter().map(ToString::to_string);
    printable(&own.cloned().into_iter().chain(of_names).collect::<Vec<_>>().join("; "))
}

/// A peer's text on one line, bounded.
pub(super) fn printable(text: &impl ToString) -> String {
    let text = text.to_string();
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let shown: String = characters.by_ref().take(MAX_TEXT_CHARACTERS).collect();
    if characters.next().is_some() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_says_is_bounded_and_in_one_line() {
        let problem = |kind: &str, detail: &str| Problem {
            r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
            detail: Some(detail.into()),
            status: Some(400),
            subproblems: Vec::new(),
        };
        let long = problem("invalidContact", &"a\n".repeat(10_000));
        let said = Refusal::of(&long).unwrap().to_string();
        assert!(said.len() < 600 && !said.contains('\n'), "{said}");
        assert_eq!(Refusal::of(&problem("badNonce", "")), None);
        assert_eq!(Refusal::of(&problem("serverInternal", "")), None);
    }
}
