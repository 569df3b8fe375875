//! A Caddyfile as hookgate's configuration: each request is followed through it, and what hookgate
//! would do with the same request is carried over, or told.

mod include;
mod level;
mod matcher;
mod options;
mod proxy;
mod site;
mod syntax;
mod trace;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::directive::Directive;
use super::files::BadFile;
use super::gather::{Entrance, Kept, gather};
use super::imported::Imported;
use super::notes::{Group, Notes};
use super::plan::{Origin, Pair, Plan};
use super::probes::Probes;
use crate::config::{HostName, contact_domain};

use options::Options;
use site::{Certificate, Site};

const CADDY: Origin = Origin { name: "Caddy", default: "bodies of any size" };

/// Reads a Caddyfile as Caddy would, with what it imports.
///
/// Errors: it cannot be read, or is not a Caddyfile.
pub fn import(file: &Path) -> Result<Imported, BadFile> {
    let directives = include::read(file)?;
    let folder = std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_owned));
    let folder = folder.unwrap_or_default();
    Ok(imported(&directives, file, &|path| folder.join(path).display().to_string()))
}

/// The same of a file's text; no file is opened, and what it imports stays out.
///
/// Errors: it is not a Caddyfile.
pub fn import_text(file: &Path, text: &str) -> Result<Imported, BadFile> {
    Ok(imported(&include::read_text(file, text)?, file, &str::to_owned))
}

fn imported(directives: &[Directive], file: &Path, base: &dyn Fn(&str) -> String) -> Imported {
    let mut plan = Plan::new(CADDY);
    let global = directives.first().filter(|first| first.name.is_empty());
    let options = global.and_then(|first| first.block.as_deref()).unwrap_or_default();
    let options = Options::new(options, &mut plan.notes);
    let directives = directives.get(usize::from(global.is_some())..).unwrap_or_default();
    let sites = sites(directives, &options, &mut plan.notes);
    let mut entrances = Vec::new();
    for site in &sites {
        let mut ports: Vec<(u16, bool)> =
            site.addresses.iter().map(|address| (address.port, address.is_tls)).collect();
        ports.sort_unstable();
        ports.dedup();
        for (port, is_tls) in ports {
            let addresses = site.sockets(port, &mut plan.notes);
            if !addresses.is_empty() {
                entrances.push(Entrance { relay: site, addresses, is_tls });
            }
        }
    }
    let mut paths = Vec::new();
    add_paths(directives, &mut paths);
    let kept = gather(&mut plan, &entrances, &Probes::new(paths.into_iter()));
    for upstream in plan.upstreams.values_mut() {
        upstream.ca = upstream.ca.take().map(|path| base(&path));
    }
    take_sites(&mut plan, &sites, &kept, &options, base);
    Imported::new(plan, &[PathBuf::from(file)])
}

/// The sites: blocks, or the one that needs no braces.
fn sites<'d>(directives: &'d [Directive], options: &Options<'d>, notes: &mut Notes) -> Vec<Site<'d>> {
    let is_import = |directive: &&Directive| directive.name == "import" && directive.block.is_none();
    for directive in directives.iter().filter(is_import) {
        let why = "no such file or snippet can be read here: what Caddy refuses there is open";
        notes.add(Group::Open, directive, why);
    }
    if let [first, block @ ..] = directives
        && first.block.is_none()
        && !is_import(&first)
    {
        return vec![Site::new(first, block, options, notes)];
    }
    let mut sites = Vec::new();
    for directive in directives.iter().filter(|directive| !is_import(directive)) {
        match &directive.block {
            Some(block) if !directive.name.is_empty() => {
                sites.push(Site::new(directive, block, options, notes));
            }
            _ => notes.add(Group::Elsewhere, directive, "left out: this is no site, and not understood"),
        }
    }
    sites
}

