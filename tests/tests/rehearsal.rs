//! `hookgate guard rehearse`: which sources `strict` would drop, before it does.

use std::time::Duration;

use anyhow::Result;
use harness::{Need, NetNs, Proxy, Running, equal, require, run, wait_until};
use serde_json::{Value, json};

const STRANGER: &str = "203.0.113.9";
const FRIEND: &str = "198.51.100.9";
const META: &str = "157.240.1.1";
const ORIGIN: &str = "
import http.server, sys
class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
with http.server.HTTPServer(('127.0.0.1', 8080), Origin) as server:
    print('ready', file=sys.stderr, flush=True)
    server.serve_forever()
";

#[test]
fn strangers_are_named_and_what_they_brought_is_counted() -> Result<()> {
    let programs = ["ip", "nsenter", "curl", "python3"].map(Need::Program);
    if !require(&[&[Need::Root, Need::Guard], &programs[..]].concat()) {
        return Ok(());
    }
    let ns = NetNs::new()?;
    for address in [STRANGER, FRIEND, META] {
        ns.address("lo", &format!("{address}/32"))?;
    }
    let mut origin = ns.command("python3");
    origin.args(["-c", ORIGIN]);
    let mut origin = Running::start(origin)?;
    origin.wait_for_stderr("ready", Duration::from_secs(10))?;
    let proxy = Proxy::start_in(
        &ns,
        &format!(
            "[listen]\nplain = [\"0.0.0.0:8443\"]\n[guard]\ninterfaces = [\"lo\"]\nports = [8443]\nallow = [\"{FRIEND}\"]\n\
             refresh = \"off\"\n[upstreams]\n\"up.example\" = {{ address = \"127.0.0.1:8080\", tls = false }}\n"
        ),
    )?;
    let rehearse = || -> Result<Value> {
        Ok(serde_json::from_str(&proxy.command(&ns, &["guard", "rehearse", "--json"])?)?)
    };
    let send = |from: &str, path: &str| {
        let mut curl = ns.command("curl");
        curl.args(["-sS", "--max-time", "5", "--interface", from, &format!("http://{META}:8443{path}")]);
        run(curl).map(drop)
    };

    send(META, "/up.example/")?;
    send(FRIEND, "/up.example/")?;
    let before = rehearse()?;
    assert_eq!((&before["packets"], &before["strangers"]), (&json!(0), &json!([])), "{before}");
    assert!(proxy.command(&ns, &["guard", "rehearse"])?.contains("strict changes nothing"));

    send(STRANGER, "/nobody.example/")?;
    let text = proxy.command(&ns, &["guard", "rehearse"])?;
    assert!(text.contains("no request of theirs was delivered") && text.contains("203.0.113.0/24"), "{text}");

    send(STRANGER, "/up.example/")?;
    wait_until("the delivery is counted", Duration::from_secs(5), || {
        Ok(equal(rehearse()?["delivered"].clone(), 1))
    })?;
    let after = rehearse()?;
    assert_eq!((&after["version"], &after["mode"]), (&json!(1), &json!("observe")));
    assert_eq!((&after["syns"], &after["requests"]), (&json!(2), &json!(2)), "{after}");
    let strangers = after["strangers"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(strangers.len(), 1, "{after}");
    assert_eq!((&strangers[0]["network"], &strangers[0]["syns"]), (&json!("203.0.113.0/24"), &json!(2)));
    assert_eq!(strangers[0]["packets"], after["packets"]);
    let text = proxy.command(&ns, &["guard", "rehearse"])?;
    assert!(text.contains("1 requests of theirs were delivered"), "{text}");
    Ok(())
}
