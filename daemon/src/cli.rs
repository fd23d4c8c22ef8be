//! The command line: parse, load the configuration, and either show it or run. Exit codes are part of the
//! contract: 0 done, 1 failed, 64 usage, 78 bad configuration (the service manager does not restart on it).

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Loaded, Origins, Source};
use crate::{app, log};

const FAILED: u8 = 1;
const USAGE: u8 = 64;
const BAD_CONFIG: u8 = 78;

/// The Synesis device service.
#[derive(Debug, Parser)]
#[command(name = "synesisd", version, about, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: /etc/synesis/synesisd.toml, which may be missing].
    /// Then conf.d/*.toml beside it, then SYNESIS_* variables.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service in the foreground.
    Run,
    /// Look at the configuration without running.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is usable.
    Check,
    /// Print the effective values.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Say where each value came from.
    #[arg(long)]
    origin: bool,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Everything the program does; the result is its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive here too; clap knows which stream each belongs to.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let source = Source::new(cli.config);
    let loaded = match config::load(&source, environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error);
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match cli.command {
        Command::Run => run(loaded),
        Command::Config(ConfigCommand::Check) => print("the configuration is usable\n"),
        Command::Config(ConfigCommand::Show(args)) => {
            let origins = if args.origin { Origins::Show } else { Origins::Hide };
            if args.json {
                print(&(config::as_json(&loaded, origins) + "\n"))
            } else {
                print(&config::as_toml(&loaded, origins))
            }
        }
    }
}

fn run(loaded: Loaded) -> ExitCode {
    if let Err(error) = log::init(&loaded.config.log, std::env::var("SYNESIS_LOG").ok().as_deref()) {
        complain(&error);
        return ExitCode::from(BAD_CONFIG);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    match runtime.block_on(app::run(loaded.config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %log::chain(&error), "synesisd ends");
            ExitCode::from(FAILED)
        }
    }
}

/// The environment, without the variables that are not text: none of ours can be one.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn complain(error: &dyn std::error::Error) {
    let _ = writeln!(std::io::stderr(), "synesisd: {error}");
}

fn print(text: &str) -> ExitCode {
    // A reader that went away (`| head`) is no failure of ours, but a full disk is.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&error);
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_collide() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_file_may_be_named_before_or_after_the_command() {
        for line in
            ["synesisd --config /x run", "synesisd run --config /x", "synesisd config check --config /x"]
        {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.config, Some(PathBuf::from("/x")), "{line}");
        }
    }
}
