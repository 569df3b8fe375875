//! Where a search begins: what the tests' data says about each target.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

#[path = "../../data/escapes.rs"]
mod escapes;

use crate::connection::{AND_THE_UPSTREAM, UPSTREAM};
use crate::{config, packet};
use escapes::unescape;

/// The inputs for `target` that the repository's tests have.
///
/// # Panics
/// The tests' data is not there, or not as it should be.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "head" => [cases("heads.toml", "head"), samples()].concat(),
        "response" => cases("responses.toml", "head"),
        "chunked" => cases("bodies.toml", "body"),
        "proxy_protocol" => proxy_headers(),
        "target" => cases("targets.toml", "target"),
        "config" => configurations(),
        "packet" => packet::frames().collect(),
        "registry" => registry_answers(),
        "nginx" => nginx_files(),
        "redact" => paths(),
        "authority" => authority_answers(),
        "message" => MESSAGES.iter().map(|line| line.as_bytes().to_vec()).collect(),
        "control" => control_records(),
        "scan" => bodies(),
        _ => conversations(),
    }
}

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(file)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What `key` is in every case of `file`; the longest are for tests alone.
fn cases(file: &str, key: &str) -> Vec<Vec<u8>> {
    const MAX_SEED_BYTES: usize = 2048;
    let text = read(&data(file));
    let table = DeTable::parse(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let cases = table.get_ref().get("case").and_then(|cases| cases.get_ref().as_array());
    let cases = cases.unwrap_or_else(|| panic!("{file} has no [[case]]"));
    let value =
        |case: &toml::Spanned<DeValue<'_>>| Some(unescape(case.get_ref().get(key)?.get_ref().as_str()?));
    cases.iter().filter_map(value).filter(|bytes| bytes.len() <= MAX_SEED_BYTES).collect()
}

/// The heads of real webhooks.
fn samples() -> Vec<Vec<u8>> {
    let folder = data("requests");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let heads = paths.filter(|path| path.extension().is_some_and(|extension| extension == "http"));
    heads.map(|path| read(&path).into_bytes()).collect()
}

/// What is wrong in one way, and every setting alone.
fn configurations() -> Vec<Vec<u8>> {
    cases("broken_configs.toml", "text").into_iter().chain(config::spelled_seeds()).collect()
}

fn proxy_headers() -> Vec<Vec<u8>> {
    let v2 = |fixed: [u8; 4], rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", &fixed[..], rest].concat();
    let v4 = [157, 240, 1, 1, 10, 0, 0, 1, 0x30, 0x39, 1, 187];
    let ssl = [&v4[..], &[0x03, 0, 1, 9, 0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    vec![
        b"PROXY TCP4 157.240.1.1 10.0.0.1 12345 443\r\nGET".to_vec(),
        b"PROXY TCP6 2a03:2880::1 ::1 80 443\r\n".to_vec(),
        b"PROXY UNKNOWN whatever\r\n".to_vec(),
        v2([0x21, 0x11, 0, 12], &v4),
        v2([0x21, 0x21, 0, 36], &[7; 36]),
        v2([0x21, 0x11, 0, 24], &ssl),
        v2([0x20, 0, 0, 0], b""),
    ]
}

/// Every answer of the tests', with the blank lines that end one, and every object in them alone.
fn registry_answers() -> Vec<Vec<u8>> {
    let answers = cases("registry.toml", "answer");
    let texts = answers.iter().map(|answer| String::from_utf8_lossy(answer).into_owned()).collect::<Vec<_>>();
    let objects = texts.iter().flat_map(|text| text.split("\n\n")).collect::<BTreeSet<_>>();
    let ended = |text: &str| format!("{text}\n\n\n").into_bytes();
    texts.iter().map(|text| ended(text)).chain(objects.into_iter().map(ended)).collect()
}

/// The set-ups of the tests', and their servers alone.
fn nginx_files() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut folders = vec![data("nginx"), data("import")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "toml" => {}
                _ => files.push(read(&path).into_bytes()),
            }
        }
    }
    files.sort();
    files.extend(NGINX_LINES.iter().map(|line| line.as_bytes().to_vec()));
    let server =
        |line: &&str| format!("server {{ listen 443 ssl; location / {{ proxy_pass https://$h; }} {line} }}");
    files.extend(NGINX_LINES.iter().map(|line| server(line).into_bytes()));
    files
}

