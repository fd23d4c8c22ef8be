//! Wire types to the engine's and back. Nothing generated goes further in than this.

use std::time::Duration;

use synesis_proto::runtime::v1 as wire;

use crate::constraint::Source;
use crate::engine::{
    AdapterChoice, Batching, Delta, Embeddings, EngineError, Event, FinishReason, Generate, Load, LoadModel,
    Method, ModelInfo, Sampling, Start, Summary, TokenLogprob, Vector, Warmed,
};
use crate::gguf::AdapterHeader;
use crate::llama::Weights;
use crate::prompt::{Chat, Input, Message, PromptError};

/// How long the context for vectors is kept unused: making it again takes a fraction of a second.
const VECTORS_IDLE: Duration = Duration::from_secs(300);

pub(super) fn load_model(request: wire::LoadModelRequest) -> LoadModel {
    let embeddings = match request.embeddings() {
        wire::Embeddings::Auto => Embeddings::Declared,
        wire::Embeddings::Mean => Embeddings::By(Method::Mean),
        wire::Embeddings::Last => Embeddings::By(Method::Last),
        wire::Embeddings::Off => Embeddings::Off,
    };
    LoadModel {
        path: request.path.into(),
        context_tokens: (request.context_tokens > 0).then_some(request.context_tokens),
        threads: (request.threads > 0).then_some(request.threads),
        chat_template: Some(request.chat_template).filter(|source| !source.is_empty()),
        parallel: request.parallel,
        memory_limit: request.memory_limit_bytes,
        prefix_cache: request.prefix_cache_bytes,
        weights: if request.check_tensors { Weights::Checked } else { Weights::Trusted },
        queue: (request.queue > 0).then_some(request.queue),
        embeddings,
        vectors_idle: match request.embeddings_idle_ms {
            0 => VECTORS_IDLE,
            milliseconds => Duration::from_millis(milliseconds.into()),
        },
    }
}

pub(super) fn health(load: Load, resident_bytes: u64) -> wire::HealthReply {
    wire::HealthReply {
        model_loaded: load.model_loaded,
        busy: load.busy,
        queued: count(load.queued),
        resident_bytes,
        tokens_generated: load.tokens_generated,
        active: count(load.active),
        parallel: count(load.parallel),
        stalled_ms: milliseconds(load.stalled),
        expected_wait_ms: milliseconds(load.expected_wait),
        vector_bytes: load.vector_bytes,
    }
}

pub(super) fn model_info(info: ModelInfo) -> wire::ModelInfo {
    wire::ModelInfo {
        architecture: info.architecture,
        name: info.name,
        parameters: info.parameters,
        size_bytes: info.size_bytes,
        context_tokens: info.context_tokens,
        trained_context_tokens: info.trained_context_tokens,
        layers: info.layers,
        has_chat_template: info.has_chat_template,
        engine: info.engine,
        threads: info.threads,
        parallel: info.parallel,
        memory_bytes: info.memory_bytes,
        makes_embeddings: info.makes_embeddings,
        template_takes_tools: info.template_takes_tools,
        embeddings_only: !info.writes_text,
        embedding_width: count(info.vector_width),
    }
}

pub(super) fn adapter_info(header: AdapterHeader) -> wire::AdapterInfo {
    wire::AdapterInfo {
        architecture: header.architecture,
        rank: header.rank,
        alpha: header.alpha,
        targets: header.targets,
        tensors: header.tensors,
        size_bytes: header.file_bytes,
    }
}

pub(super) fn count_input(input: Option<wire::count_tokens_request::Input>) -> Result<Input, EngineError> {
    match input {
        Some(wire::count_tokens_request::Input::Chat(chat)) => Ok(chat_input(chat)?),
        Some(wire::count_tokens_request::Input::Raw(text)) => Ok(Input::Raw(text)),
        None => Err(PromptError::Empty.into()),
    }
}

