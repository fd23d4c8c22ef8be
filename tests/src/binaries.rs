//! Where cargo put the binaries under test.

use std::path::PathBuf;

/// The built binary of that name, beside the folder this test was started from.
///
/// # Panics
/// When it was not built: a test package does not build other packages' binaries by itself.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps/TEST");
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace --all-targets` first",
        path.display()
    );
    path
}
