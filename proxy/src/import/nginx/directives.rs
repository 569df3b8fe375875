//! The directives in force where requests are forwarded: those whose meaning is known, and what
//! becomes of each.

use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};

/// Directives that are read elsewhere, or have no meaning of their own where requests are
/// forwarded.
const READ_ELSEWHERE: &[&str] = &[
    "alias",
    "auth_basic_user_file",
    "auth_request_set",
    "autoindex",
    "break",
    "charset_map",
    "default_type",
    "geo",
    "if",
    "include",
    "index",
    "internal",
    "js_import",
    "js_path",
    "js_set",
    "js_var",
    "limit_conn_zone",
    "limit_req_zone",
    "listen",
    "location",
    "log_format",
    "lua_package_cpath",
    "lua_package_path",
    "lua_shared_dict",
    "map",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "perl_modules",
    "perl_require",
    "perl_set",
    "proxy_cache_path",
    "proxy_pass",
    "proxy_ssl_name",
    "proxy_ssl_server_name",
    "real_ip_header",
    "real_ip_recursive",
    "return",
    "rewrite",
    "root",
    "satisfy",
    "server",
    "server_name",
    "set",
    "set_real_ip_from",
    "split_clients",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_verify_client",
    "try_files",
    "types",
    "upstream",
    "valid_referers",
    "ssl",
    "geoip_city",
    "geoip_country",
    "geoip_org",
    "geoip2",
    "ssl_password_file",
];

/// Settings that become hookgate's, in `settings`.
const SETTINGS: &[&str] = &[
    "client_body_timeout",
    "client_header_timeout",
    "client_max_body_size",
    "keepalive_timeout",
    "large_client_header_buffers",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "proxy_ssl_trusted_certificate",
    "resolver",
    "resolver_timeout",
];

/// Whatever they say, requests and responses are the same.
const NO_CONSEQUENCE: &[&str] = &[
    "access_log",
    "aio",
    "aio_write",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_body_in_file_only",
    "client_body_in_single_buffer",
    "client_body_temp_path",
    "client_header_buffer_size",
    "connection_pool_size",
    "directio",
    "directio_alignment",
    "error_log",
    "etag",
    "gunzip",
    "gzip",
    "gzip_buffers",
    "gzip_comp_level",
    "gzip_disable",
    "gzip_http_version",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_static",
    "gzip_types",
    "gzip_vary",
    "http2",
    "http2_max_concurrent_streams",
    "http2_recv_buffer_size",
    "if_modified_since",
    "ignore_invalid_headers",
    "keepalive_disable",
    "keepalive_requests",
    "keepalive_time",
    "lingering_close",
    "lingering_time",
    "lingering_timeout",
    "log_not_found",
    "log_subrequest",
    "max_ranges",
    "msie_padding",
    "msie_refresh",
    "open_file_cache",
    "open_file_cache_errors",
    "open_file_cache_min_uses",
    "open_file_cache_valid",
    "open_log_file_cache",
    "output_buffers",
    "port_in_redirect",
    "postpone_output",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_force_ranges",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_http_version",
    "proxy_limit_rate",
    "proxy_max_temp_file_size",
    "proxy_request_buffering",
    "proxy_send_lowat",
    "proxy_socket_keepalive",
    "proxy_ssl_ciphers",
    "proxy_ssl_conf_command",
    "proxy_ssl_protocols",
    "proxy_ssl_session_reuse",
    "proxy_ssl_verify_depth",
    "proxy_temp_file_write_size",
    "proxy_temp_path",
    "quic_gso",
    "quic_retry",
    "quic_host_key",
    "http3",
    "http3_hq",
    "read_ahead",
    "recursive_error_pages",
    "request_pool_size",
    "reset_timedout_connection",
    "send_lowat",
    "send_timeout",
    "sendfile",
    "sendfile_max_chunk",
    "server_name_in_redirect",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_tokens",
    "ssl_buffer_size",
    "ssl_ciphers",
    "ssl_conf_command",
    "ssl_dhparam",
    "ssl_early_data",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache",
    "ssl_session_ticket_key",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "ssl_stapling",
    "ssl_stapling_file",
    "ssl_stapling_responder",
    "ssl_stapling_verify",
    "ssl_trusted_certificate",
    "ssl_verify_depth",
    "subrequest_output_buffer_size",
    "tcp_nodelay",
    "tcp_nopush",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "uninitialized_variable_warn",
    "rewrite_log",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
    "absolute_redirect",
    "merge_slashes",
    "brotli",
    "brotli_types",
    "brotli_comp_level",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "limit_req_log_level",
    "limit_conn_log_level",
    "limit_req_status",
    "limit_conn_status",
    "auth_delay",
];

