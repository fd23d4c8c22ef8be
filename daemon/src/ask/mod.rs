//! A prompt from its arrival to its answer: session, route, then the local model or the cloud.

mod check;
mod driven;
mod error;
mod request;
mod sink;
mod situation;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use synesis_ledger::SignedReceipt;
use synesis_privacy::{Message, Policy};
use synesis_proto::runtime::v1 as runtime;
use synesis_proto::runtime::v1::generate_event::Event;
use synesis_proto::runtime::v1::{Chat, ChatMessage, GenerateRequest, generate_request};
use tokio::sync::watch;
use tokio::time::Instant;
use ulid::Ulid;

use crate::adapters::AdaptersHandle;
use crate::config::Config;
use crate::escalation::{Escalation, Wishes};
use crate::model::{ModelError, ModelHandle};
use crate::route::{CloudWhy, Decision, LocalWhy, RefuseWhy};
use crate::sessions::{Session, Sessions};
use crate::tunnel::Damage;
use check::check;
pub use driven::Driven;
pub use error::AskError;
pub use request::{Ask, Constraint, Sampling, TokenLogprob};
pub use sink::{Sink, SinkError};
pub use situation::Routing;
use turn::{Beside, Hidden, Turn};

/// What the caller of an ask sees, in this order: one `Routed`, any number of `Delta`, one `Done`.
#[derive(Debug, Clone)]
pub enum AskEvent {
    /// Where it runs.
    Routed(Route),
    /// The next piece of the answer.
    Delta(Delta),
    /// The end.
    Done(Box<Done>),
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta {
    /// The text; empty when it is held back for now.
    pub text: String,
    /// Of the tokens since the last piece, when the request asked for them.
    pub logprobs: Vec<TokenLogprob>,
}

impl From<String> for Delta {
    fn from(text: String) -> Self {
        Self { text, logprobs: Vec::new() }
    }
}

/// Where a prompt runs and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Here.
    Local(LocalWhy),
    /// In the cloud.
    Cloud(CloudWhy),
}

impl Route {
    /// Stable, machine-readable.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Local(why) => why.as_str(),
            Self::Cloud(why) => why.as_str(),
        }
    }
}

/// A finished answer.
#[derive(Debug, Clone)]
pub struct Done {
    /// Where it ran.
    pub route: Route,
    /// The model that answered.
    pub model: String,
    /// The adapter it ran with; empty: none.
    pub adapter: String,
    /// Its generation; 0: none.
    pub adapter_generation: u64,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// From the request to the first piece.
    pub to_first: Duration,
    /// From the request to the end.
    pub total: Duration,
    /// `stop`, `length` or `cancelled`.
    pub finish_reason: String,
    /// What it cost.
    pub receipt: Receipt,
    /// Placeholders in the answer that stand for nothing we hid.
    pub unknown_placeholders: u32,
    /// The calls of tools in the answer, the array of the OpenAI API.
    pub tool_calls: Option<String>,
    /// Of a local answer's tokens, natural logarithm.
    pub mean_logprob: Option<f32>,
    /// Tokens of the prompt that came from an earlier request's cache.
    pub cached_tokens: u32,
    /// Waited for the local model.
    pub queued: Duration,
}

