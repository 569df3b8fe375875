//! Where the commands of a page are run that can't be run in the [testbed](super::testbed): the
//! block's mark says so.

/// (mark, what runs them).
pub const PLACES: [(&str, &str); 4] = [
    ("needs=clone", "by .ci/run, in a clone of the repository"),
    ("needs=package", "by cargo xtask test --package, in a Debian with systemd"),
    ("needs=apt", "by cargo xtask test --apt, in Debian 12 and 13 with systemd"),
    ("needs=live", "by nobody but you: they take a name in the DNS, or Meta"),
];

/// Where a block's marks send it.
pub enum Place {
    Here,
    /// Where in [`PLACES`].
    Elsewhere(usize),
    Unknown(String),
}

pub fn of(marks: &[String]) -> Place {
    match marks {
        [] => Place::Here,
        [mark] => PLACES
            .iter()
            .position(|(known, _)| known == mark)
            .map_or_else(|| Place::Unknown(mark.clone()), Place::Elsewhere),
        more => Place::Unknown(more.join(" ")),
    }
}
