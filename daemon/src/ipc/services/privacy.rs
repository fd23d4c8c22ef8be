//! `Privacy`: what would leave the device. Sends nothing.

use std::sync::Arc;

use futures_util::StreamExt;
use synesis_privacy::Policy;
use synesis_proto::control::v1::privacy_server::Privacy;
use synesis_proto::control::v1::{PreviewReply, PreviewRequest};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Replies;
use crate::app::Handles;
use crate::ask::AskError;
use crate::ipc::{convert, status};

/// Texts longer than this are redacted off the event loop.
const LONG: usize = 64 * 1024;

/// The service.
#[derive(Debug)]
pub(super) struct PrivacyService {
    /// None: the rules are not usable.
    policy: Option<Arc<Policy>>,
    stopping: CancellationToken,
}

impl PrivacyService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { policy: handles.asker.privacy.clone(), stopping: handles.stopping.clone() }
    }
}

#[tonic::async_trait]
impl Privacy for PrivacyService {
    async fn preview(&self, request: Request<PreviewRequest>) -> Result<Response<PreviewReply>, Status> {
        let policy = usable(self.policy.as_ref())?;
        preview(policy, request.into_inner().text).await.map(Response::new)
    }

    type PreviewManyStream = Replies<PreviewReply>;

    async fn preview_many(
        &self,
        request: Request<Streaming<PreviewRequest>>,
    ) -> Result<Response<Self::PreviewManyStream>, Status> {
        let policy = usable(self.policy.as_ref())?;
        let replies = request.into_inner().then(move |request| {
            let policy = Arc::clone(&policy);
            async move { preview(policy, request?.text).await }
        });
        let stopping = self.stopping.clone();
        Ok(Response::new(Box::pin(replies.take_until(stopping.cancelled_owned()))))
    }
}

fn usable(policy: Option<&Arc<Policy>>) -> Result<Arc<Policy>, Status> {
    policy.cloned().ok_or_else(|| status::refuse(AskError::rules_unusable()))
}

async fn preview(policy: Arc<Policy>, text: String) -> Result<PreviewReply, Status> {
    let long = text.len() > LONG;
    let work = move || policy.preview(&text).map(convert::preview);
    let done = if long { tokio::task::spawn_blocking(work).await.map_err(status::defect)? } else { work() };
    done.map_err(|error| status::refuse(AskError::Redact(error)))
}
