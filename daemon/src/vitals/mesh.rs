//! A sample as the tunnel carries it.

use synesis_proto::mesh;

use super::{Gpu, Vitals};

impl From<&Vitals> for mesh::v1::Vitals {
    fn from(vitals: &Vitals) -> Self {
        Self {
            cpu: vitals.cpu,
            memory: vitals.memory,
            disk: vitals.disk,
            temperature_c: vitals.temperature_c,
            load: vitals.load,
            uptime_s: vitals.uptime_s,
            gpus: vitals.gpus.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Gpu> for mesh::v1::Gpu {
    fn from(gpu: &Gpu) -> Self {
        Self {
            name: gpu.name.clone(),
            utilization: gpu.utilization,
            memory: gpu.memory,
            temperature_c: gpu.temperature_c,
        }
    }
}
