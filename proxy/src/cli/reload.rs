//! `hookgate reload`: has the running proxy read its configuration again.

use std::process::ExitCode;

use anyhow::Context as _;

use super::config_file::ConfigFile;
use super::output::print;
use super::proxy;

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let socket = config.admin.and_then(|admin| admin.socket);
    let socket = socket.with_context(|| {
        format!(
            "{} has no [admin] socket to reach the proxy by: add one and restart, or send the proxy SIGHUP",
            file.path().display()
        )
    })?;
    print(&proxy::post(&socket, "/reload")?)?;
    Ok(ExitCode::SUCCESS)
}
