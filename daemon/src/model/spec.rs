//! Which model to run, and with what.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use synesis_proto::runtime::v1::{self as runtime, LoadModelRequest, ModelInfo};

use crate::config::{Config, Embeddings, Sandbox};

/// A heartbeat's interval. Three without an answer and the process is replaced.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How models are run on this device.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// The model process's program; none: looked for.
    pub program: Option<PathBuf>,
    /// The configured model's file; none: there is none.
    pub path: Option<PathBuf>,
    /// What users call the configured model; none: what the file says.
    pub name: Option<String>,
    /// The model to begin with, when it is not the configured one.
    pub selected: Option<Target>,
    /// Context length in tokens.
    pub context_tokens: u32,
    /// Inference threads; 0: what the machine allows.
    pub threads: u32,
    /// Requests answered at the same time.
    pub parallel: u32,
    /// Requests that may wait.
    pub queue: u32,
    /// Memory for saved prefixes, in bytes.
    pub prefix_cache_bytes: u64,
    /// Most memory of the process, in bytes; 0: what the machine has.
    pub memory_limit_bytes: u64,
    /// Whether it makes vectors of texts, and how.
    pub embeddings: Embeddings,
    /// Time between two health probes; three without an answer and the process is replaced.
    pub probe_every: Duration,
    /// How long answers in flight have when their model is replaced.
    pub drain: Duration,
    /// Isolation of the process.
    pub sandbox: Sandbox,
    /// Folders that the process may read beside its model.
    pub readable: Vec<PathBuf>,
    /// Where what killed the process is remembered; none: nowhere.
    pub quarantine: Option<PathBuf>,
}

impl From<&Config> for ModelSpec {
    /// Without a state folder: nothing is selected, readable or remembered.
    fn from(config: &Config) -> Self {
        Self {
            program: config.runtime.program.as_deref().map(Path::to_owned),
            path: config.model.path.as_deref().map(Path::to_owned),
            name: config.model.name.clone(),
            selected: None,
            context_tokens: config.model.context_tokens,
            threads: config.model.threads,
            parallel: config.model.parallel,
            queue: config.model.queue,
            prefix_cache_bytes: config.model.prefix_cache_bytes,
            memory_limit_bytes: config.runtime.memory_max_bytes,
            embeddings: config.model.embeddings,
            probe_every: HEARTBEAT,
            drain: Duration::from_secs(config.model.drain_s.into()),
            sandbox: config.runtime.sandbox,
            readable: Vec::new(),
            quarantine: None,
        }
    }
}

impl ModelSpec {
    /// The program: as configured, else beside this one, else where the package puts it.
    pub(super) fn program(&self) -> PathBuf {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("synesis-runtime"));
        self.program
            .clone()
            .or_else(|| beside().filter(|path| path.exists()))
            .unwrap_or_else(|| PathBuf::from("/usr/lib/synesis/synesis-runtime"))
    }

    /// The program's arguments when it runs the model in `file`: what it may read, and within which bounds.
    pub(super) fn arguments(&self, file: &Path) -> Vec<OsString> {
        let sandbox = match self.sandbox {
            Sandbox::Auto => "auto",
            Sandbox::Require => "require",
            Sandbox::Off => "off",
        };
        let mut arguments: Vec<OsString> = vec!["--sandbox".into(), sandbox.into()];
        for path in std::iter::once(file).chain(self.readable.iter().map(PathBuf::as_path)) {
            arguments.extend(["--read".into(), path.into()]);
        }
        if self.memory_limit_bytes > 0 {
            arguments.extend(["--memory".into(), self.memory_limit_bytes.to_string().into()]);
        }
        arguments
    }

    /// The model of the configuration.
    pub fn configured(&self) -> Option<Target> {
        let path = self.path.clone()?;
        Some(Target { path, name: self.name.clone(), sha256: None, check_tensors: false })
    }

    pub(super) fn load_request(&self, target: &Target) -> LoadModelRequest {
        let embeddings = match self.embeddings {
            Embeddings::Auto => runtime::Embeddings::Auto,
            Embeddings::Mean => runtime::Embeddings::Mean,
            Embeddings::Last => runtime::Embeddings::Last,
            Embeddings::Off => runtime::Embeddings::Off,
        };
        LoadModelRequest {
            path: target.path.to_string_lossy().into_owned(),
            context_tokens: self.context_tokens,
            threads: self.threads,
            chat_template: String::new(),
            parallel: self.parallel,
            memory_limit_bytes: self.memory_limit_bytes,
            prefix_cache_bytes: self.prefix_cache_bytes,
            check_tensors: target.check_tensors,
            queue: self.queue,
            embeddings: embeddings.into(),
            // As long as the model process keeps it by itself.
            embeddings_idle_ms: 0,
        }
    }
}

