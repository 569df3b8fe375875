//! Configurations made at random from a grammar of the constructs that relays are made of.

use anyhow::{Context, Result, ensure};
use harness::{Need, require};

use super::differential::{compare, ensure_consistent};
use super::peer::Peer;
use super::testbed::Testbed;

const NEEDS: [Need; 3] = [Need::Root, Need::Program("nginx"), Need::Program("dnsmasq")];
const HOSTS: [&str; 4] = ["a.example.com", "b.example.com", "c.example.net", "tenant"];

const LISTENERS: [&str; 5] = [
    "listen 8080;",
    "listen 8080;",
    "listen 8080; listen 127.0.0.1:8081;",
    "listen 8080; listen 8443 ssl; ssl_certificate @DIR@/proxy-cert.pem; ssl_certificate_key @DIR@/proxy-key.pem;",
    "listen 8443 ssl; ssl_certificate @DIR@/proxy-cert.pem; ssl_certificate_key @DIR@/proxy-key.pem; \
     ssl_client_certificate @DIR@/client-ca.pem; ssl_verify_client optional;",
];

/// A generator of numbers that is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn host(&mut self) -> &'static str {
        self.pick(&HOSTS)
    }

    fn pattern(&mut self) -> String {
        let first = self.host().replace('.', "\\.");
        let other = self.host().replace('.', "\\.");
        match self.below(5) {
            0 => format!("^({first}|{other})$"),
            1 => format!("^{first}$"),
            2 => "^[ab]\\.example\\.com$".to_owned(),
            3 => format!("^{}", self.host()),
            _ => "\\.example\\.com$".to_owned(),
        }
    }
}

/// A map from hosts to `values`.
fn map(numbers: &mut Numbers, source: &str, target: &str, values: &[&str]) -> String {
    let mut text = format!("    map {source} {target} {{\n");
    if numbers.once_in(4) {
        text += "        hostnames;\n";
    }
    if numbers.once_in(5) {
        text += "        volatile;\n";
    }
    if !numbers.once_in(4) {
        text += &format!("        default {};\n", numbers.pick(values));
    }
    let mut keys = Vec::new();
    for _ in 0..1 + numbers.below(4) {
        let key = match numbers.below(5) {
            0 => format!("\"~{}\"", numbers.pattern()),
            1 => format!("\"~*{}\"", numbers.pattern()),
            2 => numbers.pick(&["*.example.net", ".example.com", "b.*"]).to_owned(),
            _ => numbers.host().to_owned(),
        };
        if !keys.contains(&key) {
            text += &format!("        {key} {};\n", numbers.pick(values));
            keys.push(key);
        }
    }
    text + "    }\n"
}

fn guard(numbers: &mut Numbers) -> String {
    let host = numbers.host();
    let condition = match numbers.below(14) {
        11 => "$ssl_client_verify != SUCCESS".to_owned(),
        12 => "$scheme = http".to_owned(),
        0 => "$ok = 0".to_owned(),
        1 => "$ok != 1".to_owned(),
        2 => "$ok".to_owned(),
        3 => format!("$up !~ {}", numbers.pattern()),
        4 => format!("$up ~* {}", numbers.pattern()),
        5 => format!("$up = {host}"),
        6 => format!("$up != {host}"),
        7 => "$to = \"\"".to_owned(),
        8 => "$rest ~ ^/(super_admin|rails)".to_owned(),
        9 => "$request_method = DELETE".to_owned(),
        10 => "$http_x_key != secret".to_owned(),
        _ => "$request_uri ~ \\.php".to_owned(),
    };
    let action = match numbers.below(10) {
        4 => "rewrite ^/[^/]+(/.*)$ /b.example.com$1 last;".to_owned(),
        5 => "set $to $up; set $ok yes;".to_owned(),
        0 => "set $ok 1;".to_owned(),
        1 => "set $up b.example.com;".to_owned(),
        2 => "return 200 \"here\";".to_owned(),
        3 => "break;".to_owned(),
        _ => format!("return {};", numbers.pick(&["403", "404", "444"])),
    };
    format!("if ({condition}) {{ {action} }}")
}

fn pass(numbers: &mut Numbers, has_expression: bool) -> String {
    let host = numbers.host();
    let mut text = String::new();
    if !numbers.once_in(3) {
        let value = numbers.pick(&["$up", "$up", "$host", "$proxy_host", "vhost.example.com"]);
        text += &format!("            proxy_set_header Host {value};\n");
    }
    let url = match numbers.below(9) {
        0 => "http://$up$rest".to_owned(),
        1 => "http://$up".to_owned(),
        2 => "http://$to$rest$is_args$args".to_owned(),
        3 if !has_expression => format!("http://{host}/"),
        4 if !has_expression => "http://10.20.0.9:3000/".to_owned(),
        5 if !has_expression => format!("http://{host}"),
        6 => "http://pool".to_owned(),
        _ => "http://$up$rest$is_args$args".to_owned(),
    };
    text + &format!("            proxy_pass {url};\n")
}

/// A condition with a destination of its own.
fn other_pass(numbers: &mut Numbers) -> String {
    let condition = numbers.pick(&["$up = b.example.com", "$ok", "$http_x_key", "$rest ~ ^/webhooks"]);
    let url = numbers.pick(&["http://10.20.0.9:3000", "http://$up$rest$is_args$args", "http://pool"]);
    format!("if ({condition}) {{ proxy_pass {url}; }}")
}

