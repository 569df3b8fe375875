//! nginx's configuration as it is evaluated: servers, locations and their rewrite steps, maps and
//! groups.

use std::collections::HashMap;
use std::rc::Rc;

use super::client_address::of_address;
use super::destination::{ServerGroup, ServerGroups};
use super::maps::{Expression, Map};
use super::variables::{Source, Template, Variable, Variables};
use crate::import::directive::Directive;
use crate::import::pattern::Pattern;
use crate::import::prefix_index::PrefixIndex;

/// Everything within `http`.
#[derive(Debug)]
pub struct Setup<'d> {
    pub variables: Variables<'d>,
    pub maps: Vec<Map<'d>>,
    pub groups: ServerGroups<'d>,
    pub servers: Vec<Server<'d>>,
    /// Names of variables, with their `$`, that hold the client's address or follow from it.
    pub of_address: Vec<&'d str>,
    /// What stands beside servers, maps and groups.
    pub http: Vec<&'d Directive>,
}

#[derive(Debug)]
pub struct Server<'d> {
    pub directive: &'d Directive,
    pub names: Vec<&'d str>,
    pub level: Level<'d>,
}

/// A block in which requests are handled: a server, a location, or an `if` in one.
#[derive(Debug)]
pub struct Level<'d> {
    /// What stands in the block, except locations.
    pub directives: Vec<&'d Directive>,
    /// The rewrite module's directives, in order.
    pub steps: Vec<Step<'d>>,
    pub locations: Locations<'d>,
    pub pass: Option<Pass<'d>>,
    pub try_files: Option<TryFiles<'d>>,
    /// `deny all`, if nothing is allowed before it.
    pub deny_all: Option<&'d Directive>,
    pub internal: Option<&'d Directive>,
    /// A script, or a handler that is not a proxy.
    pub handler: Option<&'d Directive>,
    pub error_pages: Rc<[ErrorPage<'d>]>,
    pub sent: Sent,
}

/// How the effective directives let a request be sent on.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The Host field; `None`: `$proxy_host`.
    pub host: Option<Rc<Template>>,
    pub has_server_name: bool,
    /// The server name in the handshake; `None`: the URL's host.
    pub server_name: Option<Rc<Template>>,
}

#[derive(Debug)]
pub struct Pass<'d> {
    pub directive: &'d Directive,
    pub url: Template,
}

#[derive(Debug)]
pub struct TryFiles<'d> {
    pub directive: &'d Directive,
    pub fallback: Template,
}

#[derive(Debug)]
pub struct ErrorPage<'d> {
    pub directive: &'d Directive,
    pub codes: Vec<u16>,
    pub target: &'d str,
}

#[derive(Debug)]
pub enum Step<'d> {
    Set {
        variable: Variable,
        value: Template,
    },
    If {
        directive: &'d Directive,
        condition: Condition,
        level: Box<Level<'d>>,
    },
    Rewrite {
        directive: &'d Directive,
        expression: Expression,
        to: Replacement,
        flag: Flag,
    },
    Return {
        directive: &'d Directive,
        status: u16,
        to: Option<Template>,
    },
    Break,
    /// What can change anything: a script.
    Opaque(&'d Directive),
}

/// What `rewrite` makes of a path and its query.
#[derive(Debug)]
pub struct Replacement {
    pub path: Template,
    /// `None`: as it was.
    pub args: Option<Template>,
    /// The query as it was follows the new one.
    pub keeps_args: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    None,
    Last,
    Break,
    Redirect,
}

#[derive(Debug)]
pub enum Condition {
    IsTrue(Template),
    Equals {
        value: Template,
        to: Template,
        is_negated: bool,
    },
    Matches {
        value: Template,
        expression: Expression,
        is_negated: bool,
    },
    /// About files, or not understood.
    Outside,
}

#[derive(Debug, Default)]
pub struct Locations<'d> {
    pub all: Vec<Location<'d>>,
    pub exact: HashMap<&'d str, usize>,
    pub prefixes: HashMap<&'d str, usize>,
    pub expressions: PrefixIndex,
    pub named: HashMap<&'d str, usize>,
}

