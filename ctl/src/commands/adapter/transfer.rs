//! `adapter push` and `adapter pull`: jobs of the daemon, which this watches for as long as the user wants to.

use clap::Args;
use synesis_proto::control::v1::transfer_event::Event;
use synesis_proto::control::v1::{
    CancelTransferRequest, PullAdapterRequest, PushAdapterRequest, Transfer, TransferEvent,
};
use tonic::Streaming;

use super::view::{CancelledView, TransferView};
use crate::commands::progress::{self, Shown, Told, Words};
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;

const LEFT: &str = "it goes on without this command: synctl adapter list shows how far it is";
const PUSHING: Words = Words {
    schema: "synesis.adapter_push/1",
    doing: "pushing",
    moving: "sending",
    resumed: "of it there already",
    left: LEFT,
};
const PULLING: Words = Words {
    schema: "synesis.adapter_pull/1",
    doing: "pulling",
    moving: "receiving",
    resumed: "of it here already",
    left: LEFT,
};

/// What a transfer has beside a name.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Return at once; the daemon goes on
    #[arg(long, conflicts_with = "cancel")]
    detach: bool,
    /// End a transfer that is waiting or under way
    #[arg(long)]
    cancel: bool,
}

pub(super) async fn push(
    name: String,
    args: TransferArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    if args.cancel {
        return cancel(name, "push", context, output).await;
    }
    let request = PushAdapterRequest { name: name.clone(), detach: args.detach };
    let events = context.connect().await?.adapters().push(request).await?.into_inner();
    let done = follow(events, PUSHING, output).await?;
    let is_done = done.state == "done";
    output.print(&TransferView::new(PUSHING.schema, done)).await?;
    if is_done {
        output.note(&format!("answer with it in the cloud: synctl ask --cloud --adapter {name} PROMPT"));
    }
    Ok(())
}

pub(super) async fn pull(
    wanted: String,
    name: Option<String>,
    args: TransferArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let name = name.unwrap_or_default();
    if args.cancel {
        return cancel(if name.is_empty() { wanted } else { name }, "pull", context, output).await;
    }
    let request = PullAdapterRequest { wanted, name, detach: args.detach };
    let events = context.connect().await?.adapters().pull(request).await?.into_inner();
    let done = follow(events, PULLING, output).await?;
    let (is_done, name) = (done.state == "done", done.name.clone());
    output.print(&TransferView::new(PULLING.schema, done)).await?;
    if is_done {
        output.note(&format!("answer with it from now on: synctl adapter swap {name}"));
    }
    Ok(())
}

async fn cancel(
    name: String,
    direction: &str,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = CancelTransferRequest { name, direction: direction.to_owned() };
    let reply = context.connect().await?.adapters().cancel_transfer(request).await?.into_inner();
    output.print(&CancelledView::new(reply.transfer.unwrap_or_default())).await
}

/// Reads the events to the end.
async fn follow(
    mut events: Streaming<TransferEvent>,
    words: Words,
    output: &mut Output,
) -> Result<Transfer, Failure> {
    let read = |event: TransferEvent| {
        Some(match event.event? {
            Event::Started(started) => Told::Started(started),
            Event::Progress(progress) => Told::Progress(progress),
            Event::Done(transfer) => Told::Done(transfer),
        })
    };
    progress::follow(&mut events, read, &mut Shown::new(words, output), output).await
}
