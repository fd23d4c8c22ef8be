//! `make bench-tunnel`: what the tunnel costs and holds, beside what others take for the same. The driver is here and
//! measures from outside, by process id; the load comes from processes of `synesis-load`, each of which ends with us.

mod gateway;
mod litellm;
mod load;
mod massif;
mod mosquitto;
mod rows;
mod scale;
mod turns;

use std::path::{Path, PathBuf};

use crate::bench::Report;
use crate::bench::machine::load as load_average;
use load::Load;
use scale::Scale;

pub use rows::NAMES;

/// What all rows share.
#[derive(Debug)]
struct Bench {
    /// What is kept between runs: certificates, enrolled devices, the peers' own files.
    folder: PathBuf,
    scale: Scale,
}

impl Bench {
    /// The certificates of all peers.
    fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }
}

/// Measures the rows of those names into `report`; what they need is kept below `folder`.
///
/// # Panics
/// When anything but a peer is missing.
pub async fn measure(names: &[&str], folder: &Path, report: &mut Report) {
    let bench = Bench { folder: folder.join("tunnel"), scale: Scale::of_environment() };
    std::fs::create_dir_all(&bench.folder).expect("the bench's folder");
    drop(Load::start("pki", &serde_json::json!({ "pki": bench.pki() })));
    for name in names {
        eprintln!("-- {name} (load {})", load_average());
        for row in rows::measure(&bench, name).await {
            report.add(row);
        }
    }
}
