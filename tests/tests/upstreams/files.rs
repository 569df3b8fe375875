//! Files with an ACL and attributes, and files that can't be replaced.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::{Need, NetNs, TempDir, require, run};

use super::{MAIN, Testbed};

/// Runs a command of plain words on a file and returns its output.
fn of(file: &Path, line: &str) -> Result<String> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).arg(file);
    run(command)
}

/// Makes a file or folder changeable again on drop, so that the test's folder can be removed.
struct Unchanging<'f>(&'f Path);

impl Drop for Unchanging<'_> {
    fn drop(&mut self) {
        // On failure a folder stays in /tmp.
        let _ = of(self.0, "chattr -ia");
    }
}

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("setfacl"),
    Need::Program("getfacl"),
    Need::Program("chattr"),
    Need::Program("setpriv"),
    Need::Program("python3"),
];

#[test]
fn an_acl_and_other_attributes_stay() -> Result<()> {
    if !require(NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new(MAIN)?;
    chown(&testbed.config, Some(4242), Some(4343))?;
    fs::set_permissions(&testbed.config, PermissionsExt::from_mode(0o640))?;
    of(&testbed.config, "setfacl -m u:4444:rw,g:4545:r")?;
    let note = "import os, sys; os.setxattr(sys.argv[1], 'user.note', b'ours')";
    let mut python = Command::new("python3");
    python.args(["-c", note]).arg(&testbed.config);
    run(python)?;
    let acl = of(&testbed.config, "getfacl -nc")?;
    ensure!(acl.contains("user:4444:rw-") && acl.contains("group::r--"), "{acl}");
    for args in [&["add", "b.example", "--no-probe"][..], &["remove", "b.example"]] {
        let said = testbed.run(args)?;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(of(&testbed.config, "getfacl -nc")?, acl, "its mask is not the group's right");
        let found = fs::metadata(&testbed.config)?;
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (4242, 4343, 0o660));
        let mut python = Command::new("python3");
        python
            .args(["-c", "import os, sys; print(os.getxattr(sys.argv[1], 'user.note'))"])
            .arg(&testbed.config);
        assert_eq!(run(python)?, "b'ours'\n");
    }
    assert_eq!(testbed.text()?, MAIN);
    Ok(())
}

#[test]
fn a_folders_rights_do_not_widen_a_files() -> Result<()> {
    if !require(NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new(MAIN)?;
    fs::set_permissions(&testbed.config, PermissionsExt::from_mode(0o640))?;
    let acl = of(&testbed.config, "getfacl -nc")?;
    of(testbed.dir.path(), "setfacl -d -m u:4444:rwx")?;
    assert_eq!(testbed.run(&["add", "b.example", "--no-probe"])?.code, Some(0));
    assert_eq!(of(&testbed.config, "getfacl -nc")?, acl);
    Ok(())
}

#[test]
fn a_file_that_stays_as_it_is_is_told_with_what_lifts_that() -> Result<()> {
    if !require(NEEDS) {
        return Ok(());
    }
    for mark in ["+i", "+a"] {
        for file in ["hookgate.toml", ""] {
            let testbed = Testbed::new(MAIN)?;
            let marked = testbed.dir.path().join(file);
            let marked = marked.components().as_path();
            of(marked, &format!("chattr {mark}"))?;
            let _lifted = Unchanging(marked);
            let said = testbed.run(&["add", "b.example", "--no-probe"])?;
            let expected = format!("`chattr -ia {}` lifts that", marked.display());
            ensure!(said.code == Some(1) && said.stderr.contains(&expected), "{mark} {file:?}: {said:?}");
            assert_eq!(testbed.text()?, MAIN);
            assert_eq!(testbed.files()?, ["hookgate.toml"], "{mark} {file:?}");
        }
    }
    Ok(())
}

#[test]
fn a_user_who_may_not_write_is_told_the_path() -> Result<()> {
    if !require(NEEDS) {
        return Ok(());
    }
    let testbed = Testbed::new(MAIN)?;
    let folder = testbed.dir.path();
    fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    fs::set_permissions(&testbed.config, PermissionsExt::from_mode(0o666))?;
    let binary = TempDir::new("binary")?;
    fs::set_permissions(binary.path(), PermissionsExt::from_mode(0o755))?;
    let hookgate = binary.path().join("hookgate");
    fs::copy(harness::binary()?, &hookgate)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
    command
        .arg(hookgate)
        .args(["upstream", "add", "b.example", "--no-probe", "--config"])
        .arg(&testbed.config);
    let output = command.output()?;
    let said = String::from_utf8(output.stderr)?;
    let expected = format!("may also write in {}", folder.display());
    ensure!(output.status.code() == Some(1) && said.contains(&expected), "{said}");
    assert_eq!(testbed.text()?, MAIN);
    assert_eq!(testbed.files()?, ["hookgate.toml"]);
    Ok(())
}

#[test]
fn mounts_are_told_with_what_to_mount_instead() -> Result<()> {
    if !require(NEEDS) {
        return Ok(());
    }
    let container = NetNs::new()?;
    for (mount, expected) in [
        (
            "mount --bind {file} {file}",
            "is mounted by itself (docker -v FILE:FILE), and such a file can't be replaced",
        ),
        ("mount --bind -o ro {folder} {folder}", "the file system is mounted read-only"),
    ] {
        let testbed = Testbed::new(MAIN)?;
        let (file, folder) = (testbed.config.display().to_string(), testbed.dir.path().display().to_string());
        container.run(&mount.replace("{file}", &file).replace("{folder}", &folder))?;
        let output = container.enter(&testbed.command(&["add", "b.example", "--no-probe"])?).output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1) && said.contains(expected), "{mount}: {said}");
        assert_eq!(testbed.text()?, MAIN, "{mount}");
        assert_eq!(testbed.files()?, ["hookgate.toml"], "{mount}");
        container.run(&format!("umount {}", if mount.contains("{folder} ") { folder } else { file }))?;
        assert_eq!(testbed.run(&["add", "b.example", "--no-probe"])?.code, Some(0), "{mount}");
    }
    Ok(())
}
