//! `vitals`: measurements of the device. What could not be read is absent, never zero.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use synesis_proto::control::v1::{Vitals, VitalsRequest};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units::{percent, uptime};
use crate::view::{Style, View, present};

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct VitalsArgs {
    /// Keep showing every new sample
    #[arg(long)]
    watch: bool,
}

impl VitalsArgs {
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.watch { super::UNLIMITED } else { super::QUICK }
    }
}

pub(crate) async fn run(
    arguments: VitalsArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let watch = arguments.watch;
    let request = VitalsRequest { watch };
    let mut samples = context.connect().await?.node().vitals(request).await?.into_inner();
    while let Some(sample) = output.next(&mut samples).await? {
        let view = VitalsView::from(sample);
        if !watch {
            return output.print(&view).await;
        }
        output.refresh(&view).await?;
    }
    match watch {
        true => Err(super::watch_ended()),
        false => Err(Failure::Protocol("no sample came".to_owned())),
    }
}

#[derive(Debug, Serialize)]
struct VitalsView {
    schema: &'static str,
    cpu: Option<f64>,
    memory: Option<f64>,
    disk: Option<f64>,
    gpus: Vec<GpuJson>,
    temperature_c: Option<f64>,
    load: Option<f64>,
    uptime_s: Option<u64>,
    sampled_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct GpuJson {
    name: String,
    utilization: Option<f64>,
    memory: Option<f64>,
    temperature_c: Option<f64>,
}

impl From<Vitals> for VitalsView {
    fn from(vitals: Vitals) -> Self {
        let gpus = vitals.gpus.into_iter().map(|gpu| GpuJson {
            name: gpu.name,
            utilization: gpu.utilization,
            memory: gpu.memory,
            temperature_c: gpu.temperature_c,
        });
        Self {
            schema: "synesis.vitals/1",
            cpu: vitals.cpu,
            memory: vitals.memory,
            disk: vitals.disk,
            gpus: gpus.collect(),
            temperature_c: vitals.temperature_c,
            load: vitals.load,
            uptime_s: vitals.uptime_s,
            sampled_at: present(vitals.sampled_at),
        }
    }
}

impl View for VitalsView {
    fn human(&self, style: Style) -> String {
        let celsius = |degrees: f64| format!("{degrees:.0} °C");
        let mut rows = vec![
            ("cpu", self.cpu.map(percent)),
            ("memory", self.memory.map(percent)),
            ("disk", self.disk.map(percent)),
            ("temperature", self.temperature_c.map(celsius)),
            ("load", self.load.map(|load| format!("{load:.2}"))),
            ("up", self.uptime_s.map(uptime)),
            ("sampled", self.sampled_at.clone()),
        ];
        rows.extend(self.gpus.iter().map(|gpu| {
            let parts = [
                gpu.utilization.map(percent),
                gpu.memory.map(|m| percent(m) + " memory"),
                gpu.temperature_c.map(celsius),
            ];
            let known: Vec<String> = [Some(gpu.name.clone())].into_iter().chain(parts).flatten().collect();
            ("gpu", Some(known.join(", ")))
        }));
        let lines = rows.into_iter().map(|(name, value)| {
            let value = value.unwrap_or_else(|| style.faint("cannot be read here"));
            format!("{name:<12} {value}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
