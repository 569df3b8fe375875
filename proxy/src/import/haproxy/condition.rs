//! Conditions: ACLs, named or between braces, joined to an `if` or `unless`.

use std::collections::{HashMap, HashSet};

use super::maps::Maps;
use super::sample::{Context, PathPart, Sample, Value};
use super::syntax::UNKNOWN;
use crate::import::directive::Directive;
use crate::import::follow::Assumptions;
use crate::import::pattern::{Match, Pattern};
use crate::import::prefix_index::PrefixIndex;

/// One test of a request.
#[derive(Debug)]
pub struct Acl {
    sample: Sample,
    test: Test,
    ignores_case: bool,
    /// As it is written.
    text: String,
}

#[derive(Debug)]
enum Test {
    Found,
    Flag,
    Equals(HashSet<String>),
    /// With the values, for they are looked for in paths.
    Begins(PrefixIndex, Vec<String>),
    Ends(Vec<String>),
    Contains(Vec<String>),
    Matches(Vec<Pattern>),
    Unclear,
}

/// All ACLs of a proxy, by name; several of one name are joined by "or".
pub type Acls = HashMap<String, Vec<Acl>>;

impl Acl {
    /// `words`: a criterion, flags, values.
    pub fn new(words: &[String], maps: &mut Maps) -> Self {
        let text = words.join(" ");
        let (criterion, rest) = words.split_first().map_or(("", words), |(first, rest)| (&**first, rest));
        let (name, method) = named_method(criterion);
        let mut acl =
            Self { sample: Sample::new(name, maps), test: Test::Unclear, ignores_case: false, text };
        let (mut method, mut values, mut rest) = (method.map(str::to_owned), Vec::new(), rest.iter());
        let mut is_understood = true;
        while let Some(word) = rest.next() {
            match &**word {
                "-i" => acl.ignores_case = true,
                "-n" => {}
                "-m" => method = rest.next().cloned(),
                "-u" => drop(rest.next()),
                "-f" => match rest.next().and_then(|file| maps.patterns(file)) {
                    Some(patterns) => values.extend(patterns),
                    None => is_understood = false,
                },
                "--" => {
                    values.extend(rest.by_ref().cloned());
                }
                flag if flag.starts_with('-') && flag.len() == 2 => is_understood = false,
                _ => values.push(word.clone()),
            }
        }
        let is_unknown = values.iter().any(|value| value.contains(UNKNOWN));
        if is_understood && !is_unknown {
            acl.test = Test::new(method.as_deref(), values, acl.ignores_case, &acl.sample);
        }
        acl
    }

    /// `None`: it is not understood. `Err`: the path does not decide it.
    fn holds(&self, context: &Context<'_>) -> Result<Option<bool>, &str> {
        let value = match self.sample.value(context) {
            Value::Outside => return Err(&self.text),
            Value::Unclear => return Ok(None),
            Value::Absent => return Ok(if matches!(self.test, Test::Unclear) { None } else { Some(false) }),
            Value::Text(text) if self.ignores_case => text.to_ascii_lowercase(),
            Value::Text(text) => text,
        };
        Ok(match &self.test {
            Test::Found => Some(true),
            Test::Flag => Some(value != "0"),
            Test::Equals(values) => Some(values.contains(&value)),
            Test::Begins(values, _) => Some(!values.candidates(value.as_bytes()).is_empty()),
            Test::Ends(values) => Some(values.iter().any(|end| value.ends_with(end))),
            Test::Contains(values) => Some(values.iter().any(|part| value.contains(part))),
            Test::Matches(patterns) => {
                let mut found = patterns.iter().map(|pattern| pattern.find(&value));
                let is_known = patterns.iter().all(|pattern| pattern.hir.is_some());
                is_known.then(|| found.any(|found| matches!(found, Match::Yes(_))))
            }
            Test::Unclear => None,
        })
    }

