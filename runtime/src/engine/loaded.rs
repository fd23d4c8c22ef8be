//! A model that is ready: what every thread may read of it. And the way there: checked file, loaded weights.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::EngineError;
use super::vectors::Method;
use crate::constraint::{Constraint, ConstraintError, Source, Vocabulary};
use crate::fit;
use crate::gguf::{self, ModelHeader, OpenFile, Pooling};
use crate::llama::{self, ContextSettings, Ends, Model, Parse, Purpose, Token, Weights};
use crate::prompt::{ChatTemplate, Input, Opening, PromptError, Prompter};
use crate::sandbox;

/// llama.cpp's own limit (`GGML_MAX_N_THREADS`).
const THREAD_LIMIT: u32 = 512;
/// llama.cpp's own limit (`LLAMA_MAX_SEQ`).
const SEQUENCE_LIMIT: u32 = 256;
/// Requests that may wait, unless the load request says otherwise.
const DEFAULT_QUEUE: u32 = 64;
/// The most that may wait, whatever a load request says: each has its tokens in memory.
pub(super) const QUEUE_LIMIT: u32 = 1024;

/// A request to load a model.
pub(crate) struct LoadModel {
    pub(crate) path: PathBuf,
    /// `None`: the smaller of the model's own and 2048.
    pub(crate) context_tokens: Option<u32>,
    /// `None`: what affinity and cgroup allow.
    pub(crate) threads: Option<u32>,
    /// Jinja source instead of the file's own.
    pub(crate) chat_template: Option<String>,
    /// Sequences at once; 0: one.
    pub(crate) parallel: u32,
    /// Most memory of the process in bytes; 0: what there is.
    pub(crate) memory_limit: u64,
    /// Most that saved prefixes may take, in bytes.
    pub(crate) prefix_cache: u64,
    pub(crate) weights: Weights,
    /// `None`: 64.
    pub(crate) queue: Option<u32>,
    pub(crate) embeddings: Embeddings,
    /// How long the context for vectors is kept when nobody asks for any.
    pub(crate) vectors_idle: Duration,
}

/// Whether vectors of texts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Embeddings {
    /// As the file says: by models that are made for it.
    Declared,
    /// In this way, whatever the file says.
    By(Method),
    Off,
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
    pub(crate) template_takes_tools: bool,
    pub(crate) makes_embeddings: bool,
    pub(crate) writes_text: bool,
    /// Numbers in a vector; 0: none are made.
    pub(crate) vector_width: usize,
    pub(crate) engine: String,
    pub(crate) threads: u32,
    pub(crate) parallel: u32,
    pub(crate) memory_bytes: u64,
}

/// A file that passed the checks, and the settings it will be loaded with.
pub(super) struct ModelFile {
    open: OpenFile,
    header: ModelHeader,
    template: Option<ChatTemplate>,
    room: Room,
    memory_bytes: u64,
    memory_limit: u64,
    weights: Weights,
    embeddings: Embeddings,
    vectors_idle: Duration,
}

/// How much of everything a loaded model is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) context: ContextSettings,
    /// Requests that may wait.
    pub(super) queue: usize,
    /// Bytes of saved prefixes.
    pub(super) prefix_cache: usize,
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
        if request.parallel > SEQUENCE_LIMIT {
            return Err(EngineError::BadRequest("there are more than 256 parallel sequences"));
        }
        let parallel = request.parallel.max(1);
        let tokens = fit::context_tokens(request.context_tokens.unwrap_or(0), header.context_length);
        let available = fit::available(request.memory_limit);
        let estimate = fit::check(&header, tokens, parallel, &available)?;
        let context = ContextSettings {
            tokens,
            parallel: u16::try_from(parallel).unwrap_or(1),
            threads: threads(request.threads)?,
            purpose: Purpose::Text,
        };
        let room = Room {
            context,
            queue: request.queue.unwrap_or(DEFAULT_QUEUE).min(QUEUE_LIMIT) as usize,
            prefix_cache: usize::try_from(request.prefix_cache).unwrap_or(usize::MAX),
        };
        Ok(Self {
            open,
            header,
            template,
            room,
            memory_bytes: estimate.total,
            memory_limit: fit::effective_limit(request.memory_limit),
            weights: request.weights,
            embeddings: request.embeddings,
            vectors_idle: request.vectors_idle,
        })
    }
}

