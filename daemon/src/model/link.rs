//! The way to one living model process, and the calls that are under way on it. A call holds its link to the end, so
//! that a process which is being replaced can be left alone until the last answer of it is out.

use std::time::Duration;

use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::{Problem, reason};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::ModelError;

/// Embeddings of a whole batch are larger than what tonic takes by itself.
const LARGEST_REPLY: usize = 64 << 20;

/// One living model process.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) client: RuntimeClient<Channel>,
    /// Cancelled when the process has ended, or its connection broke, which is the same: a process without a
    /// connection is replaced.
    pub(super) gone: CancellationToken,
    /// Cancelled first when the process ends because another model took its place.
    replaced: CancellationToken,
    calls: TaskTracker,
    /// What the process runs, as the quarantine knows it.
    model: String,
}

impl Link {
    pub(super) fn new(channel: Channel, model: String) -> Self {
        Self {
            client: RuntimeClient::new(channel).max_decoding_message_size(LARGEST_REPLY),
            gone: CancellationToken::new(),
            replaced: CancellationToken::new(),
            calls: TaskTracker::new(),
            model,
        }
    }

    /// What the process runs, as the quarantine knows it.
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// Counts a call until the token is dropped.
    pub(super) fn begin(&self) -> TaskTrackerToken {
        self.calls.token()
    }

    /// Waits until the calls that are under way have ended, and cuts those that take longer than `limit`.
    pub(super) async fn drain(&self, limit: Duration) {
        self.calls.close();
        if timeout(limit, self.calls.wait()).await.is_err() {
            tracing::warn!(calls = self.calls.len(), "answers were cut: the model is replaced");
        }
        self.replaced.cancel();
        self.gone.cancel();
    }

    /// Why a call ends that the process did not end itself.
    pub(super) fn lost(&self) -> ModelError {
        if self.replaced.is_cancelled() { ModelError::Replaced } else { ModelError::Crashed }
    }

    /// What a status means. The first call to notice a broken connection says so to everybody, so that the next call
    /// waits for the restart instead of failing on the same connection.
    pub(super) fn refusal(&self, status: &Status) -> ModelError {
        match refusal(status) {
            ModelError::Crashed => {
                self.gone.cancel();
                self.lost()
            }
            error => error,
        }
    }
}

/// What a status of the model process means. Its own refusals carry a reason; without one it is the connection
/// that failed, and the connection lives exactly as long as the process.
pub(super) fn refusal(status: &Status) -> ModelError {
    let problem = Problem::from_status(status);
    if reason::ALL.contains(&problem.reason.as_str()) {
        return ModelError::Refused(problem);
    }
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => {
            ModelError::Crashed
        }
        code => ModelError::Protocol(format!("{code:?}: {}", status.message())),
    }
}
