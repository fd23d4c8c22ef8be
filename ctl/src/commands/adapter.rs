//! `adapter`: LoRA adapters of the local model. A file is streamed in chunks, because the daemon cannot open the
//! user's files and the file may be larger than a message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::{Stream, stream};
use serde::Serialize;
use synesis_proto::control::v1::{
    AdapterRecord, ImportChunk, ListAdaptersReply, ListAdaptersRequest, OffRequest, RemoveAdapterRequest,
    SwapReply, SwapRequest,
};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::connect::Context;
use crate::failure::Failure;
use crate::feed::{self, OnFailure};
use crate::input;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present, table};

const CHUNK_BYTES: u64 = 256 << 10;

/// The commands below `adapter`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// Check an adapter file (GGUF) and keep it on this device
    #[command(allow_missing_positional = true)]
    Import {
        /// What to call it; the file's name without its extension unless given
        name: Option<String>,
        /// The adapter file
        file: PathBuf,
    },
    /// List the adapters on this device
    List,
    /// Answer with this adapter from now on; running answers finish on theirs
    Swap {
        /// The adapter's name
        name: String,
        #[command(flatten)]
        expect: Expect,
    },
    /// Answer with the base model from now on
    Off {
        #[command(flatten)]
        expect: Expect,
    },
    /// Remove an adapter from this device
    Rm {
        /// The adapter's name
        name: String,
    },
}

/// Compare-and-swap for scripts that share a device.
#[derive(Debug, Args)]
pub(crate) struct Expect {
    /// Refuse when the active adapter has another generation: somebody else swapped first
    #[arg(long = "expect-generation", value_name = "N")]
    generation: Option<u64>,
}

impl AdapterCommand {
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Import { .. } => super::UNLIMITED,
            Self::Swap { .. } | Self::Off { .. } => super::SLOW,
            Self::List | Self::Rm { .. } => super::QUICK,
        }
    }
}

pub(crate) async fn run(
    command: AdapterCommand,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        AdapterCommand::Import { name, file } => import(name, &file, context, output).await,
        AdapterCommand::List => {
            let reply = context.connect().await?.adapters().list(ListAdaptersRequest {}).await?;
            output.print(&ListView::from(reply.into_inner())).await
        }
        AdapterCommand::Swap { name, expect } => {
            let request = SwapRequest { name, expected_generation: expect.generation };
            let reply = context.connect().await?.adapters().swap(request).await?;
            output.print(&SwapView::from(reply.into_inner())).await
        }
        AdapterCommand::Off { expect } => {
            let request = OffRequest { expected_generation: expect.generation };
            let reply = context.connect().await?.adapters().off(request).await?;
            output.print(&SwapView::from(reply.into_inner())).await
        }
        AdapterCommand::Rm { name } => {
            let request = RemoveAdapterRequest { name: name.clone() };
            context.connect().await?.adapters().remove(request).await?;
            output.print(&RemovedView { schema: "synesis.adapter_removed/1", removed: name }).await
        }
    }
}

async fn import(
    name: Option<String>,
    path: &Path,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let name = match name {
        Some(name) => name,
        None => stem(path)?,
    };
    let file = input::open(path).await?;
    output.note(&format!("importing {} as {name}", path.display()));
    let (chunks, failed) = feed::split(chunks(name, path.display().to_string(), file), OnFailure::Stall);
    let mut adapters = context.connect().await?.adapters();
    let record = tokio::select! {
        record = adapters.import(chunks) => record?.into_inner(),
        // Dropping the call tells the daemon that the file is not complete.
        Ok(failure) = failed => return Err(failure),
    };
    output.print(&RecordView { schema: "synesis.adapter/1", adapter: record.into() }).await
}

fn stem(path: &Path) -> Result<String, Failure> {
    path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned).ok_or_else(|| Failure::Usage {
        message: format!("{} does not make a name for the adapter", path.display()),
        next_step: "name it: synctl adapter import NAME FILE",
    })
}

