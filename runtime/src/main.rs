//! `synesis-runtime`, the model process: locks itself in, serves `runtime.v1` on its standard input, which the
//! parent makes one end of a socketpair, and leaves when the parent's end closes.

#[cfg(target_os = "linux")]
mod exact;

use std::process::ExitCode;

use synesis_runtime::arguments::{self, Command, Options, USAGE};
use synesis_runtime::{fit, logging, sandbox, serve};

/// The command line made no sense (EX_USAGE).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(options)) => run(&options),
        Ok(Command::Version) => {
            println!("synesis-runtime {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("synesis-runtime: {error}\n\n{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    logging::init();
    // Before there is a thread, and before anything is read that somebody else wrote.
    if let Err(error) = sandbox::enter(&options.policy) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the sandbox that is required is not there"
        );
        return ExitCode::FAILURE;
    }
    options.memory.into_iter().for_each(fit::set_ceiling);
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
