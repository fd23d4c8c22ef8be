//! Vitals.

use synesis_proto::control;

use super::rfc3339;
use crate::vitals::{Gpu, Vitals};

impl From<&Vitals> for control::v1::Vitals {
    fn from(vitals: &Vitals) -> Self {
        Self {
            cpu: vitals.cpu,
            memory: vitals.memory,
            disk: vitals.disk,
            gpus: vitals.gpus.iter().map(Into::into).collect(),
            temperature_c: vitals.temperature_c,
            load: vitals.load,
            uptime_s: vitals.uptime_s,
            sampled_at: rfc3339(vitals.sampled_at),
        }
    }
}

impl From<&Gpu> for control::v1::Gpu {
    fn from(gpu: &Gpu) -> Self {
        Self {
            name: gpu.name.clone(),
            utilization: gpu.utilization,
            memory: gpu.memory,
            temperature_c: gpu.temperature_c,
        }
    }
}
