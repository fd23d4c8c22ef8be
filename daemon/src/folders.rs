//! The state and runtime folders: made, checked and claimed before any subsystem starts, so that what is wrong
//! with them is one clear sentence at the start and not a mystery later.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::config::Paths;

const PRIVATE: u32 = 0o700;
/// Clients have to reach the socket in it; the socket's own mode decides who may talk.
const REACHABLE: u32 = 0o755;

/// A folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It cannot be made.
    #[error("{} cannot be created; create it for this user, or set \"{key}\" to a folder that this user may write", .path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// The configuration key that names it.
        key: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else has that name.
    #[error("{} is not a folder; move it away, or set \"{key}\" to another path", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
        /// The configuration key that names it.
        key: &'static str,
    },
    /// Another user owns it.
    #[error("{} belongs to user {owner}, not to user {we} that runs synesisd; change its owner, or set \"paths.state_dir\"", .path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Our uid.
        we: u32,
    },
    /// It is there, but nothing can be written into it.
    #[error("{} cannot be written to; check its mode, its file system, and the free space", .path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another daemon works in it.
    #[error("another synesisd is using {}; stop it first, or give this one its own \"paths.state_dir\"", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

/// Where everything lives. Holding it keeps other daemons out of the state folder.
#[derive(Debug)]
pub struct Folders {
    /// Durable state.
    pub state: PathBuf,
    /// The socket's folder.
    pub runtime: PathBuf,
    _claim: Flock<File>,
}

impl Folders {
    /// Makes the folders where they are missing, sets their modes, and claims the state folder.
    ///
    /// # Errors
    /// The first folder that cannot be used, with what to do about it.
    pub fn prepare(paths: &Paths) -> Result<Self, FolderError> {
        let (state, runtime) = (paths.state_dir.to_path_buf(), paths.runtime_dir.to_path_buf());
        make(&state, PRIVATE, "paths.state_dir")?;
        own(&state)?;
        let claim = claim(&state)?;
        make(&runtime, REACHABLE, "paths.runtime_dir")?;
        let folders = Self { state, runtime, _claim: claim };
        for folder in [folders.identity(), folders.adapters(), folders.transfers()] {
            make(&folder, PRIVATE, "paths.state_dir")?;
        }
        Ok(folders)
    }

    /// Key and certificates of this device.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// Imported adapters.
    pub fn adapters(&self) -> PathBuf {
        self.state.join("adapters")
    }

    /// Adapters on their way to and from the gateway.
    pub fn transfers(&self) -> PathBuf {
        self.state.join("transfers")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }
}

fn make(path: &Path, mode: u32, key: &'static str) -> Result<(), FolderError> {
    let failed = |source| FolderError::Create { path: path.to_owned(), key, source };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(FolderError::NotAFolder { path: path.to_owned(), key }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    DirBuilder::new().mode(mode).create(path).map_err(failed)?;
    // The process's umask may have taken bits away.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

/// The state folder is ours alone: keys and prompts' hashes are in it.
fn own(path: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::NotWritable { path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(failed)?;
    let we = nix::unistd::geteuid().as_raw();
    if found.uid() != we {
        return Err(FolderError::NotOurs { path: path.to_owned(), owner: found.uid(), we });
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(PRIVATE)).map_err(failed)?;
        tracing::info!(folder = %path.display(), "closed the state folder to other users");
    }
    Ok(())
}

/// Creating and locking the claim file also proves that the folder can be written to. The kernel lets go of the
/// lock when the process ends, however it ends.
fn claim(state: &Path) -> Result<Flock<File>, FolderError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(state.join("daemon.lock"))
        .map_err(|source| FolderError::NotWritable { path: state.to_owned(), source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => FolderError::InUse { path: state.to_owned() },
        other => FolderError::NotWritable { path: state.to_owned(), source: other.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> Paths {
        let text = |name: &str| serde_json::Value::from(root.join(name).to_str().unwrap());
        serde_json::from_value(
            serde_json::json!({"state_dir": text("a/state"), "runtime_dir": text("a/run")}),
        )
        .unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn missing_folders_are_made_and_private() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::prepare(&paths(root.path())).unwrap();
        for path in [&folders.state, &folders.adapters(), &folders.identity()] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        assert_eq!(mode(&folders.runtime), 0o755);
    }

    #[test]
    fn an_open_state_folder_is_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/state")).unwrap();
        fs::set_permissions(root.path().join("a/state"), Permissions::from_mode(0o755)).unwrap();
        let folders = Folders::prepare(&paths(root.path())).unwrap();
        assert_eq!(mode(&folders.state), 0o700);
    }

    #[test]
    fn a_second_daemon_is_kept_out_until_the_first_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let first = Folders::prepare(&paths(root.path())).unwrap();
        let error = Folders::prepare(&paths(root.path())).unwrap_err();
        assert!(matches!(&error, FolderError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("another synesisd is using"), "{error}");
        drop(first);
        Folders::prepare(&paths(root.path())).unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_named_with_its_key() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/run"), "").unwrap();
        let error = Folders::prepare(&paths(root.path())).unwrap_err().to_string();
        assert!(
            error.contains("a/run is not a folder") && error.contains("\"paths.runtime_dir\""),
            "{error}"
        );
    }

    #[test]
    fn a_folder_below_a_file_cannot_be_made_and_says_so() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "").unwrap();
        let error = Folders::prepare(&paths(root.path())).unwrap_err();
        assert!(matches!(error, FolderError::Create { key: "paths.state_dir", .. }), "{error}");
    }
}
