//! A bigger model in a process of its own beside the gateway: `synesis-runtime`, spoken to over runtime.v1. The
//! process is a subsystem ([`RuntimeProcess`]), restarted when it dies; [`RuntimeModel`] is the provider in front.

mod adapters;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use synesis_proto::runtime::v1;
use synesis_proto::runtime::v1::generate_event::Event as Generated;
use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::{Problem, reason};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use adapters::{Adapters, Strikes};
pub(crate) use process::RuntimeProcess;

use super::error::bounded_words;
use super::tools::ToolCall;
use super::{
    AdapterFile, AdapterPin, Event, EventStream, FinishReason, Message, Provider, ProviderError, Request,
};
use crate::config::Sandbox;

/// How long a request waits for a model that is starting or restarting.
const READY_WAIT: Duration = Duration::from_secs(10);
/// The longest pause between two tokens, and until the first one (a long prompt on a small machine).
const IDLE: Duration = Duration::from_secs(60);

/// What the model process is started with.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeSettings {
    pub(crate) models: Vec<String>,
    pub(crate) program: PathBuf,
    pub(crate) model_path: PathBuf,
    /// The folder of adapters, which the process may read.
    pub(crate) adapters: PathBuf,
    /// Replaces the file's own; empty: the file's.
    pub(crate) chat_template: String,
    /// Texts that end every answer, beside those of the request.
    pub(crate) stop: Vec<String>,
    pub(crate) context_tokens: u32,
    pub(crate) threads: u32,
    /// Requests answered at the same time, each in a context of its own.
    pub(crate) parallel: u32,
    pub(crate) sandbox: Sandbox,
}

/// How the model process is.
#[derive(Clone)]
enum State {
    /// Not usable now; the text says why.
    Away(String),
    Ready(Ready),
}

/// A process with its model loaded.
#[derive(Clone)]
struct Ready {
    client: RuntimeClient<Channel>,
    tools: TemplateTools,
    /// Of the model, such as `llama`.
    architecture: String,
    adapters: Arc<Adapters>,
}

/// What the model's chat template makes of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TemplateTools {
    /// It shows them to the model, and calls and results too.
    Shown,
    /// It knows none, and would refuse or drop them.
    Unknown,
}

/// The provider: waits for the process to be ready and asks it.
pub(crate) struct RuntimeModel {
    models: Vec<String>,
    stop: Vec<String>,
    state: watch::Receiver<State>,
    strikes: Strikes,
}

/// The two ends of a model process that is not running yet.
pub(crate) fn runtime(settings: RuntimeSettings) -> (RuntimeModel, RuntimeProcess) {
    let (sender, state) = watch::channel(State::Away("it is starting".to_owned()));
    let (models, stop) = (settings.models.clone(), settings.stop.clone());
    let model = RuntimeModel { models, stop, state, strikes: Strikes::default() };
    (model, RuntimeProcess { settings, state: sender })
}

impl RuntimeModel {
    async fn ready(&self) -> Result<Ready, ProviderError> {
        let mut state = self.state.clone();
        let ready = timeout(READY_WAIT, state.wait_for(|state| matches!(state, State::Ready(_)))).await;
        // A closed channel and a timeout both mean: not ready, for the reason last given.
        if let Ok(Ok(state)) = ready
            && let State::Ready(ready) = &*state
        {
            return Ok(ready.clone());
        }
        match &*self.state.borrow() {
            State::Away(why) => Err(ProviderError::NotReady(why.clone())),
            State::Ready(ready) => Ok(ready.clone()),
        }
    }
}

/// The conversation for a template. One that knows no tools is not given any; results of earlier calls, which another
/// model may have made, are then the user's word.
fn chat(request: &Request, tools: TemplateTools) -> Result<v1::Chat, ProviderError> {
    if tools == TemplateTools::Unknown && !request.tools.is_empty() {
        let message = "its chat template knows no tools".to_owned();
        return Err(ProviderError::Declined { message });
    }
    let message = |m: &Message| match tools {
        TemplateTools::Shown => v1::ChatMessage {
            role: m.role.clone(),
            content: m.content.clone(),
            tool_calls_json: match &m.tool_calls[..] {
                [] => String::new(),
                calls => ToolCall::write_all(calls).to_string(),
            },
            tool_call_id: m.tool_call_id.clone(),
            name: m.name.clone(),
        },
        TemplateTools::Unknown => v1::ChatMessage {
            role: if m.answers_a_call() { "user".to_owned() } else { m.role.clone() },
            content: match &m.tool_calls[..] {
                [] => m.content.clone(),
                calls => format!("{}{}", m.content, ToolCall::write_all(calls)),
            },
            ..v1::ChatMessage::default()
        },
    };
    Ok(v1::Chat {
        messages: request.messages.iter().map(message).collect(),
        tools_json: request.tools.json.clone(),
    })
}

