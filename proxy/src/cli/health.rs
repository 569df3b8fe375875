//! `hookgate health`: whether the running proxy is ready, for the health checks of containers.

use std::process::ExitCode;

use anyhow::Context as _;

use super::config_file::ConfigFile;
use super::output::print;
use super::proxy::{self, AskError};

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let admin = file.load()?.admin;
    let place = admin.and_then(|admin| {
        let socket = admin.socket.map(proxy::Place::Socket);
        socket.or(admin.listen.map(proxy::Place::Address))
    });
    let place = place.with_context(|| {
        format!("{} has neither [admin] socket nor listen to ask the proxy by", file.path().display())
    })?;
    match proxy::get_from(&place, "/ready") {
        Ok(ready) => print(&ready)?,
        Err(AskError::Refused(reasons)) => anyhow::bail!("not ready: {}", reasons.replace('\n', "; ")),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
