//! The control plane in SQLite. Every change of money is one write transaction that also appends an entry to the
//! hash-chained journal; the answer goes out after the commit.

mod accounts;
mod adapters;
mod charges;
mod devices;
mod entries;
mod prices;
mod rows;
mod schema;

#[cfg(test)]
pub(super) use entries::Entry;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use synesis_ledger::{Price, PriceTable, Rates, SigningKey};
use synesis_mesh::identity::{Ca, Fingerprint, ReceiptKey};
use synesis_store::{Recovery, Store, StoreError, chain};
#[cfg(test)]
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::metrics::StoreCounters;

use super::{
    AccountRecord, AdapterDigest, AdapterQuota, AdapterRecord, Balance, Clock, ControlError, ControlPlane,
    Dependency, DeviceRecord, Enrolment, Hold, IssuedToken, NewAccount, NewAdapter, RemovedAdapters,
    RequestKey, RequestState, Reserve, Settle, Settled, Wanted,
};

/// The database's name in the store's folder.
const DATABASE: &str = "gateway.db";

/// What the control plane works with beside its database.
pub(crate) struct SqliteSettings {
    /// The one that signs now.
    pub(crate) device_ca: watch::Receiver<Arc<Ca>>,
    pub(crate) receipt_key: SigningKey,
    pub(crate) rates: Rates,
    pub(crate) prices: BTreeMap<String, Price>,
    pub(crate) clock: Clock,
}

/// The SQLite implementation. Clones share it.
#[derive(Clone)]
pub(crate) struct SqliteControlPlane {
    store: Store,
    shared: Arc<Shared>,
    counters: Arc<StoreCounters>,
}

/// What the transactions need; it does not change while the process lives.
struct Shared {
    device_ca: watch::Receiver<Arc<Ca>>,
    receipt_key: SigningKey,
    rates: Rates,
    prices: PriceTable,
    clock: Clock,
}

impl SqliteControlPlane {
    /// Opens (or makes) the database in `folder`, and gives the prices their version.
    ///
    /// # Errors
    /// When the database cannot be opened or is not ours.
    pub(crate) async fn open(
        folder: &Path,
        settings: SqliteSettings,
    ) -> Result<(Self, Recovery), ControlError> {
        let (store, recovery) = Store::open_anchored(
            &folder.join(DATABASE),
            &[chain::SCHEMA, schema::MIGRATION, schema::ADAPTERS, schema::CERTIFICATES],
        )?;
        let SqliteSettings { device_ca, receipt_key, rates, prices, clock } = settings;
        let now_ms = clock.now_ms();
        let first_ca = device_ca.borrow().fingerprint();
        let prices = store.write(move |tx| {
            devices::name_issuer(tx, &first_ca)?;
            prices::in_force(tx, prices, now_ms)
        });
        let prices = prices.await?;
        let shared = Shared { device_ca, receipt_key, rates, prices, clock };
        Ok((Self { store, shared: Arc::new(shared), counters: Arc::default() }, recovery))
    }

    /// Counts into `counters` from now on.
    pub(crate) fn counted(self, counters: Arc<StoreCounters>) -> Self {
        Self { counters, ..self }
    }

    /// Turns to the cause when an error of the disk has stopped all writing.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.store.failure()
    }

    /// Every entry of the ledger, once the whole chain was verified.
    #[cfg(test)]
    pub(super) async fn entries(&self) -> Vec<Entry> {
        assert!(self.store.verify_chain().await.unwrap().holds());
        let rows = self.read(|conn| Ok(chain::rows(conn, entries::KIND)?)).await.unwrap();
        rows.iter().map(|row| serde_json::from_slice(&row.body).unwrap()).collect()
    }

    /// Keeps the writer busy until `over`; resolves when it is.
    #[cfg(test)]
    pub(super) async fn occupied(&self, begun: oneshot::Sender<()>, over: std::sync::mpsc::Receiver<()>) {
        let wait = move |_: &rusqlite::Transaction<'_>, _: &Shared| {
            begun.send(()).unwrap();
            over.recv().unwrap();
            Ok(())
        };
        self.write(wait).await.unwrap();
    }

    /// Ends the writer after everything queued is written.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }

    /// Runs `change` as one write transaction.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&rusqlite::Transaction<'_>, &Shared) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let (shared, begun) = (Arc::clone(&self.shared), Instant::now());
        let outcome = self.store.write(move |tx| change(tx, &shared)).await;
        self.counters.used(&outcome, begun.elapsed(), is_failure);
        outcome
    }

    /// Runs `question` on a read-only connection.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&rusqlite::Connection) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let begun = Instant::now();
        let outcome = self.store.read(question).await;
        self.counters.used(&outcome, begun.elapsed(), is_failure);
        outcome
    }
}

/// Whether the store failed, and not the one who asked.
fn is_failure(error: &ControlError) -> bool {
    matches!(error, ControlError::Store(_) | ControlError::Sqlite(_) | ControlError::Corrupt(_))
}

#[async_trait]
impl ControlPlane for SqliteControlPlane {
    async fn create_account(&self, new: NewAccount) -> Result<AccountRecord, ControlError> {
        self.write(move |tx, shared| accounts::create(tx, shared, new)).await
    }

    async fn create_token(
        &self,
        account: &str,
        ttl: Duration,
        uses: u32,
    ) -> Result<IssuedToken, ControlError> {
        let account = account.to_owned();
        self.write(move |tx, shared| accounts::create_token(tx, shared, &account, ttl, uses)).await
    }