/// Directives that mean something to hookgate.
const NGINX_LINES: [&str; 16] = [
    "map $h $ok { default 0; a.example 1; '~^b\\.example$' 1; *.c.example 1; }",
    "map $h $to { d.example https://10.0.0.1:8443; \"e\\\"x.example\" 10.0.0.2:80; }",
    "server { listen 80; return 301 https://$host$request_uri; }",
    "server { listen [::]:443 ssl proxy_protocol; location /f.example/ { proxy_pass https://f.example/; } }",
    "server { listen 8080; location ~ ^/(g\\.example)(/.*)$ { proxy_pass http://$1$2; } }",
    "server { location / { if ($h !~ ^(a|b)\\.example$) { return 403; } proxy_pass https://$h; } }",
    "upstream pool { server 10.0.0.1:80; server 10.0.0.2:80; }",
    "resolver 1.1.1.1 [::1]:53 valid=300s; resolver_timeout 5s;",
    "client_max_body_size 10m; client_header_timeout 1m30s; proxy_read_timeout 500ms;",
    "large_client_header_buffers 4 8k; access_log off; keepalive_timeout 75s;",
    "set_real_ip_from 10.0.0.0/8; real_ip_header proxy_protocol;",
    "ssl_certificate /etc/a.pem; ssl_certificate_key \"/etc/a key.pem\"; ssl_client_certificate /ca.pem;",
    "server_name 'two\nlines' a.example;",
    "location /.well-known/acme-challenge/ { root /var/www/certbot; }",
    "proxy_ssl_trusted_certificate /etc/ca.pem; proxy_ssl_verify on;",
    "include /etc/nginx/sites-enabled/*;",
];

/// Bodies of webhooks, except the largest.
fn bodies() -> Vec<Vec<u8>> {
    const MAX_SEED_BYTES: usize = 4096;
    let folder = data("payloads");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths = entries.map(|entry| entry.expect("a readable folder").path()).collect::<Vec<_>>();
    paths.sort();
    let payloads = paths.iter().map(|path| read(path).into_bytes());
    let payloads = payloads.filter(|body| body.len() <= MAX_SEED_BYTES);
    // One byte from what is no UTF-8.
    let bounds = b"[\"\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe0\xa0\x80\xf0\x90\x80\x80\xc2\x80\"]".to_vec();
    let others = BODIES.iter().map(|body| body.as_bytes().to_vec()).chain([bounds]);
    payloads
        .chain(others)
        .chain([64, 65].map(|depth| [b"[".repeat(depth), b"]".repeat(depth)].concat()))
        .collect()
}

/// What the payloads do not have.
const BODIES: [&str; 11] = [
    // One byte from members that are no duplicates.
    r#"{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"1"},"messages":[{"id":"a","from":"5"}],"metadata":{"phone_number_id":"2"},"messages":[{"id":"b","from":"5","id":"c"}]}}]}]}"#,
    r#"{"object":"page","entry":[{"id":"1","messaging":[{"sender":{"id":"8"},"read":{"watermark":1},"sender":{"id":"9"},"read":{"watermark":2}}],"messaging":[{"message":{"mid":"a"},"message":{"mid":"b"}}]}]}"#,
    r#"{"object":"page","entry":[{"id":"1","time":1,"messaging":[{"sender":{"id":"9"},"delivery":{"mids":["a"],"watermark":1}}]}]}"#,
    r#"{"object":"page","entry":[{"standby":[{"sender":{"id":"9"},"delivery":{"watermark":1}},{"read":{"mid":"a"}}]}]}"#,
    r#"{"object":"page","entry":[{"messaging":[{"sender":{"id":"9"},"read":{"watermark":1}},{"message":{"mid":"a","is_deleted":true}}]}]}"#,
    r#"{"object":"instagram","entry":[{"messaging":[{"message_edit":{"mid":"a","num_edit":1}},{"reaction":{"mid":"a"}},{"postback":{"mid":"a"}}]}]}"#,
    r#"{"object":"instagram","entry":[{"id":"17","time":1795539700,"changes":[{"field":"comments","value":{"id":"c","from":{"id":"1"}}}]}]}"#,
    r#"{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"standby","value":{"statuses":[{"id":"a","recipient_user_id":"b","status":"played"}]}}]}]}"#,
    r#"{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"smb_message_echoes","value":{"message_echoes":[{"id":"a"}]}}]}]}"#,
    r#"{"entry":[{"messaging":[{}]}],"\u0065ntry":[{"messaging":[{"message":{"mid":"\ud83d\ude00\n"}}]}]}"#,
    "[-0.1e+5, true, false, null, \"\u{e9}\u{1f33b}\", 0]",
];

