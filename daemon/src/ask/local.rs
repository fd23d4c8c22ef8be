//! The local half: a request as the model process takes it, and its answer, step by step.

use std::time::Duration;

use futures_util::StreamExt;
use synesis_privacy::Message;
use synesis_proto::runtime::v1 as runtime;
use synesis_proto::runtime::v1::generate_event::Event;
use synesis_proto::runtime::v1::{Chat, ChatMessage, Finished, GenerateRequest, generate_request};
use ulid::Ulid;

use super::{Ask, AskError, Asker, Constraint, Delta, Done, Receipt, Route, Sampling, Sink, TokenLogprob};
use crate::adapters::{Pinned, ResolvedAdapter};
use crate::model::{Answer, ModelError};

/// Whether the tokens' log probabilities are needed beside what the request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// The router looks at them.
    Yes,
    /// Nobody does.
    No,
}

/// A local answer that is being made; dropping it cancels.
pub(super) struct LocalAnswer {
    events: Answer,
    ran: Ran,
    /// Log probabilities reach the caller only when the caller asked for them.
    shows_logprobs: bool,
}

/// What it is made with.
pub(super) struct Ran {
    model: String,
    /// Pinned until the answer's end, whatever is swapped in meanwhile.
    adapter: Option<ResolvedAdapter>,
    generation: u64,
}

/// The next of a local answer.
pub(super) enum Step {
    /// A piece for the caller, and the log probabilities of its tokens where they are known.
    Piece(Delta, Vec<f32>),
    /// Nothing comes after it.
    End(Finished),
}

impl Asker {
    /// Starts a local answer.
    ///
    /// # Errors
    /// The adapter or the model cannot do it, or the model takes no more for now.
    pub(super) async fn begin_local(
        &self,
        id: Ulid,
        ask: &Ask,
        messages: &[Message],
        watched: Watched,
    ) -> Result<LocalAnswer, AskError> {
        // The base model after a swap is a generation of its own.
        let Pinned { adapter, generation } = self.adapters.pin(&ask.adapter).await?;
        let first = messages.first().filter(|message| message.role == "system");
        self.adapters.asked(first.map(|system| system.content.as_str()));
        let mut request = self.generate_request(id.to_string(), ask, messages);
        // An adapter applied with nothing is none, and for the model process a scale of 0 is one that was not said.
        let applied = adapter.as_ref().filter(|_| ask.adapter_scale != Some(0.0));
        request.adapter_id = applied.map(|adapter| adapter.id.clone()).unwrap_or_default();
        if watched == Watched::Yes {
            request.logprobs.get_or_insert(0);
        }
        let events = self.model.generate(request).await?;
        let model = self.model.status().borrow().name.clone();
        let ran = Ran { model, adapter, generation };
        Ok(LocalAnswer { events, ran, shows_logprobs: ask.logprobs.is_some() })
    }

    /// Everything but the adapter.
    pub(super) fn generate_request(
        &self,
        request_id: String,
        ask: &Ask,
        messages: &[Message],
    ) -> GenerateRequest {
        let input = match raw(ask) {
            Some(prompt) => generate_request::Input::Raw(prompt.to_owned()),
            None => generate_request::Input::Chat(chat(ask, messages)),
        };
        GenerateRequest {
            request_id,
            input: Some(input),
            adapter_id: String::new(),
            adapter_scale: ask.adapter_scale.unwrap_or(1.0),
            max_tokens: self.max_tokens(ask),
            sampling: Some(self.sampling(&ask.sampling)),
            stop: ask.stop.clone(),
            owner: ask.uid.to_string(),
            deterministic: ask.deterministic,
            logprobs: ask.logprobs,
            constraint: ask.constraint.clone().map(constraint),
        }
    }

    pub(super) fn max_tokens(&self, ask: &Ask) -> u32 {
        ask.max_tokens.unwrap_or(self.config.model.max_tokens)
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
}

impl LocalAnswer {
    /// The next step; nothing may be asked for after the end or an error.
    ///
    /// # Errors
    /// The model failed.
    pub(super) async fn next(&mut self) -> Result<Step, AskError> {
        loop {
            match self.events.next().await {
                Some(Ok(Event::Started(_))) => {}
                Some(Ok(Event::Delta(delta))) => {
                    let seen = delta.logprobs.iter().map(|token| token.logprob).collect();
                    let logprobs = if self.shows_logprobs { delta.logprobs } else { Vec::new() };
                    let logprobs = logprobs.into_iter().map(logprob).collect();
                    return Ok(Step::Piece(Delta { text: delta.text, logprobs }, seen));
                }
                Some(Ok(Event::Finished(end))) => return Ok(Step::End(end)),
                Some(Err(error)) => return Err(error.into()),
                // The stream's own contract: it ends after `Finished`, or with an error.
                None => return Err(ModelError::Crashed.into()),
            }
        }
    }

    /// What remains of it after its end.
    pub(super) fn into_ran(self) -> Ran {
        self.ran
    }
}

impl Ran {
    pub(super) fn done(self, route: Route, end: Finished, sink: &Sink) -> Done {
        Done {
            route,
            model: self.model,
            adapter_generation: self.adapter.as_ref().map_or(self.generation, |adapter| adapter.generation),
            adapter: self.adapter.map(|adapter| adapter.name).unwrap_or_default(),
            input_tokens: end.input_tokens,
            output_tokens: end.output_tokens,
            to_first: sink.to_first(),
            total: sink.so_far(),
            finish_reason: end.reason,
            receipt: Receipt::Free,
            unknown_placeholders: 0,
            tool_calls: None,
            mean_logprob: (end.output_tokens > 0).then_some(end.mean_logprob),
            cached_tokens: end.cached_tokens,
            queued: Duration::from_micros(end.queued_us),
        }
    }
}

/// The prompt of a request that wants no chat template.
pub(super) fn raw(ask: &Ask) -> Option<&str> {
    ask.messages.first().filter(|_| ask.raw).map(|message| message.content.as_str())
}

/// The conversation as the model process takes it: verbatim, so that what an earlier turn left in its cache is found
/// again.
pub(super) fn chat(ask: &Ask, messages: &[Message]) -> Chat {
    let message = |message: &Message| ChatMessage {
        role: message.role.clone(),
        content: message.content.clone(),
        tool_calls_json: message.tool_calls.clone().unwrap_or_default(),
        tool_call_id: message.tool_call_id.clone().unwrap_or_default(),
        name: message.name.clone().unwrap_or_default(),
    };
    Chat {
        messages: messages.iter().map(message).collect(),
        tools_json: ask.tools.clone().unwrap_or_default(),
    }
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
