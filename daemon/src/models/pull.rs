//! From a source to a model that is listed: find out what is meant, fetch it, hand it over to be checked.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::digest::is_sha256;
use super::download::{Watcher, download};
use super::hub::{self, Repository};
use super::intake::Arrived;
use super::part::Part;
use super::remote::{Remote, RemoteError, host_of, refusal};
use super::room::Room;
use super::source::{HubSource, Source};
use super::token::Token;
use super::{CATALOGUE, Model, ModelName, ModelsError, ModelsHandle};

/// Between two pieces of progress.
const EVERY: Duration = Duration::from_millis(250);
/// A list of a repository's files; the largest have a few thousand.
const LONGEST_LISTING: usize = 8 << 20;
const LISTING: Duration = Duration::from_secs(60);

/// What is to be pulled.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// As users write it; see [`Source`].
    pub source: String,
    /// What to call it; empty: made from the source.
    pub name: String,
    /// What the file's sha256 has to be, hex; empty: what the source states.
    pub sha256: String,
}

/// What an upload announces.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// What to call it.
    pub name: String,
    /// Of the file, in bytes.
    pub size_bytes: u64,
    /// Of the file, hex.
    pub sha256: String,
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullProgress {
    /// It is known what will come.
    Started {
        /// Resolved: with file and commit.
        source: String,
        /// Of the file, in bytes, when it is known.
        total: Option<u64>,
        /// Bytes that are here already.
        resumed: u64,
    },
    /// Bytes came, or are being checked.
    Progress {
        /// Bytes here.
        received: u64,
        /// Of the file, when it is known.
        total: Option<u64>,
        /// What is being done.
        phase: Phase,
    },
    /// It is here, and listed.
    Done(Box<Model>),
}

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes are coming.
    Receiving,
    /// They are all here and are looked at.
    Verifying,
}

pub(super) type Progress = mpsc::Sender<Result<PullProgress, ModelsError>>;

/// A file somewhere else, as far as it is known before the first byte.
struct Located {
    url: Url,
    /// In words, for lists and logs: without what may be a secret.
    source: String,
    /// For a name, when none is given.
    file: String,
    size: Option<u64>,
    sha256: Option<String>,
}

impl ModelsHandle {
    /// The whole of a pull.
    pub(super) async fn pull_all(
        &self,
        request: PullRequest,
        progress: &Progress,
    ) -> Result<Model, ModelsError> {
        let wanted = digest(&request.sha256)?;
        let name = Some(request.name).filter(|name| !name.is_empty()).map(ModelName::try_from).transpose()?;
        let source = Source::parse(&request.source)?;
        let _turn = self.shared.turn.try_acquire().map_err(|_| ModelsError::Busy)?;
        let (located, remote, entry) = self.locate(source).await?;
        let name = match (name, entry) {
            (Some(name), _) => name,
            (None, Some(entry)) => ModelName::try_from(entry.to_owned())?,
            (None, None) => ModelName::of_file(&located.file)?,
        };
        if let (Some(expected), Some(announced)) = (&wanted, &located.sha256)
            && expected != announced
        {
            let (expected, announced) = (expected.clone(), announced.clone());
            return Err(ModelsError::OtherDigest { expected, announced });
        }
        let expected = wanted.or(located.sha256.clone());
        if let Some(known) = self.known(&name, expected.as_deref(), &located.source).await? {
            let (total, resumed) = (Some(known.size_bytes), known.size_bytes);
            let _ = progress.send(Ok(PullProgress::Started { source: located.source, total, resumed })).await;
            return Ok(known);
        }
        let spec = &self.shared.spec;
        let mut part = Part::open(&spec.folder, located.url.as_str(), &located.source)
            .await
            .map_err(ModelsError::Store)?;
        let mut reporter = self.reporter(progress, located.source.clone());
        reporter.check(located.size, part.length())?;
        let told = download(&remote, &located.url, &mut part, expected.is_some(), &mut reporter).await?;
        let arrived = Arrived { part, name, expected: expected.or(told.sha256), source: located.source };
        self.take_in(arrived, progress).await
    }

