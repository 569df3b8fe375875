//! The modules of a crate, and what each uses of the others.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Path, Statement, paths};
use super::source::SourceFile;

/// Names from the crate's root on; the root itself has none.
pub type Names = Vec<String>;

/// A file of a crate, and the modules that are written in it.
struct Module {
    file: String,
    paths: Vec<Path>,
    /// The modules that it declares, in files of their own; those for tests alone are left out.
    declared: BTreeSet<String>,
    declared_for_tests: BTreeSet<String>,
}

/// A crate's modules, without those for tests.
pub struct Crate(BTreeMap<Names, Module>);

/// That one module uses another.
pub struct Use {
    pub user: Names,
    pub used: Names,
    /// `pub use`: the used module's names are shown, and nothing else is done with them.
    pub is_reexport: bool,
    /// File and line.
    pub at: String,
}

/// `http/head.rs` is `http::head`, `http/mod.rs` is `http`; `lib.rs` is the root itself.
pub fn names(file: &str) -> Names {
    let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    let names = names.filter(|name| name != "mod").collect::<Vec<_>>();
    if names == ["lib"] { Vec::new() } else { names }
}

impl Crate {
    /// `root`: the folder of the crate's files, with a slash at its end.
    pub fn new(root: &str, files: &[SourceFile<'_>]) -> Self {
        let mut modules = BTreeMap::new();
        let is_program = files.iter().all(|file| file.path != format!("{root}lib.rs"));
        for file in files {
            let Some(inside) = file.path.strip_prefix(root) else { continue };
            let mut names = names(inside);
            if is_program && names == ["main"] {
                names.clear();
            }
            let [declared, declared_for_tests] = [false, true].map(|in_test| declared(file, in_test));
            let file_name = file.path.to_owned();
            let module = Module { file: file_name, paths: paths(file), declared, declared_for_tests };
            modules.insert(names, module);
        }
        let for_tests = |names: &Names| {
            (1..=names.len()).any(|length| {
                let parent = modules.get(&names[..length - 1]);
                parent.is_some_and(|parent| parent.declared_for_tests.contains(&names[length - 1]))
            })
        };
        let left_out = modules.keys().filter(|names| for_tests(names)).cloned().collect::<Vec<_>>();
        left_out.iter().for_each(|names| drop(modules.remove(names)));
        // Programs beside a library are crates of their own.
        let reached = |names: &Names| {
            (1..=names.len()).all(|length| {
                modules
                    .get(&names[..length - 1])
                    .is_some_and(|parent| parent.declared.contains(&names[length - 1]))
            })
        };
        let reached = modules.keys().filter(|names| reached(names)).cloned().collect::<BTreeSet<_>>();
        modules.retain(|names, _| reached.contains(names));
        Self(modules)
    }

    /// What its modules use of each other, in code that is not for tests.
    pub fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (user, module) in &self.0 {
            for path in module.paths.iter().filter(|path| !path.in_test) {
                let Some(target) = path.resolve(user, |name| module.declared.contains(name)) else {
                    continue;
                };
                let used = self.home(&target, 0);
                if used != *user {
                    uses.push(Use {
                        user: user.clone(),
                        used,
                        is_reexport: path.statement == Statement::Reexport,
                        at: format!("{}:{}", module.file, path.line),
                    });
                }
            }
        }
        uses
    }

    /// The module that has what a path leads to in its file, also where another one exports it.
    fn home(&self, target: &[String], imports_followed: usize) -> Names {
        const MAX_IMPORTS: usize = 8;
        let mut module = Names::new();
        for (at, name) in target.iter().enumerate() {
            let inside = [&module[..], std::slice::from_ref(name)].concat();
            if self.0.contains_key(&inside) {
                module = inside;
                continue;
            }
            let through = self.import(&module, name).filter(|_| imports_followed < MAX_IMPORTS);
            return match through {
                Some(through) => self.home(&[&through[..], &target[at + 1..]].concat(), imports_followed + 1),
                None => module,
            };
        }
        module
    }

    /// Where a name leads that a module has imported.
    fn import(&self, module: &Names, name: &str) -> Option<Names> {
        let Module { paths, declared, .. } = self.0.get(module)?;
        let imports =
            paths.iter().filter(|path| path.statement != Statement::Expression && path.inline.is_empty());
        let mut named = imports.filter(|path| path.imported_as() == Some(name));
        named.find_map(|path| path.resolve(module, |name| declared.contains(name)))
    }

    /// The modules that have others inside.
    pub fn folders(&self) -> impl Iterator<Item = &Names> {
        self.0.iter().filter(|(_, module)| !module.declared.is_empty()).map(|(names, _)| names)
    }
}

/// The modules that a file declares with `mod name;`, for tests alone or not.
fn declared(file: &SourceFile<'_>, in_test: bool) -> BTreeSet<String> {
    let declarations = file
        .tokens
        .windows(3)
        .filter(|tokens| tokens[0].text == "mod" && tokens[2].text == ";" && tokens[0].in_test == in_test);
    declarations.map(|tokens| tokens[1].text.clone()).collect()
}
