//! `Inference`: prompts in, answers out; and where they run, and why.

use futures_util::{Stream, StreamExt, stream};
use synesis_proto::Problem;
use synesis_proto::control::v1::inference_server::Inference;
use synesis_proto::control::v1::{
    AskEvent, AskRequest, Decision, DecisionsRequest, EmbedReply, EmbedRequest, Embedding, Replayed,
    RouteReply, Usage,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Replies;
use crate::app::Handles;
use crate::ask::Asker;
use crate::decisions::replay;
use crate::embed::Texts;
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

    /// Ends `replies` when the daemon stops, with an error: what is cut off must not look whole.
    fn until_stopping<T: Send + 'static>(
        &self,
        replies: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Replies<T>> {
        let stopping = self.stopping.clone();
        let cut = stream::once(async move { stopping.is_cancelled() }).filter(|cut| std::future::ready(*cut));
        let cut = cut.map(|_| Err(status::not_now("synesisd is stopping")));
        Response::new(Box::pin(replies.take_until(self.stopping.clone().cancelled_owned()).chain(cut)))
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
        Ok(self.until_stopping(events))
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
        request: Request<DecisionsRequest>,
    ) -> Result<Response<Self::DecisionsStream>, Status> {
        let lines = self.asker.decisions.newest(request.into_inner().limit).await;
        let lines = lines.map(|line| match line {
            Ok(json) => Ok(Decision { json }),
            Err(error) => Err(status::unreadable("the log of decisions", &error)),
        });
        Ok(self.until_stopping(lines))
    }

    type ReplayStream = Replies<Replayed>;

    async fn replay(
        &self,
        request: Request<Streaming<Decision>>,
    ) -> Result<Response<Self::ReplayStream>, Status> {
        let lines = request.into_inner();
        Ok(self.until_stopping(lines.map(|line| Ok(convert::replayed(replay(&line?.json))))))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedReply>, Status> {
        let uid = Call::of(&request).caller.uid;
        let texts = Texts::try_from(request.into_inner().inputs).map_err(|error| {
            status::bad_request(&error.to_string(), "send fewer or shorter texts, and none that is empty")
        })?;
        let model = self.asker.model.status().borrow().name.clone();
        let reply = tokio::select! {
            reply = self.asker.model.embed(texts.request(uid)) => reply.map_err(status::refuse)?,
            () = self.stopping.cancelled() => return Err(status::not_now("synesisd is stopping")),
        };
        let input_tokens = reply.embeddings.iter().map(|embedding| embedding.tokens).sum();
        let embeddings =
            reply.embeddings.into_iter().map(|embedding| Embedding { values: embedding.values }).collect();
        let usage = Some(Usage { input_tokens, output_tokens: 0 });
        Ok(Response::new(EmbedReply { model, embeddings, usage }))
    }
}