/// The paths that matchers name.
fn add_paths<'d>(directives: &'d [Directive], paths: &mut Vec<&'d str>) {
    for directive in directives {
        let is_matcher = directive.name.starts_with('@') || matches!(&*directive.name, "path" | "not");
        let looked_at = match () {
            () if is_matcher => directive.arguments.len(),
            () if level::is_ordered(&directive.name) => 1,
            () => 0,
        };
        let arguments = directive.arguments.iter().take(looked_at).map(String::as_str);
        paths.extend(arguments.filter(|path| path.starts_with(['/', '*']) && path.len() > 1));
        add_paths(directive.block.as_deref().unwrap_or_default(), paths);
    }
}

/// Names, certificates and listeners of the sites that are carried over.
fn take_sites<'d>(
    plan: &mut Plan,
    sites: &[Site<'d>],
    kept: &Kept<'d>,
    options: &Options<'d>,
    base: &dyn Fn(&str) -> String,
) {
    let is_kept = |site: &&Site<'d>, is_tls: bool| {
        kept.iter().any(|(directive, tls)| std::ptr::eq(*directive, site.directive) && *tls == is_tls)
    };
    for site in sites.iter().filter(|site| is_kept(site, true) || is_kept(site, false)) {
        if site.addresses.iter().all(|address| !address.host.is_empty()) {
            let why = "Caddy forwards requests for the site's own names alone, hookgate for any Host field";
            plan.notes.add(Group::Different, site.directive, why);
        }
        for address in site.addresses.iter().filter(|address| !address.host.is_empty()) {
            if !plan.names.contains(&address.host) {
                plan.names.push(address.host.clone());
            }
        }
    }
    for site in sites.iter().filter(|site| is_kept(site, true)) {
        site.note_tls(&mut plan.notes);
        match site.certificate(options) {
            Certificate::Files { cert, key } => {
                let pair = Pair { cert: base(cert), key: base(key) };
                if !plan.pairs.contains(&pair) {
                    plan.pairs.push(pair);
                }
            }
            Certificate::Authority { email } => take_domains(plan, site, email),
            Certificate::Other => {
                let why = "left out: this site's certificate: write [tls] cert and key, or [acme] domains";
                plan.notes.add(Group::Elsewhere, site.directive, why);
            }
        }
    }
    let has_tls = sites.iter().any(|site| is_kept(&site, true));
    let port = options.http_port;
    let is_taken = plan.http.iter().chain(&plan.plain).any(|address| address.port() == port);
    if has_tls && options.redirects && !is_taken {
        plan.http.extend([([0, 0, 0, 0], port).into(), ([0; 8], port).into()] as [SocketAddr; 2]);
    }
    if options.has_proxy_header && !kept.is_empty() {
        let why = "[listen] proxy_protocol_from must name the load balancers that send PROXY headers";
        plan.blocked.push(why.to_owned());
    }
}

/// Names for which hookgate gets a certificate, as Caddy does.
fn take_domains(plan: &mut Plan, site: &Site<'_>, email: Option<&str>) {
    for address in site.addresses.iter().filter(|address| address.is_tls) {
        let why = match &*address.host {
            "" => Some("this site has no name to get a certificate for".to_owned()),
            host if !host.contains('.') => Some(format!("no authority knows the name {host}")),
            host => host.parse::<HostName>().err().map(str::to_owned),
        };
        match why {
            Some(why) => {
                let why =
                    format!("left out: its certificate: {why}: write [tls] cert and key, or [acme] domains");
                plan.notes.add(Group::Elsewhere, site.directive, why);
            }
            None if plan.domains.contains(&address.host) => {}
            None => plan.domains.push(address.host.clone()),
        }
    }
    let Some(contact) = email.map(|email| format!("mailto:{email}")) else { return };
    match contact_domain(&contact) {
        Err(why) => plan.notes.add(Group::Different, site.directive, format!("[acme] contact: {why}")),
        Ok(_) if plan.contact.contains(&contact) => {}
        Ok(_) => plan.contact.push(contact),
    }
}
