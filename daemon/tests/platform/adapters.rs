//! Adapters on a running model: taking in, swapping, and what a crash of the process does to them.

use std::fs;

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use synesis_proto::runtime::v1::GenerateRequest;
use synesis_supervise::{HealthBoard, Running, Spec, State, Supervisor};
use synesisd::adapters::{Adapter, AdapterError, AdapterKeeper, AdapterSpec, AdaptersHandle};
use synesisd::model::{ModelError, ModelHandle, ModelState, RuntimeProcess};

use super::fixture::{Scene, ask, deadly_prompt, prompt, ready, until};

struct Stage {
    scene: Scene,
    model: ModelHandle,
    adapters: AdaptersHandle,
    board: HealthBoard,
    running: Running,
}

async fn stage(scene: Scene) -> Stage {
    let board = HealthBoard::new();
    let (process, model) = RuntimeProcess::new(scene.spec());
    let spec = AdapterSpec { folder: scene.path("adapters"), max_bytes: 64 };
    let (keeper, adapters) = AdapterKeeper::open(&spec, model.clone()).unwrap();
    let backoff = synesis_supervise::Backoff {
        base: std::time::Duration::from_millis(1),
        cap: std::time::Duration::from_millis(5),
    };
    let running = Supervisor::new(board.clone())
        .add(Spec::degradable("runtime").backoff(backoff), process)
        .add(Spec::degradable("adapters"), keeper)
        .start()
        .await
        .unwrap();
    Stage { scene, model, adapters, board, running }
}

impl Stage {
    async fn import(&self, name: &str, text: &str) -> Result<Adapter, AdapterError> {
        let bytes = Some(Bytes::from(text.to_owned()));
        self.adapters.import(name, stream::iter([bytes])).await
    }

    /// What a request that names `adapter` is answered with.
    async fn ask_with(&self, adapter: &str) -> String {
        let resolved = self.adapters.resolve(adapter).await.unwrap();
        let adapter_id = resolved.as_ref().map(|adapter| adapter.id.clone()).unwrap_or_default();
        ask(&self.model, GenerateRequest { adapter_id, ..prompt("hi") }).await.unwrap()
    }
}

fn answer_of(adapter: &Adapter) -> String {
    format!("{}: hi", &adapter.id[..8])
}

#[tokio::test]
async fn a_swap_takes_effect_for_new_requests_and_off_brings_the_base_back() {
    let stage = stage(Scene::new(&json!({}))).await;
    let one = stage.import("one", "adapter one").await.unwrap();
    let two = stage.import("two", "adapter two").await.unwrap();
    assert_eq!(stage.ask_with("").await, "base: hi");
    let swapped = stage.adapters.swap("one", Some(0)).await.unwrap();
    assert_eq!((swapped.generation, swapped.previous), (1, None));
    let pinned = stage.adapters.resolve("").await.unwrap().unwrap();
    let swapped = stage.adapters.swap("two", None).await.unwrap();
    assert_eq!((swapped.generation, swapped.previous.unwrap().to_string()), (2, "one".to_owned()));
    assert_eq!(stage.ask_with("").await, answer_of(&two));
    let old = GenerateRequest { adapter_id: pinned.id.clone(), ..prompt("hi") };
    assert_eq!(
        ask(&stage.model, old).await.unwrap(),
        answer_of(&one),
        "a pinned request finishes on its adapter"
    );
    assert_eq!((pinned.name.as_str(), pinned.generation), ("one", 1));
    assert_eq!(stage.ask_with("one").await, answer_of(&one), "a request may name another");
    assert_eq!(stage.ask_with("none").await, "base: hi");
    assert_eq!(stage.adapters.off(Some(2)).await.unwrap().generation, 3);
    assert_eq!(stage.ask_with("").await, "base: hi");
}

#[tokio::test]
async fn swapping_compares_the_generation_first() {
    let stage = stage(Scene::new(&json!({}))).await;
    stage.import("one", "adapter one").await.unwrap();
    stage.adapters.swap("one", Some(0)).await.unwrap();
    let late = stage.adapters.off(Some(0)).await.unwrap_err();
    assert!(matches!(late, AdapterError::GenerationChanged { expected: 0, current: 1 }), "{late}");
    assert_eq!(
        stage.adapters.swap("one", None).await.unwrap().generation,
        1,
        "already active: nothing changes"
    );
    let unknown = stage.adapters.swap("three", None).await.unwrap_err();
    assert!(matches!(unknown, AdapterError::NotFound(_)), "{unknown}");
    assert_eq!(stage.adapters.snapshot().borrow().generation, 1);
}

