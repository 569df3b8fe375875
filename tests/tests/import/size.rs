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
    for (name, http) in [
        ("names", map(&mut hosts.iter().cloned())),
        ("expressions", map(&mut escaped.iter().map(|host| format!("~^{host}$")))),
        ("prefixes", locations(&|n| format!("location /{0}/ {{ proxy_pass http://{0}/; }}\n", hosts[n]))),
        (
            "locations",
            locations(&|n| {
                format!("location ~ ^/({})(/.*)$ {{ proxy_pass http://$1$2$is_args$args; }}\n", escaped[n])
            }),
        ),
    ] {
        let dir = TempDir::new("import")?;
        Certs::new(&["proxy.example.com"])?.write(&dir, "proxy")?;
        let config = dir.write("nginx.conf", format!("http {{ resolver 1.1.1.1; {http} }}"))?;
        let start = Instant::now();
        let output = Command::new(binary()?).args(["import", "nginx"]).arg(config).output()?;
        let took = start.elapsed();
        println!("{name}: {took:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(said.starts_with("20000 upstreams; differences: 0 open now, 0 elsewhere"), "{name}: {said}");
        ensure!(output.status.success() && took < LIMIT, "{name}: {took:?}: {said}");
    }
    Ok(())
}
