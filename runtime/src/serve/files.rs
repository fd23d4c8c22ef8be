//! The calls that only read files: what an adapter is, what a model would take, a PEFT adapter as GGUF. All of it
//! happens on the blocking pool, beside the engine's thread.

use std::io;
use std::path::Path;
use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};
use synesis_proto::runtime::v1 as wire;
use synesis_proto::runtime::v1::convert_adapter_event::Event;
use synesis_proto::{Problem, reason};
use tokio::task::spawn_blocking;
use tonic::{Code, Status};

use super::convert;
use super::problem::status;
use crate::engine::{Engine, EngineError};
use crate::fit::{self, MemoryEstimate};
use crate::gguf::{self, AdapterHeader, ModelHeader};
use crate::peft::{self, Conversion, PeftError, Pieces};

/// The answer to `ConvertAdapter`.
pub(super) type ConvertAdapterStream =
    Pin<Box<dyn Stream<Item = Result<wire::ConvertAdapterEvent, Status>> + Send>>;

/// Header against the loaded model and, when asked for, every weight.
pub(super) async fn inspect_adapter(
    engine: &Engine,
    request: wire::InspectAdapterRequest,
) -> Result<wire::AdapterInfo, Status> {
    let model = engine.header().map_err(status)?;
    let header = blocking(move || {
        let open = gguf::open(Path::new(&request.path)).map_err(EngineError::AdapterUnreadable)?;
        let header = AdapterHeader::check(&open.header, &model)?;
        if request.check_values {
            gguf::check_values(&open).map_err(EngineError::AdapterUnreadable)?;
        }
        Ok(header)
    });
    Ok(convert::adapter_info(header.await?.map_err(status)?))
}

/// The numbers, also when they do not fit: `LoadModel` is what refuses.
pub(super) async fn estimate_model(
    request: wire::EstimateModelRequest,
) -> Result<wire::MemoryEstimate, Status> {
    let estimated = blocking(move || {
        let open = gguf::open(Path::new(&request.path)).map_err(EngineError::ModelUnreadable)?;
        let header = ModelHeader::check(&open.header)?;
        let context = fit::context_tokens(request.context_tokens, header.context_length);
        let available = fit::available(request.memory_limit_bytes);
        let estimate = fit::estimate(&header, context, request.parallel, &available);
        Ok(memory_estimate(&estimate, &header, context))
    });
    estimated.await?.map_err(status)
}

/// First what the adapter is, then its bytes; a reader that leaves ends the conversion.
pub(super) async fn convert_adapter(
    engine: &Engine,
    request: wire::ConvertAdapterRequest,
) -> Result<ConvertAdapterStream, Status> {
    let model = engine.header().map_err(status)?;
    let converted = blocking(move || {
        peft::convert(Path::new(&request.config_path), Path::new(&request.weights_path), &model)
    });
    let Conversion { header, base_model, size_bytes, pieces } = converted.await?.map_err(refusal)?;
    let first = wire::ConvertedAdapter { info: Some(convert::adapter_info(header)), base_model, size_bytes };
    let pieces = stream::unfold(Some(pieces), next_piece);
    Ok(Box::pin(stream::once(async { Ok(event(Event::Adapter(first))) }).chain(pieces)))
}

/// Pulls one piece on the blocking pool; after an error there is none.
async fn next_piece(
    pieces: Option<Pieces>,
) -> Option<(Result<wire::ConvertAdapterEvent, Status>, Option<Pieces>)> {
    let mut pieces = pieces?;
    match blocking(move || (pieces.next(), pieces)).await {
        Ok((next, pieces)) => match next? {
            Ok(data) => Some((Ok(event(Event::Data(data))), Some(pieces))),
            Err(error) => Some((Err(refusal(error)), None)),
        },
        Err(lost) => Some((Err(lost), None)),
    }
}

fn event(event: Event) -> wire::ConvertAdapterEvent {
    wire::ConvertAdapterEvent { event: Some(event) }
}

fn memory_estimate(
    estimate: &MemoryEstimate,
    header: &ModelHeader,
    context_tokens: u32,
) -> wire::MemoryEstimate {
    wire::MemoryEstimate {
        weights: estimate.weights,
        cache: estimate.cache,
        compute: estimate.compute,
        total: estimate.total,
        available: estimate.available,
        architecture: header.architecture.clone(),
        context_tokens,
        trained_context_tokens: header.context_length,
    }
}

/// A PEFT adapter that cannot be converted.
fn refusal(error: PeftError) -> Status {
    let (code, next_step) = match &error {
        PeftError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
            (Code::NotFound, "give the folder that PEFT saved the adapter to")
        }
        PeftError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            (Code::PermissionDenied, "give a folder that can be read")
        }
        PeftError::Unsupported(_) => (
            Code::InvalidArgument,
            "train it as plain LoRA, or merge it into its base model and use that as a model file",
        ),
        PeftError::Architecture(_) => (Code::InvalidArgument, "import the adapter as a GGUF file"),
        PeftError::Fault(_) | PeftError::UnknownTensor(_) | PeftError::Shape(_) => {
            (Code::InvalidArgument, "use an adapter that was trained for the loaded model")
        }
        _ => (Code::InvalidArgument, "save the adapter again, or get its files again"),
    };
    tracing::debug!(%error, "a PEFT adapter was refused");
    Problem::new(code, reason::ADAPTER_INVALID, error.to_string(), next_step).into()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    spawn_blocking(work).await.map_err(|_| status(EngineError::Stopped))
}
