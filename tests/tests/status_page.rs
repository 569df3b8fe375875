//! The status page in a real browser: what it shows of a real run, and what it does not allow.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Browser, Client, End, Need, Origin, Proxy, equal, free_port, require, wait_until};
use serde_json::json;

/// A proxy that believes PROXY headers, one upstream that answers, one that is not there.
struct Testbed {
    proxy: Proxy,
    relay: SocketAddr,
    admin: SocketAddr,
    _origin: Origin,
}

impl Testbed {
    fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// `sections`: more of its configuration.
    fn start_with(sections: &str) -> Result<Self> {
        let origin = Origin::plain(|connection| {
            while connection.request()?.is_some() {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            Ok(End::Close)
        })?;
        let port = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let (relay, admin, closed) = (port()?, port()?, port()?);
        let proxy = Proxy::start(&format!(
            "[listen]\nplain = [\"{relay}\"]\nproxy_protocol_from = [\"127.0.0.0/8\"]\n[admin]\nlisten = \"{admin}\"\n{sections}\
             [upstreams]\n\"up.example\" = {{ address = \"{}\", tls = false }}\n\
             \"down.example\" = {{ address = \"{closed}\", tls = false }}\n",
            origin.address()
        ))?;
        Ok(Self { proxy, relay, admin, _origin: origin })
    }

    fn send(&self, source: &str, times: usize, start: &str, fields: &str) -> Result<()> {
        let mut client = Client::plain(self.relay)?;
        client.wire().send(format!("PROXY TCP4 {source} 192.0.2.1 40000 443\r\n"))?;
        for _ in 0..times {
            client.ask(format!("{start} HTTP/1.1\r\n{fields}Content-Length: 2\r\n\r\n{{}}"))?;
        }
        Ok(())
    }

    fn open(&self, browser: &mut Browser, path: &str) -> Result<()> {
        browser.open(&format!("http://{}{path}", self.admin))
    }
}

const FIELDS: &str = "Host: proxy.example.com\r\nUser-Agent: facebookexternalua\r\n";
const MARKUP: &str = "/<img/src='//203.0.113.1/x'/onerror='window.owned=1'><script>window.owned=2</script>/";

/// Waits until an expression is true in the page.
fn becomes(browser: &mut Browser, expression: &str) -> Result<()> {
    let look = || Ok(equal(browser.value(expression)?, json!(true)));
    if let Err(error) = wait_until(expression, Duration::from_secs(15), look) {
        let text = browser.value("document.body.innerText")?;
        anyhow::bail!("{error:#}\n{}", text.as_str().unwrap_or_default());
    }
    Ok(())
}

fn text(browser: &mut Browser, selector: &str) -> Result<String> {
    let text = browser.value(&format!("document.querySelector({selector:?}).innerText"))?;
    Ok(text.as_str().context("no text")?.to_owned())
}

#[test]
fn it_shows_what_was_sent_and_runs_nothing_of_it() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    testbed.send("157.240.1.9", 1234, "POST /up.example/webhooks/whatsapp/1", FIELDS)?;
    testbed.send("31.13.66.4", 3, "POST /down.example/webhooks/whatsapp/1", FIELDS)?;
    let nasty = "Host: proxy.example.com\r\nUser-Agent: <script>window.owned=3</script>\r\nX-Request-Id: <b>id</b>\r\n";
    testbed.send("203.0.113.77", 1, &format!("GET {MARKUP}"), nasty)?;
    testbed.send("203.0.113.77", 1, &format!("<b>POST</b> {MARKUP}"), nasty)?;

    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(&mut browser, "document.querySelectorAll('#failures tbody tr').length === 5")?;
    let tiles = text(&mut browser, "#tiles")?;
    for figure in ["1,239 in all", "99.8 %", "1,234 of Meta’s 1,237"] {
        assert!(tiles.contains(figure), "{figure} in {tiles}");
    }
    assert_eq!(text(&mut browser, "#state")?, "ready");
    let verdict = text(&mut browser, "#verdict")?;
    assert!(verdict.contains("behind this proxy") && verdict.contains("3 of 1,237"), "{verdict}");
    assert!(text(&mut browser, "#funnel-meta")?.contains("3 failed"));
    assert!(text(&mut browser, "#funnel-other")?.contains("2 refused"));
    let prefixes = text(&mut browser, "#prefixes")?;
    assert!(prefixes.contains("157.240.0.0/17") && prefixes.contains("failed 3"), "{prefixes}");
    let upstreams = text(&mut browser, "#upstreams")?;
    for part in ["up.example", "1,234", "100 %", "down.example", "502\u{a0}×\u{a0}3", "connection refused"] {
        assert!(upstreams.contains(part), "{part} in {upstreams}");
    }
    let failures = text(&mut browser, "#failures")?;
    assert!(
        failures.contains(MARKUP) && failures.contains("/down.example/webhooks/whatsapp/1"),
        "{failures}"
    );
    assert_eq!(browser.value("document.querySelectorAll('img, b, main script').length")?, json!(0));
    assert_eq!(browser.value("typeof window.owned")?, json!("undefined"));