#[tokio::test]
async fn importing_checks_everything_and_the_same_again_is_a_success() {
    let stage = stage(Scene::new(&json!({}))).await;
    let first = stage.import("one", "adapter one").await.unwrap();
    assert_eq!(stage.import("one", "adapter one").await.unwrap(), first);
    let other = stage.import("one", "adapter two").await.unwrap_err();
    assert!(matches!(other, AdapterError::Exists(_)), "{other}");
    let misfit = stage.import("misfit", "refuse").await.unwrap_err();
    assert!(
        matches!(&misfit, AdapterError::Model(ModelError::Refused(problem)) if problem.reason == "ADAPTER_INVALID")
    );
    let large = stage.import("large", &"x".repeat(65)).await.unwrap_err();
    assert!(matches!(large, AdapterError::TooLarge { limit: 64 }), "{large}");
    let bad_name = stage.import("../one", "adapter one").await.unwrap_err();
    assert!(matches!(bad_name, AdapterError::Name(_)), "{bad_name}");
    assert_eq!(stage.adapters.snapshot().borrow().adapters, [first]);
}

#[tokio::test]
async fn the_active_adapter_cannot_be_removed_and_others_can() {
    let stage = stage(Scene::new(&json!({}))).await;
    let one = stage.import("one", "adapter one").await.unwrap();
    stage.import("copy", "adapter one").await.unwrap();
    stage.adapters.swap("one", None).await.unwrap();
    let in_use = stage.adapters.remove("one").await.unwrap_err();
    assert!(matches!(in_use, AdapterError::InUse(_)), "{in_use}");
    let file = stage.scene.path("adapters").join(format!("{}.gguf", one.id));
    stage.adapters.remove("copy").await.unwrap();
    assert!(file.exists(), "another name still means these bytes");
    stage.adapters.off(None).await.unwrap();
    stage.adapters.remove("one").await.unwrap();
    assert!(!file.exists());
    assert!(matches!(stage.adapters.resolve("one").await, Err(AdapterError::NotFound(_))));
}

#[tokio::test]
async fn the_active_adapter_is_back_after_a_crash_and_after_a_restart() {
    let before = stage(Scene::new(&deadly_prompt())).await;
    let one = before.import("one", "adapter one").await.unwrap();
    before.adapters.swap("one", None).await.unwrap();
    ask(&before.model, prompt("die")).await.unwrap_err();
    assert_eq!(before.ask_with("").await, answer_of(&one), "after a crash of the process");
    assert!(before.running.stop().await.is_clean());

    let after = stage(before.scene).await;
    ready(&after.model).await;
    let resolved = after.adapters.resolve("").await.unwrap().unwrap();
    assert_eq!((resolved.name.as_str(), resolved.generation), ("one", 1));
    assert_eq!(after.ask_with("").await, answer_of(&one), "after a restart of the daemon");
}

#[tokio::test]
async fn an_adapter_that_kills_the_process_costs_a_swap_and_nothing_else() {
    let stage = stage(Scene::new(&json!({}))).await;
    stage.import("deadly", "abort").await.unwrap();
    let error = stage.adapters.swap("deadly", None).await.unwrap_err();
    assert!(matches!(error, AdapterError::Model(ModelError::Crashed)), "{error}");
    assert_eq!(stage.ask_with("").await, "base: hi");
    assert_eq!(stage.adapters.snapshot().borrow().generation, 0);
}

#[tokio::test]
async fn an_active_adapter_that_kills_the_process_at_every_restart_is_left_out_and_the_base_answers() {
    let scene = Scene::new(&deadly_prompt());
    let trigger = scene.folder.path().join("t");
    let stage = stage(scene).await;
    let text = format!("abort-when {}", trigger.display());
    let id = stage.import("one", &text).await.unwrap().id;
    stage.adapters.swap("one", None).await.unwrap();
    fs::write(&trigger, "").unwrap();
    ask(&stage.model, prompt("die")).await.unwrap_err();
    let status = until(&stage.model, |status| {
        status.state == ModelState::Ready && status.refused_adapters.contains_key(&id)
    })
    .await;
    assert!(status.refused_adapters[&id].contains("2 times in a row"), "{status:?}");
    assert_eq!(stage.ask_with("").await, "base: hi");
    let mut board = stage.board.subscribe();
    let row = board.wait_for(|rows| rows[1].state == State::Degraded).await.unwrap()[1].clone();
    assert!(row.reason.contains("adapter one could not be brought back, the base model answers"), "{row:?}");
    assert!(row.next_step.contains("swap"), "{row:?}");
    // Asked for by name it is tried again.
    fs::remove_file(&trigger).unwrap();
    stage.adapters.swap("one", None).await.unwrap();
    board.wait_for(|rows| rows[1].state == State::Ready).await.unwrap();
}
