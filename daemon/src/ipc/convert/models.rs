//! The local model, and the model files.

use synesis_proto::control::v1 as pb;
use synesis_proto::control::v1::ModelInfoReply;

use super::rfc3339;
use crate::model::{Loaded, ModelStatus};
use crate::models::{CATALOGUE, Listed, Model, Offer, Phase, PullProgress};

impl From<&ModelStatus> for ModelInfoReply {
    fn from(status: &ModelStatus) -> Self {
        let (info, load) = (status.info.clone().unwrap_or_default(), status.load.unwrap_or_default());
        Self {
            name: status.name.clone(),
            path: status.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            state: status.state.as_str().to_owned(),
            architecture: info.architecture,
            parameters: info.parameters,
            size_bytes: info.size_bytes,
            context_tokens: info.context_tokens,
            trained_context_tokens: info.trained_context_tokens,
            layers: info.layers,
            has_chat_template: info.has_chat_template,
            engine: info.engine,
            reason: status.reason.clone(),
            next_step: status.next_step.clone(),
            parallel: info.parallel,
            active: load.active,
            queued: load.queued,
            memory_bytes: info.memory_bytes,
            resident_bytes: load.resident_bytes,
            makes_embeddings: info.makes_embeddings,
            threads: info.threads,
            embeddings_only: info.embeddings_only,
            embedding_width: info.embedding_width,
        }
    }
}

pub(in crate::ipc) fn list_models_reply(listed: Vec<Listed>) -> pb::ListModelsReply {
    let row = |listed: Listed| match listed.model {
        Some(model) => pb::ModelRecord { active: listed.active, ..record(model) },
        None => pb::ModelRecord {
            name: listed.name,
            size_bytes: listed.size_bytes,
            source: listed.path.display().to_string(),
            active: listed.active,
            configured: true,
            ..pb::ModelRecord::default()
        },
    };
    pb::ListModelsReply { models: listed.into_iter().map(row).collect() }
}

fn record(model: Model) -> pb::ModelRecord {
    pb::ModelRecord {
        name: model.name.to_string(),
        sha256: model.sha256,
        size_bytes: model.size_bytes,
        source: model.source,
        pulled_at: rfc3339(model.pulled_at),
        active: false,
        configured: false,
        architecture: model.architecture,
        trained_context_tokens: model.trained_context_tokens,
    }
}

pub(in crate::ipc) fn catalogue_reply(offer: Offer) -> pb::CatalogueReply {
    let entry = |entry: &crate::models::Entry| pb::CatalogueEntry {
        name: entry.name.to_owned(),
        source: entry.source.to_owned(),
        size_bytes: entry.size_bytes,
        memory_bytes: entry.memory_bytes(offer.tokens),
        licence: entry.licence.to_owned(),
        fits: offer.fits(entry),
    };
    pb::CatalogueReply {
        entries: CATALOGUE.iter().map(entry).collect(),
        memory_bytes: offer.memory_bytes,
        chosen: offer.choose().map(|entry| entry.name.to_owned()).unwrap_or_default(),
    }
}

pub(in crate::ipc) fn pull_event(progress: PullProgress) -> pb::PullEvent {
    let event = match progress {
        PullProgress::Started { source, total, resumed } => pb::pull_event::Event::Started(pb::PullStarted {
            source,
            total_bytes: total.unwrap_or_default(),
            resumed_bytes: resumed,
        }),
        PullProgress::Progress { received, total, phase } => {
            pb::pull_event::Event::Progress(pb::PullProgress {
                received_bytes: received,
                total_bytes: total.unwrap_or_default(),
                phase: match phase {
                    Phase::Receiving => "receiving".to_owned(),
                    Phase::Verifying => "verifying".to_owned(),
                },
            })
        }
        PullProgress::Done(model) => pb::pull_event::Event::Done(record(*model)),
    };
    pb::PullEvent { event: Some(event) }
}

pub(in crate::ipc) fn load_model_reply(loaded: Loaded) -> pb::LoadModelReply {
    pb::LoadModelReply {
        name: loaded.name,
        previous: loaded.previous,
        load_ms: loaded.load.as_secs_f64() * 1e3,
        gap_ms: loaded.gap.as_secs_f64() * 1e3,
    }
}
