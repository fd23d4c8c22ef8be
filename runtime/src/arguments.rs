//! The command line of the model process. The daemon writes it; there is nothing to run by hand.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::sandbox::{Mode, Policy};

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: synesis-runtime [--read PATH]... [--sandbox auto|require|off] [--memory BYTES]
       synesis-runtime --version | --help

The model process of Synesis. synesisd (or synesis-gateway) starts it with one end of a socketpair as standard
input and speaks gRPC (runtime.v1) over it; there is nothing to run by hand.

  --read PATH      a file or folder with models or adapters; may be given several times. With it, nothing
                   else of the user's files can be read, and nothing can be written. Without it files stay
                   open; sockets and programs are closed all the same
  --sandbox MODE   auto (default): lock what this kernel can lock and log what is missing
                   require: do not start without landlock (when --read is given) and seccomp
                   off: lock nothing, for debuggers
  --memory BYTES   most memory a loaded model may take; a load request can only lower it

SYNESIS_LOG sets the log level: error, warn, info (default), debug or trace.";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve on standard input.
    Serve(Options),
    /// Print the version.
    Version,
    /// Print [`USAGE`].
    Help,
}

/// How to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What the process may do.
    pub policy: Policy,
    /// Most bytes a loaded model may take; `None`: what there is.
    pub memory: Option<u64>,
}

/// Why the command line makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum UsageError {
    /// No such option.
    #[error("there is no option {0}")]
    Unknown(String),
    /// The last word.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// A value of the wrong kind.
    #[error("{value} is no value for {option}: it takes {takes}")]
    BadValue { option: &'static str, value: String, takes: &'static str },
}

/// Reads the words after the program's name.
///
/// # Errors
/// When one of them is unknown, or lacks its value.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut words = words.into_iter();
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--version" | "-V") => return Ok(Command::Version),
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--read") => {
                // Paths need not be UTF-8.
                let path =
                    words.next().filter(|path| !path.is_empty()).ok_or(UsageError::NoValue("--read"))?;
                options.policy.read.push(PathBuf::from(path));
            }
            Some("--sandbox") => {
                options.policy.mode = value::<Mode>(words.next(), "--sandbox", "auto, require or off")?;
            }
            Some("--memory") => {
                options.memory = Some(value(words.next(), "--memory", "a number of bytes")?);
            }
            _ => return Err(UsageError::Unknown(shown(&word))),
        }
    }
    Ok(Command::Serve(options))
}

fn value<T: std::str::FromStr>(
    word: Option<OsString>,
    option: &'static str,
    takes: &'static str,
) -> Result<T, UsageError> {
    let word = word.ok_or(UsageError::NoValue(option))?;
    let bad = || UsageError::BadValue { option, value: shown(&word), takes };
    word.to_str().and_then(|text| text.parse().ok()).ok_or_else(bad)
}

fn shown(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, UsageError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn nothing_given_serves_with_the_defaults() {
        assert_eq!(parsed(&[]), Ok(Command::Serve(Options::default())));
    }

    #[test]
    fn every_option_is_read() {
        let words = ["--read", "/a", "--sandbox", "require", "--read", "/b c", "--memory", "1048576"];
        let policy = Policy { mode: Mode::Require, read: vec!["/a".into(), "/b c".into()] };
        assert_eq!(parsed(&words), Ok(Command::Serve(Options { policy, memory: Some(1 << 20) })));
        assert_eq!(parsed(&["--version"]), Ok(Command::Version));
        assert_eq!(parsed(&["--read", "/a", "-h"]), Ok(Command::Help));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parsed(&["--wrong"]).unwrap_err().to_string(), "there is no option --wrong");
        assert_eq!(parsed(&["x"]), Err(UsageError::Unknown("x".into())));
        for option in ["--read", "--sandbox", "--memory"] {
            assert!(matches!(parsed(&[option]), Err(UsageError::NoValue(_))), "{option}");
        }
        let bad = parsed(&["--sandbox", "on"]).unwrap_err();
        assert_eq!(bad.to_string(), "on is no value for --sandbox: it takes auto, require or off");
        assert!(matches!(parsed(&["--memory", "-1"]), Err(UsageError::BadValue { .. })));
    }
}
