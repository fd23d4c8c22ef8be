//! The provider in front of a scripted model process, and what each of its answers means.

use futures_util::TryStreamExt;
use synesis_proto::channel;

use super::*;
use crate::testing::scripted_runtime::{self, ScriptedRuntime};

fn generated(event: Generated) -> v1::GenerateEvent {
    v1::GenerateEvent { event: Some(event) }
}

#[test]
fn each_delta_carries_the_exact_count_so_far() {
    let step = generated(Generated::Delta(v1::Delta {
        text: "hi".to_owned(),
        output_tokens: 3,
        ..v1::Delta::default()
    }));
    assert_eq!(events(step), [Ok(Event::Delta { text: "hi".to_owned(), output_tokens: Some(3) })]);
}

#[test]
fn the_end_carries_the_count_and_the_reason() {
    let end = v1::Finished {
        reason: "length".to_owned(),
        input_tokens: 9,
        output_tokens: 64,
        ..v1::Finished::default()
    };
    assert_eq!(
        events(generated(Generated::Finished(end))),
        [
            Ok(Event::Usage { input_tokens: Some(9), output_tokens: Some(64) }),
            Ok(Event::Finished { reason: FinishReason::Length }),
        ]
    );
}

#[test]
fn a_prompt_over_the_context_is_no_reason_to_try_again() {
    let problem = Problem::new(Code::InvalidArgument, reason::PROMPT_TOO_LONG, "3000 tokens, 2048 fit", "");
    assert_eq!(
        refusal(&problem.into()),
        ProviderError::TooLong { message: "3000 tokens, 2048 fit".to_owned() }
    );
}

#[test]
fn the_death_of_the_process_can_be_retried() {
    assert!(refusal(&Status::unavailable("h2 protocol error")).retryable());
}

#[test]
fn no_temperature_means_greedy() {
    let mut request = crate::testing::request("m");
    assert_eq!(sampling(&request), None);
    request.sampling.temperature = Some(0.5);
    assert_eq!(sampling(&request).map(|s| s.temperature), Some(0.5));
}

/// A provider in front of a scripted model process that is ready.
async fn ready(process: &ScriptedRuntime) -> RuntimeModel {
    ready_with(process, TemplateTools::Shown).await
}

async fn ready_with(process: &ScriptedRuntime, tools: TemplateTools) -> RuntimeModel {
    let client = RuntimeClient::new(channel::over(process.connect()).await.unwrap());
    let ready = Ready { client, tools, architecture: "llama".to_owned(), adapters: Arc::default() };
    RuntimeModel {
        models: vec!["m".to_owned()],
        stop: Vec::new(),
        state: watch::channel(State::Ready(ready)).1,
        strikes: Strikes::default(),
    }
}

#[tokio::test]
async fn the_worst_case_is_the_processs_own_count_of_the_prompt() {
    let process = ScriptedRuntime::start();
    let model = ready(&process).await;
    assert_eq!(
        model.input_bound(&crate::testing::request("m")).await,
        Ok(scripted_runtime::INPUT_TOKENS.into())
    );
}

#[tokio::test]
async fn an_answer_is_counted_as_it_goes() {
    let process = ScriptedRuntime::start();
    let stream = ready(&process).await.stream(crate::testing::request("m")).await.unwrap();
    let said: Vec<Event> = stream.try_collect().await.unwrap();
    let counted = |text: &str, n| Event::Delta { text: text.to_owned(), output_tokens: Some(n) };
    let usage = |output_tokens| Event::Usage { input_tokens: Some(7), output_tokens };
    let finished = Event::Finished { reason: FinishReason::Stop };
    assert_eq!(said, [usage(None), counted("you said: ", 1), counted("hello", 2), usage(Some(2)), finished]);
}

#[test]
fn penalties_alone_are_sampling_too() {
    let mut request = crate::testing::request("m");
    request.sampling.presence_penalty = Some(0.5);
    let sampling = sampling(&request).unwrap();
    assert_eq!((sampling.temperature, sampling.presence_penalty), (0.0, 0.5));
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let problem = Problem::new(Code::ResourceExhausted, reason::BUSY, "64 requests wait", "come back")
        .retry_after(Duration::from_millis(1_500));
    let busy = ProviderError::Busy {
        message: "64 requests wait".to_owned(),
        retry_after: Some(Duration::from_millis(1_500)),
    };
    assert_eq!(refusal(&problem.into()), busy);
    assert!(busy.retryable());
}

#[tokio::test]
async fn the_process_is_asked_for_the_device_with_tools_and_schema() {
    let process = ScriptedRuntime::start();
    let mut request = crate::testing::tools_request("m");
    request.json_schema = Some(serde_json::json!({"type": "object"}));
    let owner = request.owner.clone();
    ready(&process).await.stream(request.clone()).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let asked = process.asked(1).await.remove(0);
    assert_eq!((asked.owner, asked.deterministic), (owner, false));
    assert_eq!(
        asked.constraint,
        Some(v1::generate_request::Constraint::JsonSchema(r#"{"type":"object"}"#.to_owned()))
    );
    let Some(v1::generate_request::Input::Chat(chat)) = asked.input else { panic!("no chat") };
    assert_eq!(chat.tools_json, request.tools.json);
    let calls = serde_json::from_str::<serde_json::Value>(&chat.messages[1].tool_calls_json).unwrap();
    assert_eq!(calls[0]["function"]["name"], "weather");
    assert_eq!((chat.messages[2].role.as_str(), chat.messages[2].tool_call_id.as_str()), ("tool", "call_1"));
}

#[tokio::test]
async fn a_template_that_knows_no_tools_gets_none_and_results_as_the_users_word() {
    let process = ScriptedRuntime::start();
    let model = ready_with(&process, TemplateTools::Unknown).await;
    let mut request = crate::testing::tools_request("m");
    let declined = model.stream(request.clone()).await.err();
    assert!(matches!(declined, Some(ProviderError::Declined { .. })), "{declined:?}");
    request.tools = crate::providers::tools::Tools::default();
    model.stream(request).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let asked = process.asked(1).await.remove(0);
    let Some(v1::generate_request::Input::Chat(chat)) = asked.input else { panic!("no chat") };
    let roles: Vec<&str> = chat.messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "user"]);
    assert!(chat.messages[1].content.contains("weather") && chat.messages[1].tool_calls_json.is_empty());
}

