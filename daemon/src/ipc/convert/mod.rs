//! Between the daemon's own types and control.v1, one file per topic. Nothing generated goes beyond this folder and
//! the services.

mod adapters;
mod ask;
mod models;
mod node;
mod privacy;
mod vitals;

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) use adapters::{cloud_adapter, list_reply, piece, record, swap_reply, transfer, transfer_event};
pub(super) use ask::{ask, ask_event, replayed, route_reply};
pub(super) use models::{catalogue_reply, list_models_reply, load_model_reply, pull_event};
pub(super) use privacy::preview;

/// An instant as the local API writes it: RFC 3339 in UTC.
pub(super) fn rfc3339(instant: SystemTime) -> String {
    OffsetDateTime::from(instant).format(&Rfc3339).unwrap_or_default()
}