    /// What paths begin with that it holds for; `None`: any.
    fn prefixes(&self) -> Option<Vec<String>> {
        let slashed = |values: &mut dyn Iterator<Item = &String>| match self.sample.path_part()? {
            PathPart::Whole => Some(values.cloned().collect()),
            PathPart::FirstSegment => Some(values.map(|value| format!("/{value}")).collect()),
        };
        match &self.test {
            _ if self.sample.has_map() => None,
            Test::Equals(values) => slashed(&mut values.iter()),
            Test::Begins(_, values) => slashed(&mut values.iter()),
            Test::Matches(patterns) if self.sample.path_part() == Some(PathPart::Whole) => {
                patterns.iter().map(|pattern| String::from_utf8(pattern.prefix.clone()).ok()).collect()
            }
            _ => None,
        }
    }

    /// The paths that it looks for, as they begin.
    pub fn paths(&self) -> Vec<String> {
        let values: Vec<String> = match &self.test {
            Test::Equals(values) => values.iter().cloned().collect(),
            Test::Begins(_, values) | Test::Ends(values) | Test::Contains(values) => values.clone(),
            Test::Matches(patterns) => {
                patterns.iter().map(|pattern| String::from_utf8_lossy(&pattern.prefix).into_owned()).collect()
            }
            Test::Found | Test::Flag | Test::Unclear => Vec::new(),
        };
        let mut paths = sample_paths(&self.sample);
        match self.sample.path_part() {
            Some(PathPart::FirstSegment) if !self.sample.has_map() => {
                paths.extend(values.iter().map(|value| format!("/{value}/")));
            }
            Some(PathPart::Whole) if !self.sample.has_map() => paths.extend(values),
            // A part of a path may be in it.
            None if self.sample.is_variable() => {
                paths.extend(values.iter().map(|value| format!("/{value}/")))
            }
            _ => {}
        }
        paths.retain(|path| !path.is_empty());
        paths
    }
}

/// The paths that the keys of maps name.
pub fn sample_paths(sample: &Sample) -> Vec<String> {
    match sample.path_part() {
        Some(PathPart::FirstSegment) => sample.map_keys().map(|key| format!("/{key}/")).collect(),
        Some(PathPart::Whole) => sample.map_keys().map(str::to_owned).collect(),
        None => sample.map_keys().map(|key| format!("/{}/", key.trim_matches('/'))).collect(),
    }
}

/// `path_beg` is `path -m beg`.
fn named_method(criterion: &str) -> (&str, Option<&str>) {
    ["beg", "end", "sub", "reg", "dir", "dom", "len", "str"]
        .into_iter()
        .find_map(|method| {
            let name = criterion.strip_suffix(method)?.strip_suffix('_')?;
            matches!(name, "path" | "url").then_some((name, Some(method)))
        })
        .unwrap_or((criterion, None))
}

impl Test {
    fn new(method: Option<&str>, values: Vec<String>, ignores_case: bool, sample: &Sample) -> Self {
        let lower = |values: Vec<String>| -> Vec<String> {
            let lower = |value: String| if ignores_case { value.to_ascii_lowercase() } else { value };
            values.into_iter().map(lower).collect()
        };
        match method {
            Some("found") => Self::Found,
            Some("bool") | None if sample.is_flag() && values.is_empty() => Self::Flag,
            Some("str") | None if !sample.is_flag() => Self::Equals(lower(values).into_iter().collect()),
            Some("beg") => {
                let mut index = PrefixIndex::default();
                let values = lower(values);
                values.iter().for_each(|value| index.add(value.as_bytes(), 0));
                Self::Begins(index, values)
            }
            Some("end") => Self::Ends(lower(values)),
            Some("sub") => Self::Contains(lower(values)),
            Some("reg") => {
                Self::Matches(values.iter().map(|value| Pattern::new(value, ignores_case)).collect())
            }
            _ => Self::Unclear,
        }
    }
}

/// What an `if` or `unless` says: terms that are joined by "or", each of tests that all must hold.
#[derive(Debug)]
pub struct Condition {
    terms: Vec<Vec<Atom>>,
    is_negated: bool,
}

#[derive(Debug)]
struct Atom {
    acl: AclRef,
    is_negated: bool,
}

#[derive(Debug)]
enum AclRef {
    Name(String),
    Inline(Acl),
}

/// What a condition says of a request; `None`: it is not understood.
pub type Answer = Option<bool>;

