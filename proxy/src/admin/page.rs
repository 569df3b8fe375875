use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const PAGE: &str = include_str!("page/status.html");
const STYLE: &str = include_str!("page/status.css");
const SCRIPT: &str = include_str!("page/status.js");

/// The status page, all in one.
pub(super) fn html() -> String {
    PAGE.replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1)
}

/// Its Content-Security-Policy: nothing but this very style and script, and no other place than
/// this one.
pub(super) fn policy() -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// As a source in a policy (CSP 3, §2.3.1).
fn hash(inline: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, inline.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_whole() {
        let html = html();
        assert!(html.len() < 34 * 1024, "{} bytes", html.len());
        assert!(html.contains(STYLE) && html.contains(SCRIPT));
        // What would end the script, or let what was counted become markup.
        for forbidden in ["</", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing comes from elsewhere");
        assert!(!html.contains("{style}") && !html.contains("{script}"));
    }
}