#[derive(Debug)]
pub struct Location<'d> {
    pub directive: &'d Directive,
    pub name: &'d str,
    /// `^~`: expressions are not tried after it.
    pub is_final: bool,
    pub expression: Option<Expression>,
    pub level: Level<'d>,
}

impl<'d> Setup<'d> {
    /// From what stands in `http`, or beside it in a site's file.
    pub fn new(http: Vec<&'d Directive>) -> Self {
        let mut variables = Variables::default();
        let named = |name: &'static str| http.iter().copied().filter(move |directive| directive.name == name);
        let mut maps = Vec::new();
        for map in named("map") {
            maps.extend(Map::new(map, maps.len(), &mut variables));
        }
        for (name, target) in
            [("geo", 0), ("split_clients", 1), ("perl_set", 0), ("js_set", 0), ("geoip2", 0)]
        {
            for directive in named(name) {
                let target = directive.arguments.get(target).into_iter().chain(directive.arguments.last());
                for name in target.filter_map(|target| target.strip_prefix('$')) {
                    let variable = variables.named(name, directive);
                    variables.define(variable, Source::External);
                }
            }
        }
        let group = |directive: &'d Directive| {
            Some((directive.arguments.first()?.to_ascii_lowercase(), ServerGroup::new(directive)))
        };
        let groups = named("upstream").filter_map(group).collect();
        let inherited = Inherited::default().within(&http, &mut variables);
        let servers =
            named("server").map(|directive| server(directive, &inherited, &mut variables)).collect();
        let of_address = of_address(&http);
        let is_apart = |directive: &&Directive| matches!(&*directive.name, "server" | "map" | "upstream");
        let http = http.into_iter().filter(|directive| !is_apart(directive)).collect();
        Self { variables, maps, groups, servers, of_address, http }
    }
}

fn server<'d>(
    directive: &'d Directive,
    inherited: &Inherited<'d>,
    variables: &mut Variables<'d>,
) -> Server<'d> {
    let block = directive.block.as_deref().unwrap_or_default();
    let names = block.iter().filter(|inside| inside.name == "server_name");
    let names: Vec<&str> = names.flat_map(|names| &names.arguments).map(String::as_str).collect();
    // Groups of a name's expression hold parts of the request's Host.
    for expression in names.iter().filter_map(|name| name.strip_prefix('~')) {
        for (_, name) in Pattern::new(expression, true).names {
            let variable = variables.named(&name, directive);
            variables.define(variable, Source::External);
        }
    }
    Server { directive, names, level: Level::new(block, inherited, variables) }
}

/// What a block inside has too, unless it says otherwise.
#[derive(Clone, Debug, Default)]
struct Inherited<'d> {
    deny_all: Option<&'d Directive>,
    error_pages: Option<Rc<[ErrorPage<'d>]>>,
    sent: Sent,
}