#[tokio::test]
async fn several_requests_are_in_the_process_at_the_same_time() {
    let process = ScriptedRuntime::start();
    let model = ready(&process).await;
    let mut hanging = crate::testing::request("m");
    hanging.messages[0].content = scripted_runtime::HANG.to_owned();
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = model.stream(hanging.clone()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        streams.push(stream);
    }
    let said: Vec<Event> =
        model.stream(crate::testing::request("m")).await.unwrap().try_collect().await.unwrap();
    assert_eq!(said.last(), Some(&Event::Finished { reason: FinishReason::Stop }));
}

#[tokio::test]
async fn dropping_the_answer_cancels_it_in_the_process() {
    let process = ScriptedRuntime::start();
    let mut request = crate::testing::request("m");
    request.messages[0].content = scripted_runtime::HANG.to_owned();
    let mut stream = ready(&process).await.stream(request).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    process.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_does_not_come_up_is_told_with_its_reason() {
    let settings = RuntimeSettings {
        models: vec!["m".to_owned()],
        program: "/nonexistent".into(),
        model_path: "/nonexistent.gguf".into(),
        adapters: "/nonexistent".into(),
        stop: Vec::new(),
        chat_template: String::new(),
        context_tokens: 0,
        threads: 0,
        parallel: 4,
        sandbox: Sandbox::Auto,
    };
    let (model, process) = runtime(settings);
    process.state.send_replace(State::Away("the model process ended: killed by signal 9".to_owned()));
    let error = model.stream(crate::testing::request("m")).await.err();
    let told = "the model process ended: killed by signal 9".to_owned();
    assert_eq!(error, Some(ProviderError::NotReady(told)));
}

fn adapter(id: &str) -> AdapterFile {
    let path = format!("/{id}.gguf").into();
    AdapterFile { id: id.to_owned(), path, architecture: "llama".to_owned() }
}

#[tokio::test]
async fn an_adapter_is_loaded_once_and_named_in_every_answer_that_it_is_pinned_for() {
    let process = ScriptedRuntime::start();
    let model = ready(&process).await;
    for _ in 0..2 {
        let pin = model.pin_adapter(&adapter("a")).await.unwrap();
        let request = Request { adapter: Some(pin), ..crate::testing::request("m") };
        model.stream(request).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    }
    model.stream(crate::testing::request("m")).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let asked = process.asked(3).await;
    let ids: Vec<&str> = asked.iter().map(|request| request.adapter_id.as_str()).collect();
    assert_eq!((ids, process.adapters()), (vec!["a", "a", ""], vec!["+a".to_owned()]));
}

#[tokio::test]
async fn the_least_recently_used_adapter_that_nobody_holds_makes_room() {
    let process = ScriptedRuntime::start();
    let model = ready(&process).await;
    let held = model.pin_adapter(&adapter("0")).await.unwrap();
    for n in 1..=16 {
        model.pin_adapter(&adapter(&n.to_string())).await.unwrap();
    }
    assert_eq!(process.adapters().iter().filter(|moved| moved.starts_with('-')).collect::<Vec<_>>(), ["-1"]);
    drop(held);
    let mut pins = Vec::new();
    for n in 20..36 {
        pins.push(model.pin_adapter(&adapter(&n.to_string())).await.unwrap());
    }
    let busy = model.pin_adapter(&adapter("40")).await.unwrap_err();
    assert!(matches!(busy, ProviderError::Busy { .. }), "{busy}");
}

#[tokio::test]
async fn what_is_no_adapter_for_this_model_is_unfit_and_may_be_tried_again() {
    let process = ScriptedRuntime::start();
    let model = ready(&process).await;
    let bad = AdapterFile { path: scripted_runtime::NO_ADAPTER.into(), ..adapter("a") };
    let unfit =
        |outcome: Result<AdapterPin, ProviderError>| matches!(outcome, Err(ProviderError::Unfit { .. }));
    assert!(unfit(model.pin_adapter(&bad).await));
    model.pin_adapter(&adapter("a")).await.unwrap();
    let other = AdapterFile { architecture: "gemma3".to_owned(), ..adapter("b") };
    assert!(unfit(model.pin_adapter(&other).await));
    assert_eq!(process.adapters(), ["+a"], "the process was not asked for what cannot fit");
}

#[tokio::test]
async fn a_file_that_ends_the_process_is_not_loaded_a_third_time() {
    let process = ScriptedRuntime::start();
    let model = ready(&process).await;
    let fatal = AdapterFile { path: scripted_runtime::FATAL.into(), ..adapter("a") };
    for _ in 0..2 {
        let error = model.pin_adapter(&fatal).await.unwrap_err();
        assert!(error.retryable(), "{error}");
    }
    let error = model.pin_adapter(&fatal).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unfit { .. }), "{error}");
}
