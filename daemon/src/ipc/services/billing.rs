//! `Billing`: what was charged, and the proof.

use std::time::Duration;

use synesis_mesh::device::TunnelHandle;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::StreamHeader;
use synesis_proto::control::v1::billing_server::Billing;
use synesis_proto::control::v1::{
    BalanceReply, BalanceRequest, ReceiptKey, ReceiptKeysReply, ReceiptKeysRequest, ReceiptsRequest,
    StoredKind, StoredReceipt,
};
use synesis_proto::mesh::v1::{AccountDown, AccountUp, Balance, BalanceQuery, account_down, account_up};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::Replies;
use crate::app::Handles;
use crate::escalation::EscalationError;
use crate::ipc::call::Call;
use crate::ipc::status;
use crate::journal::DeviceJournal;
use crate::tunnel::EnrolmentError;

/// For one question to the gateway and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub(super) struct BillingService {
    tunnel: TunnelHandle,
    journal: DeviceJournal,
}

impl BillingService {
    pub(super) fn new(handles: &Handles) -> Self {
        let escalation = &handles.asker.escalation;
        Self { tunnel: escalation.tunnel.clone(), journal: escalation.journal.clone() }
    }
}

#[tonic::async_trait]
impl Billing for BillingService {
    async fn balance(&self, request: Request<BalanceRequest>) -> Result<Response<BalanceReply>, Status> {
        if self.tunnel.identity().is_none() {
            return Err(status::refuse(EnrolmentError::NotEnrolled));
        }
        let asked = self.ask_balance(StreamHeader::new(StreamKind::Account, Call::of(&request).id));
        let balance = timeout(PATIENCE, asked).await.map_err(|_| status::refuse(EscalationError::Silent))?;
        let balance = balance.map_err(status::refuse)?;
        Ok(Response::new(BalanceReply {
            tier: balance.tier,
            unbilled_nanousd: balance.unbilled_nanousd,
            credits_nanousd: balance.credits_nanousd,
            held_nanousd: balance.held_nanousd,
            ceiling_nanousd: balance.ceiling_nanousd,
            quota_left_nanousd: balance.quota_left_nanousd,
            account: balance.account,
        }))
    }

    type ReceiptsStream = Replies<StoredReceipt>;

    async fn receipts(
        &self,
        request: Request<ReceiptsRequest>,
    ) -> Result<Response<Self::ReceiptsStream>, Status> {
        let mut rows = self.journal.receipts().await.map_err(status::refuse)?;
        // A chain that was cut at its end looks whole to whoever sees the receipts alone: the journal knows better.
        let report = self.journal.verify().await.map_err(status::refuse)?;
        let shown = |seq: u64| rows.iter().any(|row| row.seq == seq && row.fault.is_some());
        let missing = report.first.filter(|fault| !shown(fault.seq));
        let ReceiptsRequest { limit, open } = request.into_inner();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit > 0 && rows.len() > limit {
            rows.drain(..rows.len() - limit);
        }
        let stored = rows.into_iter().map(|row| StoredReceipt {
            row: row.seq,
            signed_receipt: row.body,
            fault: row.fault.unwrap_or_default(),
            request_id: row.key,
            ..StoredReceipt::default()
        });
        let missing = missing.map(|fault| StoredReceipt {
            row: fault.seq,
            fault: fault.why,
            request_id: fault.key,
            kind: StoredKind::Journal.into(),
            ..StoredReceipt::default()
        });
        let waiting = if open { self.journal.open_requests() } else { Vec::new() };
        let waiting = waiting.into_iter().map(|(request_id, device)| StoredReceipt {
            request_id,
            device,
            kind: StoredKind::Open.into(),
            ..StoredReceipt::default()
        });
        let all: Vec<_> = stored.chain(missing).chain(waiting).map(Ok).collect();
        Ok(Response::new(Box::pin(futures_util::stream::iter(all))))
    }

    async fn receipt_keys(
        &self,
        _: Request<ReceiptKeysRequest>,
    ) -> Result<Response<ReceiptKeysReply>, Status> {
        let keys = self.journal.receipt_keys().into_iter();
        let keys = keys.map(|key| ReceiptKey { key_id: key.key_id, public_key: key.public_key.to_vec() });
        Ok(Response::new(ReceiptKeysReply { keys: keys.collect() }))
    }
}

impl BillingService {
    async fn ask_balance(&self, header: StreamHeader) -> Result<Balance, EscalationError> {
        let mut stream = self.tunnel.open(header).await?;
        stream.tx.write(&AccountUp { message: Some(account_up::Message::Balance(BalanceQuery {})) }).await?;
        stream.tx.finish().await?;
        match stream.rx.read::<AccountDown>().await?.and_then(|down| down.message) {
            Some(account_down::Message::Balance(balance)) => Ok(balance),
            Some(account_down::Message::Problem(problem)) => Err(EscalationError::from_problem(problem)),
            Some(account_down::Message::Receipt(_)) | None => {
                Err(EscalationError::Protocol("not the answer to a balance query"))
            }
        }
    }
}
