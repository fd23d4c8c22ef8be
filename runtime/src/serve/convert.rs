//! Wire types to the engine's and back. Nothing generated goes further in than this.

use std::time::Duration;

use synesis_proto::runtime::v1 as wire;

use crate::engine::{
    AdapterChoice, EngineError, Event, FinishReason, Generate, LoadModel, ModelInfo, Sampling, Summary,
};
use crate::gguf::AdapterHeader;
use crate::prompt::{Chat, Input, Message, PromptError};

pub(super) fn load_model(request: wire::LoadModelRequest) -> LoadModel {
    LoadModel {
        path: request.path.into(),
        context_tokens: (request.context_tokens > 0).then_some(request.context_tokens),
        threads: (request.threads > 0).then_some(request.threads),
        chat_template: Some(request.chat_template).filter(|source| !source.is_empty()),
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
        ..wire::ModelInfo::default()
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
    let scale = if request.adapter_scale == 0.0 { 1.0 } else { request.adapter_scale };
    Ok(Generate {
        request_id: request.request_id,
        input,
        adapter: (!request.adapter_id.is_empty()).then_some(AdapterChoice { id: request.adapter_id, scale }),
        max_tokens: (request.max_tokens > 0).then_some(request.max_tokens as usize),
        sampling: request.sampling.map(sampling).unwrap_or_default(),
        stop: request.stop,
    })
}

pub(super) fn event(event: Event) -> wire::GenerateEvent {
    let event = match event {
        Event::Started { input_tokens } => wire::generate_event::Event::Started(wire::Started {
            input_tokens: count(input_tokens),
            ..wire::Started::default()
        }),
        Event::Delta { text, output_tokens } => wire::generate_event::Event::Delta(wire::Delta {
            text,
            output_tokens: count(output_tokens),
            ..wire::Delta::default()
        }),
        Event::Finished(summary) => wire::generate_event::Event::Finished(finished(&summary)),
    };
    wire::GenerateEvent { event: Some(event) }
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
        seed: sampling.seed,
    }
}

fn finished(summary: &Summary) -> wire::Finished {
    let reason = match summary.reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    };
    wire::Finished {
        reason: reason.to_owned(),
        input_tokens: count(summary.input_tokens),
        output_tokens: count(summary.output_tokens),
        prefill_us: microseconds(summary.prefill),
        generate_us: microseconds(summary.generation),
        mean_logprob: summary.mean_logprob,
        ..wire::Finished::default()
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
