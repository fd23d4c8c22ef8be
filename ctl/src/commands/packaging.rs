//! What packages and shells take from the command line's own definition: completions and man pages.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use crate::cli;
use crate::failure::Failure;
use crate::output::Output;

const NAME: &str = "synctl";

/// Which shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete in
    shell: Shell,
}

/// Where the pages go.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// An existing folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) async fn completions(arguments: &CompletionsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::command(), NAME, &mut script);
    output.write(&script).await
}

/// One page for each command, `synctl-billing-verify.1` and so on.
pub(crate) fn man(arguments: &ManArgs) -> Result<(), Failure> {
    clap_mangen::generate_to(cli::command(), &arguments.dir)
        .map_err(|source| Failure::Unwritable { path: arguments.dir.clone(), source })
}
