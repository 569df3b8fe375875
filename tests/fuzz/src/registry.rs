use std::collections::BTreeSet;
use std::net::IpAddr;

use hookgate::prefixes::{Network, Registered};

/// A stranger's object, which names Meta's network as its origin.
const OF_A_STRANGER: &str =
    "\n\nroute: 198.41.128.0/17\norigin: AS32934\nmnt-by: MAINT-STRANGER\nsource: RADB\n\n\n";
/// The most that is said of an answer that is refused.
const MAX_SAID_BYTES: usize = 4096;

/// Registered for Meta is what another reader of RPSL finds, and nothing a stranger adds changes
/// that.
pub fn check(bytes: &[u8]) {
    let read = Registered::read(bytes);
    assert_eq!(read.as_ref().ok().map(|answer| &answer.networks), plain(bytes).as_ref());
    match read {
        Ok(answer) => {
            let more = Registered::read(&[bytes, OF_A_STRANGER.as_bytes()].concat());
            let more = more.unwrap_or_else(|bad| panic!("a stranger spoils an answer: {bad}"));
            assert_eq!(more.networks, answer.networks);
            assert_eq!(more.left_out.len(), answer.left_out.len() + 1);
            let checked = Registered::checked(answer.networks.clone());
            assert_eq!(checked.map(|checked| checked.networks), Ok(answer.networks));
        }
        Err(bad) => {
            let said = bad.to_string();
            assert!(!said.is_empty() && said.len() <= MAX_SAID_BYTES, "{} bytes: {said}", said.len());
            assert!(!said.contains(char::is_control), "{said:?}");
        }
    }
}

/// Name in lower case, and value.
type Attribute = (String, String);

/// Meta's own prefixes; `None` where the answer must not be used.
fn plain(bytes: &[u8]) -> Option<BTreeSet<Network>> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let lines = lines.collect::<Vec<_>>();
    if lines.iter().any(|line| line.starts_with("%%") || line.starts_with("%ERROR"))
        || lines.last() != Some(&"")
    {
        return None;
    }
    let objects = objects(&lines)?;
    let has_source = |object: &Vec<Attribute>| object.iter().any(|(name, _)| name == "source");
    if !objects.last().is_none_or(has_source) {
        return None;
    }
    let networks = objects.iter().filter(|object| is_metas(object)).map(|object| network(&object[0]));
    networks.collect::<Option<BTreeSet<_>>>().filter(|networks| !networks.is_empty())
}

/// RFC 2622 §2: attributes by paragraphs; a line that begins with white space or `+` goes on with
/// the one before.
fn objects(lines: &[&str]) -> Option<Vec<Vec<Attribute>>> {
    let mut objects: Vec<Vec<Vec<&str>>> = vec![Vec::new()];
    for line in lines {
        let object = objects.last_mut()?;
        match line.as_bytes().first() {
            None => objects.push(Vec::new()),
            Some(b'%' | b'#') => {}
            Some(b' ' | b'\t' | b'+') => object.last_mut()?.push(before_comment(&line[1..])),
            Some(_) => object.push(vec![before_comment(line)]),
        }
    }
    objects.retain(|object| !object.is_empty());
    let attribute = |parts: &Vec<&str>| {
        let (name, first) = parts[0].split_once(':')?;
        let mut letters = name.bytes();
        let is_name = letters.next()?.is_ascii_alphabetic()
            && letters.all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let values = [first].into_iter().chain(parts[1..].iter().copied()).map(str::trim);
        let value = values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(" ");
        is_name.then(|| (name.to_ascii_lowercase(), value))
    };
    objects.iter().map(|object| object.iter().map(attribute).collect()).collect()
}

fn before_comment(line: &str) -> &str {
    line.find('#').map_or(line, |at| &line[..at])
}

fn is_metas(object: &[Attribute]) -> bool {
    let values = |wanted: &str| {
        let values = object.iter().filter(|(name, _)| name == wanted);
        values.map(|(_, value)| value.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let metas: &[&str] = match values("source").as_slice() {
        [source] if source == "radb" => &["maint-as32934"],
        [source] if source == "ripe" => &["fb-neteng", "facebook-neteng", "meta-mnt"],
        _ => return false,
    };
    let maintainers = values("mnt-by").join(",");
    let mut maintainers = maintainers.split(',').map(str::trim).filter(|name| !name.is_empty()).peekable();
    ["route", "route6"].contains(&&*object[0].0)
        && values("origin") == ["as32934"]
        && maintainers.peek().is_some()
        && maintainers.all(|name| metas.contains(&name))
}

fn network((class, key): &Attribute) -> Option<Network> {
    let (address, length) = key.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = length.bytes().all(|b| b.is_ascii_digit());
    let network = Network::new(address, length.parse().ok().filter(|_| digits)?).ok()?;
    (address.is_ipv4() == (class == "route") && network.unlikely().is_none()).then_some(network)
}