fn location(numbers: &mut Numbers, depth: usize) -> String {
    let host = numbers.host();
    let escaped = host.replace('.', "\\.");
    let (head, has_expression) = match numbers.below(12) {
        0 => (format!("location /{host}/"), false),
        1 => (format!("location ^~ /{host}/"), false),
        2 => (format!("location = /{host}/x"), false),
        3 => (format!("location ~ ^/(?<up>{escaped})(?<rest>/.*)$"), true),
        4 => ("location ~* \\.php$".to_owned(), true),
        5 => ("location ~ ^/[^/]+/(super_admin|webhooks)(/|$)".to_owned(), true),
        6 => ("location ~ ^/hooks/(?<up>[^/]+)(?<rest>/.*)$".to_owned(), true),
        7 => ("location ~ /\\.(?!well-known)".to_owned(), true),
        8 => (format!("location /{host}"), false),
        _ => ("location ~ ^/(?<up>[^/]+)(?<rest>/.*)$".to_owned(), true),
    };
    let mut text = format!("        {head} {{\n");
    if depth > 0 && numbers.once_in(5) {
        text += &location(numbers, depth - 1);
    }
    for _ in 0..numbers.below(4) {
        let step = match numbers.below(11) {
            0 => format!("set $to {};", numbers.pick(&["$up", "10.20.0.9:3000", "pool", "a.example.com"])),
            1 => "rewrite ^/[^/]+(/.*)$ $1 break;".to_owned(),
            2 => format!("rewrite ^/(.*)$ /{host}/$1 last;"),
            3 => {
                let access =
                    ["allow 127.0.0.1; deny all;", "deny 10.0.0.0/8;", "limit_except POST { deny all; }"];
                numbers.pick(&access).to_owned()
            }
            4 => other_pass(numbers),
            5 => numbers.pick(&["error_page 404 = @other;", "error_page 403 =200 @other;"]).to_owned(),
            6 => numbers
                .pick(&["rewrite ^/[^/]+/(.*)$ /$1?y=2 break;", "rewrite ^/[^/]+/(.*)$ /$1? break;"])
                .to_owned(),
            _ => guard(numbers),
        };
        text += &format!("            {step}\n");
    }
    match numbers.below(8) {
        0 => text += "            return 404;\n",
        1 => text += "            try_files /nothing @other;\n",
        _ => text += &pass(numbers, has_expression),
    }
    text + "        }\n"
}

fn configuration(seed: u64) -> String {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d);
    for _ in 0..8 {
        numbers.below(2);
    }
    let mut text = String::from("events {}\nhttp {\n    resolver 1.1.1.1;\n");
    text += "    upstream pool { server 10.30.0.4:8080; }\n";
    text += &map(&mut numbers, "$up", "$ok", &["0", "1", "1", "yes"]);
    let source = numbers.pick(&["$up", "$up", "$uri", "$ok"]);
    text += &map(&mut numbers, source, "$to", &["\"\"", "a.example.com", "10.20.0.9:3000", "pool", "$up"]);
    for (number, name) in
        ["proxy.example.com", "two.example.com"].iter().enumerate().take(1 + numbers.below(2))
    {
        text += &format!("    server {{\n        {}\n", numbers.pick(&LISTENERS));
        text += &format!("        server_name {name};\n        set $up \"\"; set $rest \"\";\n");
        for _ in 0..numbers.below(2) {
            text += &format!("        {}\n", guard(&mut numbers));
        }
        if numbers.once_in(6) {
            text += "        rewrite ^/hooks(/.*)$ $1;\n";
        }
        for _ in 0..1 + numbers.below(3) {
            text += &location(&mut numbers, 2);
        }
        let other = pass(&mut numbers, true);
        text += &format!(
            "        location @other {{\n            rewrite ^/[^/]+(/.*)$ $1 break;\n{other}        }}\n"
        );
        if number == 0 && numbers.once_in(2) {
            text += "        location / { return 404; }\n";
        }
        text += "    }\n";
    }
    text + "}\n"
}

/// Tries `count` configurations that nginx takes, from `seed` on.
fn try_some(seed: u64, count: usize) -> Result<()> {
    if !require(&NEEDS) {
        return Ok(());
    }
    let names = [
        "a.example.com",
        "b.example.com",
        "c.example.net",
        "vhost.example.com",
        "unnamed.example.com",
        "proxy.example.com",
        "two.example.com",
        "tenant",
        "chatwoot",
    ];
    let testbed = Testbed::new(Peer::Nginx, &names.map(str::to_owned))?;
    let (mut tried, mut failures) = (0, Vec::new());
    for seed in seed.. {
        if tried == count {
            break;
        }
        let text = configuration(seed);
        let config = testbed.write(&text)?;
        if !testbed.is_valid(&config)? {
            continue;
        }
        tried += 1;
        let outcome = testbed.import(&config)?;
        let compared = ensure_consistent(&testbed, &outcome).and_then(|()| {
            let listens = ["\nplain = ", "\nhttps = "].iter().any(|key| outcome.toml.contains(key));
            if listens { compare(&testbed, &text, &outcome).map(drop) } else { Ok(()) }
        });
        if let Err(error) = compared.with_context(|| format!("seed {seed}:\n{text}")) {
            failures.push(format!("{error:#}"));
        }
    }
    let few = failures.iter().take(3).cloned().collect::<Vec<_>>().join("\n\n");
    ensure!(failures.is_empty(), "{} of {tried} fail:\n{few}", failures.len());
    Ok(())
}

#[test]
fn random_configurations_forward_the_same_or_say_so() -> Result<()> {
    try_some(0, 40)
}

#[test]
#[ignore = "takes three minutes"]
fn many_random_configurations_forward_the_same_or_say_so() -> Result<()> {
    let count = std::env::var("HOOKGATE_IMPORTS").ok().and_then(|count| count.parse().ok());
    try_some(1_000_000, count.unwrap_or(2000))
}
