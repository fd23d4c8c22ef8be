//! `model`: the model that answers on this device, and the files it can be one of.

mod info;
mod list;
mod load;
mod progress;
mod pull;
mod upload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;

/// The commands below `model`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Show the model that answers: its size, its state, how busy it is
    Info,
    /// List the model files on this device
    List,
    /// List well-known models, and which of them fit this machine
    Catalogue,
    /// Fetch a model and keep it on this device; a pull that was cut off goes on where it stopped
    Pull(PullArgs),
    /// Answer with another model from now on; answers in flight finish on theirs
    Load {
        /// The model's name, as `model list` shows it; none: back to model.path of the configuration
        name: Option<String>,
    },
    /// Remove a model from this device
    Rm {
        /// The model's name
        name: String,
    },
}

/// What to fetch.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// hf:ORG/REPO[:QUANT][@REV], an https address, a file, a name of `model catalogue`, or `auto` for the largest of
    /// those that fits this machine
    source: String,
    /// What to call it; made from the source unless given
    #[arg(long)]
    name: Option<String>,
    /// What the file's sha256 has to be; what the source states unless given
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

impl ModelCommand {
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Pull(_) | Self::Load { .. } => super::UNLIMITED,
            Self::Info | Self::List | Self::Catalogue => super::QUICK,
            Self::Rm { .. } => super::SLOW,
        }
    }
}

pub(crate) async fn run(
    command: ModelCommand,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        ModelCommand::Info => info::run(context, output).await,
        ModelCommand::List => list::models(context, output).await,
        ModelCommand::Catalogue => list::catalogue(context, output).await,
        ModelCommand::Pull(args) => match file(&args.source) {
            Some(path) => upload::run(path, args, context, output).await,
            None => pull::run(args, context, output).await,
        },
        ModelCommand::Load { name } => load::load(name, context, output).await,
        ModelCommand::Rm { name } => load::remove(name, context, output).await,
    }
}

/// The file that a source is: what exists, and what is written like a path.
fn file(source: &str) -> Option<PathBuf> {
    if source.starts_with("hf:") || source.contains("://") {
        return None;
    }
    let path = Path::new(source);
    (source.contains('/') || source.ends_with(".gguf") || path.is_file()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file_and_everything_else_is_the_daemons_to_understand() {
        for path in ["./model", "/m/x.gguf", "x.gguf", "dir/x"] {
            assert_eq!(file(path), Some(PathBuf::from(path)), "{path}");
        }
        for source in ["hf:a/b:Q4_K_M", "https://example.com/x.gguf", "auto", "smollm2-135m"] {
            assert_eq!(file(source), None, "{source}");
        }
    }
}