/// How the model makes vectors: as it is told to, else as its file says. What the file calls a score of two texts is
/// no vector of one.
fn method(wanted: Embeddings, header: &ModelHeader) -> Option<Method> {
    match wanted {
        Embeddings::Off => None,
        Embeddings::By(method) => Some(method),
        Embeddings::Declared => match header.pooling {
            Some(Pooling::First) => Some(Method::First),
            Some(Pooling::Mean) => Some(Method::Mean),
            Some(Pooling::Last) => Some(Method::Last),
            Some(Pooling::Rank) => None,
            Some(Pooling::None) | None => header.encoder.then_some(Method::Mean),
        },
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
    pub(super) room: Room,
    /// How vectors are made, if they are.
    pub(super) vectors: Option<Method>,
    pub(super) vectors_idle: Duration,
    pub(super) memory_limit: u64,
    prompter: Prompter,
    /// Made when the first answer is held to a shape.
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

impl Loaded {
    /// Loads the weights of a checked file. Takes seconds for large ones, so not for the engine's thread.
    pub(super) fn load(file: ModelFile) -> Result<Arc<Self>, EngineError> {
        let ModelFile { open, header, template, room, memory_bytes, memory_limit, weights, .. } = file;
        let limit = (memory_limit > 0).then(|| fit::data_limit(&header, memory_limit));
        sandbox::limit_memory(limit).map_err(EngineError::MemoryLimit)?;
        let model = Model::load(&open.alias(), weights).map_err(EngineError::ModelRefused)?;
        // Encoders too continue what they read, as far as the library knows.
        let is_understood = model.generates_text();
        let writes_text = is_understood && !header.encoder;
        let vectors = method(file.embeddings, &header)
            .filter(|_| is_understood && header.vector_width == Some(model.vector_width() as u64));
        if !writes_text && vectors.is_none() {
            return Err(EngineError::ModelSilent);
        }
        let prompter = Prompter::new(&model, template);
        let info = ModelInfo {
            architecture: header.architecture.clone(),
            name: header.name.clone(),
            parameters: model.parameters(),
            size_bytes: header.file_bytes,
            context_tokens: room.context.tokens,
            trained_context_tokens: header.context_length,
            layers: model.layers(),
            has_chat_template: prompter.has_template(),
            template_takes_tools: prompter.takes_tools(),
            makes_embeddings: vectors.is_some(),
            writes_text,
            vector_width: vectors.map_or(0, |_| model.vector_width()),
            engine: llama::version(),
            threads: room.context.threads,
            parallel: u32::from(room.context.parallel),
            memory_bytes,
        };
        Ok(Arc::new(Self {
            model,
            header,
            info,
            room,
            vectors,
            vectors_idle: file.vectors_idle,
            memory_limit,
            prompter,
            vocabulary: OnceLock::new(),
        }))
    }

    pub(super) fn context_tokens(&self) -> usize {
        self.info.context_tokens as usize
    }

    pub(super) fn tokens(&self, input: &Input, opening: Opening) -> Result<Vec<Token>, EngineError> {
        Ok(self.prompter.tokens(&self.model, input, opening)?)
    }

    /// The tokens of texts whose vectors are wanted. Nothing in them is a control token: they are what somebody typed.
    pub(super) fn tokens_of_texts(&self, texts: &[String]) -> Result<Vec<Vec<Token>>, EngineError> {
        let window = self.context_tokens();
        let mut all = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let tokens = self.model.tokenize(text, Parse::Plain, Ends::Add)?;
            match tokens.len() {
                0 => return Err(EngineError::BadRequest("a text has no tokens")),
                tokens if tokens > window => {
                    return Err(EngineError::InputTooLong { index, tokens, window });
                }
                _ => all.push(tokens),
            }
        }
        Ok(all)
    }

    /// The tokens of an input that leaves room for an answer of at least one.
    pub(super) fn fitting_tokens(&self, input: &Input, opening: Opening) -> Result<Vec<Token>, EngineError> {
        let tokens = self.tokens(input, opening)?;
        if tokens.len() >= self.context_tokens() {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), context: self.context_tokens() });
        }
        Ok(tokens)
    }

    /// Compiles the shape of an answer: milliseconds, and some hundred for the first of a model.
    pub(super) fn constraint(&self, source: &Source) -> Result<Constraint, EngineError> {
        let vocabulary = match self.vocabulary.get() {
            Some(vocabulary) => Arc::clone(vocabulary),
            None => {
                let made = self.make_vocabulary().map_err(EngineError::Shape)?;
                Arc::clone(self.vocabulary.get_or_init(|| made))
            }
        };
        Constraint::new(&vocabulary, source).map_err(EngineError::Shape)
    }

    fn make_vocabulary(&self) -> Result<Arc<Vocabulary>, ConstraintError> {
        let all = || (0..self.model.vocabulary_size()).filter_map(|index| self.model.token(index));
        let ends: Vec<u32> = all()
            .filter(|token| self.model.is_end(*token))
            .filter_map(|token| u32::try_from(token.index()).ok())
            .collect();
        let words = all().map(|token| {
            if self.model.is_control(token) {
                (self.model.text(token).into_bytes(), true)
            } else {
                let mut bytes = Vec::new();
                self.model.piece(token, &mut bytes);
                (bytes, false)
            }
        });
        Vocabulary::new(words, &ends)
    }
}
