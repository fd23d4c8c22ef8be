//! The admin socket's file: appears complete and private, replaces one that a dead gateway left behind, never one
//! that still answers, and goes away with its owner.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Longest path of a unix socket on Linux, without the terminating zero.
const MAX_PATH: usize = 107;

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another gateway answers on {}", .0.display())]
    InUse(PathBuf),
    #[error("the path {} is too long for a unix socket (at most {MAX_PATH} bytes)", .0.display())]
    TooLong(PathBuf),
    #[error("{} is there and is not a socket", .0.display())]
    NotASocket(PathBuf),
    #[error("the admin socket {} cannot be made", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl SocketError {
    pub(crate) fn next_step(&self) -> &'static str {
        match self {
            Self::InUse(_) => "stop that gateway, or set another admin_socket",
            Self::TooLong(_) => "set admin_socket to a shorter path",
            Self::NotASocket(_) => "set another admin_socket, or move that file away",
            Self::Make { .. } => "set admin_socket to a path that the gateway may write",
        }
    }
}

/// The bound socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl AdminSocket {
    /// Listens at `path` with mode 0600. A missing folder is made, for its owner only.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        // Bound under another name first: the socket must not be there with wider permissions even for a moment.
        let unfinished = path.with_extension(format!("{}.new", std::process::id()));
        if unfinished.as_os_str().len() > MAX_PATH {
            return Err(SocketError::TooLong(path.to_path_buf()));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                return Err(SocketError::NotASocket(path.to_path_buf()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_path_buf())),
            Ok(_) | Err(_) => {}
        }
        let listener = Self::make(path, &unfinished)
            .map_err(|source| SocketError::Make { path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), listener })
    }

    fn make(path: &Path, unfinished: &Path) -> io::Result<UnixListener> {
        if let Some(folder) =
            path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        if let Err(error) = fs::remove_file(unfinished)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let listener = UnixListener::bind(unfinished)?;
        fs::set_permissions(unfinished, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        fs::rename(unfinished, path)?;
        Ok(listener)
    }

    /// A handle to accept from, for each run of the subsystem.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_private_and_leaves_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_still_answers_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _first = AdminSocket::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse(_))));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_a_dead_gateway_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        AdminSocket::bind(&path).unwrap();
    }

    #[test]
    fn a_file_of_somebody_else_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
