//! Where cargo put the binaries under test.

use std::path::PathBuf;

/// The built binary of that name, from the profile's folder that this test or bench was started from.
///
/// # Panics
/// When it was not built: a test package does not build other packages' binaries by itself.
pub fn binary(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a test knows its own path");
    // A test is target/PROFILE/deps/TEST, a bench's driver target/PROFILE/DRIVER.
    let folder = program.parent().expect("a file is in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().expect("target/PROFILE") } else { folder };
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace --all-targets` first",
        path.display()
    );
    path
}