impl Condition {
    /// Cuts the condition off a rule's words.
    pub fn cut(words: &[String], maps: &mut Maps) -> (Vec<String>, Option<Self>) {
        let Some(start) = words.iter().position(|word| word == "if" || word == "unless") else {
            return (words.to_vec(), None);
        };
        let is_negated = words[start] == "unless";
        let (mut terms, mut term) = (Vec::new(), Vec::new());
        let mut is_next_negated = false;
        let mut rest = words[start + 1..].iter();
        while let Some(word) = rest.next() {
            let (marks, word) = word.split_at(word.len() - word.trim_start_matches('!').len());
            is_next_negated ^= marks.len() % 2 == 1;
            let acl = match word {
                "" => continue,
                "or" | "||" => {
                    terms.push(std::mem::take(&mut term));
                    continue;
                }
                "{" => {
                    let inside: Vec<String> =
                        rest.by_ref().take_while(|word| *word != "}").cloned().collect();
                    AclRef::Inline(Acl::new(&inside, maps))
                }
                name => AclRef::Name(name.to_owned()),
            };
            term.push(Atom { acl, is_negated: std::mem::take(&mut is_next_negated) });
        }
        terms.push(term);
        (words[..start].to_vec(), Some(Self { terms, is_negated }))
    }

    pub fn holds<'d>(
        &self,
        acls: &Acls,
        context: &Context<'_>,
        directive: &'d Directive,
        assumptions: &mut Assumptions<'d>,
    ) -> Answer {
        let mut answer = Some(false);
        for term in &self.terms {
            match term_holds(term, acls, context, directive, assumptions) {
                Some(true) => {
                    answer = Some(true);
                    break;
                }
                Some(false) => {}
                None => answer = None,
            }
        }
        answer.map(|answer| answer != self.is_negated)
    }

    /// What paths begin with that it may hold for; `None`: any.
    pub fn prefixes(&self, acls: &Acls) -> Option<Vec<String>> {
        if self.is_negated {
            return None;
        }
        let mut all = Vec::new();
        for term in &self.terms {
            let positive = term.iter().filter(|atom| !atom.is_negated);
            let prefixes = positive.map(|atom| atom.tests(acls)).find_map(|tests| {
                let all = tests.iter().map(|test| test.prefixes()).collect::<Option<Vec<_>>>()?;
                (!all.is_empty()).then(|| all.concat())
            });
            all.extend(prefixes?);
        }
        Some(all)
    }

    pub fn paths(&self) -> Vec<String> {
        let inline = self.terms.iter().flatten().filter_map(|atom| match &atom.acl {
            AclRef::Inline(acl) => Some(acl),
            AclRef::Name(_) => None,
        });
        inline.flat_map(Acl::paths).collect()
    }
}

impl Atom {
    /// The tests of which one must hold; none: the name is not understood.
    fn tests<'a>(&'a self, acls: &'a Acls) -> Vec<&'a Acl> {
        match &self.acl {
            AclRef::Inline(acl) => vec![acl],
            AclRef::Name(name) => acls.get(name).map(|acls| acls.iter().collect()).unwrap_or_default(),
        }
    }

    /// What is known without the request's other parts, and the tests that need them.
    fn known<'a>(&'a self, acls: &'a Acls, context: &Context<'_>) -> (Answer, Vec<&'a str>) {
        match &self.acl {
            AclRef::Name(name) if !acls.contains_key(name) => match &**name {
                "TRUE" => return (Some(true), Vec::new()),
                "FALSE" => return (Some(false), Vec::new()),
                name if name.starts_with("METH_") || name == "LOCALHOST" => return (Some(false), vec![name]),
                _ => return (None, Vec::new()),
            },
            _ => {}
        }
        let (mut answer, mut outside) = (Some(false), Vec::new());
        for test in self.tests(acls) {
            match test.holds(context) {
                Ok(Some(true)) => return (Some(true), Vec::new()),
                Ok(Some(false)) => {}
                Ok(None) => answer = None,
                Err(text) => outside.push(text),
            }
        }
        (answer, outside)
    }
}

