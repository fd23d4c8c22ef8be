//! The services of control.v1, answering from the script.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use synesis_proto::control::v1::adapters_server::{Adapters, AdaptersServer};
use synesis_proto::control::v1::admin_server::{Admin, AdminServer};
use synesis_proto::control::v1::billing_server::{Billing, BillingServer};
use synesis_proto::control::v1::inference_server::{Inference, InferenceServer};
use synesis_proto::control::v1::models_server::{Models, ModelsServer};
use synesis_proto::control::v1::node_server::{Node, NodeServer};
use synesis_proto::control::v1::privacy_server::{Privacy, PrivacyServer};
use synesis_proto::control::v1::*;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::{Asked, Script, Shared, Step};

/// Serves every service on one socket, until dropped.
pub(super) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    let service = Service(shared);
    let served = Server::builder()
        .add_service(InferenceServer::new(service.clone()))
        .add_service(NodeServer::new(service.clone()))
        .add_service(PrivacyServer::new(service.clone()))
        .add_service(AdaptersServer::new(service.clone()))
        .add_service(AdminServer::new(service.clone()))
        .add_service(ModelsServer::new(service.clone()))
        .add_service(BillingServer::new(service))
        .serve_with_incoming(UnixListenerStream::new(listener));
    served.await.unwrap();
}

/// Tells the test when a stream is dropped before its script is through.
struct Unfinished(Option<Arc<Shared>>);

impl Unfinished {
    fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            let _ = shared.cancelled.try_send(());
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

type Reply<T> = Result<Response<T>, Status>;
type Events<T> = BoxStream<'static, Result<T, Status>>;

impl Service {
    /// What happens before every call.
    async fn gate(&self) -> Result<&Script, Status> {
        if self.0.script.hang {
            std::future::pending::<()>().await;
        }
        match &self.0.script.refuse {
            Some(problem) => Err(problem.clone().into()),
            None => Ok(&self.0.script),
        }
    }

    fn note(&self, asked: Asked) {
        self.0.asked.lock().unwrap().push(asked);
    }

    fn play<T: Clone + Send + 'static>(&self, steps: &[Step<T>]) -> Response<Events<T>> {
        let steps: VecDeque<Step<T>> = steps.iter().cloned().collect();
        let state = (steps, Unfinished(Some(Arc::clone(&self.0))));
        let events = stream::unfold(state, |(mut steps, mut unfinished)| async move {
            loop {
                match steps.pop_front() {
                    Some(Step::Send(event)) => return Some((Ok(event), (steps, unfinished))),
                    Some(Step::Wait(gate)) => gate.notified().await,
                    Some(Step::Fail(problem)) => return Some((Err(problem.into()), (steps, unfinished))),
                    Some(Step::Hang) => std::future::pending().await,
                    None => {
                        unfinished.finish();
                        return None;
                    }
                }
            }
        });
        Response::new(events.boxed())
    }

    /// Finds the scripted spans, in their order, with offsets of this text.
    fn redact(&self, text: &str) -> PreviewReply {
        let spans: Vec<Span> =
            self.0.script.preview.iter().filter(|span| span.end as usize <= text.len()).cloned().collect();
        let mut redacted = text.to_owned();
        for span in spans.iter().rev() {
            redacted.replace_range(span.start as usize..span.end as usize, &span.placeholder);
        }
        PreviewReply { text: redacted, spans, detector_version: "fake/1".to_owned() }
    }
}

#[tonic::async_trait]
impl Inference for Service {
    type AskStream = Events<AskEvent>;

    async fn ask(&self, request: Request<AskRequest>) -> Reply<Self::AskStream> {
        self.note(Asked::Ask(request.into_inner()));
        Ok(self.play(&self.gate().await?.ask))
    }

    async fn route(&self, request: Request<AskRequest>) -> Reply<RouteReply> {
        self.note(Asked::Route(request.into_inner()));
        Ok(Response::new(self.gate().await?.route.clone()))
    }

    type DecisionsStream = Events<Decision>;

    async fn decisions(&self, _: Request<DecisionsRequest>) -> Reply<Self::DecisionsStream> {
        let rows: Vec<_> = self.gate().await?.decisions.iter().cloned().map(Step::Send).collect();
        Ok(self.play(&rows))
    }

    type ReplayStream = Events<Replayed>;

