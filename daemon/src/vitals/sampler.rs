//! Reads the machine's counters. Everything here may block for a moment and runs on a blocking thread.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sysinfo::{Components, System};

use super::Vitals;
use super::gpu::Gpus;

/// Keeps what has to be kept between two samples.
pub(super) struct Sampler {
    /// CPU use is a difference: the first refresh only sets the starting point.
    system: Option<System>,
    cpu_is_known: bool,
    components: Option<Components>,
    gpus: Gpus,
    state_dir: PathBuf,
}

impl Sampler {
    pub(super) fn new(state_dir: PathBuf) -> Self {
        let absent = |what: &'static str| move |error| tracing::debug!(%error, "{what} cannot be read");
        Self {
            system: System::new().map_err(absent("system counters")).ok(),
            cpu_is_known: false,
            components: Components::new_with_refreshed_list().map_err(absent("temperature sensors")).ok(),
            gpus: Gpus::open(),
            state_dir,
        }
    }

    pub(super) fn sample(&mut self) -> Vitals {
        Vitals {
            cpu: self.cpu(),
            memory: self.memory(),
            disk: disk(&self.state_dir),
            temperature_c: self.temperature(),
            load: System::load_average().ok().map(|load| load.one).filter(|load| load.is_finite()),
            uptime_s: System::uptime().ok().filter(|seconds| *seconds > 0),
            gpus: self.gpus.sample(),
            sampled_at: SystemTime::now(),
        }
    }

    fn cpu(&mut self) -> Option<f64> {
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        let known = std::mem::replace(&mut self.cpu_is_known, true);
        let percent = f64::from(system.global_cpu_usage());
        (known && !system.cpus().is_empty()).then(|| fraction(percent, 100.0)).flatten()
    }

    fn memory(&mut self) -> Option<f64> {
        let system = self.system.as_mut()?;
        system.refresh_memory();
        let (total, available) = (system.total_memory(), system.available_memory());
        (available > 0).then(|| fraction(total.saturating_sub(available) as f64, total as f64)).flatten()
    }

    fn temperature(&mut self) -> Option<f64> {
        let components = self.components.as_mut()?;
        components.refresh(true);
        let known = components.iter().filter_map(|component| component.temperature());
        known.filter(|celsius| celsius.is_finite() && *celsius > -40.0).map(f64::from).max_by(f64::total_cmp)
    }
}

/// As `df` counts: blocks reserved for root are neither used nor free.
fn disk(folder: &Path) -> Option<f64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    let used = found.blocks().saturating_sub(found.blocks_free());
    fraction(used as f64, (used + found.blocks_available()) as f64)
}

/// `part / whole` within 0 to 1; absent when it makes no sense.
pub(super) fn fraction(part: f64, whole: f64) -> Option<f64> {
    let value = part / whole;
    (whole > 0.0 && value.is_finite()).then(|| value.clamp(0.0, 1.0))
}
