//! Questions about the adapters of this account at the gateway.

use std::time::{Duration, SystemTime};

use synesis_mesh::device::TunnelHandle;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::StreamHeader;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::catalogue_down::Message as Down;
use synesis_proto::mesh::v1::catalogue_up::Message as Up;
use tokio::time::timeout;
use ulid::Ulid;

use super::TransferError;
use crate::models::digest::is_sha256;

/// Question and answer together.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than a gateway keeps for an account.
const MOST: usize = 100_000;

/// An adapter at the gateway, as the gateway tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAdapter {
    /// What it is called there.
    pub name: String,
    /// Of the file, hex.
    pub sha256: String,
    /// Of the file.
    pub size_bytes: u64,
    /// This and the next three: as the device that pushed it says.
    pub architecture: String,
    /// Rank of its matrices.
    pub rank: u32,
    /// Scale numerator.
    pub alpha: f32,
    /// As its maker names it; may be empty.
    pub base_model: String,
    /// A device's id.
    pub pushed_by: String,
    /// By the gateway's clock.
    pub pushed_at: SystemTime,
}

impl StoredAdapter {
    fn read(stored: v1::StoredAdapter) -> Result<Self, TransferError> {
        if !is_sha256(&stored.sha256) {
            return Err(TransferError::Protocol("an adapter without a digest"));
        }
        let facts = stored.facts.unwrap_or_default();
        let since = Duration::from_millis(stored.pushed_at_ms.unsigned_abs());
        Ok(Self {
            name: stored.name,
            sha256: stored.sha256,
            size_bytes: stored.size_bytes,
            architecture: facts.architecture,
            rank: facts.rank,
            alpha: facts.alpha,
            base_model: facts.base_model,
            pushed_by: stored.pushed_by,
            pushed_at: SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }
}

/// Everything this account has, by name, of one name the newest first.
pub(super) async fn list(tunnel: &TunnelHandle) -> Result<Vec<StoredAdapter>, TransferError> {
    ask(tunnel, Up::List(v1::AdapterList {})).await
}

/// Forgets a name with all its contents, or one content; what is gone.
pub(super) async fn remove(tunnel: &TunnelHandle, wanted: &str) -> Result<Vec<StoredAdapter>, TransferError> {
    ask(tunnel, Up::Remove(v1::AdapterRemove { wanted: wanted.to_owned() })).await
}

async fn ask(tunnel: &TunnelHandle, question: Up) -> Result<Vec<StoredAdapter>, TransferError> {
    let exchange = async {
        let header = StreamHeader::new(StreamKind::Adapters, Ulid::generate());
        let mut stream = tunnel.open(header).await?;
        stream.tx.write(&v1::CatalogueUp { message: Some(question) }).await?;
        let (mut found, mut answered) = (Vec::new(), false);
        while let Some(frame) = stream.rx.read::<v1::CatalogueDown>().await? {
            answered = true;
            match frame.message {
                Some(Down::Adapters(page)) if found.len() + page.adapters.len() <= MOST => {
                    for stored in page.adapters {
                        found.push(StoredAdapter::read(stored)?);
                    }
                }
                Some(Down::Problem(problem)) => return Err(TransferError::from_problem(problem)),
                Some(Down::Adapters(_)) => return Err(TransferError::Protocol("an endless list")),
                None => return Err(TransferError::Protocol("a frame of an unknown kind")),
            }
        }
        if answered { Ok(found) } else { Err(TransferError::Interrupted) }
    };
    timeout(PATIENCE, exchange).await.map_err(|_| TransferError::Silent)?
}
