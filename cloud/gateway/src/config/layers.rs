//! Where the configuration comes from: defaults, then the file, then `conf.d/*.toml` beside it in the order of
//! their names, then `SYNESIS_GATEWAY_*` (`__` between a table and its key). Later layers win, key by key; a list
//! such as `[[providers]]` is replaced as a whole.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};

use super::error::ConfigError;
use super::raw::Raw;
use crate::cli::SOCKET_ENV;

/// The prefix of every variable that overrides a key.
const ENV_PREFIX: &str = "SYNESIS_GATEWAY_";

pub(super) fn read(file: &Path) -> Result<Raw, ConfigError> {
    let mut figment = Figment::new();
    for path in std::iter::once(file.to_path_buf()).chain(drop_ins(file)?) {
        // Read here, not by figment: a missing or unreadable file is an error, and keeps its cause.
        if let Err(source) = std::fs::read_to_string(&path) {
            return Err(ConfigError::Unreadable { path, source });
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    let socket = SOCKET_ENV.strip_prefix(ENV_PREFIX).unwrap_or(SOCKET_ENV);
    // `SYNESIS_GATEWAY_ENDPOINTS` tells a device where to dial; both programs may share an environment.
    let environment = Env::prefixed(ENV_PREFIX).ignore(&[socket, "ENDPOINTS", "_ENDPOINTS"]).split("__");
    figment.merge(environment).extract().map_err(|error| ConfigError::from_figment(error, file))
}

fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = file.with_file_name("conf.d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ConfigError::Unreadable { path: folder, source }),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| ConfigError::Unreadable { path: folder.clone(), source })?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
