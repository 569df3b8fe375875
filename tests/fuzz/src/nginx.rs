use std::path::Path;

use hookgate::import::nginx::import_text;
use toml::de::DeTable;

const FILE: &str = "nginx.conf";
const SECTIONS: [&str; 8] = ["listen", "tls", "acme", "dns", "upstreams", "timeouts", "limits", "log"];

/// Whatever a file says becomes TOML with the known sections, allows no host that it does not name,
/// and means the same behind a comment and inside of `http`.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let imported = match import_text(Path::new(FILE), &text) {
        Ok(imported) => imported,
        Err(error) => {
            let lines = text.split('\n').count();
            return assert!((1..=lines).contains(&error.place.line), "no such line: {error}");
        }
    };
    let toml = &imported.toml;
    let table = DeTable::parse(toml).unwrap_or_else(|e| panic!("no TOML: {e}\n{toml}"));
    let table = table.get_ref();
    let unknown = table.keys().find(|name| !SECTIONS.contains(&name.get_ref().as_ref()));
    assert_eq!(unknown.map(|name| name.get_ref().as_ref()), None, "{toml}");
    let told = toml.lines().filter(|line| line.starts_with(&format!("# {FILE}:"))).count();
    let [open, elsewhere, different, _] = imported.differences.map(|(_, count)| count);
    assert_eq!(told, open + elsewhere + different, "{toml}");
    assert_eq!(imported.open.len(), open, "{toml}");

    let upstreams = table.get("upstreams").and_then(|section| section.get_ref().as_table());
    let upstreams = upstreams.into_iter().flat_map(|section| section.keys());
    let hosts = upstreams.map(|host| host.get_ref().as_ref()).collect::<Vec<&str>>();
    assert_eq!(hosts.len(), imported.upstreams, "{toml}");
    // A pattern with alternatives, classes or repetitions names hosts that it does not spell out.
    if !text.contains(['(', '[', '{', '?', '+', '*', '|']) {
        let plain = text.replace('\\', "").to_ascii_lowercase();
        let unnamed = hosts.iter().find(|host| !plain.contains(**host));
        assert_eq!(unnamed, None, "allowed and not named:\n{toml}");
    }

    assert_eq!(settings(&format!("# {{ ' \"\n{text}")), settings(&text), "a comment changes something");
    let words = text.split(|c: char| c.is_ascii_whitespace() || ";{}".contains(c));
    if !words.map(|word| word.trim_matches(['"', '\''])).any(|word| word == "http") {
        assert_eq!(settings(&format!("http {{\n{text}\n}}")), settings(&text), "http changes something");
    }
}

/// What comes out, comments left out: they have numbers of lines.
fn settings(text: &str) -> String {
    let imported = import_text(Path::new(FILE), text).expect("it was nginx's before");
    imported.toml.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}
