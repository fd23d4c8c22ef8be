//! `Models`: the local model and the model files. The bytes of an upload are streamed, because the daemon may not be
//! able to open the user's files.

use bytes::Bytes;
use futures_util::StreamExt as _;
use synesis_proto::control::v1 as pb;
use synesis_proto::control::v1::models_server::Models;
use synesis_proto::control::v1::{ModelInfoReply, ModelInfoRequest};
use tonic::{Request, Response, Status, Streaming};

use super::Replies;
use crate::app::Handles;
use crate::ask::Driven;
use crate::ipc::convert;
use crate::ipc::status::{bad_request, refuse};
use crate::model::ModelHandle;
use crate::models::{ModelsError, ModelsHandle, PullProgress, PullRequest, Upload};

pub(super) struct ModelsService {
    model: ModelHandle,
    models: ModelsHandle,
}

impl ModelsService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { model: handles.model.clone(), models: handles.models.clone() }
    }
}

fn replies(progress: Driven<Result<PullProgress, ModelsError>>) -> Replies<pb::PullEvent> {
    Box::pin(progress.map(|event| event.map(convert::pull_event).map_err(refuse)))
}

#[tonic::async_trait]
impl Models for ModelsService {
    async fn info(&self, _: Request<ModelInfoRequest>) -> Result<Response<ModelInfoReply>, Status> {
        let status = self.model.status();
        let reply = ModelInfoReply::from(&**status.borrow());
        Ok(Response::new(reply))
    }

    async fn list(&self, _: Request<pb::ListModelsRequest>) -> Result<Response<pb::ListModelsReply>, Status> {
        Ok(Response::new(convert::list_models_reply(self.models.list_all().await)))
    }

    async fn catalogue(
        &self,
        _: Request<pb::CatalogueRequest>,
    ) -> Result<Response<pb::CatalogueReply>, Status> {
        Ok(Response::new(convert::catalogue_reply(self.models.offer())))
    }

    type PullStream = Replies<pb::PullEvent>;

    async fn pull(&self, request: Request<pb::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let pb::PullRequest { source, name, sha256 } = request.into_inner();
        Ok(Response::new(replies(self.models.pull(PullRequest { source, name, sha256 }))))
    }

    type UploadStream = Replies<pb::PullEvent>;

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadChunk>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let mut chunks = request.into_inner();
        let Some(first) = chunks.message().await? else {
            return Err(bad_request(
                "the upload has no first chunk",
                "send a chunk with the name, the size and the sha256 first",
            ));
        };
        if !first.data.is_empty() {
            return Err(bad_request(
                "the first chunk of an upload has bytes in it",
                "send the bytes after the event `started`, which says from where on",
            ));
        }
        let upload = Upload { name: first.name, size_bytes: first.size_bytes, sha256: first.sha256 };
        let bytes = chunks.map(|chunk| chunk.ok().map(|chunk| Bytes::from(chunk.data)));
        Ok(Response::new(replies(self.models.upload(upload, Box::pin(bytes)))))
    }

    async fn load(
        &self,
        request: Request<pb::LoadModelRequest>,
    ) -> Result<Response<pb::LoadModelReply>, Status> {
        let loaded = self.models.load(&request.into_inner().name).await.map_err(refuse)?;
        Ok(Response::new(convert::load_model_reply(loaded)))
    }

    async fn remove(
        &self,
        request: Request<pb::RemoveModelRequest>,
    ) -> Result<Response<pb::RemoveModelReply>, Status> {
        self.models.remove(&request.into_inner().name).await.map_err(refuse)?;
        Ok(Response::new(pb::RemoveModelReply {}))
    }
}
