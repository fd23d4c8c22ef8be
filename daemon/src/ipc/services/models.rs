//! `Models`: the local model.

use synesis_proto::control::v1 as pb;
use synesis_proto::control::v1::models_server::Models;
use synesis_proto::control::v1::{ModelInfoReply, ModelInfoRequest};
use tonic::{Request, Response, Status};

use super::Replies;
use crate::app::Handles;
use crate::model::ModelHandle;

pub(super) struct ModelsService {
    model: ModelHandle,
}

impl ModelsService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { model: handles.model.clone() }
    }
}

#[tonic::async_trait]
impl Models for ModelsService {
    async fn info(&self, _: Request<ModelInfoRequest>) -> Result<Response<ModelInfoReply>, Status> {
        let status = self.model.status();
        let reply = ModelInfoReply::from(&**status.borrow());
        Ok(Response::new(reply))
    }

    async fn list(&self, _: Request<pb::ListModelsRequest>) -> Result<Response<pb::ListModelsReply>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    async fn catalogue(
        &self,
        _: Request<pb::CatalogueRequest>,
    ) -> Result<Response<pb::CatalogueReply>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    type PullStream = Replies<pb::PullEvent>;

    async fn pull(&self, _: Request<pb::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    type UploadStream = Replies<pb::PullEvent>;

    async fn upload(
        &self,
        _: Request<tonic::Streaming<pb::UploadChunk>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    async fn load(&self, _: Request<pb::LoadModelRequest>) -> Result<Response<pb::LoadModelReply>, Status> {
        Err(Status::unimplemented("not in this version"))
    }

    async fn remove(
        &self,
        _: Request<pb::RemoveModelRequest>,
    ) -> Result<Response<pb::RemoveModelReply>, Status> {
        Err(Status::unimplemented("not in this version"))
    }
}
