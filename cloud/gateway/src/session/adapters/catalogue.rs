//! One question about the account's adapters, and its answer.

use synesis_mesh::frame::FrameError;
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::catalogue_down::Message as Down;
use synesis_proto::mesh::v1::catalogue_up::Message as Up;
use tokio::time::timeout;
use uuid::Uuid;

use super::{STEP, StreamError};
use crate::adapters::AdapterStoreError;
use crate::control_plane::{AdapterRecord, Wanted};
use crate::session::Services;

/// Adapters in one frame; each takes some hundred bytes.
const PAGE: usize = 64;

/// Serves one catalogue stream to its end.
pub(in crate::session) async fn serve(mut stream: WorkStream, device: Uuid, services: &Services) {
    let exchange = async {
        let frames = match answer(&mut stream, device, services).await {
            Ok(records) => pages(records),
            Err(error) => vec![Down::Problem(error.problem().ok_or(FrameError::Truncated)?)],
        };
        for message in frames {
            stream.tx.write(&v1::CatalogueDown { message: Some(message) }).await?;
        }
        stream.tx.finish().await?;
        stream.tx.stopped().await;
        Ok::<(), FrameError>(())
    };
    match timeout(STEP, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%device, %error, "a question about adapters broke off"),
        Err(_) => tracing::debug!(%device, "a question about adapters took too long"),
    }
}

async fn answer(
    stream: &mut WorkStream,
    device: Uuid,
    services: &Services,
) -> Result<Vec<AdapterRecord>, StreamError> {
    let question = stream.rx.read::<v1::CatalogueUp>().await?.and_then(|question| question.message);
    match question {
        Some(Up::List(_)) => Ok(services.adapters.all(device).await?),
        Some(Up::Remove(remove)) => {
            Ok(services.adapters.remove(device, &Wanted::parse(&remove.wanted)).await?)
        }
        None => Err(AdapterStoreError::Bad("the stream has no question").into()),
    }
}

/// At least one frame: an empty list is an answer, too.
fn pages(records: Vec<AdapterRecord>) -> Vec<Down> {
    let stored: Vec<v1::StoredAdapter> = records.into_iter().map(Into::into).collect();
    let page =
        |adapters: &[v1::StoredAdapter]| Down::Adapters(v1::StoredAdapters { adapters: adapters.to_vec() });
    if stored.is_empty() { vec![page(&[])] } else { stored.chunks(PAGE).map(page).collect() }
}
