//! Requests followed through a configuration, once for each answer of a condition that depends on
//! more than the request's path.

use super::directive::Directive;
use super::forward::Forward;

/// A request that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    pub path: &'r str,
    pub query: Option<&'r str>,
    pub is_tls: bool,
}

impl<'r> Request<'r> {
    pub fn new(target: &'r str, is_tls: bool) -> Self {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Self { path, query, is_tls }
    }
}

/// How a request ends.
#[derive(Clone, Debug)]
pub enum End<'d> {
    Forwarded(Box<Forward<'d>>),
    /// By an error or a closed connection.
    Refused(&'d Directive),
    /// Nothing in the configuration takes it.
    Unhandled,
    Answered(&'d Directive),
    Redirected {
        directive: &'d Directive,
        to_https: bool,
    },
    /// What happens is not understood.
    Undecided {
        directive: &'d Directive,
        why: String,
    },
}

/// A condition that the path does not decide, and the answer that was assumed.
#[derive(Clone, Debug)]
pub struct Assumption<'d> {
    key: String,
    pub holds: bool,
    pub directive: &'d Directive,
    /// What hookgate has in its place.
    pub advice: &'static str,
}

impl Assumption<'_> {
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.holds == other.holds
    }
}

/// Those of one request.
#[derive(Debug, Default)]
pub struct Assumptions<'d> {
    planned: Vec<bool>,
    made: Vec<Assumption<'d>>,
}

impl<'d> Assumptions<'d> {
    /// Whether a condition holds; within a request, `key` has one answer.
    pub fn holds(&mut self, key: &str, directive: &'d Directive, advice: &'static str) -> bool {
        if let Some(known) = self.made.iter().find(|known| known.key == key) {
            return known.holds;
        }
        let holds = self.planned.get(self.made.len()).copied().unwrap_or(true);
        self.made.push(Assumption { key: key.to_owned(), holds, directive, advice });
        holds
    }
}

/// One way that a request can go.
#[derive(Clone, Debug)]
pub struct Outcome<'d> {
    pub assumed: Vec<Assumption<'d>>,
    pub end: End<'d>,
}

/// The most ways of one request that are looked at.
const MAX_OUTCOMES: usize = 64;

/// All ways that a request can go.
pub fn outcomes<'d>(follow: impl Fn(&mut Assumptions<'d>) -> End<'d>) -> Vec<Outcome<'d>> {
    let (mut outcomes, mut planned) = (Vec::new(), Vec::new());
    loop {
        let mut assumptions = Assumptions { planned, made: Vec::new() };
        let end = follow(&mut assumptions);
        planned = assumptions.made.iter().map(|assumption| assumption.holds).collect();
        while planned.last() == Some(&false) {
            planned.pop();
        }
        let last = assumptions.made.last().map(|assumption| assumption.directive);
        outcomes.push(Outcome { assumed: assumptions.made, end });
        let Some(next) = planned.last_mut() else { return outcomes };
        *next = false;
        if let Some(directive) = last.filter(|_| outcomes.len() == MAX_OUTCOMES) {
            let why = "too many conditions decide about one request".to_owned();
            outcomes.push(Outcome { assumed: Vec::new(), end: End::Undecided { directive, why } });
            return outcomes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::directive::Place;
    use super::*;

    fn directive() -> Directive {
        let place = Place { file: Path::new("f").into(), line: 1 };
        Directive { name: "if".into(), arguments: Vec::new(), place, block: None }
    }

    #[test]
    fn each_answer_of_each_condition_is_tried_once() {
        let directive = directive();
        let seen = outcomes(|assumptions| {
            let first = assumptions.holds("a", &directive, "");
            assert_eq!(assumptions.holds("a", &directive, ""), first);
            if first && assumptions.holds("b", &directive, "") {
                return End::Refused(&directive);
            }
            End::Unhandled
        });
        let seen = seen.iter().map(|outcome| outcome.assumed.iter().map(|a| a.holds).collect::<Vec<_>>());
        assert_eq!(seen.collect::<Vec<_>>(), [vec![true, true], vec![true, false], vec![false]]);
    }

    #[test]
    fn too_many_conditions_are_undecided() {
        let directive = directive();
        let seen = outcomes(|assumptions| {
            let all = (0..10).map(|number| assumptions.holds(&number.to_string(), &directive, ""));
            if all.filter(|holds| *holds).count() == 10 { End::Refused(&directive) } else { End::Unhandled }
        });
        assert_eq!(seen.len(), MAX_OUTCOMES + 1);
        assert!(matches!(seen.last().map(|outcome| &outcome.end), Some(End::Undecided { .. })));
    }
}
