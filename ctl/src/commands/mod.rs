//! The commands, one file for each family. Every one works the same way: judge the input, connect, call, turn the
//! answer into a view, print it.

mod adapter;
mod ask;
mod billing;
mod enroll;
mod model;
mod packaging;
mod progress;
mod redact;
mod request;
mod route;
mod status;
mod tunnel;
mod vitals;

use std::time::Duration;

use clap::Subcommand;
use synesis_proto::{Problem, reason};
use tonic::Code;

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;

/// What the daemon answers from memory or disk.
const QUICK: Option<Duration> = Some(Duration::from_secs(10));
/// What waits for a gateway far away or for the model.
const SLOW: Option<Duration> = Some(Duration::from_secs(60));
/// What streams takes as long as it takes.
const UNLIMITED: Option<Duration> = None;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join this device to a gateway, with a one-time token
    Enroll(enroll::EnrollArgs),
    /// Forget this device's identity; its receipts stay
    Unenroll(enroll::UnenrollArgs),
    /// Show what the device is doing and what is wrong with it
    Status(status::StatusArgs),
    /// Show measurements of the device: processor, memory, disk, GPUs, temperature
    Vitals(vitals::VitalsArgs),
    /// Ask the model; the answer streams to standard output
    Ask(request::RequestArgs),
    /// Show where a prompt would run and why; sends nothing. With --log or --replay, look at decisions that were made
    Route(route::RouteArgs),
    /// Show what would leave the device, span by span; sends nothing
    Redact(redact::RedactArgs),
    /// The tunnel to the gateway
    #[command(subcommand)]
    Tunnel(tunnel::TunnelCommand),
    /// LoRA adapters of the local model
    #[command(subcommand)]
    Adapter(adapter::AdapterCommand),
    /// The local model, and the model files on this device
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// What was charged, and the proof
    #[command(subcommand)]
    Billing(billing::BillingCommand),
    /// Print completions for a shell; for bash: synctl completions bash > ~/.local/share/bash-completion/completions/synctl
    Completions(packaging::CompletionsArgs),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(packaging::ManArgs),
}

impl Command {
    /// How long the command waits when the user sets no limit.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Enroll(_) => SLOW,
            Self::Status(arguments) => arguments.patience(),
            Self::Vitals(arguments) => arguments.patience(),
            Self::Redact(arguments) => arguments.patience(),
            Self::Adapter(command) => command.patience(),
            Self::Model(command) => command.patience(),
            Self::Billing(command) => command.patience(),
            Self::Ask(_) | Self::Completions(_) | Self::Man(_) => UNLIMITED,
            Self::Route(arguments) => arguments.patience(),
            Self::Unenroll(_) | Self::Tunnel(_) => QUICK,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// Whatever kept it from doing all of what it says.
    pub(crate) async fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Enroll(arguments) => enroll::enroll(arguments, context, output).await,
            Self::Unenroll(args) => enroll::unenroll(args, context, output).await,
            Self::Status(arguments) => status::run(arguments, context, output).await,
            Self::Vitals(arguments) => vitals::run(arguments, context, output).await,
            Self::Ask(arguments) => ask::run(arguments, context, output).await,
            Self::Route(arguments) => route::run(arguments, context, output).await,
            Self::Redact(arguments) => redact::run(arguments, context, output).await,
            Self::Tunnel(command) => tunnel::run(command, context, output).await,
            Self::Adapter(command) => adapter::run(command, context, output).await,
            Self::Model(command) => model::run(command, context, output).await,
            Self::Billing(command) => billing::run(command, context, output).await,
            Self::Completions(arguments) => packaging::completions(&arguments, output).await,
            Self::Man(arguments) => packaging::man(&arguments),
        }
    }
}

/// A stream that only a stopping daemon ends.
fn watch_ended() -> Failure {
    Failure::Refused(Problem::new(
        Code::Unavailable,
        reason::STOPPING,
        "the daemon is stopping",
        "start watching again when it is back: systemctl status synesisd",
    ))
}
