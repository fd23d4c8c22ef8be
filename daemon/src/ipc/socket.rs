//! A listening socket's place in the file system: claimed once at the start, with the right mode and group from the
//! moment it has its name, never taken away from a daemon that answers on it.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, chown};
use thiserror::Error;

/// Owner and group may connect; on top of it the peer's credentials decide.
const MODE: u32 = 0o660;
/// `sun_path` holds 108 bytes, one of them the terminator.
const LONGEST: usize = 107;

/// The socket cannot be claimed.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The kernel's limit.
    #[error("the socket path {} is {length} bytes long and the limit is {LONGEST}; set \"paths.runtime_dir\" to a shorter path", .path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Somebody answers there.
    #[error("another daemon is already running on {}; stop it first, or set another \"paths.runtime_dir\"", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something that is no socket.
    #[error("{} exists and is no socket; move it away, or set another \"paths.runtime_dir\"", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The file system or the kernel refused.
    #[error("the socket {} cannot be made; check the folder's owner and mode", .path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The listening socket. Its name goes away when this is dropped, unless somebody else has taken it by then.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Socket {
    /// Listens at `path`, for this user and, when given, for `group`.
    ///
    /// # Errors
    /// See [`SocketError`]; a socket that nobody answers on is replaced.
    pub fn claim(path: &Path, group: Option<Gid>) -> Result<Self, SocketError> {
        let length = path.as_os_str().len();
        if length > LONGEST {
            return Err(SocketError::TooLong { path: path.to_owned(), length });
        }
        let refused = |source| SocketError::Refused { path: path.to_owned(), source };
        clear(path)?;
        // Under another name (no longer than the final one) until mode and group are right: there is no moment in
        // which the wrong people could connect.
        let unnamed = before(path);
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&unnamed).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        if let Some(group) = group
            && let Err(error) = chown(&unnamed, None, Some(group))
        {
            tracing::warn!(%error, %group, "the socket's group could not be set: only this user and root can connect");
        }
        fs::set_permissions(&unnamed, Permissions::from_mode(MODE)).map_err(refused)?;
        fs::rename(&unnamed, path).map_err(refused)?;
        let inode = inode(path).map_err(refused)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Another handle to the same listener, for one run of the server.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes sure that nothing is in the way: only a socket that refuses a connection is deleted.
fn clear(path: &Path) -> Result<(), SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        // Connecting to a plain file is refused as well, and that file is not ours to delete.
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(socket = %path.display(), "removed a socket that nobody answers on");
            fs::remove_file(path).map_err(refused)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// `/run/.control.new` for `/run/control.sock`.
fn before(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_stem().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_socket_has_its_mode_and_leaves_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let own = nix::unistd::getegid();
        let socket = Socket::claim(&path, Some(own)).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, own.as_raw()));
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_answers_is_left_alone_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _first = Socket::claim(&path, None).unwrap();
        let error = Socket::claim(&path, None).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dropped listener leaves its name behind");
        let _socket = Socket::claim(&path, None).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::claim(&path, None), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_is_too_long_says_its_length_and_the_limit() {
        let path = PathBuf::from(format!("/tmp/{}/control.sock", "d".repeat(100)));
        let message = Socket::claim(&path, None).unwrap_err().to_string();
        assert!(message.contains("is 118 bytes long and the limit is 107"), "{message}");
    }

    #[test]
    fn a_successor_keeps_its_socket_when_the_predecessor_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = Socket::claim(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Socket::claim(&path, None).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }
}
