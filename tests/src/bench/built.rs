//! Programs that cargo gives a name with a hash: bench targets.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use cargo_metadata::Message;

/// The program of this target that `cargo build --message-format json` named in `messages` when it built it; none: it
/// named none, or did not say.
///
/// # Panics
/// When the messages are no messages.
pub(crate) fn built(messages: &Path, target: &str) -> Option<PathBuf> {
    let file = File::open(messages).ok()?;
    let program = Message::parse_stream(BufReader::new(file))
        .map(|message| message.expect("cargo speaks its own format"))
        .find_map(|message| match message {
            Message::CompilerArtifact(artifact) if artifact.target.name == target => artifact.executable,
            _ => None,
        });
    program.map(|path| path.into_std_path_buf())
}
