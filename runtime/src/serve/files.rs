//! The calls that only read files: what an adapter is, what a model would take, a PEFT adapter as GGUF.

use std::pin::Pin;

use futures_util::Stream;
use synesis_proto::runtime::v1 as wire;
use tonic::Status;

use super::convert;
use super::problem::status;
use crate::engine::Engine;

/// The answer to `ConvertAdapter`.
pub(super) type ConvertAdapterStream =
    Pin<Box<dyn Stream<Item = Result<wire::ConvertAdapterEvent, Status>> + Send>>;

pub(super) async fn inspect_adapter(
    engine: &Engine,
    request: wire::InspectAdapterRequest,
) -> Result<wire::AdapterInfo, Status> {
    let header = engine.inspect_adapter(request.path.into()).await.map_err(status)?;
    Ok(convert::adapter_info(header))
}

pub(super) async fn estimate_model(
    _engine: &Engine,
    _request: wire::EstimateModelRequest,
) -> Result<wire::MemoryEstimate, Status> {
    Err(Status::unimplemented("models are not estimated yet"))
}

pub(super) async fn convert_adapter(
    _engine: &Engine,
    _request: wire::ConvertAdapterRequest,
) -> Result<ConvertAdapterStream, Status> {
    Err(Status::unimplemented("PEFT adapters are not converted yet"))
}
