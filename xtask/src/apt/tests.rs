use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness_core::{TempDir, in_path};

use super::packages::ARCHITECTURES;
use super::repository::{PUBLIC_KEY, Repository};
use super::signer::Signer;
use super::{stand_ins, sums};
use crate::arch::Arch;

const COMMITTED: u64 = 1_700_000_000;

/// `None`, and a line that says so, where a program is missing.
fn tools(test: &str) -> Option<TempDir> {
    for program in ["apt-ftparchive", "gpg", "gpg-agent", "gpgconf", "dpkg-deb"] {
        if !in_path(program) {
            eprintln!("SKIPPED: {test}: needs {program}");
            return None;
        }
    }
    Some(TempDir::new("repository").unwrap())
}

fn packages(folder: &Path, version: &str) -> Vec<PathBuf> {
    ARCHITECTURES.map(|arch| stand_ins::package(folder, version, arch, COMMITTED).unwrap()).to_vec()
}

fn read(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn succeeds(folder: &Path, script: &str) -> bool {
    Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap().status.success()
}

#[test]
fn versions_are_added_and_stay() {
    let Some(dir) = tools("versions_are_added_and_stay") else { return };
    let signer = Signer::find(stand_ins::key(dir.path(), "ours").unwrap().to_str().unwrap()).unwrap();
    let root = dir.path().join("repository");
    let repository = Repository::at(&root);
    repository.add(&packages(dir.path(), "1-1"), COMMITTED, &signer).unwrap();
    let first = read(&root, "dists/stable/Release");
    assert!(first.contains("\nDate: Tue, 14 Nov 2023 22:13:20 UTC\n"), "{first}");
    assert!(first.starts_with("Acquire-By-Hash: yes\n"), "{first}");

    // An earlier commit's: apt would ignore a list that is older than the one it has.
    repository.add(&packages(dir.path(), "1-2"), COMMITTED - 1, &signer).unwrap();
    let second = read(&root, "dists/stable/Release");
    assert!(second.contains("\nDate: Tue, 14 Nov 2023 22:13:20 UTC\n"), "{second}");
    for architecture in ["amd64", "arm64"] {
        let list = read(&root, &format!("dists/stable/main/binary-{architecture}/Packages"));
        for version in ["1-1", "1-2"] {
            let path = format!("pool/main/h/hookgate/hookgate_{version}_{architecture}.deb");
            assert!(list.contains(&format!("\nFilename: {path}\n")), "{list}");
            assert!(root.join(path).exists());
        }
        assert_eq!(list.matches("Package: hookgate\n").count(), 2);
    }
    // Who has the first list still finds what it names.
    let hashes = first.lines().filter(|line| line.ends_with("binary-amd64/Packages"));
    let hash = hashes.map(|line| line.split_whitespace().next().unwrap()).next().unwrap();
    assert!(root.join("dists/stable/main/binary-amd64/by-hash/SHA256").join(hash).exists());
}

#[test]
fn what_was_published_does_not_change() {
    let Some(dir) = tools("what_was_published_does_not_change") else { return };
    let signer = Signer::find(stand_ins::key(dir.path(), "ours").unwrap().to_str().unwrap()).unwrap();
    let repository = Repository::at(&dir.path().join("repository"));
    let package = stand_ins::package(dir.path(), "1-1", Arch::Amd64, COMMITTED).unwrap();
    repository.add(std::slice::from_ref(&package), COMMITTED, &signer).unwrap();
    repository.add(std::slice::from_ref(&package), COMMITTED, &signer).unwrap();
    stand_ins::package(dir.path(), "1-1", Arch::Amd64, COMMITTED + 1).unwrap();
    let error = repository.add(&[package], COMMITTED, &signer).unwrap_err().to_string();
    assert!(error.contains("higher --revision"), "{error}");
}

#[test]
fn two_are_the_same_but_for_signatures() {
    let Some(dir) = tools("two_are_the_same_but_for_signatures") else { return };
    let key = stand_ins::key(dir.path(), "ours").unwrap();
    let packages = packages(dir.path(), "1-1");
    let [one, two] = ["one", "two"].map(|name| {
        let signer = Signer::find(key.to_str().unwrap()).unwrap();
        let root = dir.path().join(name);
        Repository::at(&root).add(&packages, COMMITTED, &signer).unwrap();
        root
    });
    let differences = Command::new("diff")
        .args(["-rq", "-x", "InRelease", "-x", "*.gpg", "-x", "SHA256SUMS.asc"])
        .args([&one, &two])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&differences.stdout), "");
    assert!(differences.status.success());
}