/// The file in chunks; the first one carries the name, even when the file is empty.
fn chunks(
    name: String,
    path: String,
    file: File,
) -> impl Stream<Item = Result<ImportChunk, Failure>> + Send + 'static {
    stream::try_unfold((file, path, Some(name)), |(mut file, path, name)| async move {
        let mut data = Vec::new();
        let read = (&mut file).take(CHUNK_BYTES).read_to_end(&mut data).await;
        read.map_err(|source| Failure::Unreadable { what: path.clone(), source })?;
        match data.is_empty() && name.is_none() {
            true => Ok(None),
            false => Ok(Some((
                ImportChunk { name: name.unwrap_or_default(), data, ..ImportChunk::default() },
                (file, path, None),
            ))),
        }
    })
}

#[derive(Debug, Serialize)]
struct AdapterJson {
    name: String,
    sha256: String,
    size_bytes: u64,
    rank: u32,
    alpha: f32,
    architecture: Option<String>,
    targets: Vec<String>,
    imported_at: Option<String>,
    active: bool,
}

impl From<AdapterRecord> for AdapterJson {
    fn from(record: AdapterRecord) -> Self {
        Self {
            name: record.name,
            sha256: record.sha256,
            size_bytes: record.size_bytes,
            rank: record.rank,
            alpha: record.alpha,
            architecture: present(record.architecture),
            targets: record.targets,
            imported_at: present(record.imported_at),
            active: record.active,
        }
    }
}

#[derive(Debug, Serialize)]
struct RecordView {
    schema: &'static str,
    #[serde(flatten)]
    adapter: AdapterJson,
}

impl View for RecordView {
    fn human(&self, style: Style) -> String {
        let adapter = &self.adapter;
        let unknown = "unknown architecture";
        format!(
            "{}  rank {}, alpha {}, {}, for {}\nsha256 {}\ntargets {}",
            style.strong(&adapter.name),
            adapter.rank,
            adapter.alpha,
            units::bytes(adapter.size_bytes),
            adapter.architecture.as_deref().unwrap_or(unknown),
            adapter.sha256,
            adapter.targets.join(", "),
        )
    }
}

#[derive(Debug, Serialize)]
struct ListView {
    schema: &'static str,
    generation: u64,
    adapters: Vec<AdapterJson>,
}

impl From<ListAdaptersReply> for ListView {
    fn from(reply: ListAdaptersReply) -> Self {
        let adapters = reply.adapters.into_iter().map(AdapterJson::from).collect();
        Self { schema: "synesis.adapters/1", generation: reply.generation, adapters }
    }
}

impl View for ListView {
    fn human(&self, style: Style) -> String {
        if self.adapters.is_empty() {
            return "no adapters; import one with `synctl adapter import FILE`".to_owned();
        }
        let rows: Vec<[String; 6]> = self
            .adapters
            .iter()
            .map(|adapter| {
                let active = if adapter.active {
                    format!("yes, generation {}", self.generation)
                } else {
                    String::new()
                };
                [
                    adapter.name.clone(),
                    adapter.rank.to_string(),
                    units::bytes(adapter.size_bytes),
                    adapter.architecture.clone().unwrap_or_default(),
                    adapter.sha256.chars().take(12).collect(),
                    active,
                ]
            })
            .collect();
        table(["NAME", "RANK", "SIZE", "FOR", "SHA256", "ACTIVE"], &rows, style)
    }
}

#[derive(Debug, Serialize)]
struct SwapView {
    schema: &'static str,
    name: Option<String>,
    generation: u64,
    previous: Option<String>,
    swap_ms: u64,
    swap_us: u64,
}

impl From<SwapReply> for SwapView {
    fn from(reply: SwapReply) -> Self {
        Self {
            schema: "synesis.swap/1",
            name: present(reply.name),
            generation: reply.generation,
            previous: present(reply.previous),
            swap_ms: units::whole_ms(reply.swap_ms),
            swap_us: units::whole_us(reply.swap_ms),
        }
    }
}

impl View for SwapView {
    fn human(&self, style: Style) -> String {
        let base = || "the base model".to_owned();
        format!(
            "{} answers from now on (generation {}, before: {}), swapped in {}",
            style.strong(&self.name.clone().unwrap_or_else(base)),
            self.generation,
            self.previous.clone().unwrap_or_else(base),
            units::duration(self.swap_us as f64 / 1_000.0),
        )
    }
}

#[derive(Debug, Serialize)]
struct RemovedView {
    schema: &'static str,
    removed: String,
}

impl View for RemovedView {
    fn human(&self, _: Style) -> String {
        format!("{} is removed", self.removed)
    }
}
