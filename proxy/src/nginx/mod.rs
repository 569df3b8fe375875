//! The nginx set-ups that relay webhooks today, read as far as they mean something to hookgate.

mod allowlist;
mod found;
mod include;
mod servers;
mod settings;
mod syntax;
mod values;
mod write;

use std::path::{Path, PathBuf};

pub use include::BadFile;
pub use syntax::SyntaxError;

use found::Found;
use syntax::Directive;

/// What was made of nginx's configuration.
#[derive(Debug)]
pub struct Imported {
    /// A `hookgate.toml`, with a comment for whatever could not be carried over.
    pub toml: String,
    pub upstreams: usize,
    /// How many things could not be carried over.
    pub notes: usize,
}

/// Reads files as nginx would, each with what it includes: the main one, or those of single sites and maps.
///
/// Errors: one of those given cannot be read, or one of all is not nginx's syntax.
pub fn import(files: &[PathBuf]) -> Result<Imported, BadFile> {
    let mut directives = Vec::new();
    for file in files {
        directives.extend(include::read(file)?);
    }
    Ok(meaning(&directives, files))
}

/// The same of one file's text; no file is opened, and what it includes stays out.
///
/// Errors: it is not nginx's syntax.
pub fn import_text(file: &Path, text: &str) -> Result<Imported, SyntaxError> {
    Ok(meaning(&syntax::parse(&file.into(), text, 0)?, &[file.to_owned()]))
}

fn meaning(directives: &[Directive], files: &[PathBuf]) -> Imported {
    let mut found = Found::default();
    servers::take(&mut found, &outside(directives));
    let toml = write::toml(&found, files);
    Imported { toml, upstreams: found.upstreams.len(), notes: found.notes.len() }
}

/// What stands in `http` blocks, or outside of all.
fn outside(directives: &[Directive]) -> Vec<&Directive> {
    let inside = |directive: &'_ Directive| directive.name == "http";
    let http = directives.iter().filter(|d| inside(d)).flat_map(|http| http.block.iter().flatten());
    directives.iter().filter(|d| !inside(d)).chain(http).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words in quotes may hold quotes and line ends, which would end a key or a comment.
    #[test]
    fn no_word_becomes_a_line_of_its_own() {
        let text = "map $h $ok { 'a\"b.example' 1; 'c = {}\n[admin]\n#.example' 1; }\n\
                    server { listen 443 ssl; server_name 'a\nb = 1';\n\
                    location ~ ^/(?<h>.*)/ { if ($ok = 0) { return 403; } proxy_pass https://$h; }\n\
                    location '/x\ny/' { proxy_pass https://z; } }";
        let imported = import_text(Path::new("n"), text).unwrap();
        let table =
            toml::de::DeTable::parse(&imported.toml).unwrap_or_else(|e| panic!("{e}\n{}", imported.toml));
        assert!(!table.get_ref().contains_key("admin"), "{}", imported.toml);
        let upstreams = table.get_ref().get("upstreams").and_then(|section| section.get_ref().as_table());
        assert!(
            upstreams.is_some_and(|upstreams| upstreams.contains_key("a\"b.example")),
            "{}",
            imported.toml
        );
        assert_eq!(imported.upstreams, 2);
    }
}