#[test]
fn sums_and_signatures_are_right() {
    let Some(dir) = tools("sums_and_signatures_are_right") else { return };
    let signer = Signer::find(stand_ins::key(dir.path(), "ours").unwrap().to_str().unwrap()).unwrap();
    let root = dir.path().join("repository");
    let mut files = packages(dir.path(), "1-1");
    files.push(dir.write("hookgate_1-1_amd64.spdx.json", "{}").unwrap());
    Repository::at(&root).add(&files, COMMITTED, &signer).unwrap();
    let sums = read(&root, "SHA256SUMS");
    let names = sums.lines().map(|line| line.split("  ").nth(1).unwrap()).collect::<Vec<_>>();
    let pool = "pool/main/h/hookgate";
    let expected = ["amd64.deb", "amd64.spdx.json", "arm64.deb"];
    let expected = expected.map(|ending| format!("{pool}/hookgate_1-1_{ending}"));
    assert_eq!(names, [&[PUBLIC_KEY.to_owned()], &expected[..]].concat());
    assert!(!read(&root, PUBLIC_KEY).contains("PRIVATE"));

    // With nothing but what was published.
    const VERIFY: &str = "home=$(mktemp -d); trap 'gpgconf --homedir $home --kill all; rm -rf $home' EXIT
        gpg --homedir $home --batch --import hookgate.asc
        gpg --homedir $home --batch --verify SHA256SUMS.asc SHA256SUMS
        gpg --homedir $home --batch --verify dists/stable/Release.gpg dists/stable/Release
        gpg --homedir $home --batch --verify dists/stable/InRelease
        sha256sum --strict --check SHA256SUMS";
    assert!(succeeds(&root, VERIFY));
    fs::write(root.join(pool).join("hookgate_1-1_amd64.spdx.json"), "[]").unwrap();
    assert!(!succeeds(&root, VERIFY));
    sums::write(&root, &signer).unwrap();
    assert!(succeeds(&root, VERIFY));
    fs::write(root.join("SHA256SUMS"), read(&root, "SHA256SUMS").replace("amd64", "arm64")).unwrap();
    assert!(!succeeds(&root, VERIFY));
}

#[test]
fn keys_that_cannot_sign_are_refused() {
    let Some(dir) = tools("keys_that_cannot_sign_are_refused") else { return };
    let error = |key: &str| format!("{:#}", Signer::find(key).err().unwrap());
    let nonsense = dir.write("nonsense", "no key").unwrap();
    assert!(error(nonsense.to_str().unwrap()).contains("is no key that gpg reads"));
    assert!(error("nobody-has-this@example.invalid").contains("has no such key"));
    let ours = stand_ins::key(dir.path(), "ours").unwrap();
    let signer = Signer::find(ours.to_str().unwrap()).unwrap();
    let public = dir.write("public", signer.public_key().unwrap()).unwrap();
    let said = error(public.to_str().unwrap());
    assert!(said.contains("is not a secret one"), "{said}");
    let both = dir
        .write(
            "both",
            [&fs::read(&ours).unwrap()[..], &fs::read(stand_ins::key(dir.path(), "other").unwrap()).unwrap()]
                .concat(),
        )
        .unwrap();
    let said = error(both.to_str().unwrap());
    assert!(said.contains("one of several"), "{said}");
}
