//! Asks the gateway what became of requests whose receipt never arrived: after every connect, when an answer was
//! given up, and again, ever more rarely, while anything is open. Nothing that was sent is ever forgotten.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use synesis_mesh::frame::FrameError;
use synesis_mesh::identity::DeviceIdentity;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::StreamHeader;
use synesis_proto::mesh::v1::{
    AccountDown, AccountUp, AskDown, ReceiptAnswer, ReceiptQuery, account_down, account_up,
};
use synesis_supervise::{Backoff, BoxError, Context, Subsystem};
use tokio::time::timeout;
use ulid::Ulid;

use super::wire::cancel;
use super::{Escalation, EscalationError, key_ring};
use crate::journal::{Intent, OutcomeKind};
use crate::log::chain;

/// For one question and its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A request that the gateway does not know is closed when it is this old. A gateway may not have noticed yet that the
/// connection it came on is gone (it takes 65 s), and may still be about to hold money for it.
const ARRIVES_WITHIN: Duration = Duration::from_secs(90);

/// The subsystem that does it.
#[derive(Debug)]
pub struct Reconciler {
    escalation: Escalation,
}

impl Reconciler {
    /// Over the same tunnel and journal as the escalations themselves.
    pub fn new(escalation: Escalation) -> Self {
        Self { escalation }
    }

    async fn until_connected(&self) {
        let mut status = self.escalation.tunnel.status();
        // The tunnel's driver outlives this subsystem; if it does not, there is nothing to wait for.
        if status.wait_for(|status| status.state.carries_work()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when the tunnel was down and is up again.
    async fn until_reconnected(&self) {
        let mut status = self.escalation.tunnel.status();
        if status.wait_for(|status| !status.state.carries_work()).await.is_ok() {
            self.until_connected().await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Asks about every open request; true when none is left.
    async fn round(&self) -> bool {
        let identity = self.escalation.identity.borrow().clone();
        let Some(identity) = identity else { return true };
        let device = identity.device_id.to_string();
        let mut left = 0;
        // What was asked under an identity that is gone can only be settled under it.
        for intent in self.escalation.journal.unsettled().into_iter().filter(|open| open.device_id == device)
        {
            match self.settle(&intent, &identity).await {
                Ok(true) => {}
                Ok(false) => left += 1,
                Err(error) => {
                    left += 1;
                    tracing::debug!(request = intent.request_id, error = chain(&error), "not settled yet");
                }
            }
        }
        left == 0
    }

    /// True when the request is closed now.
    async fn settle(&self, intent: &Intent, identity: &Arc<DeviceIdentity>) -> Result<bool, EscalationError> {
        let unwanted = &self.escalation.resume.unwanted;
        if unwanted.take(&intent.request_id) {
            let cancelled = timeout(PATIENCE, self.cancel(intent)).await;
            if !matches!(cancelled, Ok(Ok(()))) {
                unwanted.add(intent.request_id.clone());
            }
        }
        let answer = timeout(PATIENCE, self.ask(intent)).await.map_err(|_| EscalationError::Silent)??;
        let journal = &self.escalation.journal;
        let outcome = match answer.state.as_str() {
            "settled" => match journal.accept(intent, &answer.signed_receipt, &key_ring(identity)).await {
                Ok(signed) => {
                    tracing::info!(request = intent.request_id, net = %signed.receipt.net, "an open request is settled");
                    return Ok(true);
                }
                Err(error) => {
                    tracing::error!(
                        request = intent.request_id,
                        error = chain(&error),
                        "a receipt was not accepted"
                    );
                    return Ok(false);
                }
            },
            "released" => OutcomeKind::Released,
            "unknown" if !may_still_arrive(intent) => OutcomeKind::NeverArrived,
            // Held: still running, or about to be settled.
            _ => return Ok(false),
        };
        journal.close(&intent.request_id, outcome).await?;
        tracing::info!(request = intent.request_id, ?outcome, "an open request was not charged");
        Ok(true)
    }

    /// Tells the gateway that nobody waits for this answer: one that was given up while the tunnel was down still runs.
    async fn cancel(&self, intent: &Intent) -> Result<(), EscalationError> {
        let Ok(request_id) = intent.request_id.parse() else { return Ok(()) };
        let header = StreamHeader::new(StreamKind::Ask, request_id);
        let mut stream = self.escalation.tunnel.open(header).await?;
        stream.tx.write(&cancel()).await?;
        stream.tx.finish().await?;
        // The gateway has nothing to say to it, only that it was heard: by ending the stream, one way or the other.
        match stream.rx.read::<AskDown>().await {
            Err(error @ FrameError::ConnectionLost(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn ask(&self, intent: &Intent) -> Result<ReceiptAnswer, EscalationError> {
        let query = ReceiptQuery { request_id: intent.request_id.clone() };
        let header = StreamHeader::new(StreamKind::Account, Ulid::generate());
        let mut stream = self.escalation.tunnel.open(header).await?;
        stream.tx.write(&AccountUp { message: Some(account_up::Message::Receipt(query)) }).await?;
        stream.tx.finish().await?;
        let reply = stream.rx.read::<AccountDown>().await?.and_then(|down| down.message);
        match reply {
            Some(account_down::Message::Receipt(answer)) => Ok(answer),
            Some(account_down::Message::Problem(problem)) => Err(EscalationError::from_problem(problem)),
            Some(account_down::Message::Balance(_)) | None => {
                Err(EscalationError::Protocol("not the answer to a receipt query"))
            }
        }
    }
}

/// By the device's clock, which may have been set since: a request from the future is old.
fn may_still_arrive(intent: &Intent) -> bool {
    let begun = u64::try_from(intent.at_ms).map_or(UNIX_EPOCH, |ms| UNIX_EPOCH + Duration::from_millis(ms));
    SystemTime::now().duration_since(begun).is_ok_and(|age| age < ARRIVES_WITHIN)
}

#[async_trait::async_trait]
impl Subsystem for Reconciler {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.ready();
        let stop = cx.stopping();
        let work = async {
            let backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(60) };
            let mut rng: StdRng = rand::make_rng();
            let mut attempt = 0;
            loop {
                self.until_connected().await;
                if self.round().await {
                    attempt = 0;
                    // Nothing is open: wait until a request is let go. One that was let go since the round is remembered.
                    self.escalation.journal.let_go().await;
                } else {
                    tokio::select! {
                        () = tokio::time::sleep(backoff.delay(attempt, &mut rng)) => attempt = attempt.saturating_add(1),
                        () = self.escalation.journal.let_go() => attempt = 0,
                        () = self.until_reconnected() => attempt = 0,
                    }
                }
            }
        };
        tokio::select! {
            () = work => Ok(()),
            () = stop.cancelled() => Ok(()),
        }
    }
}
