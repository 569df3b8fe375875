//! HAProxy's configuration as hookgate's: each request is followed through it, and what hookgate
//! would do with the same request is carried over, or told.

mod bind;
mod condition;
mod maps;
mod rules;
mod sample;
mod section;
mod server;
mod syntax;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directive::{Directive, SyntaxError};
use super::files::{self, BadFile, MAX_BYTES};
use super::follow::{Assumptions, End, Request};
use super::gather::{Entrance, Kept, Relay, gather};
use super::imported::Imported;
use super::notes::{Group, Notes};
use super::plan::{Origin, Plan};
use super::probes::Probes;

use maps::Maps;
use section::Section;
use trace::{Backends, Trace};

const HAPROXY: Origin = Origin { name: "HAProxy", default: "bodies of any size" };

/// Reads a file as HAProxy would, with its maps.
///
/// Errors: it cannot be read, or is not HAProxy's syntax.
pub fn import(file: &Path) -> Result<Imported, BadFile> {
    let mut left = MAX_BYTES;
    let text = files::read(file, &mut left)?;
    let folder = std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_owned));
    let folder = folder.unwrap_or_default();
    let base = |path: &str| folder.join(path).display().to_string();
    Ok(imported(&parse(file, &text)?, file, Maps::new(Some(folder.clone())), &base))
}

/// The same of a file's text; no other file is opened.
///
/// Errors: it is not HAProxy's syntax.
pub fn import_text(file: &Path, text: &str) -> Result<Imported, SyntaxError> {
    Ok(imported(&parse(file, text)?, file, Maps::new(None), &str::to_owned))
}

fn parse(file: &Path, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let file: Arc<Path> = file.into();
    syntax::parse(&file, text)
}

/// A frontend and where it can send requests.
struct Frontend<'s, 'd> {
    section: &'s Section<'d>,
    backends: &'s Backends<'s, 'd>,
}

impl<'d> Relay<'d> for Frontend<'_, 'd> {
    fn directive(&self) -> &'d Directive {
        self.section.directive
    }

    fn follow(&self, request: &Request<'_>, assumptions: &mut Assumptions<'d>) -> End<'d> {
        Trace::new(request, assumptions).run(self.section, self.backends)
    }
}

fn imported(
    directives: &[Directive],
    file: &Path,
    mut maps: Maps,
    base: &dyn Fn(&str) -> String,
) -> Imported {
    let mut plan = Plan::new(HAPROXY);
    let sections = sections(directives, &mut maps, &mut plan.notes);
    let has_name = |section: &&Section<'_>| matches!(&*section.directive.name, "backend" | "listen");
    let backends: Backends<'_, '_> = sections
        .iter()
        .filter(has_name)
        .filter_map(|section| Some((section.directive.arguments.first()?.as_str(), section)))
        .collect();
    let frontends: Vec<Frontend<'_, '_>> = sections
        .iter()
        .filter(|section| !section.binds.is_empty())
        .map(|section| Frontend { section, backends: &backends })
        .collect();
    let mut entrances = Vec::new();
    for frontend in &frontends {
        if !frontend.section.is_http {
            let why = "left out: hookgate forwards HTTP alone";
            plan.notes.add(Group::Elsewhere, frontend.section.directive, why);
            continue;
        }
        for bind in frontend.section.binds.iter().filter(|bind| !bind.addresses.is_empty()) {
            let addresses = bind.addresses.clone();
            entrances.push(Entrance { relay: frontend, addresses, is_tls: bind.is_tls });
        }
    }
    let paths: Vec<String> = sections.iter().flat_map(Section::paths).collect();
    let kept = gather(&mut plan, &entrances, &Probes::new(paths.iter().map(String::as_str)));
    for upstream in plan.upstreams.values_mut() {
        upstream.ca = upstream.ca.take().map(|path| base(&path));
    }
    take_binds(&mut plan, &sections, &kept, base);
    for unread in &maps.unread {
        let named = directives.iter().flat_map(|section| section.block.iter().flatten());
        let mut named = named.filter(|line| line.arguments.iter().any(|word| word.contains(unread)));
        let why = format!("{unread} cannot be read: what it lists is left out");
        named.next().into_iter().for_each(|line| plan.notes.add(Group::Elsewhere, line, &*why));
    }
    Imported::new(plan, &[PathBuf::from(file)])
}

/// Frontends and backends, each with the `defaults` above it or those that it names.
fn sections<'d>(directives: &'d [Directive], maps: &mut Maps, notes: &mut Notes) -> Vec<Section<'d>> {
    let mut sections = Vec::new();
    let mut defaults: &[Directive] = &[];
    let verifies_none = |line: &Directive| line.name == "ssl-server-verify" && line.arguments == ["none"];
    let is_global = |section: &&Directive| section.name == "global";
    let global = directives.iter().filter(is_global).flat_map(|section| section.block.iter().flatten());
    let verifies = !global.into_iter().any(verifies_none);
    for directive in directives {
        let block = directive.block.as_deref().unwrap_or_default();
        match &*directive.name {
            "defaults" => defaults = block,
            "frontend" | "backend" | "listen" => {
                let from = match &*directive.arguments {
                    [_, from, name] if from == "from" => {
                        let is_named = |other: &&Directive| {
                            other.name == "defaults" && other.arguments.first() == Some(name)
                        };
                        directives.iter().find(is_named).and_then(|other| other.block.as_deref())
                    }
                    _ => None,
                };
                let mut section = Section::new(directive, from.unwrap_or(defaults), maps);
                for server in &mut section.servers {
                    server.verifies.get_or_insert(verifies);
                }
                sections.push(section);
            }
            _ => notes.add(Group::NoConsequence, directive, ""),
        }
    }
    sections
}

/// Certificates and other settings of the listeners that are carried over.
fn take_binds<'d>(plan: &mut Plan, sections: &[Section<'d>], kept: &Kept<'d>, base: &dyn Fn(&str) -> String) {
    let mut has_proxy_header = false;
    for section in sections {
        let is_kept = |is_tls| {
            kept.iter().any(|(relay, tls)| std::ptr::eq(*relay, section.directive) && *tls == is_tls)
        };
        for bind in section.binds.iter().filter(|bind| is_kept(bind.is_tls)) {
            bind.note(&mut plan.notes);
            bind.take_certificates(base, &mut plan.pairs, &mut plan.notes);
            has_proxy_header |= bind.has_proxy_header;
        }
    }
    if has_proxy_header {
        let why = "[listen] proxy_protocol_from must name the load balancers that send PROXY headers: HAProxy takes them from \
                   any address";
        plan.blocked.push(why.to_owned());
    }
}
