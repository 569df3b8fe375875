//! Rules that are run in their order, each under a condition.

use super::condition::{Acls, Condition, sample_paths};
use super::maps::Maps;
use super::sample::{Format, Sample};
use crate::import::directive::Directive;
use crate::import::notes::Group;
use crate::import::pattern::Pattern;
use crate::import::prefix_index::PrefixIndex;

/// The rules of one kind.
#[derive(Debug, Default)]
pub struct Rules<'d> {
    pub rules: Vec<Rule<'d>>,
    /// By the beginnings of the paths that they are for.
    pub index: PrefixIndex,
}

#[derive(Debug)]
pub struct Rule<'d> {
    pub directive: &'d Directive,
    pub condition: Option<Condition>,
    pub action: Action,
}

#[derive(Debug)]
pub enum Action {
    Refuse,
    Answer,
    Redirect {
        to_https: bool,
    },
    /// The rest of the rules is not run.
    Stop,
    SetPath(Format),
    ReplacePath {
        pattern: Pattern,
        to: String,
    },
    SetHost(Format),
    SetVariable {
        name: String,
        sample: Sample,
    },
    UseBackend(Format),
    Note(Group, &'static str),
    Unclear,
}

/// Requests and responses are the same with them.
const NO_CONSEQUENCE: &[&str] = &[
    "capture",
    "disable-l7-retry",
    "sc-add-gpc",
    "sc-inc-gpc",
    "sc-inc-gpc0",
    "sc-inc-gpc1",
    "sc-set-gpt",
    "sc-set-gpt0",
    "set-log-level",
    "set-mark",
    "set-nice",
    "set-priority-class",
    "set-priority-offset",
    "set-tos",
    "strict-mode",
    "track-sc0",
    "track-sc1",
    "track-sc2",
    "wait-for-body",
    "wait-for-handshake",
];

impl<'d> Rules<'d> {
    pub fn new(lines: impl Iterator<Item = Rule<'d>>, acls: &Acls) -> Self {
        let rules: Vec<Rule<'d>> = lines.collect();
        let mut index = PrefixIndex::default();
        for (position, rule) in rules.iter().enumerate() {
            let prefixes = rule.condition.as_ref().and_then(|condition| condition.prefixes(acls));
            for prefix in prefixes.unwrap_or_else(|| vec![String::new()]) {
                index.add(prefix.to_ascii_lowercase().as_bytes(), position);
            }
        }
        Self { rules, index }
    }

    /// The positions of those that may be for a path, from one on.
    pub fn candidates(&self, path: &str, from: usize) -> std::vec::IntoIter<usize> {
        let mut positions = self.index.candidates(path.to_ascii_lowercase().as_bytes());
        positions.retain(|position| *position >= from);
        positions.into_iter()
    }

    /// The paths that conditions and maps look for.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.rules.iter().flat_map(|rule| {
            let conditions = rule.condition.iter().flat_map(Condition::paths);
            let in_action: Vec<String> = match &rule.action {
                Action::UseBackend(format) | Action::SetPath(format) | Action::SetHost(format) => {
                    format.samples().flat_map(sample_paths).collect()
                }
                Action::SetVariable { sample, .. } => sample_paths(sample),
                _ => Vec::new(),
            };
            conditions.chain(in_action)
        })
    }
}

impl<'d> Rule<'d> {
    /// `None`: the line is no rule.
    pub fn new(directive: &'d Directive, maps: &mut Maps) -> Option<Self> {
        let (words, condition) = Condition::cut(&directive.arguments, maps);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let action = match (&*directive.name, &*words) {
            ("http-request", words) => Action::of_request(words, maps),
            ("tcp-request", [_, words @ ..]) => Action::of_connection(words),
            ("redirect", words) => Action::redirect(words),
            ("use_backend", [name]) => Action::UseBackend(Format::new(name, maps)),
            ("use-server", _) => Action::Unclear,
            _ => return None,
        };
        Some(Self { directive, condition, action })
    }
}

impl Action {
    fn of_request(words: &[&str], maps: &mut Maps) -> Self {
        let (name, arguments) = words.split_first().map_or(("", words), |(name, rest)| (*name, rest));
        if let Some(variable) = name.strip_prefix("set-var(").and_then(|rest| rest.strip_suffix(')')) {
            let name = variable.split(',').next().unwrap_or_default().to_owned();
            return match arguments {
                [sample] => Self::SetVariable { name, sample: Sample::new(sample, maps) },
                _ => Self::Unclear,
            };
        }
        match (name, arguments) {
            ("deny" | "reject" | "tarpit" | "silent-drop" | "auth", _) => Self::Refuse,
            ("return", words) => {
                let status = words.iter().skip_while(|word| **word != "status").nth(1);
                match status.map_or(Ok(200), |status| status.parse::<u16>()) {
                    Ok(400..) => Self::Refuse,
                    Ok(_) => Self::Answer,
                    Err(_) => Self::Unclear,
                }
            }
            ("redirect", words) => Self::redirect(words),
            ("allow", []) => Self::Stop,
            ("set-path", [format]) => Self::SetPath(Format::new(format, maps)),
            ("replace-path", [pattern, to]) => {
                Self::ReplacePath { pattern: Pattern::new(pattern, false), to: (*to).to_owned() }
            }
            ("set-header", [field, value]) if field.eq_ignore_ascii_case("host") => {
                Self::SetHost(Format::new(value, maps))
            }
            (_, [field, ..]) if field.eq_ignore_ascii_case("host") => Self::Unclear,
            ("set-header", ["X-Forwarded-Proto", "https" | "http"])
            | ("set-header", ["X-Forwarded-For" | "X-Real-IP", "%[src]"]) => {
                Self::Note(Group::NoConsequence, "")
            }
            ("set-header" | "add-header" | "del-header" | "replace-header" | "replace-value", [_, ..]) => {
                Self::Note(
                    Group::Elsewhere,
                    "HAProxy changes this field for the upstream; hookgate adds no fields but X-Forwarded-For, \
                 X-Forwarded-Proto, X-Real-IP, X-Request-Id and Via",
                )
            }
            ("set-src" | "set-src-port" | "set-timeout", _) => {
                Self::Note(Group::Different, "hookgate has nothing in its place")
            }
            (name, _)
                if NO_CONSEQUENCE
                    .iter()
                    .any(|known| name == *known || name.starts_with(&format!("{known}("))) =>
            {
                Self::Note(Group::NoConsequence, "")
            }
            _ => Self::Unclear,
        }
    }

    /// Of `tcp-request connection …` and its like.
    fn of_connection(words: &[&str]) -> Self {
        match words {
            ["reject" | "silent-drop", ..] => Self::Refuse,
            ["accept" | "inspect-delay" | "capture" | "track-sc0" | "track-sc1" | "track-sc2", ..] => {
                Self::Note(Group::NoConsequence, "")
            }
            [time] if time.starts_with(|c: char| c.is_ascii_digit()) => Self::Note(Group::NoConsequence, ""),
            ["expect-proxy", ..] => Self::Note(
                Group::Different,
                "[listen] proxy_protocol_from must name the load balancers that send PROXY headers",
            ),
            _ => Self::Unclear,
        }
    }

    fn redirect(words: &[&str]) -> Self {
        let to_https = match words {
            ["scheme", scheme, ..] => *scheme == "https",
            ["location" | "prefix", to, ..] => to.starts_with("https://"),
            _ => false,
        };
        Self::Redirect { to_https }
    }
}
