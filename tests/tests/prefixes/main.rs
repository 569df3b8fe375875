//! Meta's prefixes from the routing registry: real questions over TCP to a whois server that the
//! test starts.

mod bounds;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{DnsServer, Need, NetNs, TempDir, Whois, free_port, pace, require, run, wait_until};
use serde_json::{Value, json};

const LIST: &str = "31.13.24.0/21\n157.240.0.0/17\n157.240.3.0/24\n2a03:2880::/32\n";

/// A folder with a configuration and a list of prefixes.
struct Testbed(TempDir);

/// What a command did.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Testbed {
    /// `registry` as in the configuration.
    fn new(registry: &str) -> Result<Self> {
        Self::with(registry, "")
    }

    /// `more`: lines after `[guard]`'s.
    fn with(registry: &str, more: &str) -> Result<Self> {
        let testbed = Self(TempDir::new("prefixes")?);
        testbed.0.write("list", LIST)?;
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[guard]\ninterfaces = [\"lo\"]\nallow = [\"192.0.2.0/24\"]\n\
             registry = \"{registry}\"\nprefixes = \"list\"\nstate = \"state/prefixes\"\n{more}\n"
        );
        testbed.0.write("hookgate.toml", text)?;
        Ok(testbed)
    }

    fn asking(whois: &Whois) -> Result<Self> {
        Self::new(&whois.address().to_string())
    }

    fn run(&self, args: &str) -> Result<Said> {
        let mut command = Command::new(harness::binary()?);
        command.args(args.split(' ')).arg("--config").arg(self.0.path().join("hookgate.toml"));
        let output = command.output()?;
        let text = |bytes| String::from_utf8(bytes).context("not UTF-8");
        Ok(Said { code: output.status.code(), stdout: text(output.stdout)?, stderr: text(output.stderr)? })
    }

    fn list(&self) -> Result<String> {
        Ok(self.run("prefixes list")?.stdout)
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state/prefixes")
    }

    /// `update` is refused with `why`, and nothing has changed.
    fn refuses(&self, why: &str) -> Result<Said> {
        let before = self.list()?;
        let said = self.run("prefixes update")?;
        ensure!(said.code == Some(1), "exit code {:?}: {}", said.code, said.stdout);
        ensure!(said.stderr.contains(why), "{:?} is not in {:?}", why, said.stderr);
        ensure!(said.stderr.contains("the prefixes in force stay"), "{}", said.stderr);
        ensure!(!self.state().exists() && self.list()? == before, "something has changed");
        Ok(said)
    }
}

/// A route object.
fn object(prefix: &str, maintainer: &str, source: &str) -> String {
    let class = if prefix.contains(':') { "route6" } else { "route" };
    format!("{class}: {prefix}\norigin: AS32934\nmnt-by: {maintainer}\nsource: {source}\n\n")
}

/// Of Meta's own.
fn own(prefixes: &[&str]) -> String {
    prefixes.iter().map(|prefix| object(prefix, "MAINT-AS32934", "RADB")).collect()
}

