//! The command line's exit codes: 0 fine, 1 it failed, 2 usage. That these tests are here also
//! makes `cargo test` build the binary, which the tests in `tests/` drive.

use std::path::Path;
use std::process::{Command, Output};

fn hookgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookgate")).args(arguments).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn usage_is_2_and_help_is_0() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "stats"]] {
        assert_eq!(hookgate(arguments).status.code(), Some(0), "{arguments:?}");
    }
    for arguments in [&[][..], &["ruin"], &["run", "--no-such"], &["prefixes", "lookup"], &["guard"]] {
        assert_eq!(hookgate(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn what_fails_is_1_and_says_why() {
    for (arguments, expected) in [
        (&["check", "--config", "/nowhere/hookgate.toml"][..], "/nowhere/hookgate.toml"),
        (&["run", "--config", "/nowhere/hookgate.toml"], "/nowhere/hookgate.toml"),
        (&["prefixes", "lookup", "8.8.8.8"], "8.8.8.8"),
        (&["prefixes", "lookup", "no-address"], "no-address"),
    ] {
        let output = hookgate(arguments);
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert!(said(&output).contains(expected), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn prefixes_are_there_without_a_configuration_of_the_guard() {
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli.toml");
    std::fs::write(&config, "[listen]\nplain = [\"127.0.0.1:1\"]\n").expect("a file");
    let config = config.to_str().expect("a path in UTF-8");
    let lookup = hookgate(&["prefixes", "lookup", "157.240.1.1", "--config", config]);
    assert_eq!((lookup.status.code(), said(&lookup).trim()), (Some(0), "157.240.0.0/17"));
    let list = hookgate(&["prefixes", "list", "--config", config]);
    assert!(said(&list).lines().any(|line| line == "2a03:2880::/32"), "{}", said(&list));
    let check = hookgate(&["check", "--config", config]);
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let help = said(&hookgate(&["--help"]));
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() > 10 && commands.contains(&"send"), "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = hookgate(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        let script = said(&script);
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(hookgate(&["completions", "abacus"]).status.code(), Some(2));

    let page = said(&hookgate(&["man"]));
    assert!(page.contains(".TH hookgate 1"), "{page}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("man");
    std::fs::create_dir_all(&folder).expect("a folder");
    let written = hookgate(&["man", folder.to_str().expect("a path in UTF-8")]);
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    for command in &commands {
        assert!(folder.join(format!("hookgate-{command}.1")).is_file(), "{command}");
    }
    let nowhere = hookgate(&["man", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1), "{}", said(&nowhere));
}

#[test]
fn what_bash_is_told_is_bash() {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hookgate.bash");
    std::fs::write(&script, hookgate(&["completions", "bash"]).stdout).expect("a file");
    let wanted = "source \"$0\"; COMP_WORDS=(hookgate upst); COMP_CWORD=1; _hookgate hookgate upst hookgate; \
                  echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", wanted]).arg(&script).output().expect("bash runs");
    assert_eq!(said(&bash).trim(), "upstream");
}
