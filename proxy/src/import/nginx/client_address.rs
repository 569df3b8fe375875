//! Which variables follow from the client's address.

use crate::import::directive::Directive;

/// Variables of the client's address, tables of addresses, and maps of them.
pub fn of_address<'d>(http: &[&'d Directive]) -> Vec<&'d str> {
    let mut names = vec!["$remote_addr", "$binary_remote_addr", "$realip_remote_addr", "$geoip"];
    let targets = |name: &'static str| {
        let tables = http.iter().copied().filter(move |directive| directive.name == name);
        tables.filter_map(|table| Some((table.arguments.first()?, table.arguments.last()?)))
    };
    names.extend(targets("geo").map(|(_, target)| target.as_str()));
    // A map may stand before the one that it reads.
    for _ in 0..3 {
        for (source, target) in targets("map") {
            let is_of_address = names.iter().any(|name| source.contains(name));
            if is_of_address && !names.contains(&target.as_str()) {
                names.push(target);
            }
        }
    }
    names
}