#[test]
fn an_update_adds_what_is_registered_and_removes_what_is_not() -> Result<()> {
    let whois = Whois::answering(
        &(own(&["157.240.0.0/16", "2a03:2880::/32", "2a03:2880:f003::/48"])
            + &object("23.0.0.0/20", "MAINT-AS1234", "RADB")
            + &object("23.1.0.0/20", "MAINT-AS32934", "ARIN-NONAUTH")),
    )?;
    let testbed = Testbed::asking(&whois)?;
    let summary = format!(
        "left out: route 23.0.0.0/20: in RADB, maintained by MAINT-AS1234\n\
         left out: route 23.1.0.0/20: in ARIN-NONAUTH, where Meta has no maintainer\n\
         + 157.240.0.0/16\n+ 2a03:2880:f003::/48\n- 31.13.24.0/21\n\
         {} has 3 prefixes of Meta's own, and 2 objects of others: 2 added, 1 removed, 5 in force\n",
        whois.address()
    );

    let diff = testbed.run("prefixes diff")?;
    assert_eq!((diff.code, diff.stdout), (Some(0), summary.clone()));
    assert_eq!(testbed.list()?, LIST, "diff changes nothing");

    let update = testbed.run("prefixes update")?;
    let stored = format!("stored in {}, for the next start\n", testbed.state().display());
    assert_eq!((update.code, update.stdout, update.stderr), (Some(0), summary + &stored, String::new()));
    let after = "157.240.0.0/16\n157.240.0.0/17\n157.240.3.0/24\n2a03:2880::/32\n2a03:2880:f003::/48\n";
    assert_eq!(testbed.list()?, after);
    assert_eq!(whois.queries(), ["-i origin AS32934\r\n"; 2]);

    let again = testbed.run("prefixes update --json")?;
    let answer: Value = serde_json::from_str(&again.stdout)?;
    let left_out = json!([
        { "object": "route 23.0.0.0/20", "reason": "in RADB, maintained by MAINT-AS1234" },
        { "object": "route 23.1.0.0/20", "reason": "in ARIN-NONAUTH, where Meta has no maintainer" },
    ]);
    let expected = json!({
        "version": 1, "registry": whois.address().to_string(), "refused": null, "added": [], "removed": [],
        "in_force": 5, "overridden": [], "left_out": left_out,
    });
    assert_eq!(answer, expected);
    Ok(())
}

#[test]
fn the_next_start_begins_with_the_last_good_refresh() -> Result<()> {
    if !require(&[Need::Root, Need::Guard]) {
        return Ok(());
    }
    let testbed = Testbed::asking(&Whois::answering(&own(&["157.240.0.0/16", "2a03:2880::/32"]))?)?;
    assert_eq!(testbed.run("prefixes update")?.code, Some(0));
    let ns = NetNs::new()?;
    let hookgate = |args: &[&str]| {
        let mut command = ns.command(&harness::binary()?.to_string_lossy());
        command.args(args).arg("--config").arg(testbed.0.path().join("hookgate.toml"));
        run(command)
    };
    hookgate(&["guard", "attach"])?;
    let stats: Value = serde_json::from_str(&hookgate(&["stats", "--json"])?)?;
    let rows = stats["prefixes"].as_array().context("no prefixes")?;
    let prefixes: Vec<&str> = rows.iter().filter_map(|row| row["prefix"].as_str()).collect();
    assert_eq!(prefixes, ["157.240.0.0/16", "157.240.0.0/17", "157.240.3.0/24", "2a03:2880::/32"]);
    hookgate(&["guard", "detach"])?;
    Ok(())
}

#[test]
fn withdrawn_prefixes_come_back() -> Result<()> {
    let all = ["31.13.24.0/21", "157.240.0.0/17", "2a03:2880::/32"];
    let testbed = Testbed::asking(&Whois::answering(&own(&all[1..]))?)?;
    assert_eq!(testbed.run("prefixes update")?.code, Some(0));
    assert!(!testbed.list()?.contains("31.13.24.0/21"));

    let whois = Whois::answering(&own(&all))?;
    let config = std::fs::read_to_string(testbed.0.path().join("hookgate.toml"))?;
    let line =
        |text: &str| text.starts_with("registry").then(|| format!("registry = \"{}\"", whois.address()));
    let config: Vec<String> = config.lines().map(|text| line(text).unwrap_or_else(|| text.into())).collect();
    testbed.0.write("hookgate.toml", config.join("\n"))?;
    assert_eq!(testbed.run("prefixes update")?.code, Some(0));
    assert_eq!(testbed.list()?, LIST);
    Ok(())
}