pub(super) fn generate(request: wire::GenerateRequest) -> Result<Generate, EngineError> {
    let input = match request.input {
        Some(wire::generate_request::Input::Chat(chat)) => chat_input(chat)?,
        Some(wire::generate_request::Input::Raw(text)) => Input::Raw(text),
        None => return Err(PromptError::Empty.into()),
    };
    use wire::generate_request::Constraint;
    Ok(Generate {
        request_id: request.request_id,
        input,
        adapter: adapter(request.adapter_id, request.adapter_scale),
        max_tokens: (request.max_tokens > 0).then_some(request.max_tokens as usize),
        sampling: request.sampling.map(sampling).unwrap_or_default(),
        stop: request.stop,
        owner: request.owner,
        batching: if request.deterministic { Batching::Alone } else { Batching::Shared },
        logprobs: request.logprobs.map(|alternatives| alternatives as usize),
        shape: request.constraint.map(|constraint| match constraint {
            Constraint::JsonSchema(schema) => Source::JsonSchema(schema),
            Constraint::Grammar(grammar) => Source::Grammar(grammar),
        }),
    })
}

/// The input and the adapter of a request to warm up.
pub(super) fn warm(request: wire::WarmRequest) -> Result<(Input, Option<AdapterChoice>), EngineError> {
    let input = match request.input {
        Some(wire::warm_request::Input::Chat(chat)) => chat_input(chat)?,
        Some(wire::warm_request::Input::Raw(text)) => Input::Raw(text),
        None => return Err(PromptError::Empty.into()),
    };
    Ok((input, adapter(request.adapter_id, request.adapter_scale)))
}

pub(super) fn embedding(vector: Vector) -> wire::Embedding {
    wire::Embedding { values: vector.values, tokens: count(vector.tokens) }
}

pub(super) fn warmed(warmed: Warmed) -> wire::WarmReply {
    wire::WarmReply {
        tokens: count(warmed.tokens),
        cached_tokens: count(warmed.cached_tokens),
        prefill_us: microseconds(warmed.prefill),
    }
}

fn adapter(id: String, scale: f32) -> Option<AdapterChoice> {
    let scale = if scale == 0.0 { 1.0 } else { scale };
    (!id.is_empty()).then_some(AdapterChoice { id, scale })
}

pub(super) fn event(event: Event) -> wire::GenerateEvent {
    let event = match event {
        Event::Started(start) => wire::generate_event::Event::Started(started(start)),
        Event::Delta(delta) => wire::generate_event::Event::Delta(self::delta(delta)),
        Event::Finished(summary) => wire::generate_event::Event::Finished(finished(&summary)),
    };
    wire::GenerateEvent { event: Some(event) }
}

fn started(start: Start) -> wire::Started {
    wire::Started {
        input_tokens: count(start.input_tokens),
        cached_tokens: count(start.cached_tokens),
        queued_us: microseconds(start.queued),
    }
}

fn delta(delta: Delta) -> wire::Delta {
    wire::Delta {
        text: delta.text,
        output_tokens: count(delta.output_tokens),
        logprobs: delta.logprobs.into_iter().map(token_logprob).collect(),
    }
}

fn token_logprob(token: TokenLogprob) -> wire::TokenLogprob {
    let alternative =
        |(token, logprob): (Vec<u8>, f32)| wire::TokenLogprob { token, logprob, top: Vec::new() };
    wire::TokenLogprob {
        token: token.bytes,
        logprob: token.logprob,
        top: token.top.into_iter().map(alternative).collect(),
    }
}

/// Counts are bounded by the context, which is a `u32`.
pub(super) fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn chat_input(chat: wire::Chat) -> Result<Input, PromptError> {
    let message = |message: wire::ChatMessage| {
        let wire::ChatMessage { role, content, tool_calls_json, tool_call_id, name } = message;
        Ok(Message::new(role, content).with_tool_calls(&tool_calls_json)?.answering(tool_call_id, name))
    };
    let messages = chat.messages.into_iter().map(message).collect::<Result<_, PromptError>>()?;
    Ok(Input::Chat(Chat::new(messages, &chat.tools_json)?))
}

fn sampling(sampling: wire::Sampling) -> Sampling {
    Sampling {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repeat_penalty: sampling.repeat_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        seed: sampling.seed,
    }
}

fn finished(summary: &Summary) -> wire::Finished {
    let reason = match summary.reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    };
    wire::Finished {
        reason: reason.to_owned(),
        input_tokens: count(summary.start.input_tokens),
        output_tokens: count(summary.output_tokens),
        prefill_us: microseconds(summary.prefill),
        generate_us: microseconds(summary.generation),
        mean_logprob: summary.mean_logprob,
        cached_tokens: count(summary.start.cached_tokens),
        queued_us: microseconds(summary.start.queued),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
