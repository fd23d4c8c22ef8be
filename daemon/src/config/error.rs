//! What can be wrong with a configuration. Every sentence names the place, the value, and what would be right.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file that was asked for does not exist.
    #[error("there is no configuration file {}; create it, or leave out --config to use the defaults", .0.display())]
    Missing(PathBuf),
    /// A file or folder is there but cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not TOML.
    #[error("{} is not valid TOML at line {line}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's sentence.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key \"{key}\" in {origin}; did you mean \"{nearest}\"?")]
    UnknownKey {
        /// As written.
        key: String,
        /// The file or variable.
        origin: String,
        /// The closest key that exists.
        nearest: String,
    },
    /// A key with a value it does not take.
    #[error("\"{key}\" in {origin} is {found}; it takes {allowed}")]
    Value {
        /// Dotted.
        key: String,
        /// The file or variable.
        origin: String,
        /// As written.
        found: String,
        /// What would be right.
        allowed: String,
    },
    /// The layers do not fit together in a way that the checks above do not describe.
    #[error("the configuration cannot be read: {0}")]
    Other(String),
}
