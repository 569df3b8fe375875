//! Directives that mean the same wherever they stand.

use super::found::Found;
use super::syntax::Directive;
use super::values::{bare_ip, size, time};

/// Takes over what `directive` says, or notes why not.
pub fn take(found: &mut Found, directive: &Directive) {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    match (directive.name.as_str(), arguments.as_slice()) {
        ("resolver", servers) => resolver(found, directive, servers),
        ("resolver_timeout", [text]) => duration(found, directive, text, |f| &mut f.dns, "timeout"),
        ("client_header_timeout", [text, ..]) => {
            duration(found, directive, text, |f| &mut f.timeouts, "request_head");
        }
        ("client_body_timeout", [text]) => duration(found, directive, text, |f| &mut f.timeouts, "body_idle"),
        ("keepalive_timeout", ["0", ..]) => found.note(directive, "connections are always kept for a while"),
        ("keepalive_timeout", [text, ..]) => {
            duration(found, directive, text, |f| &mut f.timeouts, "keepalive")
        }
        ("proxy_connect_timeout", [text]) => duration(found, directive, text, |f| &mut f.timeouts, "connect"),
        ("proxy_read_timeout", [text]) => duration(found, directive, text, |f| &mut f.timeouts, "response"),
        ("proxy_send_timeout", _) => found.note(directive, "[timeouts] body_idle holds in both directions"),
        ("client_max_body_size", [text]) => match size(text) {
            Some(bytes) => drop(found.limits.insert("body_bytes", bytes)),
            None => found.note(directive, "not a size"),
        },
        ("large_client_header_buffers", [count, text]) => match (count.parse::<u64>(), size(text)) {
            (Ok(count), Some(bytes)) => {
                found.limits.insert("head_bytes", count.saturating_mul(bytes).clamp(512, 1 << 20));
                found.limits.insert("uri_bytes", bytes.clamp(64, 1 << 20));
            }
            _ => found.note(directive, "not a number and a size"),
        },
        ("set_real_ip_from", [network]) => found.real_ip_from.push((*network).to_owned()),
        ("access_log", ["off"]) => found.without_access_log = true,
        ("access_log" | "error_log" | "log_format", _) => {
            found.note(directive, "the log goes to standard error, a line a request; [log] format");
        }
        ("ssl_client_certificate", [file]) => found.client_ca = Some((*file).to_owned()),
        ("ssl_verify_client", ["on"]) => found.common.require_client_cert = true,
        ("ssl_verify_client", ["optional"]) => {}
        ("proxy_ssl_trusted_certificate", [file]) => found.common.ca = Some((*file).to_owned()),
        (name, arguments) if is_done_anyway(name, arguments) => {}
        (name, _) => found.note(directive, why_not(name)),
    }
}

fn resolver(found: &mut Found, directive: &Directive, servers: &[&str]) {
    for word in servers {
        if let Some(text) = word.strip_prefix("valid=") {
            duration(found, directive, text, |f| &mut f.dns, "valid");
        } else if let Some(ip) = bare_ip(word) {
            found.resolvers.push(ip.to_string());
        } else if word.parse::<std::net::SocketAddr>().is_ok() {
            found.resolvers.push((*word).to_owned());
        } else {
            found.note(
                directive,
                format!("`{word}`: [dns] servers are addresses, and both families are asked for"),
            );
        }
    }
}

type Durations = std::collections::BTreeMap<&'static str, u64>;

fn duration(
    found: &mut Found,
    directive: &Directive,
    text: &str,
    of: impl FnOnce(&mut Found) -> &mut Durations,
    key: &'static str,
) {
    match time(text).filter(|milliseconds| *milliseconds > 0) {
        Some(milliseconds) => drop(of(found).insert(key, milliseconds)),
        None => found.note(directive, "not a time that hookgate takes"),
    }
}

/// What hookgate does, whatever is written, or what makes no difference to it.
fn is_done_anyway(name: &str, arguments: &[&str]) -> bool {
    match (name, arguments) {
        ("proxy_set_header", [field, value, ..]) => {
            let field = field.to_ascii_lowercase();
            let own = ["host", "x-forwarded-for", "x-real-ip", "x-forwarded-proto", "connection", "upgrade"];
            own.contains(&&*field) && (value.starts_with('$') || value.is_empty())
        }
        (
            "proxy_ssl_server_name" | "proxy_ssl_verify" | "proxy_pass_request_headers" | "tcp_nodelay",
            ["on"],
        ) => true,
        (
            "proxy_request_buffering" | "proxy_buffering" | "server_tokens" | "ssl_session_tickets",
            ["off"],
        ) => true,
        ("proxy_http_version" | "real_ip_header" | "real_ip_recursive", _) => true,
        ("proxy_ssl_name", [value]) => value.starts_with('$'),
        ("worker_processes" | "daemon" | "pid" | "events" | "types" | "default_type" | "sendfile", _) => true,
        ("tcp_nopush" | "types_hash_max_size" | "map_hash_bucket_size" | "map_hash_max_size", _) => true,
        ("variables_hash_bucket_size" | "variables_hash_max_size" | "server_names_hash_bucket_size", _) => {
            true
        }
        ("ssl_protocols", versions) => {
            versions.iter().all(|version| matches!(*version, "TLSv1.2" | "TLSv1.3"))
        }
        _ => false,
    }
}

fn why_not(name: &str) -> &'static str {
    match name {
        "include" => "no file there that can be read",
        "user" => "[process] user names whom hookgate becomes",
        "ssl_protocols" => "TLS 1.2 and 1.3 are spoken, no older ones",
        "proxy_ssl_verify" => {
            "upstreams are always verified; verify = false on an upstream takes any certificate"
        }
        "proxy_set_header" | "add_header" => "fields are neither added nor changed, but for the proxy's own",
        "proxy_buffering" | "proxy_request_buffering" => "bodies are passed on as they come",
        "gzip" | "gzip_types" | "gunzip" => "bodies are passed on as they are",
        "limit_req" | "limit_req_zone" | "limit_conn" | "limit_conn_zone" => {
            "Meta is never limited; strangers are, by [limits] and [guard]"
        }
        "allow" | "deny" => "[guard] decides who gets in, by Meta's prefixes",
        "proxy_next_upstream" => "a request is sent at most once",
        "http2" => "HTTP/1.1 is spoken, as Meta does",
        name if name.starts_with("ssl_") => "TLS is set up by hookgate itself",
        _ => "there is nothing like it",
    }
}
