//! What a routing registry's answer says about AS32934: which objects are Meta's own, and whether
//! to believe it.

use std::collections::BTreeSet;
use std::fmt;

use super::rpsl::{self, Object};
use super::{BadNetwork, Network};

/// What to ask: every route object that names Meta's network as its origin, of any author.
pub const QUERY: &str = "-i origin AS32934";
const ORIGIN: &str = "AS32934";

/// Who writes Meta's objects, by the registry that holds them. The same name elsewhere is another
/// author's, or a conversion's: what a mirror passes on keeps the `source` that it came from.
const MAINTAINERS: [(&str, &[&str]); 2] =
    [("RADB", &["MAINT-AS32934"]), ("RIPE", &["fb-neteng", "facebook-neteng", "meta-mnt"])];

/// A shorter prefix is no network's own announcement.
const SHORTEST_V4: u8 = 12;
const SHORTEST_V6: u8 = 28;

/// An answer that can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Never empty.
    pub networks: BTreeSet<Network>,
    /// Objects that are not Meta's own, in the order of the answer.
    pub left_out: Vec<LeftOut>,
}

/// An object that another author wrote, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its class and key, as in `route 192.0.2.0/24`.
    pub object: String,
    pub why: ThirdParty,
}

/// Displayed after the object's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum ThirdParty {
    #[error("no route object")]
    Class,
    #[error("its origin is not {ORIGIN}")]
    Origin,
    #[error("in {0}, where Meta has no maintainer")]
    Source(String),
    #[error("in {registry}, maintained by {maintainers}")]
    Maintainers { registry: String, maintainers: String },
}

/// An object of Meta's own that can't be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadObject {
    pub object: String,
    pub fault: ObjectError,
}

/// Displayed after the object's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("{0}")]
    Malformed(BadNetwork),
    #[error("not a CIDR of its class's address family")]
    Family,
    #[error("not public: {0}")]
    Special(&'static str),
    #[error("shorter than /{shortest}")]
    TooShort { shortest: u8 },
}

/// Why an answer is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("the registry says: {0}")]
    Server(String),
    #[error("the answer breaks off in the middle of an object")]
    Truncated,
    #[error("line {line} of the answer is not RPSL: {text}")]
    NotRpsl { line: usize, text: String },
    #[error("nothing is registered: none of {} objects in the answer is Meta's own", left_out.len())]
    Nothing { left_out: Vec<LeftOut> },
    /// One that Meta can't have meant puts the whole answer in doubt.
    #[error("{}", named(.0))]
    Objects(Vec<BadObject>),
}

impl Registered {
    /// Reads all that a server sent before it closed the connection.
    ///
    /// The protocol has no length, and servers differ in how many blank lines end an answer: one
    /// that breaks off is known by its last object, which lacks its last line, or its `source`, the
    /// attribute that RPSL ends with.
    pub fn read(answer: &[u8]) -> Result<Self, BadAnswer> {
        let answer = String::from_utf8_lossy(answer).replace("\r\n", "\n");
        if let Some(error) = answer.lines().find_map(server_error) {
            return Err(BadAnswer::Server(printable(error)));
        }
        let breaks_off = !answer.is_empty() && !answer.ends_with('\n');
        let objects = rpsl::objects(&answer).map_err(|wrong| {
            if breaks_off && wrong.line == answer.lines().count() {
                return BadAnswer::Truncated;
            }
            let text = answer.lines().nth(wrong.line - 1).unwrap_or_default();
            BadAnswer::NotRpsl { line: wrong.line, text: printable(text) }
        })?;
        if breaks_off || objects.last().is_some_and(|last| last.values("source").next().is_none()) {
            return Err(BadAnswer::Truncated);
        }
        Self::of(&objects)
    }

    /// What the worker has found to be Meta's own, checked once more.
    pub fn checked(networks: BTreeSet<Network>) -> Result<Self, BadAnswer> {
        let wrong = networks.iter().filter_map(|network| network.unlikely().map(|fault| (network, fault)));
        let wrong = wrong.map(|(network, fault)| BadObject { object: network.to_string(), fault });
        let wrong: Vec<BadObject> = wrong.collect();
        match (wrong.is_empty(), networks.is_empty()) {
            (false, _) => Err(BadAnswer::Objects(wrong)),
            (true, true) => Err(BadAnswer::Nothing { left_out: Vec::new() }),
            (true, false) => Ok(Self { networks, left_out: Vec::new() }),
        }
    }

