//! `synctl`, the Synesis command line: reads the arguments, runs one command against the daemon's socket, and
//! turns whatever went wrong into a sentence, a next step and an exit code.

mod cli;
mod commands;
mod connect;
mod deadline;
mod exit;
mod failure;
mod feed;
mod input;
mod output;
mod reader;
mod receipt;
mod units;
mod view;

use std::process::ExitCode;

use tokio::runtime::Builder;

use crate::cli::Cli;
use crate::connect::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(stop) => return stop.report().into(),
    };
    let output = Output::new(cli.globals.format(), cli.globals.verbosity());
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(run(cli, output));
            // A read of the terminal or a write to a stuck pipe may still be waiting on its own thread.
            runtime.shutdown_background();
            exit.into()
        }
        Err(cause) => output.report(&Failure::NoRuntime(cause)).into(),
    }
}

async fn run(cli: Cli, mut output: Output) -> Exit {
    let limit = cli.globals.limit(cli.command.patience());
    let context = Context::new(cli.globals.socket);
    let work = cli.command.run(&context, &mut output);
    let outcome = deadline::bounded(limit, context.asked(), work).await;
    output.end_line().await;
    match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => output.report(&failure),
    }
}