    async fn replay(&self, _: Request<Streaming<Decision>>) -> Reply<Self::ReplayStream> {
        let rows: Vec<_> = self.gate().await?.replayed.iter().cloned().map(Step::Send).collect();
        Ok(self.play(&rows))
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Reply<EmbedReply> {
        Err(Status::unimplemented("no command asks for this"))
    }
}

#[tonic::async_trait]
impl Node for Service {
    type WatchStream = Events<StatusReply>;
    type VitalsStream = Events<Vitals>;

    async fn status(&self, _: Request<StatusRequest>) -> Reply<StatusReply> {
        Ok(Response::new(self.gate().await?.status.clone()))
    }

    async fn watch(&self, _: Request<StatusRequest>) -> Reply<Self::WatchStream> {
        Ok(self.play(&self.gate().await?.watch))
    }

    async fn vitals(&self, request: Request<VitalsRequest>) -> Reply<Self::VitalsStream> {
        let script = self.gate().await?;
        let samples = if request.into_inner().watch { &script.vitals[..] } else { &script.vitals[..1] };
        Ok(self.play(samples))
    }
}

#[tonic::async_trait]
impl Privacy for Service {
    type PreviewManyStream = Events<PreviewReply>;

    async fn preview(&self, request: Request<PreviewRequest>) -> Reply<PreviewReply> {
        self.gate().await?;
        Ok(Response::new(self.redact(&request.into_inner().text)))
    }

    async fn preview_many(
        &self,
        request: Request<Streaming<PreviewRequest>>,
    ) -> Reply<Self::PreviewManyStream> {
        self.gate().await?;
        let service = self.clone();
        Ok(Response::new(request.into_inner().map_ok(move |request| service.redact(&request.text)).boxed()))
    }
}

#[tonic::async_trait]
impl Adapters for Service {
    async fn import(&self, request: Request<Streaming<ImportChunk>>) -> Reply<AdapterRecord> {
        let script = self.gate().await?;
        let chunks: Result<Vec<ImportChunk>, Status> = request.into_inner().try_collect().await;
        let Ok(chunks) = chunks else {
            self.note(Asked::ImportBroken);
            return Err(Status::aborted("the stream broke"));
        };
        assert!(
            chunks.iter().skip(1).all(|chunk| chunk.name.is_empty()),
            "only the first chunk has the name"
        );
        let name = chunks.first().map(|chunk| chunk.name.clone()).unwrap_or_default();
        let source = chunks.first().map(|chunk| chunk.source.clone()).unwrap_or_default();
        let mut parts: Vec<(ImportPart, Vec<u8>)> = Vec::new();
        for chunk in &chunks {
            match parts.last_mut().filter(|(part, _)| *part == chunk.part()) {
                Some((_, bytes)) => bytes.extend(&chunk.data),
                None => parts.push((chunk.part(), chunk.data.clone())),
            }
        }
        self.note(Asked::Imported { name: name.clone(), source, parts, chunks: chunks.len() });
        Ok(Response::new(AdapterRecord { name, ..script.record.clone() }))
    }

    async fn list(&self, _: Request<ListAdaptersRequest>) -> Reply<ListAdaptersReply> {
        Ok(Response::new(self.gate().await?.list.clone()))
    }

    async fn swap(&self, request: Request<SwapRequest>) -> Reply<SwapReply> {
        self.note(Asked::Swap(request.into_inner()));
        Ok(Response::new(self.gate().await?.swap.clone()))
    }

    async fn off(&self, request: Request<OffRequest>) -> Reply<SwapReply> {
        self.note(Asked::Off(request.into_inner()));
        Ok(Response::new(self.gate().await?.swap.clone()))
    }

    type PushStream = Events<TransferEvent>;

    async fn push(&self, request: Request<PushAdapterRequest>) -> Reply<Self::PushStream> {
        self.note(Asked::Push(request.into_inner()));
        Ok(self.play(&self.gate().await?.transfer))
    }

    type PullStream = Events<TransferEvent>;

    async fn pull(&self, request: Request<PullAdapterRequest>) -> Reply<Self::PullStream> {
        self.note(Asked::Pull(request.into_inner()));
        Ok(self.play(&self.gate().await?.transfer))
    }