/// The proof of an answer's cost.
#[derive(Debug, Clone)]
pub enum Receipt {
    /// A local answer is free.
    Free,
    /// It has not arrived; it is reconciled by request id.
    Pending,
    /// Verified and stored.
    Stored(Box<SignedReceipt>),
}

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
        self.situation(ask, &messages).await
    }

    async fn answer(&self, id: Ulid, ask: Ask, sink: &mut Sink) -> Result<(), AskError> {
        check(&ask)?;
        let turn = Turn::begin(self.sessions.enter(ask.uid, &ask.session).await?, &ask.messages)?;
        let routing = self.situation(&ask, &turn.messages).await?;
        let route = match routing.decision {
            Decision::Local(why) => Route::Local(why),
            Decision::Cloud(why) => Route::Cloud(why),
            Decision::Refuse(why) => return Err(self.refusal(why)),
        };
        tracing::info!(request = %id, reason = route.reason(), tokens = routing.input_tokens, "routed");
        sink.send(AskEvent::Routed(route)).await?;
        let (turn, done) = match route {
            Route::Local(_) => {
                let done = self.local(id, route, &ask, &turn.messages, sink).await?;
                (turn, done)
            }
            Route::Cloud(_) => self.cloud(id, route, &ask, turn, sink).await?,
        };
        turn.end(sink.text());
        sink.send(AskEvent::Done(Box::new(done))).await?;
        Ok(())
    }

    async fn local(
        &self,
        id: Ulid,
        route: Route,
        ask: &Ask,
        messages: &[Message],
        sink: &mut Sink,
    ) -> Result<Done, AskError> {
        // Pinned until the answer's end, whatever is swapped in meanwhile.
        // The base model after a swap is a generation of its own.
        let generation = self.adapters.snapshot().borrow().generation;
        let adapter = self.adapters.resolve(&ask.adapter).await?;
        let request = GenerateRequest {
            request_id: id.to_string(),
            input: Some(generate_request::Input::Chat(chat(messages))),
            adapter_id: adapter.as_ref().map(|adapter| adapter.id.clone()).unwrap_or_default(),
            adapter_scale: ask.adapter_scale.unwrap_or(1.0),
            max_tokens: self.max_tokens(ask),
            sampling: Some(self.sampling(&ask.sampling)),
            stop: ask.stop.clone(),
            owner: ask.uid.to_string(),
            deterministic: ask.deterministic,
            logprobs: ask.logprobs,
            constraint: ask.constraint.clone().map(constraint),
        };
        let mut answer = self.model.generate(request).await?;
        while let Some(event) = answer.next().await {
            match event? {
                Event::Started(_) => {}
                Event::Delta(delta) => {
                    let logprobs = delta.logprobs.into_iter().map(logprob).collect();
                    sink.push(Delta { text: delta.text, logprobs }).await?;
                }
                Event::Finished(end) => {
                    return Ok(Done {
                        route,
                        model: self.model.status().borrow().name.clone(),
                        adapter_generation: adapter.as_ref().map_or(generation, |adapter| adapter.generation),
                        adapter: adapter.map(|adapter| adapter.name).unwrap_or_default(),
                        input_tokens: end.input_tokens,
                        output_tokens: end.output_tokens,
                        to_first: sink.to_first(),
                        total: sink.so_far(),
                        finish_reason: end.reason,
                        receipt: Receipt::Free,
                        unknown_placeholders: 0,
                        tool_calls: None,
                        mean_logprob: Some(end.mean_logprob),
                        cached_tokens: end.cached_tokens,
                        queued: Duration::from_micros(end.queued_us),
                    });
                }
            }
        }
        // The stream's own contract: it ends after `Finished`, or with an error.
        Err(ModelError::Crashed.into())
    }

    async fn cloud(
        &self,
        id: Ulid,
        route: Route,
        ask: &Ask,
        turn: Turn,
        sink: &mut Sink,
    ) -> Result<(Turn, Done), AskError> {
        let Some(policy) = &self.privacy else { return Err(self.refusal(RefuseWhy::DetectorsFailed)) };
        let schema = match &ask.constraint {
            Some(Constraint::JsonSchema(schema)) => Some(schema.clone()),
            Some(Constraint::Grammar(_)) | None => None,
        };
        let beside = Beside { stop: ask.stop.clone(), tools: ask.tools.clone(), json_schema: schema };
        let (turn, hidden) = turn.hide(policy, beside).await?;
        let Hidden { messages, stop, tools, json_schema, restorer } = hidden;
        let adapter_generation = self.adapters.snapshot().borrow().generation;
        let wishes = Wishes {
            max_tokens: self.max_tokens(ask),
            temperature: ask.sampling.temperature,
            top_p: ask.sampling.top_p,
            seed: ask.sampling.seed,
            presence_penalty: ask.sampling.presence_penalty,
            frequency_penalty: ask.sampling.frequency_penalty,
            stop,
            tools,
            json_schema,
            adapter_generation,
        };
        let answer = self.escalation.run(id, &messages, restorer, wishes, sink).await?;
        let done = Done {
            route,
            model: answer.model,
            adapter: String::new(),
            adapter_generation,
            input_tokens: answer.input_tokens,
            output_tokens: answer.output_tokens,
            to_first: sink.to_first(),
            total: sink.so_far(),
            finish_reason: answer.finish_reason,
            receipt: answer.receipt.map_or(Receipt::Pending, |signed| Receipt::Stored(Box::new(signed))),
            unknown_placeholders: answer.unknown_placeholders,
            tool_calls: answer.tool_calls,
            mean_logprob: None,
            cached_tokens: 0,
            queued: Duration::ZERO,
        };
        Ok((turn, done))
    }

    fn sampling(&self, wanted: &Sampling) -> runtime::Sampling {
        runtime::Sampling {
            temperature: wanted.temperature.unwrap_or(self.config.model.temperature),
            top_k: wanted.top_k.unwrap_or(0),
            top_p: wanted.top_p.unwrap_or(0.0),
            min_p: wanted.min_p.unwrap_or(0.0),
            repeat_penalty: wanted.repeat_penalty.unwrap_or(0.0),
            seed: wanted.seed,
            presence_penalty: wanted.presence_penalty.unwrap_or(0.0),
            frequency_penalty: wanted.frequency_penalty.unwrap_or(0.0),
        }
    }

    fn max_tokens(&self, ask: &Ask) -> u32 {
        ask.max_tokens.unwrap_or(self.config.model.max_tokens)
    }
}

/// The conversation as the model process takes it.
fn chat(messages: &[Message]) -> Chat {
    let message = |message: &Message| ChatMessage {
        role: message.role.clone(),
        content: message.content.clone(),
        ..ChatMessage::default()
    };
    Chat { messages: messages.iter().map(message).collect(), ..Chat::default() }
}

fn constraint(constraint: Constraint) -> generate_request::Constraint {
    match constraint {
        Constraint::JsonSchema(schema) => generate_request::Constraint::JsonSchema(schema),
        Constraint::Grammar(grammar) => generate_request::Constraint::Grammar(grammar),
    }
}

fn logprob(token: runtime::TokenLogprob) -> TokenLogprob {
    let top = token.top.into_iter().map(logprob).collect();
    TokenLogprob { token: token.token, logprob: token.logprob, top }
}
