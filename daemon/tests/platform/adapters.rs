//! Adapters on a running model: taking in, swapping, and what a crash of the process does to them.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use synesis_proto::runtime::v1::GenerateRequest;
use synesis_supervise::{HealthBoard, Running, Spec, State, Supervisor};
use synesisd::adapters::{
    Adapter, AdapterError, AdapterKeeper, AdapterSpec, AdaptersHandle, Format, Heat, Import, Listed, Part,
    Piece,
};
use synesisd::config::WhenFull;
use synesisd::model::{ModelError, ModelHandle, ModelState, RuntimeProcess};
use tokio::time::timeout;

use super::fixture::{LIMIT, Scene, ask, deadly_prompt, prompt, ready, until};

struct Stage {
    scene: Scene,
    model: ModelHandle,
    adapters: AdaptersHandle,
    board: HealthBoard,
    running: Running,
}

async fn stage(scene: Scene) -> Stage {
    stage_with(scene, |_| {}).await
}

async fn stage_with(scene: Scene, change: impl FnOnce(&mut AdapterSpec)) -> Stage {
    let board = HealthBoard::new();
    let (process, model) = RuntimeProcess::new(scene.spec());
    let mut spec = AdapterSpec {
        folder: scene.path("adapters"),
        max_bytes: 64,
        max_total_bytes: 1024,
        when_full: WhenFull::Refuse,
        max_loaded: 8,
    };
    change(&mut spec);
    let (keeper, adapters) = AdapterKeeper::open(&spec, model.clone()).unwrap();
    let backoff =
        synesis_supervise::Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(5) };
    let running = Supervisor::new(board.clone())
        .add(Spec::degradable("runtime").backoff(backoff), process)
        .add(Spec::degradable("adapters"), keeper)
        .start()
        .await
        .unwrap();
    Stage { scene, model, adapters, board, running }
}

fn piece(part: Part, text: &str) -> Option<Piece> {
    Some(Piece { part, data: Bytes::from(text.to_owned()) })
}

fn named(name: &str) -> Import {
    Import {
        name: name.to_owned(),
        source: format!("/home/ann/{name}"),
        uid: Some(1000),
        ..Import::default()
    }
}

impl Stage {
    async fn import(&self, name: &str, text: &str) -> Result<Adapter, AdapterError> {
        self.adapters.import(named(name), stream::iter([piece(Part::Gguf, text)])).await
    }

    async fn import_peft(&self, name: &str, config: &str, weights: &str) -> Result<Adapter, AdapterError> {
        let pieces = [piece(Part::PeftConfig, config), piece(Part::PeftWeights, weights)];
        self.adapters.import(named(name), stream::iter(pieces)).await
    }

    /// What a request that names `adapter` is answered with.
    async fn ask_with(&self, adapter: &str) -> String {
        let pinned = self.adapters.pin(adapter).await.unwrap();
        let adapter_id = pinned.adapter.as_ref().map(|adapter| adapter.id.clone()).unwrap_or_default();
        ask(&self.model, GenerateRequest { adapter_id, ..prompt("hi") }).await.unwrap()
    }

    fn listed(&self, name: &str) -> Listed {
        let (listed, _) = self.adapters.list();
        listed.into_iter().find(|listed| listed.adapter.name.as_str() == name).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.adapters.list().0.into_iter().map(|listed| listed.adapter.name.to_string()).collect()
    }

    fn loaded(&self) -> Vec<String> {
        let (listed, _) = self.adapters.list();
        listed
            .into_iter()
            .filter(|listed| listed.loaded)
            .map(|listed| listed.adapter.name.to_string())
            .collect()
    }

