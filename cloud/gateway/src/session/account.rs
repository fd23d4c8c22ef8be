//! One question about money, one answer, then the stream ends. A device sees its own requests only.

use std::time::Duration;

use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::account_down::Message as Down;
use synesis_proto::mesh::v1::account_up::Message as Up;
use tokio::time::timeout;
use uuid::Uuid;

use super::Services;
use crate::control_plane::{Balance, RequestKey, RequestState};
use crate::problem;

/// Question and answer together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one account stream to its end.
pub(super) async fn serve(mut stream: WorkStream, device: Uuid, services: &Services) {
    let exchange = async {
        let question = stream.rx.read::<v1::AccountUp>().await?;
        let message = Some(answer(question.and_then(|q| q.message), device, services).await);
        stream.tx.write(&v1::AccountDown { message }).await?;
        stream.tx.finish().await?;
        stream.tx.stopped().await;
        Ok::<(), FrameError>(())
    };
    match timeout(TIMEOUT, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%device, %error, "account stream broke off"),
        Err(_) => tracing::debug!(%device, "account stream took too long"),
    }
}

async fn answer(question: Option<Up>, device: Uuid, services: &Services) -> Down {
    match question {
        Some(Up::Balance(_)) => match services.plane.balance(device).await {
            Ok(balance) => Down::Balance(balance.into()),
            Err(error) => Down::Problem(problem::of_control(&error)),
        },
        Some(Up::Receipt(query)) => receipt(&query.request_id, device, services).await,
        None => Down::Problem(ErrorCode::BadFrame.problem("the stream has no question", "update the device")),
    }
}

async fn receipt(request_id: &str, device: Uuid, services: &Services) -> Down {
    let Ok(request_id) = request_id.parse() else {
        return Down::Problem(
            ErrorCode::BadFrame.problem("that is not a request id", "name a request by its ULID"),
        );
    };
    match services.plane.request_state(&RequestKey { device, request_id }).await {
        Ok(state) => Down::Receipt(v1::ReceiptAnswer {
            state: state.as_str().to_owned(),
            signed_receipt: match state {
                RequestState::Settled(bytes) => bytes.into(),
                RequestState::Unknown | RequestState::Held | RequestState::Released => Vec::new().into(),
            },
        }),
        Err(error) => Down::Problem(problem::of_control(&error)),
    }
}

impl From<Balance> for v1::Balance {
    fn from(balance: Balance) -> Self {
        let money = balance.money;
        Self {
            account: balance.account,
            tier: money.tier.as_str().to_owned(),
            unbilled_nanousd: money.unbilled.as_i64(),
            credits_nanousd: money.credits.as_i64(),
            held_nanousd: money.held.as_i64(),
            ceiling_nanousd: money.ceiling.map(|amount| amount.as_i64()),
            quota_left_nanousd: money.quota_left().map(|amount| amount.as_i64()),
        }
    }
}