impl<'d> Inherited<'d> {
    fn within(&self, block: &[&'d Directive], variables: &mut Variables<'d>) -> Self {
        let named =
            |name: &'static str| block.iter().copied().filter(move |directive| directive.name == name);
        let first = |directive: &'d Directive| directive.arguments.first().map_or("", String::as_str);
        let access = block.iter().copied().find(|inside| matches!(&*inside.name, "allow" | "deny"));
        let deny_all = match access {
            Some(access) => (access.name == "deny" && first(access) == "all").then_some(access),
            None => self.deny_all,
        };
        let pages: Vec<ErrorPage<'d>> = named("error_page").filter_map(ErrorPage::new).collect();
        let error_pages = if pages.is_empty() { self.error_pages.clone() } else { Some(pages.into()) };
        let mut sent = self.sent.clone();
        let mut fields = named("proxy_set_header").peekable();
        if fields.peek().is_some() {
            let host = fields.rfind(|field| first(field).eq_ignore_ascii_case("host"));
            sent.host = host.and_then(|field| {
                let value = field.arguments.get(1)?;
                Some(Rc::new(Template::new(value, variables, field)))
            });
        }
        if let Some(directive) = named("proxy_ssl_server_name").next_back() {
            sent.has_server_name = first(directive) == "on";
        }
        if let Some(directive) = named("proxy_ssl_name").next_back() {
            sent.server_name = Some(Rc::new(Template::new(first(directive), variables, directive)));
        }
        Self { deny_all, error_pages, sent }
    }
}

impl<'d> ErrorPage<'d> {
    fn new(directive: &'d Directive) -> Option<Self> {
        let (target, codes) = directive.arguments.split_last()?;
        let codes = codes.iter().filter_map(|code| code.parse().ok()).collect();
        Some(Self { directive, codes, target })
    }
}

/// Handlers other than a proxy, and scripts that answer.
const HANDLERS: &[&str] = &[
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "stub_status",
    "content_by_lua",
    "content_by_lua_block",
    "content_by_lua_file",
    "js_content",
    "perl",
    "flv",
    "mp4",
    "dav_methods",
    "empty_gif",
];

/// Scripts that run before a request is handled, and can refuse it or send it elsewhere.
const SCRIPTS: &[&str] = &[
    "rewrite_by_lua",
    "rewrite_by_lua_block",
    "rewrite_by_lua_file",
    "access_by_lua",
    "access_by_lua_block",
    "access_by_lua_file",
    "server_rewrite_by_lua_block",
    "server_rewrite_by_lua_file",
];

impl<'d> Level<'d> {
    fn new(block: &'d [Directive], outer: &Inherited<'d>, variables: &mut Variables<'d>) -> Self {
        let directives: Vec<&Directive> =
            block.iter().filter(|directive| directive.name != "location").collect();
        let inherited = outer.within(&directives, variables);
        let mut level = Self {
            directives,
            steps: Vec::new(),
            locations: Locations::default(),
            pass: None,
            try_files: None,
            deny_all: inherited.deny_all,
            internal: None,
            handler: None,
            error_pages: inherited.error_pages.clone().unwrap_or_else(|| Rc::from([])),
            sent: inherited.sent.clone(),
        };
        for directive in block {
            level.add(directive, &inherited, variables);
        }
        level
    }

    fn add(&mut self, directive: &'d Directive, inherited: &Inherited<'d>, variables: &mut Variables<'d>) {
        let arguments: Vec<&'d str> = directive.arguments.iter().map(String::as_str).collect();
        match (&*directive.name, &*arguments) {
            ("location", _) => self.locations.add(directive, inherited, variables),
            ("proxy_pass", [url]) => {
                self.pass = Some(Pass { directive, url: Template::new(url, variables, directive) });
            }
            ("try_files", [.., fallback]) => {
                let fallback = Template::new(fallback, variables, directive);
                self.try_files = Some(TryFiles { directive, fallback });
            }
            ("internal", _) => self.internal = Some(directive),
            ("set", [target, value]) => {
                let Some(name) = target.strip_prefix('$') else { return };
                let variable = variables.named(name, directive);
                variables.define(variable, Source::Assigned);
                let value = Template::new(value, variables, directive);
                self.steps.push(Step::Set { variable, value });
            }
            ("auth_request_set", [target, _]) => {
                let variable = variables.named(target.trim_start_matches('$'), directive);
                variables.define(variable, Source::External);
            }
            ("if", _) => {
                let condition = Condition::new(directive, variables);
                let block = directive.block.as_deref().unwrap_or_default();
                let level = Box::new(Self::new(block, inherited, variables));
                self.steps.push(Step::If { directive, condition, level });
            }
            ("rewrite", [pattern, to, flag @ ..]) => {
                let expression = Expression::new(pattern, false, variables, directive);
                let flag = match flag {
                    ["last"] => Flag::Last,
                    ["break"] => Flag::Break,
                    ["redirect" | "permanent"] => Flag::Redirect,
                    _ if ["http://", "https://", "$scheme"].iter().any(|url| to.starts_with(url)) => {
                        Flag::Redirect
                    }
                    _ => Flag::None,
                };
                let to = Replacement::new(to, variables, directive);
                self.steps.push(Step::Rewrite { directive, expression, to, flag });
            }
            ("return", [status, rest @ ..]) => {
                let (status, to) = match status.parse() {
                    Ok(status) => (status, rest.first().copied()),
                    Err(_) => (302, Some(*status)),
                };
                let to = to.map(|to| Template::new(to, variables, directive));
                self.steps.push(Step::Return { directive, status, to });
            }
            ("break", _) => self.steps.push(Step::Break),
            ("set_by_lua" | "set_by_lua_block" | "set_by_lua_file", [target, ..]) => {
                let variable = variables.named(target.trim_start_matches('$'), directive);
                variables.define(variable, Source::External);
            }
            (name, _) if SCRIPTS.contains(&name) => self.steps.push(Step::Opaque(directive)),
            (name, _) if HANDLERS.contains(&name) => self.handler = Some(directive),
            _ => {}
        }
    }