    async fn cancel_transfer(&self, request: Request<CancelTransferRequest>) -> Reply<CancelTransferReply> {
        let CancelTransferRequest { name, direction } = request.into_inner();
        self.gate().await?;
        let transfer = Transfer { name, direction, ..Transfer::default() };
        Ok(Response::new(CancelTransferReply { transfer: Some(transfer) }))
    }

    async fn list_cloud(&self, _: Request<ListCloudRequest>) -> Reply<ListCloudReply> {
        Ok(Response::new(self.gate().await?.cloud.clone()))
    }

    async fn remove_cloud(&self, request: Request<RemoveCloudRequest>) -> Reply<RemoveCloudReply> {
        self.note(Asked::Removed(request.into_inner().wanted));
        Ok(Response::new(RemoveCloudReply { removed: self.gate().await?.cloud.adapters.clone() }))
    }

    async fn remove(&self, request: Request<RemoveAdapterRequest>) -> Reply<RemoveAdapterReply> {
        self.note(Asked::Removed(request.into_inner().name));
        self.gate().await?;
        Ok(Response::new(RemoveAdapterReply {}))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Reply<EnrollReply> {
        self.note(Asked::Enroll(request.into_inner()));
        Ok(Response::new(self.gate().await?.enroll.clone()))
    }

    async fn unenroll(&self, _: Request<UnenrollRequest>) -> Reply<UnenrollReply> {
        self.gate().await?;
        self.note(Asked::Unenrolled);
        Ok(Response::new(UnenrollReply {}))
    }

    async fn tunnel_status(&self, _: Request<TunnelStatusRequest>) -> Reply<Tunnel> {
        Ok(Response::new(self.gate().await?.tunnel.clone()))
    }

    async fn tunnel_ping(&self, _: Request<TunnelPingRequest>) -> Reply<TunnelPingReply> {
        Ok(Response::new(self.gate().await?.ping.clone()))
    }

    async fn tunnel_reconnect(&self, _: Request<TunnelReconnectRequest>) -> Reply<TunnelReconnectReply> {
        self.gate().await?;
        self.note(Asked::Reconnect);
        Ok(Response::new(TunnelReconnectReply {}))
    }
}

#[tonic::async_trait]
impl Models for Service {
    async fn info(&self, _: Request<ModelInfoRequest>) -> Reply<ModelInfoReply> {
        Ok(Response::new(self.gate().await?.model.clone()))
    }

    async fn list(&self, _: Request<ListModelsRequest>) -> Reply<ListModelsReply> {
        Ok(Response::new(self.gate().await?.models.clone()))
    }

    async fn catalogue(&self, _: Request<CatalogueRequest>) -> Reply<CatalogueReply> {
        Ok(Response::new(self.gate().await?.catalogue.clone()))
    }

    type PullStream = Events<PullEvent>;

    async fn pull(&self, _: Request<PullRequest>) -> Reply<Self::PullStream> {
        Ok(self.play(&self.gate().await?.pull))
    }

    type UploadStream = Events<PullEvent>;

    async fn upload(&self, request: Request<Streaming<UploadChunk>>) -> Reply<Self::UploadStream> {
        let _chunks: Vec<UploadChunk> = request.into_inner().try_collect().await?;
        Ok(self.play(&self.gate().await?.pull))
    }

    async fn load(&self, _: Request<LoadModelRequest>) -> Reply<LoadModelReply> {
        Ok(Response::new(self.gate().await?.load.clone()))
    }

    async fn remove(&self, _: Request<RemoveModelRequest>) -> Reply<RemoveModelReply> {
        self.gate().await?;
        Ok(Response::new(RemoveModelReply {}))
    }
}

#[tonic::async_trait]
impl Billing for Service {
    type ReceiptsStream = Events<StoredReceipt>;

    async fn balance(&self, _: Request<BalanceRequest>) -> Reply<BalanceReply> {
        Ok(Response::new(self.gate().await?.balance.clone()))
    }

    async fn receipts(&self, request: Request<ReceiptsRequest>) -> Reply<Self::ReceiptsStream> {
        self.note(Asked::Receipts(request.into_inner()));
        let rows: Vec<_> = self.gate().await?.receipts.iter().cloned().map(Step::Send).collect();
        Ok(self.play(&rows))
    }

    async fn receipt_keys(&self, _: Request<ReceiptKeysRequest>) -> Reply<ReceiptKeysReply> {
        Ok(Response::new(ReceiptKeysReply { keys: self.gate().await?.keys.clone() }))
    }
}