/// Targets as they come, with tokens and what looks like some.
fn paths() -> Vec<Vec<u8>> {
    let tokens = [
        "/a?hub.mode=subscribe&hub.challenge=1&hub.verify_token=x",
        "/a?hub_verify_token=x;y=2&z=3",
        "/a?x=1%26hub.verify_token%3Dx",
        "/a%3Fhub%2Everify%5ftoken=x",
        "/a?x=1?Hub.Verify_Token=x=y",
        "/a;hub[verify_token]=x/b",
        "/verify_token/a?x=1",
        "/a?verify=token=x",
        "/a?verify%26token=x",
        "/a?verify_tok%65n=x",
        "/a?v%+erify_token=x",
        "/a?hub.verify_token",
        "/a?%zz=1&%",
        "/a?token=x&verify=y",
    ];
    let targets = cases("targets.toml", "target");
    tokens.iter().map(|path| path.as_bytes().to_vec()).chain(targets).collect()
}

/// Responses with a body, and what authorities say in one.
fn authority_answers() -> Vec<Vec<u8>> {
    let problem = |kind: &str| {
        let body = format!(
            "{{\"type\":\"urn:ietf:params:acme:error:{kind}\",\"detail\":\"no\\nmore\",\"status\":403,\
             \"subproblems\":[{{\"type\":\"x\",\"detail\":\"y\",\"identifier\":{{\"type\":\"dns\",\"value\":\"a.b\"}}}}]}}"
        );
        let head =
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nRetry-After: 3600\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        [body.into_bytes(), answer.into_bytes()]
    };
    let kinds = ["invalidContact", "rateLimited", "caa", "userActionRequired", "badNonce"];
    let said = kinds.iter().flat_map(|kind| problem(kind));
    let responses = cases("responses.toml", "head").into_iter().map(|head| [&head[..], b"ok"].concat());
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nLocation: /a\r\n\r\n";
    let bodies = cases("bodies.toml", "body").into_iter().map(|body| [&chunked[..], &body].concat());
    let others = [
        &b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 201 C\r\nReplay-Nonce: a\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.0 503 X\r\nRetry-After: Sat, 29 Nov 2031 19:43:31 GMT\r\n\r\nto the end",
        b"HTTP/1.1 429 X\r\nRetry-After: 9223372036854775807\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 204 N\r\nConnection: close\r\n\r\n",
    ];
    said.chain(responses).chain(bodies).chain(others.map(<[u8]>::to_vec)).collect()
}