#[test]
fn what_others_wrote_is_nothing() -> Result<()> {
    let third_parties = object("157.240.0.0/16", "MAINT-AS1234", "RADB")
        + &object("31.13.24.0/21", "MAINT-AS32934, MAINT-AS1234", "RADB");
    let said = Testbed::asking(&Whois::answering(&third_parties)?)?
        .refuses("nothing is registered: none of 2 objects in the answer is Meta's own")?;
    let expected = "left out: route 157.240.0.0/16: in RADB, maintained by MAINT-AS1234\n\
                    left out: route 31.13.24.0/21: in RADB, maintained by MAINT-AS32934, MAINT-AS1234\n";
    assert_eq!(said.stdout, expected);

    let conversions = object("157.240.0.0/16", "MAINT-AS32934", "RIPE-NONAUTH")
        + &object("157.240.0.0/16", "fb-neteng", "RADB")
        + "route: 157.240.0.0/16\norigin: AS32934\nsource: RPKI\n";
    let said = Testbed::asking(&Whois::answering(&conversions)?)?.refuses("none of 3 objects")?;
    let expected = "left out: route 157.240.0.0/16: in RIPE-NONAUTH, where Meta has no maintainer\n\
                    left out: route 157.240.0.0/16: in RADB, maintained by fb-neteng\n\
                    left out: route 157.240.0.0/16: in RPKI, where Meta has no maintainer\n";
    assert_eq!(said.stdout, expected);
    Ok(())
}

#[test]
fn one_object_that_can_not_be_right_refuses_the_whole_answer() -> Result<()> {
    let good = own(&["157.240.0.0/16", "31.13.24.0/21", "2a03:2880::/32", "57.144.0.0/14"]);
    for (bad, why) in [
        (
            "157.240.0.1/17",
            "route 157.240.0.1/17: it has bits set beyond its length; did you mean 157.240.0.0/17?",
        ),
        ("157.0.0.0/8", "route 157.0.0.0/8: shorter than /12"),
        ("2a03::/20", "route6 2a03::/20: shorter than /28"),
        ("10.32.0.0/16", "route 10.32.0.0/16: not public: private (RFC 1918)"),
        ("2001:db8::/32", "route6 2001:db8::/32: not public: documentation (RFC 3849)"),
        ("157.240.0.0", "route 157.240.0.0: not a CIDR"),
    ] {
        let whois = Whois::answering(&(good.clone() + &own(&[bad])))?;
        Testbed::asking(&whois)?.refuses(&format!("an object of Meta's own can't be right: {why}"))?;
    }
    Ok(())
}

#[test]
fn an_answer_that_is_not_whole_is_refused() -> Result<()> {
    let whole = own(&["157.240.0.0/16", "31.13.24.0/21", "2a03:2880::/32"]);
    for length in [20, 60, whole.trim_end().len() - 30, whole.trim_end().len() - 5, whole.trim_end().len()] {
        let part = whole[..length].to_owned();
        let whois = Whois::start(move |stream| stream.write_all(part.as_bytes()))?;
        Testbed::asking(&whois)?.refuses("the answer breaks off in the middle of an object")?;
    }
    // All of it, but the connection is reset.
    let whois = Whois::start(move |stream| {
        stream.write_all(whole.as_bytes())?;
        stream.write_all(b"\n")?;
        pace(Duration::from_millis(100));
        Whois::reset(stream)
    })?;
    Testbed::asking(&whois)?.refuses("the connection broke: Connection reset by peer")?;
    Ok(())
}

#[test]
fn an_answer_without_anything_is_refused() -> Result<()> {
    for (answer, why) in [
        ("%  No entries found for the selected source(s).", "nothing is registered: none of 0 objects"),
        ("%% ERROR: Rate limit exceeded", "the registry says: ERROR: Rate limit exceeded"),
        ("HTTP/1.1 400 Bad Request", "line 1 of the answer is not RPSL: HTTP/1.1 400 Bad Request"),
    ] {
        Testbed::asking(&Whois::answering(answer)?)?.refuses(why)?;
    }
    Ok(())
}