    async fn enrol(&self, token: &str, csr_der: &[u8], agent: &str) -> Result<Enrolment, ControlError> {
        let (hash, csr_der, agent) = (accounts::token_hash(token), csr_der.to_vec(), agent.to_owned());
        // Anybody may try. Who has no good token is refused by a read, and does not queue with those who write.
        let now_ms = self.shared.clock.now_ms();
        self.read(move |conn| devices::token_account(conn, &hash, now_ms)).await?;
        self.write(move |tx, shared| devices::enrol(tx, shared, &hash, &csr_der, &agent)).await
    }

    async fn renew(
        &self,
        device: Uuid,
        csr_der: &[u8],
        expired_serial: Option<&str>,
    ) -> Result<Enrolment, ControlError> {
        let (csr_der, serial) = (csr_der.to_vec(), expired_serial.map(str::to_owned));
        self.write(move |tx, shared| devices::renew(tx, shared, device, &csr_der, serial.as_deref())).await
    }

    async fn pinned(&self, device: Uuid, pinned: &[Fingerprint]) -> Result<(), ControlError> {
        let pinned = devices::pins(pinned);
        let ask = pinned.clone();
        // Mostly it is known, and a read does not queue with those who write.
        if self.read(move |conn| devices::has_pins(conn, device, &ask)).await? {
            return Ok(());
        }
        self.write(move |tx, _| devices::set_pins(tx, device, &pinned)).await
    }

    async fn dependencies(&self) -> Result<Vec<Dependency>, ControlError> {
        self.read(devices::dependencies).await
    }

    async fn devices(&self) -> Result<Vec<DeviceRecord>, ControlError> {
        self.read(devices::all).await
    }

    async fn device(&self, id: Uuid) -> Result<DeviceRecord, ControlError> {
        self.read(move |conn| devices::one(conn, id)).await
    }

    async fn revoke(&self, id: Uuid) -> Result<(), ControlError> {
        self.write(move |tx, shared| devices::revoke(tx, shared, id)).await
    }

    async fn touch(&self, id: Uuid) -> Result<(), ControlError> {
        self.write(move |tx, shared| devices::touch(tx, shared, id)).await
    }

    async fn reserve(&self, ask: Reserve) -> Result<Hold, ControlError> {
        let held = self.write(move |tx, shared| charges::reserve(tx, shared, &ask)).await?;
        self.counters.holds.count();
        Ok(held)
    }

    async fn settle(&self, usage: Settle) -> Result<Settled, ControlError> {
        let settled = self.write(move |tx, shared| charges::settle(tx, shared, &usage)).await?;
        let receipt = &settled.receipt.receipt;
        self.counters.settled.count();
        self.counters.tokens_in.add(receipt.input_tokens);
        self.counters.tokens_out.add(receipt.output_tokens);
        Ok(settled)
    }

    async fn release(&self, request: &RequestKey) -> Result<(), ControlError> {
        let request = *request;
        if self.write(move |tx, shared| charges::release(tx, shared, &request)).await? {
            self.counters.released.count();
        }
        Ok(())
    }

    async fn release_orphans(&self) -> Result<Vec<RequestKey>, ControlError> {
        self.write(charges::release_orphans).await
    }

    async fn request_state(&self, request: &RequestKey) -> Result<RequestState, ControlError> {
        let request = *request;
        self.read(move |conn| charges::state(conn, &request)).await
    }

    async fn balance(&self, device: Uuid) -> Result<Balance, ControlError> {
        let now_ms = self.shared.clock.now_ms();
        self.read(move |conn| accounts::balance(conn, device, now_ms)).await
    }

    async fn account_of(&self, device: Uuid) -> Result<String, ControlError> {
        self.read(move |conn| adapters::account(conn, device)).await
    }

    async fn adapters(&self, device: Uuid) -> Result<Vec<AdapterRecord>, ControlError> {
        self.read(move |conn| adapters::all(conn, device)).await
    }

    async fn adapter(&self, device: Uuid, wanted: &Wanted) -> Result<AdapterRecord, ControlError> {
        let wanted = wanted.clone();
        self.read(move |conn| adapters::find(conn, device, &wanted)).await
    }

    async fn record_adapter(
        &self,
        device: Uuid,
        new: NewAdapter,
        quota: AdapterQuota,
    ) -> Result<AdapterRecord, ControlError> {
        self.write(move |tx, shared| adapters::record(tx, shared, device, new, quota)).await
    }

    async fn remove_adapters(&self, device: Uuid, wanted: &Wanted) -> Result<RemovedAdapters, ControlError> {
        let wanted = wanted.clone();
        self.write(move |tx, shared| adapters::remove(tx, shared, device, &wanted)).await
    }

    async fn adapter_bytes(&self, account: &str, beside: &AdapterDigest) -> Result<u64, ControlError> {
        let (account, beside) = (account.to_owned(), beside.clone());
        self.read(move |conn| adapters::kept(conn, &account, &beside)).await
    }

    async fn is_adapter_listed(&self, account: &str, digest: &AdapterDigest) -> Result<bool, ControlError> {
        let (account, digest) = (account.to_owned(), digest.clone());
        self.read(move |conn| adapters::is_listed(conn, &account, &digest)).await
    }

    fn price_version(&self) -> u64 {
        self.shared.prices.version
    }

    fn receipt_keys(&self) -> Vec<ReceiptKey> {
        let key = &self.shared.receipt_key;
        vec![ReceiptKey { key_id: key.key_id().to_owned(), public_key: key.public() }]
    }
}
