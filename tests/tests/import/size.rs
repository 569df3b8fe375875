//! Imports of many hosts.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Certs, TempDir, binary};

const HOSTS: usize = 20_000;
/// A debug build takes a few seconds, and would take hours if it looked at all hosts for each.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "takes half a minute"]
fn twenty_thousand_hosts_are_imported_at_once() -> Result<()> {
    let hosts: Vec<String> = (0..HOSTS).map(|number| format!("tenant-{number}.chat.example.com")).collect();
    let escaped: Vec<String> = hosts.iter().map(|host| host.replace('.', "\\.")).collect();
    let relay = "location ~ ^/(?<up>[^/]+)(?<rest>/.*)$ { if ($ok = 0) { return 403; } proxy_set_header Host $up; \
                 proxy_pass http://$up$rest$is_args$args; }";
    let map = |keys: &mut dyn Iterator<Item = String>| {
        let entries = keys.fold(String::new(), |mut entries, key| {
            let _ = writeln!(entries, "{key} 1;");
            entries
        });
        format!("map $up $ok {{ default 0; {entries} }} server {{ listen 8080; {relay} }}")
    };
    let locations = |write: &dyn Fn(usize) -> String| {
        let all: String = (0..HOSTS).map(write).collect();
        format!("server {{ listen 8080; {all} }}")
    };
    let nginx = |http: String| format!("http {{ resolver 1.1.1.1; {http} }}");
    let caddy: String = hosts
        .iter()
        .map(|host| {
            format!(
                "handle_path /{host}/* {{\nreverse_proxy http://{host} {{\nheader_up Host {host}\n}}\n}}\n"
            )
        })
        .collect();
    let backend = |host: &String| {
        format!(
            "backend {host}\n http-request replace-path /[^/]*(/.*) \\1\n http-request set-header Host {host}\n server s {host}:80\n"
        )
    };
    let haproxy = |rules: &dyn Fn(&String) -> String| {
        let (rules, backends): (String, String) =
            (hosts.iter().map(rules).collect(), hosts.iter().map(backend).collect());
        format!("defaults\n mode http\nfrontend f\n bind :8080\n{rules}{backends}")
    };
    for (server, name, text) in [
        ("nginx", "names", nginx(map(&mut hosts.iter().cloned()))),
        ("nginx", "expressions", nginx(map(&mut escaped.iter().map(|host| format!("~^{host}$"))))),
        (
            "nginx",
            "prefixes",
            nginx(locations(&|n| format!("location /{0}/ {{ proxy_pass http://{0}/; }}\n", hosts[n]))),
        ),
        (
            "nginx",
            "locations",
            nginx(locations(&|n| {
                format!("location ~ ^/({})(/.*)$ {{ proxy_pass http://$1$2$is_args$args; }}\n", escaped[n])
            })),
        ),
        ("caddy", "blocks", format!(":8080 {{\n{caddy}}}\n")),
        (
            "haproxy",
            "conditions",
            haproxy(&|host| format!(" use_backend {host} if {{ path_beg /{host}/ }}\n")),
        ),
        (
            "haproxy",
            "acls",
            haproxy(&|host| format!(" acl a-{host} path_beg /{host}/\n use_backend {host} if a-{host}\n")),
        ),
    ] {
        let dir = TempDir::new("import")?;
        Certs::new(&["proxy.example.com"])?.write(&dir, "proxy")?;
        let config = dir.write("config", text)?;
        let start = Instant::now();
        let output = Command::new(binary()?).args(["import", server]).arg(config).output()?;
        let took = start.elapsed();
        println!("{server}, {name}: {took:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(said.starts_with("20000 upstreams; differences: 0 open now, 0 elsewhere"), "{name}: {said}");
        ensure!(output.status.success() && took < LIMIT, "{name}: {took:?}: {said}");
    }
    Ok(())
}