/// Each kind of message at least once.
const MESSAGES: [&str; 24] = [
    "\"Configuration\"",
    "\"InForce\"",
    "{\"Open\":\"/etc/ssl/a.pem\"}",
    "\"Roots\"",
    "{\"Bind\":\"192.0.2.1:443\"}",
    "{\"Bind\":\"[::1%0]:443\"}",
    "\"AdminSocket\"",
    "{\"State\":[\"/var/lib/a\",\"Prepare\"]}",
    "{\"State\":[\"/var/lib/a\",{\"Read\":\"account\"}]}",
    "{\"State\":[\"/var/lib/a\",{\"Replace\":[\"account\",\"text\\nmore\"]}]}",
    "{\"State\":[\"/var/lib/a\",{\"Beside\":\"pem\"}]}",
    "{\"State\":[\"/var/lib/a\",\"Lock\"]}",
    "{\"Refreshed\":[\"157.240.0.0/17\",\"2a03:2880::/32\"]}",
    "{\"Tell\":\"Ready\"}",
    "{\"Tell\":\"Alive\"}",
    "\"PutListInForce\"",
    "\"Reload\"",
    "\"Stop\"",
    "{\"Ok\":null}",
    "{\"Ok\":\"text\"}",
    "{\"Ok\":[\"a\",\"b\"]}",
    "{\"Ok\":{\"rows\":[[\"157.240.0.0/17\",1]],\"words\":\"eth0\"}}",
    "{\"Ok\":{\"standing\":{\"configured\":[\"157.240.0.0/17\"],\"refresh\":null},\"rows\":null}}",
    "{\"Err\":{\"code\":13,\"why\":\"denied\"}}",
];

/// For each role, each message alone, in parts, after another, and out of place.
fn control_records() -> Vec<Vec<u8>> {
    const SAID: [&[u8]; 14] = [
        &[0, 2, 1, 0],
        &[0, 2, 2, 40],
        &[0, 2, 1, 90, 0, 2, 1, 100],
        &[0, 1, 1, 0, 1, 0],
        &[0, 2, 3, 0],
        &[0, 10, 1, 90, 1, 90, 1, 90, 1, 90, 1, 90],
        &[1, 7, 4, 0, 0, 3, b'a', b'b', b'c'],
        &[1, 5, 4, 0, 0, 3, b'a', 1, 2, b'b', b'c'],
        &[1, 5, 24, 0, 0, 1, 1],
        &[1, 10, 24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
        &[1, 5, 24, 0, 0, 1, 2],
        &[1, 4, 0, 0, 0, 0],
        &[1, 4, 4, 1, 0, 1],
        &[1, 1, 4, 0, 2, 1, 0],
    ];
    let with = |flags: u8| SAID.map(|records| [&[flags][..], records].concat());
    (0..4).flat_map(with).collect()
}

/// Every response to the same request, and every body in a request.
fn conversations() -> Vec<Vec<u8>> {
    let said = |request: &[u8], response: &[u8]| [request, AND_THE_UPSTREAM, response].concat();
    let get = format!("GET /{UPSTREAM}/x HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let post =
        format!("POST /{UPSTREAM}/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies = cases("bodies.toml", "body");
    let old = format!("GET /{UPSTREAM}/x HTTP/1.0\r\n\r\n").into_bytes();
    let responses =
        cases("responses.toml", "head").into_iter().map(|head| said(&get, &[&head[..], b"ok"].concat()));
    let refused =
        format!("POST /other.example/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", get.len());
    let refused = said(&[refused.as_bytes(), &get, &get].concat(), ok);
    let pipelined =
        said(&[&post[..], b"2\r\nhi\r\n0\r\n\r\n", &get, &post, b"1\r\nx\r\n0\r\n\r\n"].concat(), ok);
    let requests = cases("heads.toml", "head").into_iter().map(|head| said(&head, ok));
    let uploads = bodies.iter().map(|body| said(&[&post[..], body].concat(), ok));
    let elsewhere = String::from_utf8_lossy(&post).replace(UPSTREAM, "other.example").into_bytes();
    let refused_uploads = bodies.iter().map(|body| said(&[&elsewhere[..], body, &get, &get].concat(), ok));
    let downloads = bodies.iter().map(|body| said(&get, &[&chunked[..], body].concat()));
    let to_old = bodies.iter().map(|body| said(&old, &[&chunked[..], body].concat()));
    responses
        .chain(requests)
        .chain(uploads)
        .chain(refused_uploads)
        .chain(downloads)
        .chain(to_old)
        .chain([pipelined, refused])
        .collect()
}
