use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;

use super::{ConfigFile, prefix_source, print};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the prefixes in force, one a line
    List,
    /// Print the prefix that an address belongs to; exit code 1 when it is not Meta's
    Lookup {
        #[arg(value_name = "IP")]
        address: IpAddr,
    },
}

pub fn run(command: Command, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let table = prefix_source(config.guard()?.as_ref()).load()?;
    match command {
        Command::List => print(&table.iter().map(|network| format!("{network}\n")).collect::<String>())?,
        Command::Lookup { address } => match table.longest_match(address) {
            Some(network) => print(&format!("{network}\n"))?,
            None => bail!("{address} is in none of Meta's prefixes"),
        },
    }
    Ok(ExitCode::SUCCESS)
}
