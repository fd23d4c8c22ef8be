//! `synesisd`: the Synesis device service.

use std::process::ExitCode;

fn main() -> ExitCode {
    synesisd::cli::main(std::env::args_os())
}
