//! The local model.

use synesis_proto::control::v1::ModelInfoReply;

use crate::model::ModelStatus;

impl From<&ModelStatus> for ModelInfoReply {
    fn from(status: &ModelStatus) -> Self {
        let info = status.info.clone().unwrap_or_default();
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
            memory_bytes: info.memory_bytes,
            makes_embeddings: info.makes_embeddings,
            threads: info.threads,
            ..Self::default()
        }
    }
}
