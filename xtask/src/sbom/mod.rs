//! What a binary is made of: the list of its components for machines (SPDX 2.3 as JSON), and their
//! licences for people.

mod components;
mod document;
mod licences;
mod validate;

use std::path::Path;

use anyhow::Result;
use harness_core::Workspace;

use crate::arch::Arch;
use components::Components;
pub use validate::validate;

/// The document's name where it is installed.
pub const FILE: &str = "hookgate.spdx.json";
/// The licences' name where they are installed.
pub const LICENCES_FILE: &str = "THIRD-PARTY-LICENCES";

/// The components of the `binary` that [`crate::release::binary`] has built; the same to the byte
/// for the same commit, compiler and binary.
///
/// # Errors
/// cargo, git or rustc fail, or a component has no licence.
pub fn spdx(workspace: &Workspace, arch: Arch, binary: &Path) -> Result<String> {
    document::write(workspace, arch, binary, &Components::of(workspace, arch)?)
}

/// The licences of all components, with their texts.
///
/// # Errors
/// As [`spdx`]; or a component brings no text.
pub fn licences(workspace: &Workspace, arch: Arch) -> Result<String> {
    licences::write(workspace, &Components::of(workspace, arch)?)
}
