//! A model that is ready: what every thread may read of it. And the way there: checked file, loaded weights.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::EngineError;
use crate::gguf::{self, ModelHeader, OpenFile};
use crate::llama::{self, Context, ContextSettings, Model, Token};
use crate::prompt::{ChatTemplate, Input, Opening, PromptError, Prompter};

/// The window when nobody says otherwise: enough for a conversation, and 48 MB for a small model.
const DEFAULT_CONTEXT: u32 = 2048;
/// The largest window we make, whatever a file promises.
const CONTEXT_LIMIT: u32 = 131_072;
/// llama.cpp's own limit (`GGML_MAX_N_THREADS`).
const THREAD_LIMIT: u32 = 512;

/// A request to load a model.
pub(crate) struct LoadModel {
    pub(crate) path: PathBuf,
    /// `None`: the smaller of the model's own and 2048.
    pub(crate) context_tokens: Option<u32>,
    /// `None`: what affinity and cgroup allow.
    pub(crate) threads: Option<u32>,
    /// Jinja source instead of the file's own.
    pub(crate) chat_template: Option<String>,
}

/// What is said about a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelInfo {
    pub(crate) architecture: String,
    pub(crate) name: String,
    pub(crate) parameters: u64,
    pub(crate) size_bytes: u64,
    pub(crate) context_tokens: u32,
    pub(crate) trained_context_tokens: u32,
    pub(crate) layers: u32,
    pub(crate) has_chat_template: bool,
    pub(crate) engine: String,
    pub(crate) threads: u32,
}

/// A file that passed the checks, and the settings it will be loaded with.
pub(super) struct ModelFile {
    open: OpenFile,
    header: ModelHeader,
    template: Option<ChatTemplate>,
    settings: ContextSettings,
}

impl ModelFile {
    pub(super) fn check(request: &LoadModel) -> Result<Self, EngineError> {
        let open = gguf::open(&request.path).map_err(EngineError::ModelUnreadable)?;
        let header = ModelHeader::check(&open.header)?;
        let compile = |source: &str| ChatTemplate::compile(source).map_err(PromptError::Template);
        let template = match (&request.chat_template, &header.chat_template) {
            (Some(given), _) => Some(compile(given).map_err(EngineError::GivenTemplate)?),
            (None, Some(own)) => Some(compile(own).map_err(EngineError::ModelTemplate)?),
            (None, None) => None,
        };
        let settings = ContextSettings {
            tokens: request
                .context_tokens
                .unwrap_or(DEFAULT_CONTEXT)
                .min(header.context_length)
                .min(CONTEXT_LIMIT),
            threads: threads(request.threads)?,
        };
        Ok(Self { open, header, template, settings })
    }
}

/// The standard library already looks at the affinity mask and the cgroup's `cpu.max`.
fn threads(wanted: Option<u32>) -> Result<u32, EngineError> {
    match wanted {
        Some(threads) if threads > THREAD_LIMIT => {
            Err(EngineError::BadRequest("there are more than 512 threads"))
        }
        Some(threads) => Ok(threads),
        None => Ok(thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(THREAD_LIMIT).min(THREAD_LIMIT))),
    }
}

/// A loaded model, shared between the engine's thread and the requests that tokenise for it.
pub(super) struct Loaded {
    pub(super) model: Arc<Model>,
    pub(super) header: ModelHeader,
    pub(super) info: ModelInfo,
    prompter: Prompter,
}

impl Loaded {
    /// Loads a checked file and tries it with one token.
    pub(super) fn load(file: ModelFile) -> Result<(Arc<Self>, Context), EngineError> {
        let ModelFile { open, header, template, settings } = file;
        let model = Model::load(&open.alias()).map_err(EngineError::ModelRefused)?;
        if !model.generates_text() {
            return Err(EngineError::ModelSilent);
        }
        let mut context = Context::new(&model, settings).map_err(EngineError::ModelRefused)?;
        let canary = model.begin().or_else(|| model.token(0)).ok_or(EngineError::ModelSilent)?;
        if !super::logits::are_finite_after(&mut context, &[canary]).map_err(EngineError::ModelRefused)? {
            return Err(EngineError::ModelNotFinite);
        }
        let prompter = Prompter::new(&model, template);
        let info = ModelInfo {
            architecture: header.architecture.clone(),
            name: header.name.clone(),
            parameters: model.parameters(),
            size_bytes: header.file_bytes,
            context_tokens: u32::try_from(context.capacity()).unwrap_or(u32::MAX),
            trained_context_tokens: header.context_length,
            layers: model.layers(),
            has_chat_template: prompter.has_template(),
            engine: llama::version(),
            threads: settings.threads,
        };
        Ok((Arc::new(Self { model, header, info, prompter }), context))
    }

    pub(super) fn context_tokens(&self) -> usize {
        self.info.context_tokens as usize
    }

    pub(super) fn tokens(&self, input: &Input) -> Result<Vec<Token>, EngineError> {
        Ok(self.prompter.tokens(&self.model, input, Opening::Answer)?)
    }

    /// The tokens of an input that leaves room for an answer of at least one.
    pub(super) fn fitting_tokens(&self, input: &Input) -> Result<Vec<Token>, EngineError> {
        let tokens = self.tokens(input)?;
        if tokens.len() >= self.context_tokens() {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), context: self.context_tokens() });
        }
        Ok(tokens)
    }
}
