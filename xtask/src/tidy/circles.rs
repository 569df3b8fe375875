//! Modules of one folder that use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::modules::{Crate, Names, Use};
use super::source::SourceFile;

/// The folders of the crates' files.
const CRATES: [&str; 8] = [
    "proxy/src/",
    "proxy-ebpf/src/",
    "xtask/src/",
    "tests/harness/",
    "tests/harness-core/",
    "tests/bench/runner/",
    "tests/demo/",
    "tests/fuzz/src/",
];
/// The file that declares a folder's modules.
const PARENT: &str = "mod";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Circle {
    pub folder: String,
    pub members: BTreeSet<String>,
}

/// As ratchet.toml has it: `proxy/src/guard: link maps pins`.
impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.members.iter().map(String::as_str).collect::<Vec<_>>();
        write!(f, "{}: {}", self.folder, members.join(" "))
    }
}

impl Circle {
    pub fn parse(text: &str) -> Option<Self> {
        let (folder, members) = text.split_once(": ")?;
        let members = members.split(' ').map(str::to_owned).collect();
        Some(Self { folder: folder.to_owned(), members })
    }

    /// Whether it is what another one has shrunk to. Circles through the parent are apart from
    /// those of siblings.
    pub fn is_left_of(&self, other: &Self) -> bool {
        let through_parent = |circle: &Self| circle.members.contains(PARENT);
        self.folder == other.folder
            && through_parent(self) == through_parent(other)
            && self.members.is_subset(&other.members)
    }
}

/// A circle, and where its members use each other.
pub struct Found {
    pub circle: Circle,
    pub uses: Vec<String>,
}

/// All circles of all crates: those of siblings, and in each folder the one that goes through its
/// parent, if the parent does more than declare.
pub fn find(files: &[SourceFile<'_>]) -> Vec<Found> {
    let mut found = Vec::new();
    for root in CRATES {
        let modules = Crate::new(root, files);
        let uses = modules.uses();
        for folder in modules.folders() {
            let name = [root.trim_end_matches('/'), &folder.join("/")].join("/");
            let edges = edges(&uses, folder);
            let siblings =
                edges.iter().filter(|((from, to), _)| ![from, to].contains(&&PARENT)).map(|(pair, _)| *pair);
            let through_parent = groups(edges.keys().copied());
            let groups = groups(siblings);
            let groups =
                groups.into_iter().chain(through_parent.into_iter().filter(|group| group.contains(PARENT)));
            found.extend(groups.map(|members| {
                let inside =
                    edges.iter().filter(|((from, to), _)| members.contains(from) && members.contains(to));
                let uses = inside.map(|((from, to), at)| format!("{from} uses {to}: {at}")).collect();
                let members = members.into_iter().map(str::to_owned).collect();
                Found { circle: Circle { folder: name.trim_end_matches('/').to_owned(), members }, uses }
            }));
        }
    }
    found
}

/// Which of a folder's modules uses which, and where it does so first.
fn edges<'u>(uses: &'u [Use], folder: &Names) -> BTreeMap<(&'u str, &'u str), &'u str> {
    let node = |names: &'u Names| {
        names.strip_prefix(&folder[..]).map(|inside| inside.first().map_or(PARENT, String::as_str))
    };
    let mut edges = BTreeMap::new();
    for one in uses {
        let (Some(from), Some(to)) = (node(&one.user), node(&one.used)) else { continue };
        let only_shows = from == PARENT && one.is_reexport;
        if from != to && !only_shows {
            edges.entry((from, to)).or_insert(&*one.at);
        }
    }
    edges
}

/// The sets of nodes that lead to each other.
fn groups<'n>(edges: impl Iterator<Item = (&'n str, &'n str)>) -> Vec<BTreeSet<&'n str>> {
    let mut next = BTreeMap::<_, BTreeSet<_>>::new();
    for (from, to) in edges {
        next.entry(from).or_default().insert(to);
    }
    let reached = |start: &'n str| {
        let (mut reached, mut waiting) = (BTreeSet::new(), vec![start]);
        while let Some(node) = waiting.pop() {
            waiting.extend(next.get(node).into_iter().flatten().filter(|next| reached.insert(**next)));
        }
        reached
    };
    let reached: BTreeMap<_, _> = next.keys().map(|node| (*node, reached(node))).collect();
    let mut groups = BTreeSet::new();
    for (node, all) in &reached {
        let back = |other: &&&str| reached.get(**other).is_some_and(|all| all.contains(node));
        let group: BTreeSet<_> = all.iter().filter(back).copied().collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}