    // Further requests are shown a few seconds later, and the other address is the same page.
    testbed.send("157.240.1.9", 6, "POST /up.example/webhooks/whatsapp/1", FIELDS)?;
    becomes(&mut browser, "document.querySelector('#tiles').innerText.includes('1,240 of Meta’s 1,243')")?;
    testbed.open(&mut browser, "/status")?;
    becomes(&mut browser, "document.querySelector('#state')?.innerText === 'ready'")?;

    let elsewhere = browser.requested().into_iter().filter(|url| {
        !url.starts_with(&format!("http://{}/", testbed.admin))
            && !url.starts_with("data:")
            && url != "about:blank"
    });
    assert_eq!(elsewhere.collect::<Vec<_>>(), [""; 0]);
    assert!(browser.requested().iter().filter(|url| url.ends_with("/status.json")).count() >= 3);
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(browser.value("document.cookie + localStorage.length")?, json!("0"));
    Ok(())
}

/// Shows what a scan would have told: one upstream with all that can be wrong, one without, and an
/// id that is markup. The page asks for no more figures then.
const SHOW_MESSAGES: &str = r#"(() => {
    clearTimeout(timer);
    ask = askHistory = async () => {};
    const since = new Date(Date.now() - 7200000).toISOString(), last = new Date(Date.now() - 5000).toISOString();
    const row = (upstream, product, change) => ({ upstream, product, outstanding: 0, batches: 0, without_number: 0, numbers: [],
        outcomes: { delivered: 1234, recovered: 0, lost: 0, unknown: 0, duplicate: 0 }, chains: { complete: 0, sent_missing: 0, unknown: 0 },
        recovered_seconds: { p50: null, p90: null, p99: null }, lag_seconds: { p50: null, p90: null, p99: null }, ...change });
    const numbers = Array.from({ length: 12 }, (_, n) => ({ id: `10000000000000${n}`, last, quiet_since: null }));
    numbers[11] = { id: "<img src=x onerror='window.owned=4'>", last: since, quiet_since: since };
    messages({ version: 1, taken: last, horizon_seconds: 604800, unscanned: { compressed: 3, not_json: 0 }, upstreams: [
        row('good.example', 'messenger', {}),
        row('bad.example', 'whatsapp', { outstanding: 1, outcomes: { delivered: 5, recovered: 4, lost: 3, unknown: 2, duplicate: 1 }, numbers,
            lag_seconds: { p50: 2, p90: 300, p99: 604800 }, chains: { complete: 120, sent_missing: 7, unknown: 1 } })] });
    const point = (minute, more) => ({ start: `2026-11-24T16:${minute}:00Z`, attempts: 0, attempts_lost: 0, posts: 0, posts_lost: 0,
        messages: { events: 9, lag_seconds: null, delivered: 9, recovered: 0, lost: 0, unknown: 0, duplicate: 0, outstanding: 0,
            quiet_numbers: 0, chains_complete: 4, chains_sent_missing: 0, ...more } });
    for (const id of ['messages-48', 'messages-60']) messagesChart(id, { version: 1, from: '2026-11-24T16:00:00Z', to: '2026-11-24T17:00:00Z', step_seconds: 1200,
        points: [point('00', {}), point('20', { lag_seconds: 420.5, lost: 1, recovered: 2, outstanding: 2.5, quiet_numbers: 1, chains_sent_missing: 1 }), point('40', { lag_seconds: 1.25 })] });
})()"#;