    /// The whole of an upload. `None` in `chunks` is a client that broke off.
    pub(super) async fn upload_all(
        &self,
        upload: Upload,
        mut chunks: Pin<Box<dyn Stream<Item = Option<Bytes>> + Send>>,
        progress: &Progress,
    ) -> Result<Model, ModelsError> {
        let name = ModelName::try_from(upload.name)?;
        let sha256 = digest(&upload.sha256)?.ok_or(ModelsError::NotADigest)?;
        if upload.size_bytes == 0 {
            return Err(ModelsError::Empty);
        }
        let source = "a file of the caller".to_owned();
        let _turn = self.shared.turn.try_acquire().map_err(|_| ModelsError::Busy)?;
        if let Some(known) = self.known(&name, Some(&sha256), &source).await? {
            let (total, resumed) = (Some(known.size_bytes), known.size_bytes);
            let _ = progress.send(Ok(PullProgress::Started { source, total, resumed })).await;
            return Ok(known);
        }
        let spec = &self.shared.spec;
        let mut part = Part::open(&spec.folder, &format!("upload:{sha256}"), &source)
            .await
            .map_err(ModelsError::Store)?;
        if part.length() > upload.size_bytes {
            part.restart().await.map_err(ModelsError::Store)?;
        }
        let mut reporter = self.reporter(progress, source.clone());
        reporter.check(Some(upload.size_bytes), part.length())?;
        part.note(None, Some(upload.size_bytes)).await.map_err(ModelsError::Store)?;
        // The caller goes on from here.
        reporter.begins(Some(upload.size_bytes), part.length())?;
        while part.length() < upload.size_bytes {
            let Some(Some(chunk)) = chunks.next().await else { break };
            if part.length().saturating_add(chunk.len() as u64) > upload.size_bytes {
                let (received, announced) =
                    (part.length().saturating_add(chunk.len() as u64), upload.size_bytes);
                part.delete().await;
                return Err(ModelsError::Incomplete { received, announced });
            }
            part.append(&chunk).await.map_err(ModelsError::Store)?;
            reporter.received(part.length())?;
        }
        part.flush().await.map_err(ModelsError::Store)?;
        if part.length() < upload.size_bytes {
            return Err(ModelsError::Incomplete { received: part.length(), announced: upload.size_bytes });
        }
        self.take_in(Arrived { part, name, expected: Some(sha256), source }, progress).await
    }

    /// What a source means, and the name of the catalogue's entry it came from.
    async fn locate(&self, source: Source) -> Result<(Located, Remote, Option<&'static str>), ModelsError> {
        let (source, entry) = match source {
            Source::Catalogue(name) => {
                let found = CATALOGUE.iter().find(|entry| entry.name == name);
                let entry = found.ok_or(ModelsError::NotInCatalogue(name))?;
                (Source::parse(entry.source)?, Some(entry.name))
            }
            Source::Auto => {
                let offer = self.offer();
                let memory_bytes = offer.memory_bytes;
                let entry = offer.choose().ok_or(ModelsError::NothingFits { memory_bytes })?;
                (Source::parse(entry.source)?, Some(entry.name))
            }
            source => (source, None),
        };
        let (located, remote) = match source {
            Source::Hub(source) => self.locate_in_hub(&source).await?,
            Source::Url(url) => self.locate_url(url).await?,
            // The catalogue's own sources are repositories, which its test holds.
            Source::Catalogue(name) => return Err(ModelsError::NotInCatalogue(name)),
            Source::Auto => return Err(ModelsError::NotInCatalogue("auto".to_owned())),
        };
        Ok((located, remote, entry))
    }

    async fn locate_in_hub(&self, source: &HubSource) -> Result<(Located, Remote), ModelsError> {
        let nonsense =
            || RemoteError::Nonsense { host: self.shared.spec.hub.clone(), what: "is no address of a hub" };
        let hub = Url::parse(&self.shared.spec.hub).map_err(|_| nonsense())?;
        let remote = Remote::new(&hub, Some(hub.clone()), self.token().await?)?;
        let listing = hub::listing(&hub, source).ok_or_else(nonsense)?;
        let repository = list(&remote, &listing).await?;
        let file = repository.choose(source.quant.as_deref())?;
        let url = hub::bytes(&hub, source, &file).ok_or_else(nonsense)?;
        let words = format!("{source}/{}@{}", file.name, file.commit);
        let name = file.name.rsplit('/').next().unwrap_or_default().to_owned();
        let sha256 = file.sha256.filter(|sha256| is_sha256(sha256));
        Ok((Located { url, source: words, file: name, size: file.size, sha256 }, remote))
    }

