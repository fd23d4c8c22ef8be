//! `Models`: the local model.

use synesis_proto::control::v1::models_server::Models;
use synesis_proto::control::v1::{ModelInfoReply, ModelInfoRequest};
use tonic::{Request, Response, Status};

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
}
