//! `Inference`: prompts in, answers out.

use futures_util::{StreamExt, stream};
use synesis_proto::Problem;
use synesis_proto::control::v1::inference_server::Inference;
use synesis_proto::control::v1::{
    AskEvent, AskRequest, Decision, DecisionsRequest, EmbedReply, EmbedRequest, Replayed, RouteReply,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Replies;
use crate::app::Handles;
use crate::ask::Asker;
use crate::ipc::call::Call;
use crate::ipc::{convert, status};

/// The service.
#[derive(Debug)]
pub(super) struct InferenceService {
    asker: Asker,
    stopping: CancellationToken,
}

impl InferenceService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { asker: handles.asker.clone(), stopping: handles.stopping.clone() }
    }
}

#[tonic::async_trait]
impl Inference for InferenceService {
    type AskStream = Replies<AskEvent>;

    /// Dropping the call, whichever way, cancels the work.
    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        let call = Call::of(&request);
        let ask = convert::ask(call.caller.uid, request.into_inner());
        let id = call.id;
        let events = self.asker.ask(id, ask).map(move |event| match event {
            Ok(event) => Ok(convert::ask_event(id, event)),
            Err(error) => Err(status::refuse(error)),
        });
        let events = events.take_until(self.stopping.clone().cancelled_owned());
        // An answer that is cut off must not look like a whole one.
        let stopping = self.stopping.clone();
        let cut = stream::once(async move { stopping.is_cancelled() }).filter(|cut| std::future::ready(*cut));
        let cut = cut.map(|_| Err(status::not_now("synesisd is stopping")));
        Ok(Response::new(Box::pin(events.chain(cut))))
    }

    async fn route(&self, request: Request<AskRequest>) -> Result<Response<RouteReply>, Status> {
        let call = Call::of(&request);
        let ask = convert::ask(call.caller.uid, request.into_inner());
        let routing = self.asker.route(&ask).await.map_err(status::refuse)?;
        let refusal = |why| Problem::from(self.asker.refusal(why));
        Ok(Response::new(convert::route_reply(&routing, refusal)))
    }

    type DecisionsStream = Replies<Decision>;

    async fn decisions(
        &self,
        _: Request<DecisionsRequest>,
    ) -> Result<Response<Self::DecisionsStream>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    type ReplayStream = Replies<Replayed>;

    async fn replay(
        &self,
        _: Request<tonic::Streaming<Decision>>,
    ) -> Result<Response<Self::ReplayStream>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Result<Response<EmbedReply>, Status> {
        Err(Status::unimplemented("not in this version"))
    }
}