    async fn locate_url(&self, url: Url) -> Result<(Located, Remote), ModelsError> {
        // The hub's own addresses may need its token, too.
        let hub = Url::parse(&self.shared.spec.hub).ok().filter(|hub| hub.origin() == url.origin());
        let token = if hub.is_some() { self.token().await? } else { None };
        let remote = Remote::new(&url, hub, token)?;
        let mut shown = url.clone();
        // A signed address is a secret while it is valid.
        shown.set_query(None);
        shown.set_fragment(None);
        let file =
            shown.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        Ok((Located { url, source: shown.to_string(), file, size: None, sha256: None }, remote))
    }

    async fn token(&self) -> Result<Option<Token>, ModelsError> {
        match &self.shared.spec.token_file {
            Some(file) => Token::read(file).await.map(Some).map_err(ModelsError::Token),
            None => Ok(None),
        }
    }

    fn reporter<'a>(&'a self, progress: &'a Progress, source: String) -> Reporter<'a> {
        let snapshot = self.shared.snapshot.borrow().clone();
        let room = Room { used: snapshot.bytes(), limit: self.shared.spec.max_bytes };
        Reporter { handle: self, progress, source, room, total: None, last: None, checked: 0 }
    }
}

/// Tells the caller, and keeps an eye on the disk.
struct Reporter<'a> {
    handle: &'a ModelsHandle,
    progress: &'a Progress,
    source: String,
    room: Room,
    total: Option<u64>,
    last: Option<Instant>,
    /// Bytes up to which there was room when it was last looked at; only when the size is not known.
    checked: u64,
}

impl Reporter<'_> {
    fn check(&self, size: Option<u64>, here: u64) -> Result<(), ModelsError> {
        let folder = &self.handle.shared.spec.folder;
        let room = self.room.check(folder, size.unwrap_or(here), here).map_err(ModelsError::Store)?;
        Ok(room?)
    }
}

impl Watcher for Reporter<'_> {
    fn begins(&mut self, total: Option<u64>, here: u64) -> Result<(), ModelsError> {
        self.check(total, here)?;
        self.total = total;
        self.checked = here;
        if self.last.is_none() {
            let started = PullProgress::Started { source: self.source.clone(), total, resumed: here };
            // The channel has room for many, and this is the first.
            let _ = self.progress.try_send(Ok(started));
        }
        self.last = Some(Instant::now());
        Ok(())
    }

    fn received(&mut self, here: u64) -> Result<(), ModelsError> {
        const STEP: u64 = 64 << 20;
        if self.total.is_none() && here >= self.checked.saturating_add(STEP) {
            self.check(None, here)?;
            self.checked = here;
        }
        let due = self.last.is_none_or(|last| last.elapsed() >= EVERY);
        if due || self.total == Some(here) {
            self.last = Some(Instant::now());
            let (total, phase) = (self.total, Phase::Receiving);
            // A slow reader misses one.
            let _ = self.progress.try_send(Ok(PullProgress::Progress { received: here, total, phase }));
        }
        Ok(())
    }
}

async fn list(remote: &Remote, url: &Url) -> Result<Repository, ModelsError> {
    let answer = remote.fetch(url, &HeaderMap::new()).await?;
    let (status, host) = (answer.response.status(), host_of(url));
    if !status.is_success() {
        return Err(refusal(host, status, answer.response.headers()).into());
    }
    let mut body = answer.response.bytes_stream();
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > LONGEST_LISTING {
                break;
            }
        }
        Ok(bytes)
    };
    let bytes = match timeout(LISTING, reading).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            let source: reqwest::Error = error;
            return Err(RemoteError::Broken { host, source: source.without_url() }.into());
        }
        Err(_) => return Err(RemoteError::Stalled { host, after: LISTING }.into()),
    };
    let nonsense = |error: serde_json::Error| {
        tracing::debug!(%error, "a repository's list is not understood");
        RemoteError::Nonsense { host, what: "did not answer like a hub" }
    };
    Ok(serde_json::from_slice(&bytes).map_err(nonsense)?)
}

fn digest(text: &str) -> Result<Option<String>, ModelsError> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Ok(None);
    }
    if is_sha256(&text) { Ok(Some(text)) } else { Err(ModelsError::NotADigest) }
}
