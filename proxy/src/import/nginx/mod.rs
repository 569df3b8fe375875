//! nginx's configuration as hookgate's: each request is followed through it, and what hookgate
//! would do with the same request is carried over, or told.

mod certificates;
mod challenges;
mod client_address;
mod client_names;
mod conditions;
mod destination;
mod directives;
mod evaluate;
mod forward;
mod idle;
mod include;
mod listeners;
mod locate;
mod lua;
mod maps;
mod origins;

mod plan;
mod probes;
mod relay;
mod route;
mod scope;
mod settings;
mod setup;
mod syntax;
mod values;
mod variables;
mod words;

use std::path::{Path, PathBuf};

use setup::Setup;

use super::directive::{Directive, SyntaxError};
use super::files::BadFile;
use super::imported::Imported;
use super::notes::{Group, Notes};
use super::plan::Plan;

/// Reads files as nginx would, each with what it includes: the main one, or those of single sites
/// and maps.
///
/// Errors: one of those given cannot be read, or one of all is not nginx's syntax.
pub fn import(files: &[PathBuf]) -> Result<Imported, BadFile> {
    let mut directives = Vec::new();
    for file in files {
        directives.extend(include::read(file)?);
    }
    let base = |path: &str| absolute(Path::new(path), files).display().to_string();
    Ok(imported(&directives, files, &base))
}

/// The same of one file's text; no file is opened, and what it includes stays out.
///
/// Errors: it is not nginx's syntax.
pub fn import_text(file: &Path, text: &str) -> Result<Imported, SyntaxError> {
    Ok(imported(&syntax::parse(&file.into(), text, 0)?, &[file.to_owned()], &str::to_owned))
}

fn imported(directives: &[Directive], files: &[PathBuf], base: &dyn Fn(&str) -> String) -> Imported {
    let setup = Setup::new(within_http(directives));
    let mut plan = Plan::of_nginx(&setup, base);
    directives.iter().for_each(|directive| note_unread(directive, &mut plan.notes));
    Imported::new(plan, files)
}

/// Files that are included and could not be read.
fn note_unread(directive: &Directive, notes: &mut Notes) {
    /// Files of nginx's packages that refuse nothing.
    const HARMLESS: &[&str] =
        &["mime.types", "fastcgi_params", "fastcgi.conf", "scgi_params", "uwsgi_params"];
    let is_harmless = |file: &String| HARMLESS.iter().any(|name| file.ends_with(name));
    if directive.name == "include" && !directive.arguments.iter().any(is_harmless) {
        let why = "no file of that name can be read here: what nginx refuses there is open";
        notes.add(Group::Open, directive, why);
    }
    if matches!(&*directive.name, "stream" | "mail") {
        notes.add(Group::Elsewhere, directive, "left out: hookgate forwards HTTP alone");
    }
    directive.block.iter().flatten().for_each(|inside| note_unread(inside, notes));
}

/// What stands in `http` blocks, or outside of all, as in the file of a site.
fn within_http(directives: &[Directive]) -> Vec<&Directive> {
    /// Directives of the main context, and blocks that are not about HTTP.
    const MAIN: &[&str] = &[
        "daemon",
        "env",
        "error_log",
        "events",
        "load_module",
        "lock_file",
        "mail",
        "master_process",
        "pcre_jit",
        "pid",
        "ssl_engine",
        "stream",
        "thread_pool",
        "timer_resolution",
        "user",
        "working_directory",
        "worker_cpu_affinity",
        "worker_priority",
        "worker_processes",
        "worker_rlimit_core",
        "worker_rlimit_nofile",
        "worker_shutdown_timeout",
    ];
    let is_http = |directive: &&Directive| directive.name == "http";
    let outside =
        directives.iter().filter(|directive| !is_http(directive) && !MAIN.contains(&&*directive.name));
    outside.chain(directives.iter().filter(is_http).flat_map(|http| http.block.iter().flatten())).collect()
}

/// nginx counts relative paths from the folder of its nginx.conf, which may lie above the one of
/// the file that was given.
fn absolute(path: &Path, files: &[PathBuf]) -> PathBuf {
    let folders =
        files.iter().filter_map(|file| std::path::absolute(file).ok()?.parent().map(Path::to_owned));
    let folders: Vec<PathBuf> = folders.collect();
    let mut candidates = folders.iter().flat_map(|folder| folder.ancestors()).map(|folder| folder.join(path));
    let first = folders.first().map_or_else(|| path.to_owned(), |folder| folder.join(path));
    if path.is_absolute() { path.to_owned() } else { candidates.find(|path| path.exists()).unwrap_or(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KnownWords in quotes may hold quotes and line ends, which would end a key or a comment.
    #[test]
    fn no_word_becomes_a_line_of_its_own() {
        let text = "map $h $ok { 'a\"b.example' 1; 'c = {}\n[admin]\n#.example' 1; good.example 1; }\n\
                    server { listen 443 ssl; server_name 'a\nb = 1';\n\
                    location ~ ^/(?<h>[^/]*)(?<r>/.*) { if ($ok != 1) { return 403; } proxy_pass https://$h$r$is_args$args; }\n\
                    location '/x\ny/' { proxy_pass https://z; } }";
        let imported = import_text(Path::new("n"), text).unwrap();
        let table =
            toml::de::DeTable::parse(&imported.toml).unwrap_or_else(|e| panic!("{e}\n{}", imported.toml));
        assert!(!table.get_ref().contains_key("admin"), "{}", imported.toml);
        assert_eq!(imported.upstreams, 1, "{}", imported.toml);
    }
}
