//! The command line itself: global options, the parser, and what happens when the arguments are wrong.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::deadline;
use crate::exit::{self, Exit};
use crate::output::{self, Format, Verbosity};

/// Talk to the Synesis daemon on this machine: ask, see what would leave the device, what it costs, and how it is doing.
#[derive(Debug, Parser)]
#[command(name = "synctl", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// The daemon's control socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SYNESIS_SOCKET",
        default_value = "/run/synesis/control.sock"
    )]
    pub(crate) socket: PathBuf,

    /// Print data as JSON, one object per line; errors become one JSON line on standard error
    #[arg(long, global = true)]
    json: bool,

    /// Print no messages beside the data; errors are still printed
    #[arg(long, short, global = true)]
    quiet: bool,

    /// Give up when the daemon has not answered in full after this long: 250ms, 10s, 2m, 1h; 0 waits for ever. Default: 10s (60s for enroll, adapter swap, adapter off and billing verify; none for what streams: ask, --watch, route --log and --replay, redact --lines, adapter import, billing receipts)
    #[arg(long, global = true, value_name = "TIME", value_parser = deadline::parse)]
    timeout: Option<Duration>,
}

impl Globals {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }

    pub(crate) fn verbosity(&self) -> Verbosity {
        if self.quiet { Verbosity::Quiet } else { Verbosity::Normal }
    }

    /// The time limit: what the user said, else the command's own patience.
    pub(crate) fn limit(&self, patience: Option<Duration>) -> Option<Duration> {
        match self.timeout {
            Some(Duration::ZERO) => None,
            Some(limit) => Some(limit),
            None => patience,
        }
    }
}

/// The parser's reason to stop before any command runs: an error, or `--help` and `--version`.
#[derive(Debug)]
pub(crate) struct Stop {
    error: clap::Error,
    format: Format,
}

impl Stop {
    /// Prints it where it belongs and returns the exit code.
    pub(crate) fn report(&self) -> Exit {
        if !self.error.use_stderr() {
            return match self.error.print() {
                Ok(()) => Exit::Done,
                Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
                Err(_) => Exit::Failed,
            };
        }
        match self.format {
            Format::Human => {
                // Nobody is left to tell when standard error is closed; the exit code stands.
                let _ = self.error.print();
            }
            Format::Json => {
                let text = self.error.to_string();
                let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                output::report(
                    Format::Json,
                    Exit::Usage,
                    "USAGE",
                    what,
                    "run `synctl help` or add --help to the command",
                );
            }
        }
        Exit::Usage
    }
}

/// The whole command, as the parser, the completions and the man pages see it.
pub(crate) fn command() -> clap::Command {
    with_exit_codes(Cli::command())
}

fn with_exit_codes(command: clap::Command) -> clap::Command {
    command.after_help(exit::help()).mut_subcommands(with_exit_codes)
}

/// Reads the arguments.
///
/// # Errors
/// [`Stop`] when there is nothing to run.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Stop> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed =
        command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // The arguments did not parse, so `--json` is looked for by hand.
        let json =
            arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
        Stop { error, format: if json { Format::Json } else { Format::Human } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, Stop> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn no_flags_collide() {
        command().debug_assert();
    }

    fn assert_documented(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
        for subcommand in command.get_subcommands() {
            assert_documented(subcommand, &format!("{path} {}", subcommand.get_name()));
        }
    }

    #[test]
    fn every_command_and_every_flag_has_help() {
        let mut command = command();
        command.build();
        assert_documented(&command, "synctl");
    }

    #[test]
    fn the_exit_codes_are_in_the_help_of_every_command() {
        for line in ["synctl --help", "synctl ask --help", "synctl billing verify --help"] {
            let stop = parsed(line).expect_err(line);
            assert!(stop.error.to_string().contains("124  timed out"), "{line}");
        }
    }

    #[test]
    fn every_command_of_this_version_parses_and_the_later_ones_do_not() {
        let lines = [
            "synctl enroll --gateway g:4433 --ca ca.pem --token-file t",
            "synctl unenroll",
            "synctl status --watch",
            "synctl vitals --watch --json",
            "synctl ask hello --local --adapter x --max-tokens 8 --system s --temperature 0.5 --seed 1 --session a --stop . --stop !",
            "synctl redact --lines -",
            "synctl route - --cloud",
            "synctl tunnel status",
            "synctl tunnel ping",
            "synctl tunnel reconnect",
            "synctl adapter import file.gguf",
            "synctl adapter import name file.gguf",
            "synctl adapter list",
            "synctl adapter swap name --expect-generation 3",
            "synctl adapter off",
            "synctl adapter rm name",
            "synctl model info",
            "synctl model list",
            "synctl model catalogue",
            "synctl model pull hf:org/repo:Q4_K_M@main --name tiny --sha256 ab",
            "synctl model pull auto",
            "synctl model load",
            "synctl model load tiny",
            "synctl model rm tiny",
            "synctl billing balance",
            "synctl billing receipts --limit 3",
            "synctl billing verify",
            "synctl completions bash",
            "synctl man --dir out",
            "synctl --socket s --json --quiet --timeout 5s status",
        ];
        for line in lines {
            assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line).err());
        }
        for line in [
            "synctl top",
            "synctl doctor",
            "synctl model pull",
            "synctl model rm",
            "synctl billing usage",
            "synctl ask x --defer",
        ] {
            assert_eq!(parsed(line).map(|_| ()).map_err(|stop| stop.error.exit_code()), Err(2), "{line}");
        }
    }

    #[test]
    fn local_cloud_and_auto_exclude_each_other() {
        for line in
            ["synctl ask x --local --cloud", "synctl ask x --auto --cloud", "synctl route x --local --auto"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_time_limit_of_the_user_wins_and_zero_means_none() {
        let limit =
            |line: &str| parsed(line).map(|cli| cli.globals.limit(cli.command.patience())).ok().flatten();
        assert_eq!(limit("synctl status"), Some(Duration::from_secs(10)));
        assert_eq!(limit("synctl ask x"), None);
        assert_eq!(limit("synctl ask x --timeout 3s"), Some(Duration::from_secs(3)));
        assert_eq!(limit("synctl status --timeout 0"), None);
    }
}
