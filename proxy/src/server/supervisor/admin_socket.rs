use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket that the command line talks to: for the user that has started the proxy, and for one
/// group.
#[derive(Debug)]
pub(super) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Another process answers there still.
    is_lent: bool,
}

/// A socket that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminSocketError {
    #[error("[admin] socket {}: another hookgate listens there: give this one another `socket`", .0.display())]
    Taken(PathBuf),
    #[error("[admin] socket {}: that is there, and no socket: remove it, or choose another path", .0.display())]
    NoSocket(PathBuf),
    #[error("[admin] socket {}: cannot listen: {error}", path.display())]
    Listen { path: PathBuf, error: io::Error },
}

impl AdminSocket {
    /// Listens at `path`, whose folder is made if need be; a socket file without a listener gives
    /// way.
    pub(super) fn listen(path: &Path) -> Result<Self, AdminSocketError> {
        let failed = |error| AdminSocketError::Listen { path: path.into(), error };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(AdminSocketError::NoSocket(path.into()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(AdminSocketError::Taken(path.into())),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { listener, path: path.into(), is_lent: false };
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// One that another process listens at, and whose file is that one's until
    /// [`AdminSocket::keep`]; `None`: it has another path.
    pub(super) fn taken_over(listener: UnixListener, path: &Path) -> Option<Self> {
        let is_there = listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path));
        is_there.then(|| Self { listener, path: path.into(), is_lent: true })
    }

    /// The other process answers there no more.
    pub(super) fn keep(&mut self) {
        self.is_lent = false;
    }

    /// Gives the socket's file to a group.
    ///
    /// Errors: chown(2).
    pub(super) fn give_to(&self, gid: u32) -> Result<(), AdminSocketError> {
        let given = std::os::unix::fs::chown(&self.path, None, Some(gid));
        given.map_err(|error| AdminSocketError::Listen { path: self.path.clone(), error })
    }

    /// The same socket, to accept from.
    pub(super) fn share(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes its file. Not left to a destructor: a process that was split has two of this value.
    pub(super) fn remove(self) {
        if self.is_lent {
            return;
        }
        // A user who may not do so leaves a file that the next start recognises.
        let _ = fs::remove_file(&self.path);
    }
}
