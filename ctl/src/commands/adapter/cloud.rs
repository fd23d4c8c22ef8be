//! `adapter list --cloud` and `adapter rm --cloud`: what the account has at the gateway.

use serde::Serialize;
use synesis_proto::control::v1::{CloudAdapter, ListCloudRequest, RemoveCloudRequest};

use super::view::minute;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present, printable, table};

pub(super) async fn list(context: &Context, output: &mut Output) -> Result<(), Failure> {
    let reply = context.connect().await?.adapters().list_cloud(ListCloudRequest {}).await?.into_inner();
    let adapters = reply.adapters.into_iter().map(CloudJson::from).collect();
    output.print(&CloudView { schema: "synesis.cloud_adapters/1", adapters }).await
}

pub(super) async fn remove(wanted: String, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let request = RemoveCloudRequest { wanted };
    let reply = context.connect().await?.adapters().remove_cloud(request).await?.into_inner();
    let removed = reply.removed.into_iter().map(CloudJson::from).collect();
    output.print(&RemovedView { schema: "synesis.cloud_adapters_removed/1", removed }).await
}

#[derive(Debug, Serialize)]
struct CloudJson {
    name: String,
    sha256: String,
    size_bytes: u64,
    architecture: Option<String>,
    rank: u32,
    alpha: f32,
    base_model: Option<String>,
    pushed_by: String,
    pushed_at: String,
    here: bool,
}

impl From<CloudAdapter> for CloudJson {
    fn from(adapter: CloudAdapter) -> Self {
        Self {
            name: adapter.name,
            sha256: adapter.sha256,
            size_bytes: adapter.size_bytes,
            architecture: present(adapter.architecture),
            rank: adapter.rank,
            alpha: adapter.alpha,
            base_model: present(adapter.base_model),
            pushed_by: adapter.pushed_by,
            pushed_at: adapter.pushed_at,
            here: adapter.here,
        }
    }
}

#[derive(Debug, Serialize)]
struct CloudView {
    schema: &'static str,
    adapters: Vec<CloudJson>,
}

impl View for CloudView {
    fn human(&self, style: Style) -> String {
        if self.adapters.is_empty() {
            return "no adapters at the gateway; bring one there with `synctl adapter push NAME`".to_owned();
        }
        let rows: Vec<[String; 8]> = self.adapters.iter().map(row).collect();
        table(["NAME", "HERE", "RANK", "SIZE", "FOR", "PUSHED", "BY DEVICE", "SHA256"], &rows, style)
    }
}

fn row(adapter: &CloudJson) -> [String; 8] {
    [
        printable(&adapter.name).into_owned(),
        if adapter.here { "yes" } else { "no" }.to_owned(),
        adapter.rank.to_string(),
        units::bytes(adapter.size_bytes),
        adapter.architecture.as_deref().map(|text| printable(text).into_owned()).unwrap_or_default(),
        minute(&adapter.pushed_at),
        printable(&adapter.pushed_by).into_owned(),
        adapter.sha256.chars().take(12).collect(),
    ]
}

#[derive(Debug, Serialize)]
struct RemovedView {
    schema: &'static str,
    removed: Vec<CloudJson>,
}

impl View for RemovedView {
    fn human(&self, _: Style) -> String {
        let lines = self.removed.iter().map(|adapter| {
            let digest: String = adapter.sha256.chars().take(12).collect();
            format!("{} ({digest}) is removed from the gateway", printable(&adapter.name))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
