//! What variables hold of a request's path.

use super::setup::Setup;
use super::variables::{Builtin, Part, Source, Template};

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
