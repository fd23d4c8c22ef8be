//! `adapter`: LoRA adapters of the local model.

mod cloud;
mod import;
mod source;
mod transfer;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use synesis_proto::control::v1::{ListAdaptersRequest, OffRequest, RemoveAdapterRequest, SwapRequest};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use transfer::TransferArgs;
use view::{ListView, RemovedView, SwapView};

/// The commands below `adapter`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// Check an adapter and keep it on this device: a GGUF file, or a PEFT folder, which is converted
    ///
    /// A PEFT folder has adapter_config.json and adapter_model.safetensors in it, as `save_pretrained` writes them. It
    /// is converted on this device. Nothing is stored unless the adapter fits the model that is loaded: format, rank,
    /// targets, shapes, size, and every number in it finite.
    #[command(allow_missing_positional = true)]
    Import {
        /// What to call it; the name of the file without its extension, or of the folder, unless given
        name: Option<String>,
        /// The GGUF file or the PEFT folder
        path: PathBuf,
    },
    /// List the adapters on this device, and those on their way
    List {
        /// What this account has at the gateway instead
        #[arg(long)]
        cloud: bool,
    },
    /// Answer with this adapter from now on; running answers finish on theirs
    Swap {
        /// The adapter's name
        name: String,
        #[command(flatten)]
        expect: Expect,
    },
    /// Answer with the base model from now on
    Off {
        #[command(flatten)]
        expect: Expect,
    },
    /// Bring an adapter to the gateway, for other devices of this account and for `ask --cloud`
    ///
    /// A job of the daemon, which goes on when this command is closed, after a restart and when the tunnel was lost.
    /// What the gateway has already is not sent again.
    Push {
        /// The adapter's name
        name: String,
        #[command(flatten)]
        args: TransferArgs,
    },
    /// Fetch an adapter from the gateway, and check it as an import is
    Pull {
        /// Its name at the gateway, or its sha256
        wanted: String,
        /// What to call it here; as it is called there unless given
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        args: TransferArgs,
    },
    /// Remove an adapter from this device
    Rm {
        /// The adapter's name; with --cloud also a sha256
        name: String,
        /// Remove it from the gateway instead; this device's own stays
        #[arg(long)]
        cloud: bool,
    },
}

/// Compare-and-swap for scripts that share a device.
#[derive(Debug, Args)]
pub(crate) struct Expect {
    /// Refuse when the active adapter has another generation: somebody else swapped first
    #[arg(long = "expect-generation", value_name = "N")]
    generation: Option<u64>,
}

impl AdapterCommand {
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Import { .. } | Self::Push { .. } | Self::Pull { .. } => super::UNLIMITED,
            Self::List { cloud: true } | Self::Rm { cloud: true, .. } => super::SLOW,
            Self::Swap { .. } | Self::Off { .. } => super::SLOW,
            Self::List { .. } | Self::Rm { .. } => super::QUICK,
        }
    }
}

pub(crate) async fn run(
    command: AdapterCommand,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        AdapterCommand::Import { name, path } => import::run(name, &path, context, output).await,
        AdapterCommand::Push { name, args } => transfer::push(name, args, context, output).await,
        AdapterCommand::Pull { wanted, name, args } => {
            transfer::pull(wanted, name, args, context, output).await
        }
        AdapterCommand::List { cloud: true } => cloud::list(context, output).await,
        AdapterCommand::Rm { name, cloud: true } => cloud::remove(name, context, output).await,
        AdapterCommand::List { cloud: false } => {
            let reply = context.connect().await?.adapters().list(ListAdaptersRequest {}).await?;
            output.print(&ListView::from(reply.into_inner())).await
        }
        AdapterCommand::Swap { name, expect } => {
            let request = SwapRequest { name, expected_generation: expect.generation };
            let reply = context.connect().await?.adapters().swap(request).await?;
            output.print(&SwapView::from(reply.into_inner())).await
        }
        AdapterCommand::Off { expect } => {
            let request = OffRequest { expected_generation: expect.generation };
            let reply = context.connect().await?.adapters().off(request).await?;
            output.print(&SwapView::from(reply.into_inner())).await
        }
        AdapterCommand::Rm { name, cloud: false } => {
            let request = RemoveAdapterRequest { name: name.clone() };
            context.connect().await?.adapters().remove(request).await?;
            output.print(&RemovedView::new(name)).await
        }
    }
}
