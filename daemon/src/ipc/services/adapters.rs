//! `Adapters`: take in, list, swap, remove. The bytes of an import are streamed, because the daemon may not be able to
//! open the user's files.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use synesis_proto::control::v1 as pb;
use synesis_proto::control::v1::adapters_server::Adapters;
use synesis_proto::control::v1::{
    AdapterRecord, ImportChunk, ListAdaptersReply, ListAdaptersRequest, OffRequest, RemoveAdapterReply,
    RemoveAdapterRequest, SwapReply, SwapRequest,
};
use tonic::{Request, Response, Status, Streaming};

use super::Replies;
use crate::adapters::{AdaptersHandle, Import};
use crate::app::Handles;
use crate::ask::Driven;
use crate::ipc::call::Call;
use crate::ipc::convert;
use crate::ipc::status::{bad_request, refuse};
use crate::transfers::{Direction, TransferError, TransferEvent, Transfers, Wait};

pub(super) struct AdaptersService {
    adapters: AdaptersHandle,
    transfers: Transfers,
}

impl AdaptersService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { adapters: handles.adapters.clone(), transfers: handles.transfers.clone() }
    }
}

fn replies(events: Driven<Result<TransferEvent, TransferError>>) -> Replies<pb::TransferEvent> {
    Box::pin(events.map(|event| event.map(convert::transfer_event).map_err(refuse)))
}

fn wait(detach: bool) -> Wait {
    if detach { Wait::ForTheStart } else { Wait::ForTheEnd }
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
            base_model: String::new(),
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
        let transfers = Arc::clone(&self.transfers.list().borrow());
        Ok(Response::new(convert::list_reply(self.adapters.list(), &transfers)))
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

    type PushStream = Replies<pb::TransferEvent>;

    async fn push(
        &self,
        request: Request<pb::PushAdapterRequest>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let uid = Call::of(&request).caller.uid;
        let pb::PushAdapterRequest { name, detach } = request.into_inner();
        Ok(Response::new(replies(self.transfers.push(name, uid, wait(detach)))))
    }

    type PullStream = Replies<pb::TransferEvent>;

    async fn pull(
        &self,
        request: Request<pb::PullAdapterRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let uid = Call::of(&request).caller.uid;
        let pb::PullAdapterRequest { wanted, name, detach } = request.into_inner();
        Ok(Response::new(replies(self.transfers.pull(wanted, name, uid, wait(detach)))))
    }

    async fn cancel_transfer(
        &self,
        request: Request<pb::CancelTransferRequest>,
    ) -> Result<Response<pb::CancelTransferReply>, Status> {
        let pb::CancelTransferRequest { name, direction } = request.into_inner();
        let direction = match direction.as_str() {
            "push" => Direction::Push,
            "pull" => Direction::Pull,
            _ => return Err(bad_request("a transfer is a push or a pull", "name its direction")),
        };
        let transfer = self.transfers.cancel(&name, direction).await.map_err(refuse)?;
        Ok(Response::new(pb::CancelTransferReply { transfer: Some(convert::transfer(&transfer)) }))
    }

    async fn list_cloud(
        &self,
        _: Request<pb::ListCloudRequest>,
    ) -> Result<Response<pb::ListCloudReply>, Status> {
        let listed = self.transfers.list_cloud().await.map_err(refuse)?;
        let adapters = listed.into_iter().map(|(adapter, here)| convert::cloud_adapter(adapter, here));
        Ok(Response::new(pb::ListCloudReply { adapters: adapters.collect() }))
    }

    async fn remove_cloud(
        &self,
        request: Request<pb::RemoveCloudRequest>,
    ) -> Result<Response<pb::RemoveCloudReply>, Status> {
        let removed = self.transfers.remove_cloud(&request.into_inner().wanted).await.map_err(refuse)?;
        let removed = removed.into_iter().map(|adapter| convert::cloud_adapter(adapter, false)).collect();
        Ok(Response::new(pb::RemoveCloudReply { removed }))
    }
}