/// A model that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its file.
    pub path: PathBuf,
    /// What users call it; none: what the file says.
    pub name: Option<String>,
    /// Of the file, hex; none: it was not hashed.
    pub sha256: Option<String>,
    /// Whether every weight has to be looked at: nobody has done it yet.
    pub check_tensors: bool,
}

impl Target {
    /// What users call it, once the file has said what it knows.
    pub(super) fn name(&self, info: Option<&ModelInfo>) -> String {
        let stem = || self.path.file_stem()?.to_str().map(str::to_owned);
        let own = || info.map(|info| info.name.clone()).filter(|name| !name.is_empty());
        self.name.clone().or_else(own).or_else(stem).unwrap_or_default()
    }

    /// What the quarantine knows it by: its content where that is known, else its file as it is now, so that another
    /// file of the same name is another model.
    pub(super) fn identity(&self, mark: FileMark) -> String {
        self.sha256.clone().unwrap_or_else(|| {
            let modified = mark.modified.map_or(0, |since| since.as_nanos());
            format!("file:{}:{}:{modified}", self.path.display(), mark.length)
        })
    }
}

/// Enough of a file's identity to see that it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileMark {
    length: u64,
    /// Since the epoch.
    modified: Option<Duration>,
}

impl FileMark {
    /// `None` when there is no such file, or it cannot be opened.
    pub(super) async fn of(path: &Path) -> Option<Self> {
        let file = tokio::fs::File::open(path).await.ok()?;
        let found = file.metadata().await.ok().filter(std::fs::Metadata::is_file)?;
        let modified = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Some(Self { length: found.len(), modified })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_may_read_its_model_and_what_is_named_and_nothing_else() {
        let mut spec = ModelSpec::from(&Config::default());
        spec.readable = vec![PathBuf::from("/state/adapters")];
        spec.memory_limit_bytes = 7;
        let words: Vec<String> = spec
            .arguments(Path::new("/models/a b.gguf"))
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        let wanted =
            ["--sandbox", "auto", "--read", "/models/a b.gguf", "--read", "/state/adapters", "--memory", "7"];
        assert_eq!(words, wanted);
        spec.sandbox = Sandbox::Off;
        spec.memory_limit_bytes = 0;
        assert!(!spec.arguments(Path::new("/m")).contains(&"--memory".into()));
    }

    #[test]
    fn the_model_process_is_told_what_the_configuration_says_about_vectors() {
        let target = Target { path: "/m".into(), name: None, sha256: None, check_tensors: false };
        for (word, wanted) in [
            ("auto", runtime::Embeddings::Auto),
            ("mean", runtime::Embeddings::Mean),
            ("last", runtime::Embeddings::Last),
            ("off", runtime::Embeddings::Off),
        ] {
            let mut config = Config::default();
            config.model.embeddings = serde_json::from_value(word.into()).unwrap();
            assert_eq!(ModelSpec::from(&config).load_request(&target).embeddings(), wanted, "{word}");
        }
    }

    #[tokio::test]
    async fn another_file_of_the_same_name_is_another_model_unless_its_content_is_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut target =
            Target { path: file.path().to_owned(), name: None, sha256: None, check_tensors: false };
        let before = target.identity(FileMark::of(file.path()).await.unwrap());
        std::fs::write(file.path(), "more").unwrap();
        let mark = FileMark::of(file.path()).await.unwrap();
        assert_ne!(target.identity(mark), before);
        target.sha256 = Some("abc".to_owned());
        assert_eq!(target.identity(mark), "abc");
        assert!(FileMark::of(Path::new("/no/such/file")).await.is_none());
    }
}
