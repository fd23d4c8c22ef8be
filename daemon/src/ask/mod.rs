//! A prompt from its arrival to its answer: session, route, then the local model or the cloud, or one after the other.

mod answer;
mod attempt;
mod cascade;
mod check;
mod cloud;
mod driven;
mod error;
mod local;
mod look;
mod request;
mod samples;
mod sink;
mod situation;
mod turn;

use std::sync::Arc;

use synesis_privacy::Policy;
use tokio::sync::watch;
use tokio::time::Instant;
use ulid::Ulid;

use crate::adapters::AdaptersHandle;
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::escalation::Escalation;
use crate::model::ModelHandle;
use crate::sessions::{Session, Sessions};
use crate::tunnel::Damage;
use crate::vitals::Vitals;
pub use answer::{AskEvent, Delta, Done, Receipt, Route};
use check::check;
pub use driven::Driven;
pub use error::AskError;
pub use request::{Ask, Constraint, Sampling, TokenLogprob};
pub use sink::{Sink, SinkError};
pub use situation::Routing;
use turn::Turn;

/// Answers prompts. Clones share everything.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Defaults and policies.
    pub config: Arc<Config>,
    /// The local model.
    pub model: ModelHandle,
    /// Its adapters.
    pub adapters: AdaptersHandle,
    /// The way to the cloud.
    pub escalation: Escalation,
    /// Conversations.
    pub sessions: Sessions,
    /// The privacy rules; none: they are not usable, and nothing may leave.
    pub privacy: Option<Arc<Policy>>,
    /// Why this device's identity cannot be read, if that is so.
    pub damage: watch::Receiver<Option<Damage>>,
    /// The newest measurements.
    pub vitals: watch::Receiver<Option<Vitals>>,
    /// Where every decision is recorded.
    pub decisions: DecisionLog,
}

impl Asker {
    /// The answer as a stream; dropping it cancels. An error is its last item.
    pub fn ask(&self, id: Ulid, ask: Ask) -> Driven<Result<AskEvent, AskError>> {
        let asker = self.clone();
        let asked = Instant::now();
        Driven::new(move |events| async move {
            let mut sink = Sink::new(events, asked);
            asker.answer(id, ask, &mut sink).await.err().map(Err)
        })
    }

    /// Where the request would run. Nothing is sent, and nothing remembered.
    ///
    /// # Errors
    /// When the request itself makes no sense.
    pub async fn route(&self, ask: &Ask) -> Result<Routing, AskError> {
        check(ask)?;
        let messages = match self.sessions.look(ask.uid, &ask.session).await {
            Some(session) => session.with(&ask.messages)?,
            None => Session::default().with(&ask.messages)?,
        };
        Ok(self.situation(ask, &messages).await)
    }

    async fn answer(&self, id: Ulid, ask: Ask, sink: &mut Sink) -> Result<(), AskError> {
        check(&ask)?;
        let turn = Turn::begin(self.sessions.enter(ask.uid, &ask.session).await?, &ask.messages)?;
        let routing = self.situation(&ask, &turn.messages).await;
        let mut case = self.decisions.case(id, routing.inputs);
        let decision = case.decision();
        tracing::info!(
            request = %id,
            place = decision.place(),
            reason = decision.reason(),
            tokens = routing.input_tokens,
            "routed"
        );
        let (turn, done) = self.pursue(id, &ask, turn, &mut case, sink).await?;
        // Recorded before the caller hears that it is over.
        drop(case);
        turn.end(sink.text(), done.tool_calls.as_deref());
        sink.end(done).await?;
        Ok(())
    }
}
