//! Enrols devices at a real gateway, as `synctl enroll` would, and keeps who they are in one file.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use synesis_mesh::device::enroll;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::identities;
use crate::lines::say;

/// Enrolments under way at the same time.
const AT_ONCE: usize = 32;

#[derive(Deserialize)]
pub(crate) struct Settings {
    gateway: String,
    ca: PathBuf,
    /// Each enrols `each` devices.
    tokens: Vec<String>,
    each: usize,
    count: usize,
    out: PathBuf,
}

pub(crate) async fn run(settings: Settings) {
    let ca: Arc<[u8]> = std::fs::read(&settings.ca).expect("the gateway's CA").into();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for index in 0..settings.count {
        let permit = Arc::clone(&room).acquire_owned().await.expect("never closed");
        let (gateway, ca) = (settings.gateway.clone(), Arc::clone(&ca));
        let token = settings.tokens[index / settings.each].clone();
        running.spawn(async move {
            let device = enroll(&gateway, &ca, token.trim(), "synesis-load/1").await;
            drop(permit);
            device.unwrap_or_else(|error| panic!("a device was not enrolled: {error}"))
        });
    }
    let devices = running.join_all().await;
    identities::write(&settings.out, &devices);
    say(&json!({ "enrolled": devices.len() }));
}
