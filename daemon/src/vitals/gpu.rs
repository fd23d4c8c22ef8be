//! GPUs through NVML, when its library and a GPU are there. Most devices have neither: no GPUs, no complaint.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

use super::Gpu;
use super::sampler::fraction;

pub(super) struct Gpus {
    nvml: Option<Nvml>,
}

impl Gpus {
    pub(super) fn open() -> Self {
        let nvml =
            Nvml::init().map_err(|error| tracing::debug!(%error, "no GPU vitals: NVML is not available"));
        Self { nvml: nvml.ok() }
    }

    /// Memory of the largest GPU, in bytes.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let nvml = self.nvml.as_ref()?;
        let devices =
            (0..nvml.device_count().unwrap_or(0)).filter_map(|index| nvml.device_by_index(index).ok());
        devices.filter_map(|device| Some(device.memory_info().ok()?.total)).max()
    }

    pub(super) fn sample(&self) -> Vec<Gpu> {
        let Some(nvml) = &self.nvml else { return Vec::new() };
        let devices =
            (0..nvml.device_count().unwrap_or(0)).filter_map(|index| nvml.device_by_index(index).ok());
        devices
            .filter_map(|device| {
                Some(Gpu {
                    name: device.name().ok()?,
                    utilization: device
                        .utilization_rates()
                        .ok()
                        .and_then(|rates| fraction(f64::from(rates.gpu), 100.0)),
                    memory: device
                        .memory_info()
                        .ok()
                        .and_then(|info| fraction(info.used as f64, info.total as f64)),
                    temperature_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
                })
            })
            .collect()
    }
}
