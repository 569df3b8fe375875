//! Names of metrics: those of all pages are on their own one, and that has those of a proxy that
//! runs.

use std::collections::BTreeSet;

use super::markdown::{Page, Piece};

pub const PAGE: &str = "docs/metrics.md";
/// Shown by a proxy that gets certificates alone.
const WITH_AUTHORITY: [&str; 2] = ["hookgate_acme_next_order_seconds", "hookgate_acme_orders_total"];

/// A line for every metric that a page names and [`PAGE`] does not.
pub fn unknown(pages: &[Page]) -> Vec<String> {
    let Some(known) = pages.iter().find(|page| page.path == PAGE).map(names) else { return Vec::new() };
    let known: BTreeSet<String> = known.into_iter().map(|(_, name)| name).collect();
    let mut findings = Vec::new();
    for page in pages {
        let unknown = names(page).into_iter().filter(|(_, name)| !known.contains(name));
        findings.extend(unknown.map(|(line, name)| format!("{}:{line}: no such metric: {name}", page.path)));
    }
    findings
}

/// A line for everything in which [`PAGE`] and what a proxy shows differ.
pub fn unlike(page: &Page, shown: &str) -> Vec<String> {
    let named: BTreeSet<String> = names(page).into_iter().map(|(_, name)| name).collect();
    let real = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let real: BTreeSet<String> = real.chain(WITH_AUTHORITY).map(str::to_owned).collect();
    let missing = real.difference(&named).map(|name| format!("{PAGE}: does not say what {name} is"));
    missing.chain(named.difference(&real).map(|name| format!("{PAGE}: no proxy shows {name}"))).collect()
}

/// The metrics that a page names, and in which line. `…_x` is short for the one before with another
/// end.
fn names(page: &Page) -> Vec<(usize, String)> {
    let mut family = "";
    let name =
        |Piece { line, text }: &'_ Piece| (*line, text.split('{').next().unwrap_or_default().to_owned());
    let mut names = Vec::new();
    for piece in &page.code {
        let (line, written) = name(piece);
        if written.starts_with("hookgate_") && written.len() > "hookgate_".len() {
            // hookgate_prefix_packets_total
            let end = written.match_indices('_').nth(1).map_or(written.len(), |(at, _)| at);
            family = &piece.text[..end];
            names.push((line, written));
        } else if let Some(end) = written.strip_prefix('…').filter(|end| end.starts_with('_')) {
            names.push((line, format!("{family}{end}")));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_with_the_page_and_with_a_proxy() {
        let own = Page::parse(
            PAGE,
            "`hookgate_a_b_total{x=\"y\"}`, `…_c_total` `hookgate_acme_orders_total` `hookgate_acme_next_order_seconds`\n",
        );
        let shown = "# HELP hookgate_a_b_total x\n# TYPE hookgate_a_b_total counter\nhookgate_a_b_total 1\n";
        assert_eq!(unlike(&own, &format!("{shown}# TYPE hookgate_a_c_total counter\n")), [""; 0]);
        assert_eq!(unlike(&own, shown), ["docs/metrics.md: no proxy shows hookgate_a_c_total"]);
        assert_eq!(unlike(&own, &shown.replace("_b_", "_d_")).len(), 3);
        let other = Page::parse("README.md", "`hookgate_a_b_total`\n`hookgate_a_e_total`\n");
        assert_eq!(unknown(&[own, other]), ["README.md:2: no such metric: hookgate_a_e_total"]);
    }
}