    fn of(objects: &[Object]) -> Result<Self, BadAnswer> {
        let mut registered = Self::default();
        let mut bad = Vec::new();
        for object in objects {
            match is_metas(object) {
                Err(why) => registered.left_out.push(LeftOut { object: name(object), why }),
                Ok(()) => match network(object) {
                    Ok(network) => drop(registered.networks.insert(network)),
                    Err(fault) => bad.push(BadObject { object: name(object), fault }),
                },
            }
        }
        if !bad.is_empty() {
            return Err(BadAnswer::Objects(bad));
        }
        if registered.networks.is_empty() {
            return Err(BadAnswer::Nothing { left_out: registered.left_out });
        }
        Ok(registered)
    }
}

/// `%% ERROR: …` and `%% Access denied` of IRRd's, `%ERROR:201: …` of RIPE's.
fn server_error(line: &str) -> Option<&str> {
    let message = line.strip_prefix("%%").or_else(|| line.starts_with("%ERROR").then(|| &line[1..]));
    message.map(str::trim)
}

/// Any one of an object's maintainers may have written it, so every one of them must be Meta's: an
/// author who names Meta's beside their own has only claimed it.
fn is_metas(object: &Object) -> Result<(), ThirdParty> {
    if !matches!(object.class_and_key().0, "route" | "route6") {
        return Err(ThirdParty::Class);
    }
    if object.single("origin").is_none_or(|origin| !origin.eq_ignore_ascii_case(ORIGIN)) {
        return Err(ThirdParty::Origin);
    }
    let source = object.single("source").unwrap_or_default();
    let registry = MAINTAINERS.iter().find(|(registry, _)| registry.eq_ignore_ascii_case(source));
    let Some((registry, metas)) = registry else {
        let source = if source.is_empty() { "no registry" } else { source };
        return Err(ThirdParty::Source(printable(source)));
    };
    let is_one = |name: &str| metas.iter().any(|own| own.eq_ignore_ascii_case(name));
    let listed = object.values("mnt-by").flat_map(|value| value.split(',')).map(str::trim);
    let maintainers: Vec<&str> = listed.filter(|name| !name.is_empty()).collect();
    if !maintainers.is_empty() && maintainers.iter().all(|name| is_one(name)) {
        return Ok(());
    }
    let maintainers = if maintainers.is_empty() { "nobody".into() } else { maintainers.join(", ") };
    Err(ThirdParty::Maintainers { registry: (*registry).into(), maintainers: printable(&maintainers) })
}

/// The prefix of an object of Meta's own.
fn network(object: &Object) -> Result<Network, ObjectError> {
    let (class, key) = object.class_and_key();
    let network: Network = key.parse().map_err(|bad| match bad {
        BadNetwork::Syntax(text) => ObjectError::Malformed(BadNetwork::Syntax(printable(&text))),
        bad => ObjectError::Malformed(bad),
    })?;
    if !key.contains('/') || network.address().is_ipv4() != (class == "route") {
        return Err(ObjectError::Family);
    }
    let fault = network.unlikely();
    fault.map_or(Ok(network), Err)
}

impl Network {
    /// Why it can't be a prefix that Meta announces.
    pub fn unlikely(&self) -> Option<ObjectError> {
        let shortest = if self.address().is_ipv4() { SHORTEST_V4 } else { SHORTEST_V6 };
        let special = self.special_purpose().map(ObjectError::Special);
        special.or_else(|| (self.length() < shortest).then_some(ObjectError::TooShort { shortest }))
    }
}

fn name(object: &Object) -> String {
    let (class, key) = object.class_and_key();
    printable(&format!("{class} {key}"))
}

/// What a server sent, for a terminal or a log: short, and without characters that either would act
/// on.
fn printable(text: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    let printed = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(MAX_CHARACTERS).map(printed).collect()
}

fn named(objects: &[BadObject]) -> String {
    const SHOWN: usize = 10;
    let mut text = match objects.len() {
        1 => "an object of Meta's own can't be right: ".to_owned(),
        count => format!("{count} objects of Meta's own can't be right: "),
    };
    let shown: Vec<String> = objects.iter().take(SHOWN).map(BadObject::to_string).collect();
    text += &shown.join("; ");
    if objects.len() > SHOWN {
        text += "; …";
    }
    text
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.why)
    }
}

impl fmt::Display for BadObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.fault)
    }
}

#[cfg(test)]
mod tests;
