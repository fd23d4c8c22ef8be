//! `model pull FILE`: the file is read twice, first for its sha256, then to send what the daemon does not have yet;
//! the daemon cannot open the user's files.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use futures_util::{Stream, stream};
use sha2::{Digest as _, Sha256};
use synesis_proto::control::v1::pull_event::Event;
use synesis_proto::control::v1::{PullEvent, UploadChunk};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::oneshot;

use super::PullArgs;
use super::progress::{WORDS, follow};
use crate::commands::progress::Shown;
use crate::connect::Context;
use crate::failure::Failure;
use crate::feed::{self, OnFailure};
use crate::input;
use crate::output::Output;

const CHUNK_BYTES: usize = 256 << 10;

pub(super) async fn run(
    path: PathBuf,
    args: PullArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let name = match args.name {
        Some(name) => name,
        None => stem(&path)?,
    };
    let mut file = input::open(&path).await?;
    output.note(&format!("reading {}", path.display()));
    let (size_bytes, sha256) = digest(&mut file, &path).await?;
    if args.sha256.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&sha256)) {
        return Err(Failure::BadInput {
            what: format!("{} has the sha256 {sha256}, which is not the one that was given", path.display()),
            next_step: "check that it is the right file, and that it is complete",
        });
    }
    let first = UploadChunk { name, size_bytes, sha256, data: Vec::new() };
    let (go_on, from) = oneshot::channel();
    let (chunks, failed) = feed::split(chunks(first, from, file, path), OnFailure::Stall);
    let mut shown = Shown::new(WORDS, output);
    let mut models = context.connect().await?.models();
    let sending = async {
        let mut events = models.upload(chunks).await?.into_inner();
        // The first event says how much of the file is there already.
        let Some(PullEvent { event: Some(Event::Started(started)) }) = output.next(&mut events).await? else {
            return Err(Failure::Protocol("an upload that does not say from where on".to_owned()));
        };
        let _ = go_on.send(started.resumed_bytes);
        shown.started(started, output).await?;
        follow(&mut events, &mut shown, output).await
    };
    tokio::select! {
        done = sending => done,
        // Dropping the call tells the daemon that the file is not complete.
        Ok(failure) = failed => Err(failure),
    }
}

fn stem(path: &Path) -> Result<String, Failure> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let dashed = |stem: &str| -> String {
        stem.to_ascii_lowercase().chars().map(|c| if plain(c) { c } else { '-' }).take(64).collect()
    };
    let name = stem.map(dashed).map(|name| name.trim_start_matches(['.', '_', '-']).to_owned());
    name.filter(|name| !name.is_empty()).ok_or_else(|| Failure::Usage {
        message: format!("{} does not make a name for the model", path.display()),
        next_step: "name it: synctl model pull FILE --name NAME",
    })
}

fn unreadable(path: &Path, source: std::io::Error) -> Failure {
    Failure::Unreadable { what: path.display().to_string(), source }
}

async fn digest(file: &mut File, path: &Path) -> Result<(u64, String), Failure> {
    let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        let read = file.read(&mut buffer).await.map_err(|source| unreadable(path, source))?;
        if read == 0 {
            return Ok((length, hex::encode(hash.finalize())));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

/// What is announced; then, once it is known from where on, the rest of the file.
fn chunks(
    first: UploadChunk,
    from: oneshot::Receiver<u64>,
    file: File,
    path: PathBuf,
) -> impl Stream<Item = Result<UploadChunk, Failure>> + Send + 'static {
    enum Next {
        Announce(UploadChunk, oneshot::Receiver<u64>),
        Seek(oneshot::Receiver<u64>),
        Read,
    }
    stream::try_unfold((Next::Announce(first, from), file, path), |(next, mut file, path)| async move {
        match next {
            Next::Announce(first, from) => return Ok(Some((first, (Next::Seek(from), file, path)))),
            Next::Seek(from) => {
                // The call has ended when nobody says it.
                let Ok(from) = from.await else { return Ok(None) };
                file.seek(SeekFrom::Start(from)).await.map_err(|source| unreadable(&path, source))?;
            }
            Next::Read => {}
        }
        let mut data = vec![0; CHUNK_BYTES];
        let read = file.read(&mut data).await.map_err(|source| unreadable(&path, source))?;
        data.truncate(read);
        let chunk = UploadChunk { data, ..UploadChunk::default() };
        Ok((read > 0).then_some((chunk, (Next::Read, file, path))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_makes_a_name_that_the_daemon_takes() {
        for (path, name) in [
            ("/x/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
            ("My Model.gguf", "my-model"),
            ("_a.gguf", "a"),
        ] {
            assert_eq!(stem(Path::new(path)).ok().as_deref(), Some(name));
        }
        for path in ["/", "---.gguf", "ß.gguf"] {
            assert!(stem(Path::new(path)).is_err(), "{path}");
        }
    }
}
