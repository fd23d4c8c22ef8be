//! `Adapters`: take in, list, swap, remove. The bytes of an import are streamed, because the daemon may not be able to
//! open the user's files.

use futures_util::stream::{self, StreamExt as _};
use synesis_proto::control::v1::adapters_server::Adapters;
use synesis_proto::control::v1::{
    AdapterRecord, ImportChunk, ListAdaptersReply, ListAdaptersRequest, OffRequest, RemoveAdapterReply,
    RemoveAdapterRequest, SwapReply, SwapRequest,
};
use tonic::{Request, Response, Status, Streaming};

use crate::adapters::{AdaptersHandle, Import};
use crate::app::Handles;
use crate::ipc::call::Call;
use crate::ipc::convert;
use crate::ipc::status::{bad_request, refuse};

pub(super) struct AdaptersService {
    adapters: AdaptersHandle,
}

impl AdaptersService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { adapters: handles.adapters.clone() }
    }
}

#[tonic::async_trait]
impl Adapters for AdaptersService {
    async fn import(
        &self,
        request: Request<Streaming<ImportChunk>>,
    ) -> Result<Response<AdapterRecord>, Status> {
        let uid = Call::of(&request).caller.uid;
        let mut chunks = request.into_inner();
        let Some(mut first) = chunks.message().await? else {
            return Err(bad_request(
                "the upload has no first chunk",
                "send a chunk that names the adapter first",
            ));
        };
        let import = Import {
            name: std::mem::take(&mut first.name),
            source: std::mem::take(&mut first.source),
            uid: Some(uid),
        };
        let Some(first) = convert::piece(first) else {
            return Err(bad_request(
                "the upload begins with a file of an unknown kind",
                "use a synctl of the same version as synesisd",
            ));
        };
        let rest = chunks.map(|chunk| chunk.ok().and_then(convert::piece));
        let pieces = stream::once(std::future::ready(Some(first))).chain(rest);
        let adapter = self.adapters.import(import, pieces).await.map_err(refuse)?;
        Ok(Response::new(convert::record(self.adapters.show(&adapter))))
    }

    async fn list(&self, _: Request<ListAdaptersRequest>) -> Result<Response<ListAdaptersReply>, Status> {
        Ok(Response::new(convert::list_reply(self.adapters.list())))
    }

    async fn swap(&self, request: Request<SwapRequest>) -> Result<Response<SwapReply>, Status> {
        let SwapRequest { name, expected_generation } = request.into_inner();
        let swapped = self.adapters.swap(&name, expected_generation).await.map_err(refuse)?;
        Ok(Response::new(convert::swap_reply(swapped)))
    }

    async fn off(&self, request: Request<OffRequest>) -> Result<Response<SwapReply>, Status> {
        let swapped = self.adapters.off(request.into_inner().expected_generation).await.map_err(refuse)?;
        Ok(Response::new(convert::swap_reply(swapped)))
    }

    async fn remove(
        &self,
        request: Request<RemoveAdapterRequest>,
    ) -> Result<Response<RemoveAdapterReply>, Status> {
        self.adapters.remove(&request.into_inner().name).await.map_err(refuse)?;
        Ok(Response::new(RemoveAdapterReply {}))
    }
}
