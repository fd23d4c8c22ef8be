//! The model process: what its users see when it dies, hangs, refuses, or was never there.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use synesis_proto::runtime::v1::{CountTokensRequest, EmbedRequest, count_tokens_request};
use synesis_supervise::State;
use synesisd::model::{ModelError, ModelState, Target};
use tokio::time::timeout;

use super::fixture::{LIMIT, Scene, ask, deadly_prompt, prompt, read, ready, until};

#[tokio::test]
async fn an_answer_is_streamed_and_tokens_are_counted() {
    let scene = Scene::new(&json!({}));
    let (model, board, running) = scene.supervised(scene.spec()).await;
    let status = ready(&model).await;
    assert_eq!(status.name, "scripted");
    assert_eq!(status.info.as_ref().map(|info| info.layers), Some(1));
    assert_eq!(ask(&model, prompt("hello there")).await.unwrap(), "base: hello there");
    let input = Some(count_tokens_request::Input::Raw("one two three".to_owned()));
    assert_eq!(model.count_tokens(CountTokensRequest { input }).await.unwrap().tokens, 3);
    assert!(model.health().await.unwrap().model_loaded);
    assert_eq!(board.snapshot()[0].state, State::Ready);
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_refusal_of_the_process_reaches_the_caller_with_its_reason() {
    let scene = Scene::new(&json!({}));
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    match ask(&model, prompt("  ")).await {
        Err(ModelError::Refused(problem)) => assert_eq!(problem.reason, "EMPTY_PROMPT"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_crash_costs_the_running_answer_and_the_next_one_works() {
    let scene = Scene::new(&deadly_prompt());
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    ready(&model).await;
    let mut status = model.status();
    status.mark_unchanged();
    let (text, ended) = read(model.generate(prompt("die")).await.unwrap()).await;
    assert_eq!(text, "almost", "what was produced before the crash is delivered");
    assert!(matches!(ended, Err(ModelError::Crashed)), "{ended:?}");
    // Without waiting: the call waits for the restart by itself.
    assert_eq!(ask(&model, prompt("still there?")).await.unwrap(), "base: still there?");
}

#[tokio::test]
async fn the_status_tells_of_a_crash_while_the_process_is_away() {
    let scene = Scene::new(&deadly_prompt());
    let (model, board, _running) = scene.supervised(scene.spec()).await;
    ready(&model).await;
    // What comes next cannot be loaded until the script is whole again.
    scene.rewrite(&json!({"load": "hang"}));
    let (_, ended) = read(model.generate(prompt("die")).await.unwrap()).await;
    assert!(matches!(ended, Err(ModelError::Crashed)), "{ended:?}");
    let status = until(&model, |status| status.state == ModelState::Loading).await;
    assert!(status.reason.contains("killed by signal 6"), "{status:?}");
    assert!(!status.next_step.is_empty());
    assert_ne!(board.snapshot()[0].state, State::Ready);
}

#[tokio::test]
async fn a_killed_process_ends_a_waiting_answer_at_once() {
    let scene = Scene::new(&json!({}));
    let fifo = scene.fifo();
    scene.rewrite(
        &json!({"answers": [{"match": "wait", "say": ["one", "two"], "wait_after": 1, "wait_on": fifo}]}),
    );
    let (model, _board, running) = scene.supervised(scene.spec()).await;
    ready(&model).await;
    let mut answer = model.generate(prompt("wait")).await.unwrap();
    let mut seen = 0;
    while seen < 2 {
        timeout(LIMIT, answer.next()).await.unwrap().unwrap().unwrap();
        seen += 1;
    }
    let stopped = running.stop();
    let ((_, ended), report) = tokio::join!(read(answer), stopped);
    assert!(matches!(ended, Err(ModelError::Crashed)), "{ended:?}");
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn an_answer_that_waits_goes_on_when_it_is_told_to() {
    let scene = Scene::new(&json!({}));
    let fifo = scene.fifo();
    scene.rewrite(
        &json!({"answers": [{"match": "wait", "say": ["one", "two"], "wait_after": 1, "wait_on": fifo}]}),
    );
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    let answer = model.generate(prompt("wait")).await.unwrap();
    let go = tokio::task::spawn_blocking(move || fs::write(fifo, "go"));
    let ((text, ended), went) = tokio::join!(read(answer), go);
    went.unwrap().unwrap();
    ended.unwrap();
    assert_eq!(text, "onetwo");
}

#[tokio::test]
async fn a_model_that_kills_the_process_twice_is_left_alone() {
    let scene = Scene::new(&json!({"load": "abort"}));
    let (model, board, _running) = scene.supervised(scene.spec()).await;
    let status = until(&model, |status| status.state == ModelState::Failed).await;
    assert!(status.reason.contains("model.json ended the model process 2 times in a row"), "{status:?}");
    assert!(status.next_step.contains("model.path"), "{status:?}");
    let row = board.snapshot().remove(0);
    assert_eq!((row.state, row.reason), (State::Degraded, status.reason.clone()));
    match ask(&model, prompt("hello")).await {
        Err(ModelError::Failed { reason, .. }) => assert_eq!(reason, status.reason),
        other => panic!("{other:?}"),
    }
    // The same file is left alone until somebody asks for it by name.
    let target = scene.spec().configured().unwrap();
    let error = model.load(target.clone()).await.unwrap_err().to_string();
    assert!(error.contains("ended while loading"), "it is tried: {error}");
    scene.rewrite(&json!({}));
    model.load(target).await.unwrap();
    assert_eq!(ask(&model, prompt("hello")).await.unwrap(), "base: hello");
}

#[tokio::test]
async fn a_hung_process_is_replaced() {
    let scene = Scene::new(&json!({"health": "hang"}));
    let mut spec = scene.spec();
    spec.probe_every = Duration::from_millis(30);
    let (model, _board, _running) = scene.supervised(spec).await;
    ready(&model).await;
    let mut status = model.status();
    status.mark_unchanged();
    scene.rewrite(&json!({}));
    let replaced = status.wait_for(|status| status.state == ModelState::Loading);
    let reason = timeout(LIMIT, replaced).await.unwrap().unwrap().reason.clone();
    assert!(reason.contains("stopped answering"), "{reason}");
    assert_eq!(ask(&model, prompt("hello")).await.unwrap(), "base: hello");
}

#[tokio::test]
async fn a_file_that_is_no_model_is_a_failure_with_the_reason_and_not_a_crash() {
    for (text, part) in [("garbage", "no script"), ("{\"load\": \"refuse\"}", "refuses")] {
        let scene = Scene::new(&json!({}));
        fs::write(scene.path("model.json"), text).unwrap();
        let (model, board, running) = scene.supervised(scene.spec()).await;
        let status = until(&model, |status| status.state == ModelState::Failed).await;
        assert!(status.reason.contains(part) && !status.next_step.is_empty(), "{status:?}");
        assert_eq!(board.snapshot()[0].state, State::Degraded);
        assert!(running.stop().await.is_clean());
    }
}

#[tokio::test]
async fn a_missing_file_is_waited_for() {
    let scene = Scene::new(&json!({}));
    fs::rename(scene.path("model.json"), scene.path("elsewhere")).unwrap();
    let (model, board, _running) = scene.supervised(scene.spec()).await;
    let status = until(&model, |status| status.state == ModelState::Failed).await;
    assert!(status.reason.contains("model.json is not there"), "{status:?}");
    assert_eq!(board.snapshot()[0].reason, status.reason);
    fs::rename(scene.path("elsewhere"), scene.path("model.json")).unwrap();
    ready(&model).await;
    assert_eq!(board.snapshot()[0].state, State::Ready);
}

#[tokio::test]
async fn without_a_model_the_status_says_what_to_do() {
    let scene = Scene::new(&json!({}));
    let mut spec = scene.spec();
    spec.path = None;
    let (model, board, running) = scene.supervised(spec).await;
    assert!(matches!(ask(&model, prompt("hello")).await, Err(ModelError::NoModel)));
    let status = until(&model, |status| !status.reason.is_empty()).await;
    assert_eq!((status.state, status.reason.as_str()), (ModelState::None, "no model is configured"));
    assert!(board.snapshot()[0].next_step.contains("model.path"));
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let scene = Scene::new(&json!({}));
    let mut spec = scene.spec();
    spec.program = Some(scene.path("no-such-program"));
    let (model, _board, _running) = scene.supervised(spec).await;
    let status = until(&model, |status| status.state == ModelState::Failed).await;
    assert!(
        status.reason.contains("cannot be started") && status.next_step.contains("runtime.program"),
        "{status:?}"
    );
}

#[tokio::test]
async fn heartbeats_tell_how_busy_the_process_is_and_an_engine_without_progress_is_replaced() {
    let scene = Scene::new(&json!({"parallel": 3}));
    let mut spec = scene.spec();
    spec.probe_every = Duration::from_millis(30);
    let (model, _board, _running) = scene.supervised(spec.clone()).await;
    let status = until(&model, |status| status.load.is_some()).await;
    let load = status.load.unwrap();
    assert_eq!((load.parallel, load.active, load.resident_bytes), (3, 0, 1 << 20));

    let scene = Scene::new(&json!({"health": "stalled"}));
    spec.path = Some(scene.path("model.json"));
    let (model, _board, _running) = scene.supervised(spec).await;
    let reason = until(&model, |status| status.reason.contains("no progress for 600 s")).await;
    assert_eq!(reason.load, None, "no stale numbers");
}

/// Another model of the scripted engine.
fn other(scene: &Scene, script: &serde_json::Value) -> Target {
    fs::write(scene.path("other.json"), script.to_string()).unwrap();
    Target {
        path: scene.path("other.json"),
        name: Some("other".to_owned()),
        sha256: None,
        check_tensors: false,
    }
}

#[tokio::test]
async fn an_answer_in_flight_finishes_on_its_model_and_one_that_takes_too_long_is_cut_with_an_error_of_its_own()
 {
    let scene = Scene::new(&json!({}));
    let fifo = scene.fifo();
    scene.rewrite(
        &json!({"answers": [{"match": "wait", "say": ["one", "two"], "wait_after": 1, "wait_on": fifo}]}),
    );
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    ready(&model).await;
    let answer = model.generate(prompt("wait")).await.unwrap();
    let loaded = model.load(other(&scene, &json!({}))).await.unwrap();
    assert_eq!((loaded.name.as_str(), loaded.previous.as_str()), ("other", "scripted"));
    assert_eq!(loaded.gap, Duration::ZERO);
    assert_eq!(model.status().borrow().name, "other");
    let go = tokio::task::spawn_blocking(move || fs::write(fifo, "go"));
    let ((text, ended), went) = tokio::join!(read(answer), go);
    went.unwrap().unwrap();
    ended.unwrap();
    assert_eq!(text, "onetwo");

    let mut spec = scene.spec();
    spec.drain = Duration::from_millis(30);
    let (model, _board, _running) = scene.supervised(spec).await;
    ready(&model).await;
    let answer = model.generate(prompt("wait")).await.unwrap();
    model.load(other(&scene, &json!({}))).await.unwrap();
    let (_, ended) = read(answer).await;
    assert!(matches!(ended, Err(ModelError::Replaced)), "{ended:?}");
}

#[tokio::test]
async fn a_model_that_cannot_take_over_leaves_the_old_one_alone() {
    let scene = Scene::new(&json!({}));
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    ready(&model).await;
    for (script, part) in [
        (json!({"load": "refuse"}), "refuses to be loaded"),
        (json!({"load": "abort"}), "ended while loading the model"),
        (json!({"estimate": "abort"}), "ended while loading the model"),
        (json!({"estimate": "refuse"}), "makes no sense"),
    ] {
        let error = model.load(other(&scene, &script)).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("scripted goes on answering"), "{error}");
        assert_eq!(ask(&model, prompt("hello")).await.unwrap(), "base: hello");
    }
    let mut gone = other(&scene, &json!({}));
    gone.path = scene.path("gone.json");
    let error = model.load(gone).await.unwrap_err().to_string();
    assert!(error.contains("is not there"), "{error}");
}

#[tokio::test]
async fn an_adapter_of_another_architecture_is_left_out_and_comes_back_with_its_model() {
    let scene = Scene::new(&json!({}));
    fs::write(scene.path("tone"), "for script").unwrap();
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    model.load_adapter("tone", &scene.path("tone")).await.unwrap();
    model.load(other(&scene, &json!({"architecture": "else"}))).await.unwrap();
    let status = ready(&model).await;
    assert!(
        status.loaded_adapters.is_empty() && status.refused_adapters["tone"].contains("another model"),
        "{status:?}"
    );
    let back = scene.spec().configured().unwrap();
    model.load(back).await.unwrap();
    assert!(ready(&model).await.loaded_adapters.contains("tone"));
}

#[tokio::test]
async fn without_a_configured_model_one_can_be_loaded_all_the_same() {
    let scene = Scene::new(&json!({}));
    let mut spec = scene.spec();
    spec.path = None;
    let (model, _board, _running) = scene.supervised(spec).await;
    let error = model.load(other(&scene, &json!({"load": "refuse"}))).await.unwrap_err().to_string();
    assert!(error.contains("no model answers"), "{error}");
    model.load(other(&scene, &json!({}))).await.unwrap();
    assert_eq!(ask(&model, prompt("hello")).await.unwrap(), "base: hello");
}

#[tokio::test]
async fn embeddings_come_from_models_that_make_them() {
    let scene = Scene::new(&json!({}));
    let (model, _board, _running) = scene.supervised(scene.spec()).await;
    let request = EmbedRequest { inputs: vec!["one two".to_owned()], owner: String::new() };
    match model.embed(request.clone()).await {
        Err(ModelError::Refused(problem)) => assert_eq!(problem.reason, "NO_EMBEDDINGS"),
        other => panic!("{other:?}"),
    }
    model.load(other(&scene, &json!({"embeddings": [0.6, 0.8]}))).await.unwrap();
    let reply = model.embed(request).await.unwrap();
    assert_eq!((reply.embeddings[0].values.as_slice(), reply.embeddings[0].tokens), (&[0.6_f32, 0.8][..], 2));
}
