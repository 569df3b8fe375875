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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_in_is_listed_with_its_licence() {
        let workspace = Workspace::find().unwrap();
        let components = Components::of(&workspace, Arch::host().unwrap()).unwrap();
        let named =
            |name: &str| components.all.iter().filter(|((its, _), _)| its == name).collect::<Vec<_>>();
        for name in [components::HOOKGATE, components::GUARD, "rustls", "aya-ebpf", components::STD] {
            assert_eq!(named(name).len(), 1, "{name}");
        }
        for name in ["syn", "serde_derive", "proptest", "xtask"] {
            assert!(named(name).is_empty(), "{name} is gone when the program is linked");
        }
        assert!(components.all.len() > 100);
        // One more may come with licences of others, which its own does not name.
        let with_c: Vec<_> = components.all.iter().filter(|(_, component)| component.has_c).collect();
        assert_eq!(with_c.iter().map(|((name, _), _)| &**name).collect::<Vec<_>>(), ["aws-lc-sys"]);
        assert!(named("rustls")[0].1.checksum.is_some());

        let licences = licences::write(&workspace, &components).unwrap();
        for text in ["BoringSSL", "fiat", "Apache License", "Unicode"] {
            assert!(licences.contains(text), "{text}");
        }
    }
}
