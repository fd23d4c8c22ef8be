//! `synesis-runtime`, the model process: serves `runtime.v1` on its standard input, which the parent makes
//! one end of a socketpair, and leaves when the parent's end closes. It has no configuration of its own.

use std::ffi::OsString;
use std::process::ExitCode;

use synesis_runtime::{logging, serve};

const USAGE: &str = "\
Usage: synesis-runtime [--version]

The model process of Synesis. synesisd (or synesis-gateway) starts it with one end of a socketpair as standard
input and speaks gRPC (runtime.v1) over it; there is nothing to run by hand.
SYNESIS_LOG sets the log level: error, warn, info (default), debug or trace.";

/// The command line made no sense (EX_USAGE).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    match arguments.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice() {
        [] => run(),
        ["--version" | "-V"] => {
            println!("synesis-runtime {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run() -> ExitCode {
    logging::init();
    let stream = match serve::inherited_stream() {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!("synesis-runtime: {error}\n\n{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // One thread is enough: the model has its own, and tokenising goes to the blocking pool.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the async runtime did not start");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(serve::serve(stream));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the model process ends");
            ExitCode::FAILURE
        }
    }
}