#[test]
fn half_of_the_addresses_must_stay_in_each_family() -> Result<()> {
    let testbed = Testbed::asking(&Whois::answering(&own(&["157.240.0.0/19", "2a03:2880::/32"]))?)?;
    testbed.refuses("only 23 % of the IPv4 addresses that are configured would stay")?;
    let testbed = Testbed::asking(&Whois::answering(&own(&["157.240.0.0/16"]))?)?;
    testbed.refuses("only 0 % of the IPv6 addresses that are configured would stay")?;
    // As many addresses, but others.
    let testbed = Testbed::asking(&Whois::answering(&own(&["57.144.0.0/14", "2a03:2880::/32"]))?)?;
    testbed.refuses("only 0 % of the IPv4 addresses that are configured would stay")?;
    let said = testbed.run("prefixes diff --json")?;
    let answer: Value = serde_json::from_str(&said.stdout)?;
    assert_eq!(
        (said.code, &answer["added"], &answer["in_force"]),
        (Some(1), &json!(["57.144.0.0/14"]), &json!(4))
    );
    assert!(answer["refused"].as_str().is_some_and(|why| why.starts_with("only 0 %")), "{answer}");
    Ok(())
}

#[test]
fn a_server_that_says_nothing_is_left() -> Result<()> {
    let whois = Whois::start(|_| {
        pace(Duration::from_secs(60));
        Ok(())
    })?;
    let begun = Instant::now();
    Testbed::asking(&whois)?.refuses("it said nothing for 10 s")?;
    assert!((10..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn a_slow_drip_is_left() -> Result<()> {
    let whois = Whois::start(|stream| {
        loop {
            stream.write_all(b"%\n")?;
            pace(Duration::from_millis(200));
        }
    })?;
    let begun = Instant::now();
    Testbed::asking(&whois)?.refuses("its answer was not whole after 30 s")?;
    assert!((30..40).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn an_endless_answer_is_not_collected() -> Result<()> {
    let object = own(&["157.240.0.0/16"]).repeat(1000);
    let whois = Whois::start(move |stream| {
        loop {
            stream.write_all(object.as_bytes())?;
        }
    })?;
    Testbed::asking(&whois)?.refuses("its answer goes on after 8 MiB")?;
    Ok(())
}

#[test]
fn a_registry_that_is_not_there_is_named() -> Result<()> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let said = Testbed::new(&address)?.refuses("cannot connect: Connection refused")?;
    assert!(said.stderr.contains(&address), "{}", said.stderr);
    Ok(())
}

#[test]
fn the_registrys_name_is_asked_of_the_configured_servers() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let whois = Whois::answering(&own(&["157.240.0.0/16", "31.13.24.0/21", "2a03:2880::/32"]))?;
    let address = format!("127.0.0.1:{}", free_port()?).parse()?;
    let records = [("whois.example", "127.0.0.1".parse()?)];
    let dns = DnsServer::start(&NetNs::here(), address, &records)?;
    let servers = format!("[dns]\nservers = [\"{address}\"]\ntimeout = \"1s\"");
    let port = whois.address().port();

    let testbed = Testbed::with(&format!("whois.example:{port}"), &servers)?;
    let said = testbed.run("prefixes update")?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("+ 157.240.0.0/16"), "{}", said.stdout);
    // It answers before it logs.
    wait_until("the server logs the question", Duration::from_secs(5), || {
        Ok(dns.log().contains("query[A] whois.example"))
    })
    .with_context(|| dns.log())?;

    let testbed = Testbed::with(&format!("gone.example:{port}"), &servers)?;
    let said = testbed.refuses("cannot resolve gone.example: the DNS says Non-Existent Domain")?;
    assert!(said.stderr.contains(&format!("gone.example:{port}")), "{}", said.stderr);

    drop(dns);
    let testbed = Testbed::with(&format!("whois.example:{port}"), &servers)?;
    testbed.refuses("cannot resolve whois.example: ")?;
    Ok(())
}

#[test]
fn a_broken_state_file_is_named_and_the_list_stands() -> Result<()> {
    let whois = Whois::answering(&own(&["157.240.0.0/16", "31.13.24.0/21", "2a03:2880::/32"]))?;
    let testbed = Testbed::asking(&whois)?;
    assert_eq!(testbed.run("prefixes update")?.code, Some(0));
    let whole = std::fs::read_to_string(testbed.state())?;
    for (broken, why) in [
        (&whole[..whole.len() / 2], "makes no sense"),
        (&whole.replace("157.240.0.0/16", "10.0.0.0/12"), "10.0.0.0/12 can't be one of Meta's prefixes"),
        ("", "it does not begin with `hookgate prefixes 1`"),
    ] {
        testbed.0.write("state/prefixes", broken)?;
        let said = testbed.run("prefixes list")?;
        assert_eq!((said.code, &*said.stdout), (Some(0), LIST));
        let path = testbed.state().display().to_string();
        assert!(said.stderr.contains(&path) && said.stderr.contains(why), "{}", said.stderr);
        assert_eq!(testbed.run("check")?.code, Some(0));
    }
    assert_eq!(testbed.run("prefixes update")?.code, Some(0));
    assert_eq!(testbed.run("prefixes list")?.stderr, "");
    Ok(())
}

#[test]
fn a_state_that_can_not_be_stored_changes_nothing() -> Result<()> {
    let testbed = Testbed::asking(&Whois::answering(&own(&["157.240.0.0/16", "2a03:2880::/32"]))?)?;
    testbed.0.write("state", "a file where a folder must be")?;
    testbed.refuses(&testbed.state().display().to_string())?;
    Ok(())
}

#[test]
fn lookup_tells_metas_from_allowed_and_others() -> Result<()> {
    let testbed = Testbed::new("127.0.0.1:1")?;
    for (address, code, class, network) in [
        ("157.240.3.9", 0, "meta", Some("157.240.3.0/24")),
        ("::ffff:157.240.4.9", 0, "meta", Some("157.240.0.0/17")),
        ("2a03:2880::1", 0, "meta", Some("2a03:2880::/32")),
        ("192.0.2.7", 1, "allowed", Some("192.0.2.0/24")),
        ("8.8.8.8", 1, "other", None),
    ] {
        let said = testbed.run(&format!("prefixes lookup {address} --json"))?;
        let expected = json!({ "version": 1, "address": address, "class": class, "network": network });
        assert_eq!((said.code, serde_json::from_str::<Value>(&said.stdout)?), (Some(code), expected));
        let said = testbed.run(&format!("prefixes lookup {address}"))?;
        assert_eq!(said.code, Some(code));
        let told = said.stdout + &said.stderr;
        assert!(told.contains(network.unwrap_or(address)), "{told}");
    }
    Ok(())
}

#[test]
fn list_says_what_is_registered() -> Result<()> {
    let testbed = Testbed::asking(&Whois::answering(&own(&["157.240.0.0/17", "2a03:2880::/32"]))?)?;
    let list =
        || -> Result<Value> { Ok(serde_json::from_str(&testbed.run("prefixes list --json")?.stdout)?) };
    let row = |prefix: &str, registered: bool| json!({ "prefix": prefix, "registered": registered });
    let before = list()?;
    assert_eq!((&before["version"], &before["refreshed"]), (&json!(1), &Value::Null));
    assert_eq!(before["source"], json!(testbed.0.path().join("list")));
    assert_eq!(before["prefixes"][0], row("31.13.24.0/21", false));
    assert_eq!(testbed.run("prefixes update")?.code, Some(0));
    let after = list()?;
    assert!(after["refreshed"].as_str().is_some_and(|time| time.ends_with('Z')), "{after}");
    let rows =
        json!([row("157.240.0.0/17", true), row("157.240.3.0/24", false), row("2a03:2880::/32", true)]);
    assert_eq!(after["prefixes"], rows);
    Ok(())
}
