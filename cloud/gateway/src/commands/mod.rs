//! The subcommands, one file each.

pub(crate) mod admin;
pub(crate) mod ca;
pub(crate) mod init;
pub(crate) mod serve;

use std::io::{self, Write};

use crate::failure::{Exit, Failure};

/// Writes `text` and a line feed to stdout. A reader that went away is a failure, not a panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("standard output cannot be written: {error}"),
            "run the command again",
        )
    })
}