/// Tells what becomes of a directive that is in force where requests are forwarded.
pub fn note(directive: &Directive, notes: &mut Notes) {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    let name = &*directive.name;
    if READ_ELSEWHERE.contains(&name) || SETTINGS.contains(&name) {
        return;
    }
    let (group, why) = match consequence(name, &arguments) {
        Some(told) => told,
        None if is_done_anyway(name, &arguments) => return,
        None if NO_CONSEQUENCE.contains(&name) => (Group::NoConsequence, ""),
        None => (
            Group::Elsewhere,
            "not understood: what it does to requests is not carried over; compare with docs/migration.md",
        ),
    };
    notes.add(group, directive, why);
}

/// What hookgate does, whatever is written.
fn is_done_anyway(name: &str, arguments: &[&str]) -> bool {
    match (name, arguments) {
        ("proxy_set_header", [field, value, ..]) => is_own_field(&field.to_ascii_lowercase(), value),
        ("proxy_ssl_verify" | "proxy_pass_request_headers" | "proxy_pass_request_body", ["on"]) => true,
        (
            "auth_basic" | "auth_request" | "mirror" | "ssl_ocsp" | "auth_jwt" | "proxy_cache"
            | "modsecurity",
            ["off"],
        ) => true,
        (
            "proxy_request_buffering" | "proxy_buffering" | "server_tokens" | "ssl_session_tickets",
            ["off"],
        ) => true,
        (
            "proxy_intercept_errors" | "proxy_next_upstream" | "proxy_ignore_client_abort" | "proxy_redirect",
            ["off"],
        ) => true,
        ("proxy_redirect", ["default"]) | ("proxy_http_version", ["1.1"]) | ("tcp_nodelay", ["on"]) => true,
        ("allow", _) | ("access_log", ["off"]) | ("underscores_in_headers", ["on"]) => true,
        ("error_page", [codes @ .., _]) => !codes.iter().any(|word| word.starts_with('=')),
        ("ssl_protocols", versions) => versions.contains(&"TLSv1.2") && !versions.iter().any(is_old),
        _ => false,
    }
}

/// A field that hookgate sends just so.
fn is_own_field(field: &str, value: &str) -> bool {
    match field {
        // Compared where requests are evaluated.
        "host" => true,
        "x-forwarded-for" => matches!(
            value,
            "$remote_addr" | "$proxy_add_x_forwarded_for" | "$realip_remote_addr" | "$proxy_protocol_addr"
        ),
        "x-real-ip" => matches!(value, "$remote_addr" | "$realip_remote_addr" | "$proxy_protocol_addr"),
        "x-forwarded-proto" => matches!(value, "$scheme" | "https"),
        "connection" | "upgrade" => true,
        "x-request-id" => matches!(value, "$request_id" | "$http_x_request_id"),
        _ => false,
    }
}

fn is_old(version: &&str) -> bool {
    !matches!(*version, "TLSv1.2" | "TLSv1.3")
}