/// What the path decides comes first: where it says no, nothing else is asked.
fn term_holds<'d>(
    term: &[Atom],
    acls: &Acls,
    context: &Context<'_>,
    directive: &'d Directive,
    assumptions: &mut Assumptions<'d>,
) -> Answer {
    let known: Vec<(Answer, Vec<&str>, bool)> = term
        .iter()
        .map(|atom| {
            let (answer, outside) = atom.known(acls, context);
            (answer, outside, atom.is_negated)
        })
        .collect();
    let is_no = |(answer, outside, is_negated): &(Answer, Vec<&str>, bool)| {
        answer.is_some_and(|answer| answer == *is_negated) && (outside.is_empty() || answer == &Some(true))
    };
    if known.iter().any(is_no) {
        return Some(false);
    }
    let mut all = Some(true);
    for (answer, outside, is_negated) in known {
        let mut answer = answer;
        for text in outside {
            if assumptions.holds(text, directive, advice(text)) {
                answer = Some(true);
                break;
            }
        }
        match answer {
            Some(answer) if answer == is_negated => return Some(false),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

/// What hookgate has in the place of a condition.
fn advice(text: &str) -> &'static str {
    let name = text.split([' ', ',', '(']).next().unwrap_or_default();
    match name {
        "src" | "LOCALHOST" => {
            "[guard] with mode = \"strict\" drops all but Meta's addresses and those of `allow`"
        }
        name if name == "method" || name.starts_with("METH_") => {
            "hookgate forwards every method but CONNECT and TRACE"
        }
        name if name.starts_with("ssl_c_") => {
            "write [tls] client_ca, and require_client_cert = true for each upstream"
        }
        _ if text.to_ascii_lowercase().contains("hdr(host)") => "hookgate takes any Host field",
        _ => "hookgate has nothing in its place; the receiver has to check it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::directive::Place;
    use crate::import::follow::{End, outcomes};
    use crate::import::forward::HostField;

    fn answers(condition: &str, path: &str) -> Vec<Answer> {
        let mut maps = Maps::new(None);
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut acls = Acls::new();
        for text in
            ["a path_beg /a.example/ /b.example/", "a path -i /C", "inside src 10.0.0.0/8", "odd wait_end"]
        {
            let words = words(text);
            acls.entry(words[0].clone()).or_default().push(Acl::new(&words[1..], &mut maps));
        }
        let (rest, condition) = Condition::cut(&words(condition), &mut maps);
        assert_eq!(rest, ["deny"]);
        let place = Place { file: std::path::Path::new("h").into(), line: 1 };
        let directive = Directive { name: String::new(), arguments: Vec::new(), place, block: None };
        let host = HostField::Client;
        let context = Context { path, query: None, is_tls: true, host: &host, variables: &[] };
        let seen = std::cell::RefCell::new(Vec::new());
        outcomes(|assumptions| {
            let answer = condition.as_ref().and_then(|c| c.holds(&acls, &context, &directive, assumptions));
            seen.borrow_mut().push(answer);
            End::Unhandled
        });
        seen.into_inner()
    }

    #[test]
    fn what_the_path_decides_is_decided() {
        for (condition, path, expected) in [
            ("deny if a", "/a.example/x", true),
            ("deny if a", "/c", true),
            ("deny unless a", "/x", true),
            ("deny if !a or { path_end .php }", "/a.example/x.php", true),
            ("deny if ! a { path_sub x }", "/x", true),
            ("deny if a inside", "/x", false),
            ("deny if { path_reg ^/[a-c]/ }", "/b/", true),
            ("deny if { path,field(2,/) -m found }", "x", false),
            ("deny if TRUE !FALSE { ssl_fc }", "/", true),
        ] {
            assert_eq!(answers(condition, path), [Some(expected)], "{condition} {path}");
        }
    }

    #[test]
    fn the_rest_is_assumed_or_not_understood() {
        assert_eq!(answers("deny if inside", "/"), [Some(true), Some(false)]);
        assert_eq!(answers("deny if !METH_POST", "/"), [Some(false), Some(true)]);
        for condition in
            ["deny if odd", "deny if unknown", "deny if a { path_reg (?!a) }", "deny if { path -x y }"]
        {
            assert_eq!(answers(condition, "/a.example/"), [None], "{condition}");
        }
    }
}