#[test]
fn messages_are_shown_with_what_is_wrong_first() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(
        &mut browser,
        "document.querySelector('#messages-lead')?.innerText === 'No event of Meta’s has come yet.'",
    )?;
    becomes(&mut browser, "document.querySelectorAll('#messages-48 figure').length === 5")?;
    assert_eq!(browser.value("document.querySelectorAll('#messages-48 rect').length")?, json!(0));

    browser.value(SHOW_MESSAGES)?;
    let lead = text(&mut browser, "#messages-lead")?;
    assert!(lead.starts_with("1 number is quiet; 3 events are lost; 1 event is outstanding"), "{lead}");
    let first = text(&mut browser, "#messages tbody tr")?;
    for part in ["bad.example", "whatsapp", "over 2 d", "7 of 127 without “sent”", "and 8 more"] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(first.find("<img").context("no quiet number")? < first.find("100000000000000").context("none")?);
    assert_eq!(browser.value("document.querySelectorAll('img').length")?, json!(0));
    let more = text(&mut browser, "#messages-more")?;
    assert!(
        more.contains("7 d back") && more.contains("compressed 3") && !more.contains("not json"),
        "{more}"
    );

    let charts = text(&mut browser, "#messages-60")?;
    for part in [
        "highest 7 min, latest 1.3 s",
        "delivered 27, recovered 2, unknown 0, lost 1; duplicate 0",
        "outstanding: highest 2.5, latest 0",
        "quiet numbers: highest 1, latest 0",
        "complete 12, without “sent” 1",
    ] {
        assert!(charts.contains(part), "{part} in {charts}");
    }
    let bars = browser
        .value("[...document.querySelectorAll('#messages-60 svg')].map(svg => svg.childElementCount)")?;
    assert_eq!(bars, json!([2, 5, 1, 1, 4]), "a bar for each that is not 0");
    assert_eq!(browser.complaints(), [""; 0]);
    Ok(())
}

#[test]
fn it_says_that_bodies_are_not_scanned() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let testbed = Testbed::start_with("[insight]\nstate = \"insight\"\nmessages = false\n")?;
    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(
        &mut browser,
        "document.querySelector('#messages-lead')?.innerText.startsWith('Bodies are not scanned')",
    )?;
    assert_eq!(browser.value("document.querySelector('#messages-figures').checkVisibility()")?, json!(false));
    Ok(())
}

#[test]
fn its_policy_lets_nothing_else_run() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(&mut browser, "document.querySelector('#state')?.innerText === 'ready'")?;
    browser.value(
        "{ const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s);
           const i = document.createElement('img'); i.src = 'http://127.0.0.2:1/x'; document.body.append(i);
           document.body.insertAdjacentHTML('beforeend', '<p onclick=\"window.owned = 2\" id=p>x</p>');
           document.getElementById('p').click(); }",
    )?;
    let fetched = browser.value("fetch('http://127.0.0.2:1/').then(() => 'fetched', () => 'refused')")?;
    assert_eq!(fetched, json!("refused"));
    assert_eq!(browser.value("typeof window.owned")?, json!("undefined"));
    let complaints = browser.complaints().join("\n");
    for directive in ["script-src", "img-src", "connect-src"] {
        assert!(complaints.contains(directive), "{directive} in {complaints}");
    }
    Ok(())
}

#[test]
fn one_upstream_can_be_looked_at_without_a_mouse() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    testbed.send("157.240.1.9", 2, "POST /up.example/a", FIELDS)?;
    testbed.send("157.240.1.9", 2, "POST /down.example/b", FIELDS)?;
    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(&mut browser, "document.querySelectorAll('#upstreams tbody tr').length === 2")?;
    for _ in 0..20 {
        browser.press("Tab", "\t", 9)?;
        if browser.value("document.activeElement.id")? == "upstream" {
            break;
        }
    }
    assert_eq!(browser.value("document.activeElement.id")?, json!("upstream"));
    assert_ne!(browser.value("getComputedStyle(document.activeElement).outlineStyle")?, json!("none"));
    for letter in "DOWN.example".chars() {
        browser.press(&letter.to_string(), &letter.to_string(), 0)?;
    }
    browser.press("Enter", "\r", 13)?;
    becomes(&mut browser, "document.querySelectorAll('#upstreams tbody tr').length === 1")?;
    assert!(text(&mut browser, "#upstreams")?.contains("down.example"));
    assert_eq!(browser.value("document.querySelectorAll('#failures tbody tr').length")?, json!(2));
    assert_eq!(browser.complaints(), [""; 0]);
    Ok(())
}

