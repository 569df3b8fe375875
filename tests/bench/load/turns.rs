use std::io::Write;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin};

/// Standard input and output: how `cargo xtask bench` and we take turns.
pub struct Starter(Lines<BufReader<Stdin>>);

impl Starter {
    pub fn ready() -> Result<Self> {
        say("ready")?;
        Ok(Self(BufReader::new(stdin()).lines()))
    }

    pub async fn go(&mut self) -> Result<()> {
        self.0.next_line().await?.context("nobody waits for the load any more")?;
        Ok(())
    }

    /// Prints what was measured, and waits until the connections are not needed any more.
    pub async fn done(&mut self, measured: Value) -> Result<()> {
        say(&measured.to_string())?;
        while self.0.next_line().await?.is_some() {}
        Ok(())
    }
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("nobody listens any more")
}