    /// Files in the store, and those on their way into it.
    fn files(&self) -> (usize, usize) {
        let folder = self.scene.path("adapters");
        let count = |folder: &std::path::Path, extension: Option<&str>| {
            let files = fs::read_dir(folder).map_or_else(|_| Vec::new(), |files| files.flatten().collect());
            let counted = |path: &std::path::PathBuf| {
                extension.is_none_or(|wanted| path.extension().is_some_and(|found| found == wanted))
            };
            files.iter().map(fs::DirEntry::path).filter(counted).count()
        };
        (count(&folder, Some("gguf")), count(&folder.join(".staging"), None))
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
    let pinned = stage.adapters.pin("").await.unwrap().adapter.unwrap();
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
    assert!(matches!(large, AdapterError::TooLarge { limit: 64, .. }), "{large}");
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
    assert!(matches!(stage.adapters.pin("one").await, Err(AdapterError::NotFound(_))));
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
    let resolved = after.adapters.pin("").await.unwrap().adapter.unwrap();
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

#[tokio::test]
async fn a_peft_adapter_is_converted_and_its_origin_is_kept_across_a_restart() {
    let before = stage(Scene::new(&json!({}))).await;
    let adapter = before.import_peft("tone", "{}", "tone weights").await.unwrap();
    assert_eq!((adapter.origin.format, adapter.origin.imported_by), (Format::Peft, Some(1000)));
    assert_eq!(adapter.origin.source, "/home/ann/tone");
    assert_eq!(adapter.origin.weights_sha256.as_ref().map(String::len), Some(64));
    assert_eq!(before.files(), (1, 0), "one file in the store, none on the way");
    before.adapters.swap("tone", None).await.unwrap();
    assert_eq!(before.ask_with("").await, answer_of(&adapter));
    assert_eq!(before.import_peft("tone", "{}", "tone weights").await.unwrap(), adapter, "the same again");
    assert!(before.running.stop().await.is_clean());
    let used = before.adapters.list().0[0].last_used;

    let after = stage(before.scene).await;
    let listed = after.listed("tone");
    assert_eq!(listed.adapter, adapter);
    assert!(used.is_some() && listed.last_used == used, "when it was used is known after a stop");
}

#[tokio::test]
async fn a_peft_adapter_that_is_refused_leaves_nothing_behind() {
    let stage = stage(Scene::new(&json!({}))).await;
    for (config, weights) in [("refuse", "weights"), ("{}", "refuse"), ("{}", "for another")] {
        let refused = stage.import_peft("tone", config, weights).await.unwrap_err();
        let invalid = |error: &AdapterError| matches!(error, AdapterError::Model(ModelError::Refused(problem)) if problem.reason == "ADAPTER_INVALID");
        assert!(invalid(&refused), "{refused}");
    }
    let alone = [piece(Part::PeftConfig, "{}")];
    let alone = stage.adapters.import(named("tone"), stream::iter(alone)).await.unwrap_err();
    assert!(matches!(alone, AdapterError::Parts(_)), "{alone}");
    assert_eq!((stage.names(), stage.files()), (vec![], (0, 0)));
}

#[tokio::test]
async fn an_import_without_a_model_is_refused_before_anything_is_received() {
    let stage = stage(Scene::new(&json!({"load": "refuse"}))).await;
    until(&stage.model, |status| status.state == ModelState::Failed).await;
    let never = stream::pending();
    let refused = stage.adapters.import(named("tone"), never).await.unwrap_err();
    assert!(matches!(refused, AdapterError::NeedsModel { .. }), "{refused}");
    assert!(refused.to_string().contains("checked against the loaded model"), "{refused}");
    assert_eq!(stage.files(), (0, 0));
}

#[tokio::test]
async fn a_full_store_refuses_an_import_and_says_what_to_remove() {
    let stage = stage_with(Scene::new(&json!({})), |spec| spec.max_total_bytes = 24).await;
    stage.import("one", "adapter one").await.unwrap();
    stage.import("copy", "adapter one").await.expect("the same bytes take no room");
    stage.import("two", "adapter two").await.unwrap();
    let full = stage.import("three", "adapter three").await.unwrap_err();
    let AdapterError::Full(full) = full else { panic!("{full}") };
    assert_eq!((full.needed, full.used, full.limit), (13, 22, 24));
    let names: Vec<&str> = full.removable.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["copy", "one"], "both names of the file that would make room");
    assert_eq!(stage.files(), (2, 0));
}

#[tokio::test]
async fn a_full_store_that_may_evict_lets_the_least_recently_used_go() {
    let stage = stage_with(Scene::new(&json!({})), |spec| {
        spec.max_total_bytes = 36;
        spec.when_full = WhenFull::Evict;
    })
    .await;
    for name in ["one", "two", "six"] {
        stage.import(name, &format!("adapter {name}")).await.unwrap();
    }
    stage.adapters.swap("one", None).await.unwrap();
    let in_use = stage.adapters.pin("two").await.unwrap();
    stage.ask_with("six").await;
    stage.import("ten", "adapter ten").await.unwrap();
    assert_eq!(stage.names(), ["one", "ten", "two"], "one is active and two is in use");
    assert_eq!(stage.files(), (3, 0));
    assert_eq!(stage.loaded(), ["one", "two"]);
    drop(in_use);
    stage.import("new", "adapter new").await.unwrap();
    assert_eq!(stage.names(), ["new", "one", "ten"], "two was used before ten was imported");
}

#[tokio::test]
async fn memory_keeps_no_more_adapters_than_configured_and_never_lets_the_active_one_go() {
    let stage = stage_with(Scene::new(&json!({})), |spec| spec.max_loaded = 2).await;
    for name in ["one", "two", "six"] {
        stage.import(name, &format!("adapter {name}")).await.unwrap();
    }
    stage.adapters.swap("one", None).await.unwrap();
    stage.ask_with("two").await;
    assert_eq!(stage.loaded(), ["one", "two"]);
    stage.ask_with("six").await;
    // The keeper unloads after it has answered; the next thing it does comes after that.
    stage.adapters.swap("one", None).await.unwrap();
    assert_eq!(stage.loaded(), ["one", "six"]);
    stage.ask_with("two").await;
    stage.adapters.swap("one", None).await.unwrap();
    assert_eq!(stage.loaded(), ["one", "two"], "it is loaded again when it is asked for");
}

#[tokio::test]
async fn a_swap_says_whether_the_adapter_was_hot() {
    let stage = stage(Scene::new(&json!({}))).await;
    stage.import("one", "adapter one").await.unwrap();
    stage.import("two", "adapter two").await.unwrap();
    stage.adapters.asked(Some("be brief"));
    let heat = async |name| stage.adapters.swap(name, None).await.unwrap().heat;
    assert_eq!(heat("one").await, Heat::Cold);
    assert_eq!(heat("two").await, Heat::Cold);
    let both_hot = async {
        // A swap gives up the warming of the one before it, which a busy machine may not have finished.
        while (heat("one").await, heat("two").await) != (Heat::Hot, Heat::Hot) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, both_hot).await.expect("both are warmed at some time");
    stage.adapters.asked(Some("be verbose"));
    assert_eq!(heat("one").await, Heat::Cold, "prompts begin otherwise now");
}

#[tokio::test]
async fn of_two_swaps_at_one_generation_exactly_one_wins() {
    let stage = stage(Scene::new(&json!({}))).await;
    stage.import("one", "adapter one").await.unwrap();
    stage.import("two", "adapter two").await.unwrap();
    let mut generation = 0;
    for _ in 0..8 {
        let (one, two) = tokio::join!(
            stage.adapters.swap("one", Some(generation)),
            stage.adapters.swap("two", Some(generation))
        );
        let (won, lost) = match (one, two) {
            (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
            both => panic!("{both:?}"),
        };
        assert!(matches!(lost, AdapterError::GenerationChanged { .. }), "{lost}");
        let pinned = stage.adapters.pin("").await.unwrap();
        assert_eq!(pinned.adapter.map(|adapter| adapter.name), won.active.map(String::from));
        stage.adapters.off(None).await.unwrap();
        generation = stage.adapters.snapshot().borrow().generation;
    }
}

#[tokio::test]
async fn a_swap_whose_process_dies_half_way_changes_nothing_and_the_next_one_works() {
    let stage = stage(Scene::new(&json!({"warm": "abort"}))).await;
    let one = stage.import("one", "adapter one").await.unwrap();
    let error = stage.adapters.swap("one", None).await.unwrap_err();
    assert!(matches!(error, AdapterError::Model(ModelError::Crashed)), "{error}");
    let base = stage.adapters.pin("").await.unwrap();
    assert!(base.adapter.is_none() && base.generation == 0, "{base:?}");
    // The process that comes up next reads the script again.
    stage.scene.rewrite(&json!({}));
    until(&stage.model, |status| status.state != ModelState::Ready).await;
    ready(&stage.model).await;
    while let Err(error) = stage.adapters.swap("one", Some(0)).await {
        // It may have come up with the old script once more.
        assert!(matches!(error, AdapterError::Model(ModelError::Crashed)), "{error}");
    }
    assert_eq!(stage.ask_with("").await, answer_of(&one));
}

#[tokio::test]
async fn an_adapter_for_another_model_is_shown_with_the_reason_and_cannot_be_swapped_to() {
    let before = stage(Scene::new(&json!({"architecture": "llama"}))).await;
    before.import("tone", "a tone").await.unwrap();
    assert_eq!(before.listed("tone").unusable, None);
    assert!(before.running.stop().await.is_clean());
    before.scene.rewrite(&json!({"architecture": "gemma3"}));
    let after = stage(before.scene).await;
    ready(&after.model).await;
    let why = after.listed("tone").unusable.unwrap();
    assert_eq!(why, "it was made for llama models, the loaded model is gemma3");
    let refused = after.adapters.swap("tone", None).await.unwrap_err();
    assert!(refused.to_string().ends_with(&why), "{refused}");
    let named = after.adapters.pin("tone").await.unwrap_err();
    assert!(matches!(named, AdapterError::Unusable { .. }), "{named}");
    assert_eq!(after.adapters.snapshot().borrow().generation, 0);
}