#[test]
fn it_says_when_the_proxy_is_gone() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let mut testbed = Testbed::start()?;
    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(&mut browser, "document.querySelector('#state')?.innerText === 'ready'")?;
    assert_eq!(browser.value("document.querySelector('#contact').hidden")?, json!(true));
    testbed.proxy.stop()?;
    becomes(&mut browser, "!document.querySelector('#contact').hidden")?;
    assert!(text(&mut browser, "#contact")?.starts_with("Lost contact with hookgate"));
    assert_eq!(text(&mut browser, "#state")?, "no contact");
    Ok(())
}

/// Text whose contrast with what lies behind it is below what WCAG 2 asks for (1.4.3: 4.5), and
/// what else can be measured.
const FLAWS: &str = r"(() => {
    const flaws = [], say = (what, of) => flaws.push(`${what}: ${of.outerHTML.slice(0, 120)}`);
    const rgb = colour => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } };
    let texts = 0;
    for (const e of document.querySelectorAll('body *')) {
        if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        const [one, other] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
        texts++;
        if ((one + 0.05) / (other + 0.05) < 4.5) say(`contrast ${((one + 0.05) / (other + 0.05)).toFixed(2)}`, e);
    }
    if (texts < 50) flaws.push(`only ${texts} texts`);
    if (document.documentElement.lang !== 'en') flaws.push('no language');
    if (document.querySelectorAll('h1').length !== 1) flaws.push('not one h1');
    for (const t of document.querySelectorAll('table')) if (!t.querySelector('thead th[scope=col]')) say('no header', t);
    for (const i of document.querySelectorAll('input')) if (!i.labels.length) say('no label', i);
    for (const s of document.querySelectorAll('.scroll')) if (s.tabIndex !== 0) say('no keyboard reaches it', s);
    if (document.documentElement.scrollWidth > innerWidth) flaws.push(`${document.documentElement.scrollWidth} px wide in ${innerWidth}`);
    return flaws;
})()";

#[test]
fn it_can_be_read_in_light_and_dark_and_on_a_phone() -> Result<()> {
    if !require(&[Need::Program("chromium")]) {
        return Ok(());
    }
    let testbed = Testbed::start()?;
    testbed.send("157.240.1.9", 3, "POST /up.example/a", FIELDS)?;
    testbed.send("157.240.1.9", 2, "POST /down.example/b", FIELDS)?;
    testbed.send("203.0.113.77", 1, &format!("GET /{}", "long".repeat(100)), FIELDS)?;
    let mut browser = Browser::start()?;
    testbed.open(&mut browser, "/")?;
    becomes(&mut browser, "document.querySelectorAll('#failures tbody tr').length === 3")?;
    browser.value(SHOW_MESSAGES)?;
    for width in [360, 768, 1280] {
        for scheme in ["light", "dark"] {
            browser.look(width, scheme)?;
            let flaws = browser.value(FLAWS)?;
            ensure!(flaws == json!([]), "{width} px, {scheme}: {flaws:#}");
        }
    }
    // The measure measures.
    browser.value("document.querySelector('#verdict').style.color = 'rgb(90, 90, 90)'")?;
    browser.look(1280, "dark")?;
    assert_ne!(browser.value(FLAWS)?, json!([]));
    Ok(())
}

#[test]
fn without_scripts_it_says_where_the_figures_are() -> Result<()> {
    let testbed = Testbed::start()?;
    let page = harness::ask_admin(testbed.admin, "/")?;
    let (status, html) = (page.status(), String::from_utf8(page.body.clone())?);
    assert_eq!((status, html.contains("<noscript>"), html.contains("status.json")), (200, true, true));
    let policy = page.field("Content-Security-Policy").context("no policy")?;
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    // A form on a foreign page can only send.
    let mut stream = TcpStream::connect(testbed.admin)?;
    write!(stream, "POST /reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", testbed.admin)?;
    let answer = std::io::read_to_string(stream)?;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    Ok(())
}