/// For directives that hookgate does not follow.
fn consequence(name: &str, arguments: &[&str]) -> Option<(Group, &'static str)> {
    let told = match (name, arguments) {
        ("deny", _) => (
            Group::Open,
            "nginx refuses these addresses, hookgate none: [guard] with mode = \"strict\" drops all but Meta's and those \
             of `allow`",
        ),
        ("auth_basic" | "auth_jwt" | "auth_request" | "auth_digest" | "auth_pam", [first, ..])
            if *first != "off" =>
        {
            (
                Group::Open,
                "nginx forwards only requests that pass this check, hookgate all: the receiver has to check them",
            )
        }
        ("limit_except", _) => (
            Group::Open,
            "nginx refuses other methods here, hookgate forwards every method but CONNECT and TRACE",
        ),
        ("modsecurity" | "app_protect_enable" | "naxsi", [first, ..]) if *first != "off" => {
            (Group::Open, "nginx inspects requests and refuses some, hookgate forwards them")
        }
        ("ssl_crl", _) => (
            Group::Open,
            "nginx refuses client certificates that this list revokes, hookgate takes them: write [tls] client_crl",
        ),
        ("ssl_ocsp", ["on" | "leaf"]) => {
            (Group::Open, "nginx asks whether client certificates are revoked, hookgate does not")
        }
        ("secure_link" | "secure_link_md5" | "secure_link_secret", _) => {
            (Group::Open, "nginx checks links by a secret, hookgate does not")
        }
        ("mirror", _) => (Group::Elsewhere, "nginx sends a copy of each request there, hookgate sends none"),
        ("error_page", [codes @ .., _]) if codes.iter().any(|word| word.starts_with('=')) => (
            Group::Elsewhere,
            "nginx makes another answer of these errors; hookgate relays the upstream's status, and answers 502 or 504 where \
             there is none, so that Meta sends again",
        ),
        ("proxy_intercept_errors", ["on"]) => (
            Group::Different,
            "nginx puts pages of its own in place of upstreams' errors, hookgate relays them",
        ),
        ("proxy_cache", [first, ..]) if *first != "off" => {
            (Group::Elsewhere, "nginx answers from a cache, hookgate asks the upstream each time")
        }
        ("proxy_bind", _) => {
            (Group::Elsewhere, "nginx connects from this address, hookgate from the system's choice")
        }
        ("proxy_set_header", [field, ""]) if !is_own_field(&field.to_ascii_lowercase(), "") => {
            (Group::Different, "nginx removes this field, hookgate forwards it")
        }
        ("proxy_set_header", [field, value, ..]) if !is_own_field(&field.to_ascii_lowercase(), value) => (
            Group::Elsewhere,
            "nginx sends this field upstream; hookgate adds no fields but X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, \
             X-Request-Id and Via",
        ),
        ("proxy_ssl_protocols", versions) if versions.iter().all(is_old) => (
            Group::Elsewhere,
            "hookgate speaks TLS 1.2 and 1.3 to upstreams, and cannot reach one that has neither",
        ),
        ("underscores_in_headers", ["off"]) => {
            (Group::Different, "nginx drops fields with an underscore in their names, hookgate forwards them")
        }
        (
            "add_header"
            | "charset"
            | "override_charset"
            | "source_charset"
            | "expires"
            | "proxy_hide_header"
            | "proxy_pass_header"
            | "proxy_ignore_headers"
            | "proxy_cookie_domain"
            | "proxy_cookie_path"
            | "proxy_cookie_flags"
            | "add_trailer"
            | "more_set_headers"
            | "more_clear_headers",
            _,
        ) => (Group::Different, "nginx changes the response's fields, hookgate relays them as they are"),
        ("proxy_redirect", [first, ..]) if !matches!(*first, "off" | "default") => {
            (Group::Different, "nginx changes the response's Location, hookgate relays it as it is")
        }
        (
            "sub_filter" | "sub_filter_once" | "sub_filter_types" | "addition_types" | "add_after_body"
            | "add_before_body",
            _,
        ) => (Group::Different, "nginx changes the response's body, hookgate relays it as it is"),
        ("proxy_ssl_verify", ["off"]) => (
            Group::Different,
            "hookgate verifies upstreams' certificates: `hookgate probe HOST` shows whether it can; verify = false takes \
             any",
        ),
        ("proxy_send_timeout", _) => (Group::Different, "[timeouts] body_idle holds in both directions"),
        ("proxy_next_upstream", _) => (Group::Different, "hookgate sends a request once"),
        (
            "limit_req" | "limit_conn" | "limit_rate" | "limit_rate_after" | "limit_req_dry_run"
            | "limit_conn_dry_run",
            _,
        ) => (Group::Different, "hookgate never limits Meta; it limits others by [limits] and [guard]"),
        ("ssl_protocols", versions) if versions.iter().any(is_old) => {
            (Group::Different, "hookgate speaks TLS 1.2 and 1.3 alone")
        }
        ("ssl_protocols", versions) if !versions.contains(&"TLSv1.2") => {
            (Group::Different, "hookgate speaks TLS 1.2 too")
        }
        ("keepalive_timeout", ["0", ..]) => {
            (Group::Different, "hookgate keeps connections for [timeouts] keepalive")
        }
        ("ssl_reject_handshake", ["on"]) => return None,
        _ => return None,
    };
    Some(told)
}
