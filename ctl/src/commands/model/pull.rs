//! `model pull` from somewhere else: the daemon fetches, this shows how far it is.

use synesis_proto::control::v1::PullRequest;

use super::PullArgs;
use super::progress::{WORDS, follow};
use crate::commands::progress::Shown;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(args: PullArgs, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let request = PullRequest {
        source: args.source,
        name: args.name.unwrap_or_default(),
        sha256: args.sha256.unwrap_or_default(),
    };
    let mut shown = Shown::new(WORDS, output);
    let mut events = context.connect().await?.models().pull(request).await?.into_inner();
    follow(&mut events, &mut shown, output).await
}
