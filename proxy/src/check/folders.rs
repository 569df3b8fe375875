//! Where hookgate would write: the folders are there or can be made, and nothing stands in the way.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::Diagnostic;
use crate::acme;
use crate::config::{Config, Key, Severity};

pub(super) fn faults(config: &Config) -> Vec<Diagnostic> {
    let acme = config.acme.as_ref();
    let state = acme.filter(|acme| !acme.domains.is_empty()).and_then(|acme| {
        let wrong = obstacle(&acme::folder(acme))?;
        Some(wrong.fault(Severity::Fatal, Key::new("acme.state")))
    });
    let socket = config.admin_socket().and_then(socket);
    state.into_iter().chain(webroot(config)).chain(socket).collect()
}

/// What is wrong, and what to do.
struct Complaint(String, &'static str);

impl Complaint {
    fn fault(self, severity: Severity, key: Key) -> Diagnostic {
        Diagnostic::new(severity, key, self.0, self.1)
    }
}

/// Why `folder` can't be written in, or not be made.
fn obstacle(folder: &Path) -> Option<Complaint> {
    const ELSEWHERE: &str = "choose another path";
    for path in folder.ancestors() {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let shown = path.display();
        return match fs::metadata(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => Some(Complaint(format!("{shown}: {error}"), ELSEWHERE)),
            Ok(found) if !found.is_dir() => {
                Some(Complaint(format!("{shown} is a file, and must be a folder"), ELSEWHERE))
            }
            Ok(_) => {
                accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).err().map(|error| {
                    let text = format!("cannot write in {shown}: {error}");
                    Complaint(text, "let the user that starts hookgate write there, or choose another path")
                })
            }
        };
    }
    None
}

/// Of `[admin] socket`, where no process listens there.
fn socket(path: &Path) -> Option<Diagnostic> {
    let fatal = |text: String, next: &str| {
        Some(Diagnostic::new(Severity::Fatal, Key::new("admin.socket"), text, next))
    };
    let shown = path.display();
    if let Err(error) = SocketAddr::from_pathname(path) {
        return fatal(format!("{shown}: {error}"), "choose a shorter path");
    }
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return fatal(format!("{shown}: that is there, and no socket"), "remove it, or choose another path");
    }
    let wrong = obstacle(path.parent()?)?;
    Some(wrong.fault(Severity::Fatal, Key::new("admin.socket")))
}

fn webroot(config: &Config) -> Option<Diagnostic> {
    let path = config.acme.as_ref()?.webroot.as_deref()?;
    (!path.is_dir()).then(|| {
        let text = format!("{}: no such folder", path.display());
        Diagnostic::new(
            Severity::Warning,
            Key::new("acme.webroot"),
            text,
            "name the one that certbot writes to",
        )
    })
}
