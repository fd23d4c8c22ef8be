//! The Synesis gateway: terminates the tunnel, talks to model providers, keeps the ledger.

mod adapters;
mod admin;
mod answers;
mod app;
mod authorities;
mod cli;
mod closing;
mod commands;
mod config;
mod control_plane;
mod duration;
mod enrol;
mod failure;
mod handshakes;
mod http;
mod limits;
mod live;
mod log;
mod metrics;
mod pki;
mod problem;
mod providers;
mod rotation;
mod secret;
mod session;
#[cfg(test)]
mod testing;
mod tls;
mod tunnel;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version come this way too; a closed stdout or stderr is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command {
        Command::Serve { config } => commands::serve::run(&config),
        Command::Init(init) => commands::init::run(&init),
        Command::Account(account) => commands::admin::account(account),
        Command::Token(token) => commands::admin::token(token),
        Command::Device(device) => commands::admin::device(device),
        Command::Ca(ca) => commands::ca::run(ca),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}
