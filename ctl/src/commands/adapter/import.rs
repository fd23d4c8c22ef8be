//! `adapter import`: the files are streamed in chunks, because the daemon cannot open the user's files and a file may
//! be larger than a message.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, stream};
use synesis_proto::control::v1::{ImportChunk, ImportPart};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::interval;

use super::source::Source;
use super::view::RecordView;
use crate::connect::Context;
use crate::failure::Failure;
use crate::feed::{self, OnFailure};
use crate::input;
use crate::output::Output;
use crate::units;

const CHUNK_BYTES: u64 = 256 << 10;
/// Between two updates of the progress line.
const UPDATE: Duration = Duration::from_millis(100);

pub(super) async fn run(
    name: Option<String>,
    path: &Path,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let source = Source::at(path).await?;
    let name = name.or(source.name).ok_or_else(|| Failure::Usage {
        message: format!("{} does not make a name for the adapter", path.display()),
        next_step: "name it: synctl adapter import NAME PATH",
    })?;
    output.note(&format!("importing {} as {name}", path.display()));
    let (sent, total) = (Arc::new(AtomicU64::new(0)), size(&source.files).await);
    let files = Files {
        waiting: source.files.into(),
        open: None,
        first: Some((name.clone(), path.display().to_string())),
        sent: Arc::clone(&sent),
    };
    let (chunks, failed) = feed::split(files.chunks(), OnFailure::Stall);
    let mut adapters = context.connect().await?.adapters();
    let record = tokio::select! {
        record = adapters.import(chunks) => record.map(tonic::Response::into_inner).map_err(Failure::from),
        // Dropping the call tells the daemon that the upload is not complete.
        Ok(failure) = failed => Err(failure),
        () = show_progress(&sent, total, output) => Err(Failure::Interrupted),
    };
    output.progress("");
    output.print(&RecordView::from(record?)).await?;
    output.note(&format!(
        "answer with it from now on: synctl adapter swap {name}\nfor one prompt only: synctl ask --adapter {name} PROMPT"
    ));
    Ok(())
}

/// Bytes to send, for people to watch; 0 when they cannot be told.
async fn size(files: &[(ImportPart, PathBuf)]) -> u64 {
    let mut total = 0;
    for (_, file) in files {
        total += tokio::fs::metadata(file).await.map_or(0, |found| found.len());
    }
    total
}

/// Shows how far it is; never ends.
async fn show_progress(sent: &AtomicU64, total: u64, output: &Output) {
    let mut times = interval(UPDATE);
    loop {
        times.tick().await;
        let sent = sent.load(Ordering::Relaxed);
        let so_far = format!("sent {} of {}", units::bytes(sent), units::bytes(total));
        output.progress(&if sent < total { so_far } else { format!("{so_far}; being checked") });
    }
}

/// The files that are still to be sent.
struct Files {
    waiting: VecDeque<(ImportPart, PathBuf)>,
    open: Option<Open>,
    /// Name and source, which the first chunk carries.
    first: Option<(String, String)>,
    sent: Arc<AtomicU64>,
}

struct Open {
    part: ImportPart,
    path: PathBuf,
    file: File,
    /// Whether a chunk of it was made: an empty file makes one, too.
    begun: bool,
}

impl Files {
    fn chunks(self) -> impl Stream<Item = Result<ImportChunk, Failure>> + Send + 'static {
        stream::try_unfold(self, |mut files| async move {
            let chunk = files.next().await?;
            Ok(chunk.map(|chunk| (chunk, files)))
        })
    }

    async fn next(&mut self) -> Result<Option<ImportChunk>, Failure> {
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.waiting.pop_front() {
                    Some((part, path)) => Open { part, file: input::open(&path).await?, path, begun: false },
                    None => return Ok(None),
                },
            };
            let mut data = Vec::new();
            let read = (&mut open.file).take(CHUNK_BYTES).read_to_end(&mut data).await;
            read.map_err(|source| Failure::Unreadable { what: open.path.display().to_string(), source })?;
            if data.is_empty() && open.begun {
                continue;
            }
            self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
            let (name, source) = self.first.take().unwrap_or_default();
            let part = open.part.into();
            open.begun = true;
            self.open = Some(open);
            return Ok(Some(ImportChunk { name, data, part, source }));
        }
    }
}
