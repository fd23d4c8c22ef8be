//! `runtime.v1.Runtime`: each call is a conversion, one call of the engine, and a conversion back.

use std::pin::Pin;

use futures_util::{Stream, stream};
use synesis_proto::runtime::v1 as wire;
use synesis_proto::runtime::v1::runtime_server::Runtime;
use tonic::{Request, Response, Status};

use super::problem::status;
use super::{convert, files, memory};
use crate::engine::Engine;

/// The service; owns the only handle of the engine.
pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl Runtime for Service {
    async fn health(&self, _: Request<wire::HealthRequest>) -> Result<Response<wire::HealthReply>, Status> {
        Ok(Response::new(convert::health(self.engine.load(), memory::resident_bytes())))
    }

    async fn load_model(
        &self,
        request: Request<wire::LoadModelRequest>,
    ) -> Result<Response<wire::ModelInfo>, Status> {
        let request = convert::load_model(request.into_inner());
        let info = self.engine.load_model(request).await.map_err(status)?;
        Ok(Response::new(convert::model_info(info)))
    }

    async fn inspect_adapter(
        &self,
        request: Request<wire::InspectAdapterRequest>,
    ) -> Result<Response<wire::AdapterInfo>, Status> {
        files::inspect_adapter(&self.engine, request.into_inner()).await.map(Response::new)
    }

    async fn estimate_model(
        &self,
        request: Request<wire::EstimateModelRequest>,
    ) -> Result<Response<wire::MemoryEstimate>, Status> {
        files::estimate_model(request.into_inner()).await.map(Response::new)
    }

    type ConvertAdapterStream = files::ConvertAdapterStream;

    async fn convert_adapter(
        &self,
        request: Request<wire::ConvertAdapterRequest>,
    ) -> Result<Response<Self::ConvertAdapterStream>, Status> {
        files::convert_adapter(&self.engine, request.into_inner()).await.map(Response::new)
    }

    async fn load_adapter(
        &self,
        request: Request<wire::LoadAdapterRequest>,
    ) -> Result<Response<wire::AdapterInfo>, Status> {
        let wire::LoadAdapterRequest { id, path } = request.into_inner();
        let header = self.engine.load_adapter(id, path.into()).await.map_err(status)?;
        Ok(Response::new(convert::adapter_info(header)))
    }

    async fn unload_adapter(
        &self,
        request: Request<wire::UnloadAdapterRequest>,
    ) -> Result<Response<wire::UnloadAdapterReply>, Status> {
        self.engine.unload_adapter(request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(wire::UnloadAdapterReply {}))
    }

    async fn warm(&self, request: Request<wire::WarmRequest>) -> Result<Response<wire::WarmReply>, Status> {
        let (input, adapter) = convert::warm(request.into_inner()).map_err(status)?;
        let warmed = self.engine.warm(input, adapter).await.map_err(status)?;
        Ok(Response::new(convert::warmed(warmed)))
    }

    async fn embed(
        &self,
        request: Request<wire::EmbedRequest>,
    ) -> Result<Response<wire::EmbedReply>, Status> {
        let wire::EmbedRequest { inputs, owner } = request.into_inner();
        let vectors = self.engine.embed(inputs, owner).await.map_err(status)?;
        let embeddings = vectors.into_iter().map(convert::embedding).collect();
        Ok(Response::new(wire::EmbedReply { embeddings }))
    }

    async fn count_tokens(
        &self,
        request: Request<wire::CountTokensRequest>,
    ) -> Result<Response<wire::CountTokensReply>, Status> {
        let input = convert::count_input(request.into_inner().input).map_err(status)?;
        let count = self.engine.count_tokens(input).await.map_err(status)?;
        Ok(Response::new(wire::CountTokensReply {
            tokens: convert::count(count.tokens),
            context_tokens: convert::count(count.context_tokens),
        }))
    }

    type GenerateStream = Pin<Box<dyn Stream<Item = Result<wire::GenerateEvent, Status>> + Send>>;

    async fn generate(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let request = convert::generate(request.into_inner()).map_err(status)?;
        let events = self.engine.generate(request).await.map_err(status)?;
        // The stream owns the events: when the call is dropped, the engine sees that nobody listens.
        let events = stream::unfold(events, |mut events| async move {
            let event = events.next().await?;
            Some((event.map(convert::event).map_err(status), events))
        });
        Ok(Response::new(Box::pin(events)))
    }
}
