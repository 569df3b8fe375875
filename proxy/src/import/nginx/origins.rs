//! What variables follow from: the client's address, or the request's path.

use super::setup::Setup;
use super::variables::{Builtin, Part, Source, Template};
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

/// What a text can hold of a request's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathPart {
    None,
    Some,
    Whole,
}

impl Setup<'_> {
    pub fn path_part(&self, template: &Template) -> PathPart {
        self.path_part_within(template, &mut Vec::new())
    }

    /// `seen`: the maps that were followed.
    fn path_part_within(&self, template: &Template, seen: &mut Vec<usize>) -> PathPart {
        let parts = template.0.iter().map(|part| match part {
            Part::Text(_) => PathPart::None,
            Part::Group(_) => PathPart::Some,
            Part::Variable(variable) => match self.variables.source(*variable) {
                Source::Request(Builtin::Uri | Builtin::RequestUri) => PathPart::Whole,
                Source::Assigned => PathPart::Some,
                Source::Map(map) if !seen.contains(&map) => {
                    seen.push(map);
                    self.path_part_within(&self.maps[map].source, seen).min(PathPart::Some)
                }
                _ => PathPart::None,
            },
        });
        parts.max().unwrap_or(PathPart::None)
    }
}
