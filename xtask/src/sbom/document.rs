//! The list of components as SPDX 2.3 has it. Its date and its name are the commit's.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use serde_json::{Value, json};
use spdx::Expression;

use super::components::{Component, Components, GUARD, HOOKGATE, Id, STD};
use crate::arch::Arch;
use crate::{commit, ebpf};

const ORIGIN: &str = "https://crates.io/api/v1/crates";

/// # Errors
/// A file can't be read, or a licence is not an SPDX expression.
pub fn write(workspace: &Workspace, arch: Arch, binary: &Path, components: &Components) -> Result<String> {
    let content = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let binary = ebpf::sha256(&content)?;
    let object = workspace.target.join("bpf/hookgate-guard.o");
    let content = std::fs::read(&object).with_context(|| format!("reading {}", object.display()))?;
    let guard = ebpf::sha256(&content)?;
    let commit = commit::id(workspace)?;

    let mut packages = Vec::new();
    let mut ids = BTreeSet::new();
    let mut root = None;
    for (id, component) in &components.all {
        ensure!(ids.insert(reference(id)), "two components have the reference {}", reference(id));
        let mut package = describe(id, component)?;
        if id.0 == HOOKGATE {
            root = Some(reference(id));
            package["packageFileName"] = json!("usr/bin/hookgate");
            package["checksums"] = sha256(&binary);
            package["sourceInfo"] = json!(format!("commit {commit}"));
            package["primaryPackagePurpose"] = json!("APPLICATION");
        } else if id.0 == GUARD {
            package["packageFileName"] = json!("hookgate-guard.o");
            package["checksums"] = sha256(&guard);
            package["comment"] = json!(
                "The guard's program for the kernel, compiled to BPF and embedded in the binary, \
                       and what both agree on."
            );
        }
        packages.push(package);
    }
    let root = root.context("no hookgate among its components")?;
    let described = relationship("SPDXRef-DOCUMENT", "DESCRIBES", &root);
    let needed = components
        .edges
        .iter()
        .map(|(user, used)| relationship(&reference(user), "DEPENDS_ON", &reference(used)));
    let version = env!("CARGO_PKG_VERSION");
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("hookgate-{version}-{arch}"),
        "documentNamespace": format!("https://hookgate.invalid/spdx/hookgate-{version}-{arch}-{commit}-{binary}"),
        "creationInfo": {
            "created": utc(commit::date(workspace)?)?,
            "creators": [format!("Tool: hookgate-xtask-{version}")],
        },
        "packages": packages,
        "relationships": std::iter::once(described).chain(needed).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn describe(id: &Id, component: &Component) -> Result<Value> {
    let (name, version) = id;
    let parsed = Expression::canonicalize(&component.licence);
    let licence = parsed.with_context(|| format!("the licence of {name} {version}"))?;
    let licence = licence.as_ref().unwrap_or(&component.licence);
    let mut package = json!({
        "SPDXID": reference(id),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    });
    if let Some(checksum) = &component.checksum {
        package["downloadLocation"] = json!(format!("{ORIGIN}/{name}/{version}/download"));
        package["checksums"] = sha256(checksum);
        package["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
        }]);
    }
    if component.has_c {
        package["comment"] = json!("Its C and assembly code, as it is in the crate, is linked in too.");
    }
    if name == STD {
        package["comment"] =
            json!("Rust's standard library with its own dependencies, as the compiler brings it.");
    }
    Ok(package)
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn sha256(sum: &str) -> Value {
    json!([{ "algorithm": "SHA256", "checksumValue": sum }])
}

/// Letters, digits, `.` and `-` are all that SPDX takes.
fn reference((name, version): &Id) -> String {
    let taken = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let name = format!("{name}-{version}").replace(|c| !taken(c), "-");
    format!("SPDXRef-Package-{name}")
}

fn utc(seconds: u64) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]);
    Ok(harness_core::run(date)?.trim().to_owned())
}
