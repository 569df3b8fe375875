//! What the commands take, as they say themselves: names of subcommands, and options.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

/// A program's commands, by their words (`""` is the program itself), each with its options.
pub struct Interface(BTreeMap<String, BTreeSet<String>>);

impl Interface {
    /// hookgate's, by `--help` of every command.
    ///
    /// # Errors
    /// The binary can't be run.
    pub fn of_hookgate(binary: &Path) -> Result<Self> {
        let mut commands = BTreeMap::new();
        let mut open = vec![String::new()];
        while let Some(words) = open.pop() {
            let mut help = Command::new(binary);
            help.args(words.split_whitespace()).arg("--help");
            let text = harness_core::run(help)?;
            let names = subcommands(&text);
            open.extend(names.map(|name| format!("{words} {name}").trim().to_owned()));
            commands.insert(words, options(&text));
        }
        Ok(Self(commands))
    }

    /// Of a program that is described by clap: this one.
    pub fn of(program: &clap::Command) -> Self {
        let options_of = |command: &clap::Command| {
            let long = command.get_arguments().filter_map(|argument| argument.get_long());
            long.map(|name| format!("--{name}")).chain(["--help".to_owned()]).collect()
        };
        let mut commands = BTreeMap::from([(String::new(), options_of(program))]);
        commands.extend(program.get_subcommands().map(|one| (one.get_name().to_owned(), options_of(one))));
        Self(commands)
    }

    /// The same with a command whose options are in the help text of another program.
    pub fn with(mut self, command: &str, help: &str) -> Self {
        self.0.insert(command.to_owned(), options(help));
        self
    }

    /// What is wrong with a command line, given without the program's name. Words in capitals, and
    /// those after `--`, stand for something.
    pub fn fault(&self, line: &str) -> Option<String> {
        let mut command = String::new();
        for word in line.split_whitespace().take_while(|word| *word != "--") {
            let word = word.trim_matches(['[', ']', ',', '…']);
            if let Some(option) = word.strip_prefix("--").map(|name| name.split('=').next().unwrap_or(name)) {
                let name = format!("--{option}");
                if !self.0.get(&command).is_some_and(|options| options.contains(&name)) {
                    return Some(format!("`{command}` has no option {name}"));
                }
            } else if self.has_subcommands(&command) {
                let inside = format!("{command} {word}").trim().to_owned();
                let is_placeholder = word.chars().all(|c| !c.is_lowercase());
                if is_placeholder || word.starts_with('-') {
                    continue;
                }
                if !self.0.contains_key(&inside) {
                    return Some(format!("there is no command `{inside}`"));
                }
                command = inside;
            }
        }
        None
    }

    /// Whether any command has it.
    pub fn knows_option(&self, name: &str) -> bool {
        self.0.values().any(|options| options.contains(name))
    }

    fn has_subcommands(&self, command: &str) -> bool {
        command.is_empty() || self.0.keys().any(|other| other.starts_with(&format!("{command} ")))
    }
}

/// The names that `--help` lists, except `help`.
fn subcommands(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
}

fn options(help: &str) -> BTreeSet<String> {
    let listed = help.lines().skip_while(|line| *line != "Options:").skip(1);
    let words = listed.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    words.map(|word| word.trim_end_matches(',').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_help_says_is_understood() {
        let help = "Usage\n\nCommands:\n  run          Run it\n  guard  Guard\n               on two lines\n  help  Help\n\n\
                    Options:\n      --config <FILE>  The --file\n  -h, --help  Help\n";
        assert_eq!(subcommands(help).collect::<Vec<_>>(), ["run", "guard"]);
        assert_eq!(options(help), BTreeSet::from(["--config".to_owned(), "--help".to_owned()]));
    }

    #[test]
    fn a_command_line_that_is_wrong_is_told() {
        let options = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let rows = [
            ("", &["--config"][..]),
            ("run", &["--takeover"]),
            ("guard", &[]),
            ("guard attach", &["--json"]),
        ];
        let interface =
            Interface(rows.into_iter().map(|(name, known)| (name.to_owned(), options(known))).collect());
        for good in
            ["run --takeover", "--config FILE run", "guard attach --json", "guard", "COMMAND", "run -- --x"]
        {
            assert_eq!(interface.fault(good), None, "{good}");
        }
        for wrong in ["walk", "guard atach", "run --json", "guard --takeover"] {
            assert!(interface.fault(wrong).is_some(), "{wrong}");
        }
    }
}