#[async_trait]
impl Provider for RuntimeModel {
    fn name(&self) -> &'static str {
        "runtime"
    }

    fn models(&self) -> &[String] {
        &self.models
    }

    /// Exact: the process has the tokenizer and the template.
    async fn input_bound(&self, request: &Request) -> Result<u64, ProviderError> {
        let Ready { mut client, tools, .. } = self.ready().await?;
        let input = Some(v1::count_tokens_request::Input::Chat(chat(request, tools)?));
        let count = timeout(IDLE, client.count_tokens(v1::CountTokensRequest { input })).await;
        let count = count.map_err(|_| ProviderError::Silent { waited: IDLE })?;
        count.map(|reply| reply.into_inner().tokens.into()).map_err(|status| refusal(&status))
    }

    async fn pin_adapter(&self, file: &AdapterFile) -> Result<AdapterPin, ProviderError> {
        let Ready { mut client, architecture, adapters, .. } = self.ready().await?;
        // What the device says is only good for a better sentence; the process looks for itself.
        if !file.architecture.is_empty() && file.architecture != architecture {
            let made_for = bounded_words(&file.architecture, None);
            let message = format!("it was made for {made_for} models, and this one is {architecture}");
            return Err(ProviderError::Unfit { message });
        }
        adapters.pin(&mut client, &self.strikes, file).await
    }

    async fn stream(&self, request: Request) -> Result<EventStream, ProviderError> {
        let Ready { mut client, tools, .. } = self.ready().await?;
        let call = v1::GenerateRequest {
            request_id: request.request_id.clone(),
            input: Some(v1::generate_request::Input::Chat(chat(&request, tools)?)),
            owner: request.owner.clone(),
            constraint: request
                .json_schema
                .as_ref()
                .map(|schema| v1::generate_request::Constraint::JsonSchema(schema.to_string())),
            max_tokens: request.max_tokens,
            sampling: sampling(&request),
            stop: request.stop.iter().chain(&self.stop).cloned().collect(),
            adapter_id: request.adapter.as_ref().map(|pin| pin.id.clone()).unwrap_or_default(),
            ..v1::GenerateRequest::default()
        };
        let started = timeout(IDLE, client.generate(call)).await;
        let started = started.map_err(|_| ProviderError::Silent { waited: IDLE })?;
        let calls = started.map_err(|status| refusal(&status))?.into_inner();
        // The adapter is kept for as long as the answer runs.
        let events = stream::try_unfold((calls, request.adapter), |(mut calls, pin)| async move {
            match timeout(IDLE, calls.message()).await {
                Err(_) => Err(ProviderError::Silent { waited: IDLE }),
                Ok(Err(status)) => Err(refusal(&status)),
                Ok(Ok(None)) => Ok(None),
                Ok(Ok(Some(generated))) => Ok(Some((stream::iter(events(generated)), (calls, pin)))),
            }
        });
        // One generated event is up to two of ours.
        let flat = events.flat_map(|step| match step {
            Ok(events) => events.boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        Ok(flat.boxed())
    }
}

/// None: the likeliest token each time, and nothing held against what was said.
fn sampling(request: &Request) -> Option<v1::Sampling> {
    let asked = request.sampling;
    let sampling = v1::Sampling {
        temperature: asked.temperature.unwrap_or_default(),
        top_p: asked.top_p.unwrap_or_default(),
        seed: asked.seed,
        presence_penalty: asked.presence_penalty.unwrap_or_default(),
        frequency_penalty: asked.frequency_penalty.unwrap_or_default(),
        ..v1::Sampling::default()
    };
    let penalties = sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0;
    (sampling.temperature > 0.0 || penalties).then_some(sampling)
}

fn events(generated: v1::GenerateEvent) -> Vec<Result<Event, ProviderError>> {
    match generated.event {
        Some(Generated::Started(started)) => {
            let input_tokens = Some(started.input_tokens.into());
            vec![Ok(Event::Usage { input_tokens, output_tokens: None })]
        }
        Some(Generated::Delta(delta)) if !delta.text.is_empty() => {
            vec![Ok(Event::Delta { text: delta.text, output_tokens: Some(delta.output_tokens.into()) })]
        }
        Some(Generated::Finished(end)) => vec![
            Ok(Event::Usage {
                input_tokens: Some(end.input_tokens.into()),
                output_tokens: Some(end.output_tokens.into()),
            }),
            match end.reason.as_str() {
                "length" => Ok(Event::Finished { reason: FinishReason::Length }),
                // We cancel by dropping the call, so a process that says so itself is going away.
                "cancelled" => Err(ProviderError::Truncated),
                _ => Ok(Event::Finished { reason: FinishReason::Stop }),
            },
        ],
        Some(Generated::Delta(_)) | None => Vec::new(),
    }
}

/// What a refusal of the model process, or its death, means.
fn refusal(status: &Status) -> ProviderError {
    let problem = Problem::from_status(status);
    let message = bounded_words(&problem.message, None);
    match problem.reason.as_str() {
        reason::PROMPT_TOO_LONG => ProviderError::TooLong { message },
        reason::BUSY => ProviderError::Busy { message, retry_after: problem.retry_after },
        reason::MODEL_NOT_READY | reason::NO_MODEL | reason::STOPPING => ProviderError::NotReady(message),
        // No reason: the status was not made by the process but by its end.
        "" => {
            ProviderError::BrokeOff { message: "the model process ended while it was answering".to_owned() }
        }
        _ if status.code() == Code::InvalidArgument => ProviderError::Declined { message },
        _ => ProviderError::BrokeOff { message },
    }
}

#[cfg(test)]
mod tests;
