//! Whether Meta would take the callback URL.

use std::fmt;

use serde::Serialize;

use super::receiver::Outcome;
use super::report::{Row, start_of};
use crate::net::http_client::Response;

/// The answer to the verification request.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    #[serde(flatten)]
    pub row: Row,
    /// The answer's content is the challenge, and nothing else.
    pub challenge_returned: bool,
    /// Whether a token was given, so that a receiver can agree at all.
    pub counts: bool,
    /// What a human is told about the content.
    #[serde(skip)]
    verdict: String,
}

impl Verification {
    pub fn new(outcome: &Outcome, challenge: &str, has_token: bool) -> Self {
        let mut row = Row::new(outcome);
        let (challenge_returned, verdict) = match &outcome.answer {
            Ok(answer) => verdict(answer, challenge, row.is_delivered()),
            Err(_) => (false, REFUSED.into()),
        };
        // Without the challenge, what came instead tells why.
        row.body = outcome.answer.as_ref().ok().filter(|_| !challenge_returned).and_then(start_of);
        Self { row, challenge_returned, counts: has_token, verdict }
    }

    pub fn is_fine(&self) -> bool {
        match self.counts {
            true => self.row.is_delivered() && self.challenge_returned,
            // No receiver can agree without a token, but it has to answer.
            false => self.row.status.is_some(),
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.row.without_body())?;
        if !self.counts && !self.challenge_returned && self.row.status.is_some() {
            return f.write_str("  (does not count: no receiver can agree without --verify-token)");
        }
        if self.row.status.is_none() && !self.counts {
            return Ok(());
        }
        write!(f, "  {}", self.verdict)?;
        self.row.body.as_ref().map_or(Ok(()), |body| write!(f, "; instead came {body:?}"))
    }
}

const REFUSED: &str = "Meta would refuse this callback URL";

/// Whether `answer` is the challenge, and what that means.
fn verdict(answer: &Response, challenge: &str, is_200: bool) -> (bool, String) {
    let content = match answer.content() {
        Ok(content) => content,
        Err(error) if is_200 => return (false, did_not_come_back(&error.to_string())),
        Err(_) => return (false, REFUSED.into()),
    };
    let is_challenge = content == challenge.as_bytes();
    let verdict = match is_challenge {
        true if !is_200 => format!("the challenge came back, but {REFUSED}: it takes only 200"),
        true => match answer.codings() {
            codings if codings.is_empty() => "the challenge came back".into(),
            codings => format!("the challenge came back (compressed: {codings})"),
        },
        false if !is_200 => REFUSED.into(),
        false => difference(&content, challenge),
    };
    (is_challenge, verdict)
}

/// What was put around the challenge, or instead of it.
fn difference(content: &[u8], challenge: &str) -> String {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = String::from_utf8_lossy(content);
    let without_newline = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    if without_newline == Some(challenge) {
        return "the challenge came back with a newline behind it: Meta asks for the challenge alone, and does not say \
                that it takes this"
            .into();
    }
    let how = match &*text {
        "" => "the answer is empty",
        _ if content.starts_with(BYTE_ORDER_MARK) => "a byte order mark (BOM) comes first",
        text if text.trim() == challenge => "there is white space around it",
        text if text.trim().trim_matches(['"', '\'']) == challenge => "it is in quotes",
        text if text.contains(challenge) => "there is other text around it",
        _ => "the answer is something else",
    };
    did_not_come_back(how)
}

fn did_not_come_back(how: &str) -> String {
    format!("the challenge did not come back ({how}): {REFUSED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_the_challenge_is_named() {
        for (content, how) in [
            ("", "the answer is empty"),
            ("\"1158\"", "it is in quotes"),
            ("'1158'\n", "it is in quotes"),
            ("\u{feff}1158", "a byte order mark (BOM) comes first"),
            ("{\"hub.challenge\": \"1158\"}", "there is other text around it"),
            ("<p>1158</p>", "there is other text around it"),
            ("\r\n1158", "there is white space around it"),
            ("1158\n\n", "there is white space around it"),
            ("1159", "the answer is something else"),
        ] {
            let said = difference(content.as_bytes(), "1158");
            assert!(
                said.starts_with("the challenge did not come back") && said.contains(how),
                "{content:?}: {said}"
            );
        }
        for content in ["1158\n", "1158\r\n"] {
            let said = difference(content.as_bytes(), "1158");
            assert!(
                said.starts_with("the challenge came back with a newline behind it"),
                "{content:?}: {said}"
            );
        }
    }
}