    /// Whether anything inside forwards requests.
    pub fn has_pass(&self) -> bool {
        let in_step = |step: &Step<'_>| matches!(step, Step::If { level, .. } if level.has_pass());
        self.pass.is_some()
            || self.steps.iter().any(in_step)
            || self.locations.all.iter().any(|location| location.level.has_pass())
    }
}

impl<'d> Locations<'d> {
    fn add(&mut self, directive: &'d Directive, inherited: &Inherited<'d>, variables: &mut Variables<'d>) {
        let arguments: Vec<&'d str> = directive.arguments.iter().map(String::as_str).collect();
        // The modifier may stand without a space before the name.
        let (modifier, name) = match &*arguments {
            [modifier, name] => (*modifier, *name),
            [one] => ["=", "^~", "~*", "~"]
                .into_iter()
                .find_map(|modifier| Some((modifier, one.strip_prefix(modifier)?)))
                .unwrap_or(("", one)),
            _ => return,
        };
        let position = self.all.len();
        match modifier {
            "=" => drop(self.exact.insert(name, position)),
            "~" | "~*" => {}
            _ if name.starts_with('@') => drop(self.named.insert(name, position)),
            _ => drop(self.prefixes.insert(name, position)),
        }
        let is_expression = modifier.starts_with('~');
        let expression = is_expression.then(|| Expression::new(name, modifier == "~*", variables, directive));
        if let Some(expression) = &expression {
            self.expressions.add(&expression.pattern.prefix, position);
        }
        let block = directive.block.as_deref().unwrap_or_default();
        let level = Level::new(block, inherited, variables);
        self.all.push(Location { directive, name, is_final: modifier == "^~", expression, level });
    }
}

impl Replacement {
    fn new<'d>(text: &str, variables: &mut Variables<'d>, directive: &'d Directive) -> Self {
        let (text, keeps_args) = text.strip_suffix('?').map_or((text, true), |text| (text, false));
        let (path, args) = text.split_once('?').map_or((text, None), |(path, args)| (path, Some(args)));
        let path = Template::new(path, variables, directive);
        Self { path, args: args.map(|args| Template::new(args, variables, directive)), keeps_args }
    }
}

impl Condition {
    /// `( … )`, in as many words as there are.
    fn new<'d>(directive: &'d Directive, variables: &mut Variables<'d>) -> Self {
        let mut words: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
        if let Some(first) = words.first_mut() {
            *first = first.strip_prefix('(').unwrap_or(first);
        }
        if let Some(last) = words.last_mut() {
            *last = last.strip_suffix(')').unwrap_or(last);
        }
        // A bracket may stand by itself.
        if words.first() == Some(&"") {
            words.remove(0);
        }
        if matches!(words.len(), 2 | 4) && words.last() == Some(&"") {
            words.pop();
        }
        match *words {
            [value] if value.starts_with('$') => Self::IsTrue(Template::new(value, variables, directive)),
            [value, sign @ ("=" | "!="), to] => Self::Equals {
                value: Template::new(value, variables, directive),
                to: Template::new(to, variables, directive),
                is_negated: sign == "!=",
            },
            [value, sign @ ("~" | "~*" | "!~" | "!~*"), pattern] => Self::Matches {
                value: Template::new(value, variables, directive),
                expression: Expression::new(pattern, sign.ends_with('*'), variables, directive),
                is_negated: sign.starts_with('!'),
            },
            _ => Self::Outside,
        }
    }
}
