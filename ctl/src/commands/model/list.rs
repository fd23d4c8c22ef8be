//! `model list` and `model catalogue`: what is here, and what could be.

use serde::Serialize;
use synesis_proto::control::v1::{
    CatalogueEntry, CatalogueReply, CatalogueRequest, ListModelsReply, ListModelsRequest, ModelRecord,
};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present, table};

pub(super) async fn models(context: &Context, output: &mut Output) -> Result<(), Failure> {
    let reply = context.connect().await?.models().list(ListModelsRequest {}).await?.into_inner();
    output.print(&ListView::from(reply)).await
}

pub(super) async fn catalogue(context: &Context, output: &mut Output) -> Result<(), Failure> {
    let reply = context.connect().await?.models().catalogue(CatalogueRequest {}).await?.into_inner();
    output.print(&CatalogueView::from(reply)).await
}

/// One model file.
#[derive(Debug, Serialize)]
pub(super) struct ModelJson {
    pub(super) name: String,
    pub(super) sha256: Option<String>,
    pub(super) size_bytes: u64,
    pub(super) source: String,
    pulled_at: Option<String>,
    active: bool,
    configured: bool,
    pub(super) architecture: Option<String>,
    trained_context_tokens: Option<u32>,
}

impl From<ModelRecord> for ModelJson {
    fn from(record: ModelRecord) -> Self {
        Self {
            name: record.name,
            sha256: present(record.sha256),
            size_bytes: record.size_bytes,
            source: record.source,
            pulled_at: present(record.pulled_at),
            active: record.active,
            configured: record.configured,
            architecture: present(record.architecture),
            trained_context_tokens: Some(record.trained_context_tokens).filter(|tokens| *tokens > 0),
        }
    }
}

#[derive(Debug, Serialize)]
struct ListView {
    schema: &'static str,
    models: Vec<ModelJson>,
}

impl From<ListModelsReply> for ListView {
    fn from(reply: ListModelsReply) -> Self {
        Self { schema: "synesis.models/1", models: reply.models.into_iter().map(ModelJson::from).collect() }
    }
}

impl View for ListView {
    fn human(&self, style: Style) -> String {
        if self.models.is_empty() {
            return "no models; fetch one with `synctl model pull auto`".to_owned();
        }
        let rows: Vec<[String; 6]> = self
            .models
            .iter()
            .map(|model| {
                let configured = if model.configured { "model.path" } else { "" };
                [
                    model.name.clone(),
                    units::bytes(model.size_bytes),
                    model.architecture.clone().unwrap_or_default(),
                    model.sha256.as_deref().unwrap_or(configured).chars().take(12).collect(),
                    if model.active { "yes".to_owned() } else { String::new() },
                    model.source.clone(),
                ]
            })
            .collect();
        table(["NAME", "SIZE", "ARCHITECTURE", "SHA256", "ACTIVE", "SOURCE"], &rows, style)
    }
}

#[derive(Debug, Serialize)]
struct EntryJson {
    name: String,
    source: String,
    size_bytes: u64,
    memory_bytes: u64,
    licence: String,
    fits: bool,
    chosen: bool,
}

#[derive(Debug, Serialize)]
struct CatalogueView {
    schema: &'static str,
    memory_bytes: u64,
    chosen: Option<String>,
    entries: Vec<EntryJson>,
}

impl From<CatalogueReply> for CatalogueView {
    fn from(reply: CatalogueReply) -> Self {
        let chosen = present(reply.chosen);
        let entry = |entry: CatalogueEntry| EntryJson {
            chosen: chosen.as_ref() == Some(&entry.name),
            name: entry.name,
            source: entry.source,
            size_bytes: entry.size_bytes,
            memory_bytes: entry.memory_bytes,
            licence: entry.licence,
            fits: entry.fits,
        };
        let entries = reply.entries.into_iter().map(entry).collect();
        Self { schema: "synesis.catalogue/1", memory_bytes: reply.memory_bytes, chosen, entries }
    }
}

impl View for CatalogueView {
    fn human(&self, style: Style) -> String {
        let fits = |entry: &EntryJson| match (entry.chosen, entry.fits) {
            (true, _) => "yes, auto".to_owned(),
            (false, true) => "yes".to_owned(),
            (false, false) => "no".to_owned(),
        };
        let row = |entry: &EntryJson| {
            [
                entry.name.clone(),
                units::bytes(entry.size_bytes),
                units::bytes(entry.memory_bytes),
                fits(entry),
                entry.licence.clone(),
                entry.source.clone(),
            ]
        };
        let rows: Vec<[String; 6]> = self.entries.iter().map(row).collect();
        let list = table(["NAME", "SIZE", "MEMORY", "FITS", "LICENCE", "SOURCE"], &rows, style);
        let here = style.faint(&format!(
            "a model may use {} here; sizes are approximate",
            units::bytes(self.memory_bytes)
        ));
        format!("{list}\n{here}")
    }
}
