//! From the prompt to the provider and back: what leaves, what the user sees, what it costs, and the proof.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use synesis_proto::control::v1::ask_event::Event;
use synesis_proto::control::v1::inference_client::InferenceClient;
use synesis_proto::control::v1::{AskRequest, Done, Message, Mode};
use synesis_tests::device::Device;
use synesis_tests::gateway::{Gateway, MODEL};
use synesis_tests::provider::{Provider, Script};

/// Planted in a prompt; none of them may be seen beyond the device. (All made up; the card has a valid check digit.)
const SECRETS: &[&str] = &[
    "ada.lovelace@example.org",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
    "192.0.2.44",
    "hunter2-Tr0ub4dor",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "postgres://admin:s3cr3tpw@db.internal:5432/prod",
];

fn prompt() -> String {
    format!(
        "Mail {} the invoice for card {} and account {}. The host is {}, password: {}. Keys: {} {} and {} please.",
        SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3], SECRETS[4], SECRETS[5], SECRETS[6], SECRETS[7]
    )
}

#[track_caller]
fn assert_no_secret(text: &str, place: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} leaked into {place}");
    }
    // The parts that matter, too: a value may be cut or re-wrapped on its way.
    for part in ["hunter2", "s3cr3tpw", "ada.lovelace", "AKIAIOSF", "16C7e42F", "5698 7654"] {
        assert!(!text.contains(part), "{part} leaked into {place}");
    }
}

/// Every file below a folder, as text.
fn assert_no_secret_below(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_no_secret_below(&path);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert_no_secret(&String::from_utf8_lossy(&bytes), &path.display().to_string());
        }
    }
}

#[test]
fn the_provider_sees_no_planted_secret_while_the_user_sees_them_all() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();

    let prompt = prompt();
    let system = "The boss is reachable under boss@example.org, api_key=Zq8vN3kLw0PxT5rY7uB2.";
    let lines =
        ctl.run(&["--json", "ask", "--cloud", "--system", system, &prompt]).expect_code(0).json_lines();
    let done = lines.last().expect("done");
    assert_eq!(done["origin"], "cloud");
    assert_eq!(done["model"], MODEL);
    assert_eq!(done["text"], prompt.as_str(), "the echo comes back restored, to the letter");
    let streamed: String =
        lines.iter().filter(|l| l["type"] == "delta").filter_map(|l| l["text"].as_str()).collect();
    assert_eq!(streamed, prompt);

    let bodies = provider.bodies();
    assert_eq!(bodies.len(), 1);
    assert_no_secret(&bodies[0], "the provider's request");
    assert!(
        !bodies[0].contains("boss@example.org") && !bodies[0].contains("Zq8vN3kLw0PxT5rY7uB2"),
        "{}",
        bodies[0]
    );
    assert!(bodies[0].contains("the invoice for card"), "what needs no hiding is not hidden: {}", bodies[0]);
    assert_no_secret(&gateway.log(), "the gateway's log");
    assert_no_secret(&device.log(), "the daemon's log");
    assert_no_secret_below(gateway.dir());
    assert_no_secret_below(&device.state_dir());
}

/// Asks as a program does: over the socket, with everything a request can have.
fn ask(device: &Device, request: AskRequest) -> Done {
    let socket = device.socket();
    let asking = async {
        let channel = synesis_proto::channel::connect(socket).await.expect("the daemon listens");
        let mut events = InferenceClient::new(channel).ask(request).await.expect("it is taken").into_inner();
        while let Some(event) = events.message().await.expect("it is answered") {
            if let Some(Event::Done(done)) = event.event {
                return done;
            }
        }
        panic!("the answer has no end");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(asking)
}

/// Everything that the strings of a JSON text say, strings of JSON in them read too.
fn said(json: &Value, out: &mut String) {
    match json {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => said(&inner, out),
            _ => out.push_str(&format!("{text}\n")),
        },
        Value::Array(all) => all.iter().for_each(|item| said(item, out)),
        Value::Object(all) => all.iter().for_each(|(key, item)| {
            out.push_str(&format!("{key}\n"));
            said(item, out);
        }),
        Value::Number(number) => out.push_str(&format!("{number}\n")),
        Value::Null | Value::Bool(_) => {}
    }
}

#[test]
fn tools_calls_and_results_leave_without_a_secret_and_the_call_comes_back_whole() {
    let provider = Provider::start(Script::Call);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);

    let tools = json!([{"type": "function", "function": {
        "name": "send_mail",
        "description": format!("Mails {} by default; key {}", SECRETS[0], SECRETS[5]),
        "parameters": {"type": "object", "properties": {
            "to": {"type": "string", "default": SECRETS[0]},
            "password": {"type": "string", "default": SECRETS[4]},
            "card": {"type": "integer", "default": 4_111_111_111_111_111_u64},
        }},
    }}]);
    // A value split by escapes, in a string of JSON in a string of JSON.
    let arguments = r#"{"to":"ada.lovelace\u0040example.org","note":"say \"hi\"","db":"postgres:\/\/admin:s3cr3tpw@db.internal:5432\/prod"}"#;
    let calls = json!([{"id": "call_1", "type": "function", "function": {"name": "send_mail", "arguments": arguments}}]);
    let result = r#"{"sent_to":"\u0061da.lovelace@example.org","host":"192.0.2.44","token":"ghp_16C7e42F292c6912E7710c838347Ae178B4a"}"#;
    let message = |role: &str, content: &str| Message {
        role: role.to_owned(),
        content: content.to_owned(),
        ..Message::default()
    };
    let request = AskRequest {
        messages: vec![
            message("user", &prompt()),
            Message { tool_calls_json: calls.to_string(), ..message("assistant", "") },
            Message {
                tool_call_id: "call_1".to_owned(),
                name: "send_mail".to_owned(),
                ..message("tool", result)
            },
        ],
        mode: Mode::Cloud.into(),
        tools_json: tools.to_string(),
        ..AskRequest::default()
    };
    let done = ask(&device, request);

    // What the provider was asked, read as a model reads it.
    let bodies = provider.bodies();
    assert_eq!(bodies.len(), 1);
    let body: Value = serde_json::from_str(&bodies[0]).expect("JSON");
    let mut read = String::new();
    said(&body, &mut read);
    assert_no_secret(&bodies[0], "the provider's request");
    assert_no_secret(&read, "what the provider's request says");
    assert!(!read.contains("4111111111111111") && !read.contains("s3cr3tpw"), "{read}");
    assert_eq!(body["tools"][0]["function"]["name"], "send_mail", "what needs no hiding is not hidden");
    assert_eq!(body["messages"][1]["tool_calls"][0]["id"], "call_1");
    assert_eq!(body["messages"][2]["tool_call_id"], "call_1");
    assert!(read.contains("say \"hi\""), "{read}");

    // The model sent all of it back in the arguments of its call, and the user has all of it.
    assert_eq!((done.finish_reason.as_str(), done.unknown_placeholders), ("tool_calls", 0));
    let called: Value = serde_json::from_str(&done.tool_calls_json).expect("JSON");
    assert_eq!((&called[0]["id"], &called[0]["function"]["name"]), (&json!("call_9"), &json!("send_mail")));
    let arguments: Value =
        serde_json::from_str(called[0]["function"]["arguments"].as_str().expect("text")).expect("JSON");
    let mut restored = String::new();
    said(&arguments, &mut restored);
    for secret in SECRETS {
        assert!(restored.contains(secret), "{secret} did not come back: {restored}");
    }
    assert!(!restored.contains("[EMAIL_") && !restored.contains("[PASSWORD_"), "{restored}");
    assert_eq!(arguments["messages"][0]["content"], prompt().as_str());
    let defaults = &arguments["tools"][0]["function"]["parameters"]["properties"];
    assert_eq!(
        (&defaults["to"]["default"], &defaults["password"]["default"]),
        (&json!(SECRETS[0]), &json!(SECRETS[4]))
    );
    assert_eq!(
        defaults["card"]["default"], "4111111111111111",
        "a number that was hidden comes back as text"
    );

    let verified = device.ctl().json(&["billing", "verify"]);
    assert_eq!((&verified["receipts"], &verified["chain_ok"]), (&json!(1), &json!(true)));
    assert_no_secret(&gateway.log(), "the gateway's log");
    assert_no_secret(&device.log(), "the daemon's log");
    assert_no_secret_below(gateway.dir());
    assert_no_secret_below(&device.state_dir());
}

#[test]
fn a_later_turn_of_a_session_hides_the_history_under_the_same_placeholders() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    ctl.run(&["ask", "--cloud", "--session", "s", "I am ada.lovelace@example.org and that is all."])
        .expect_code(0);
    ctl.run(&["ask", "--cloud", "--session", "s", "Who is ada.lovelace@example.org again?"]).expect_code(0);
    let bodies = provider.bodies();
    assert_no_secret(&bodies.join("\n"), "the provider's requests");
    let placeholder = |body: &str| {
        let start = body.find("[EMAIL_").expect("a placeholder");
        body[start..].split_inclusive(']').next().expect("closed").to_owned()
    };
    assert_eq!(placeholder(&bodies[0]), placeholder(&bodies[1]));
    assert_eq!(
        bodies[1].matches(&placeholder(&bodies[1])).count(),
        3,
        "question, answer and question: {}",
        bodies[1]
    );
}

#[test]
fn the_receipt_says_what_was_charged_and_the_account_agrees() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    let done = ctl.json(&["ask", "--cloud", "one two three four five"]);
    // The scripted provider reports 7 tokens in, one per word out: 7 x $2 + 5 x $10 per million, and 3 % on top.
    let receipt = &done["receipt"];
    assert_eq!(receipt["cost_nanousd"], 64_000, "{receipt}");
    assert_eq!(receipt["fee_nanousd"], 1_920);
    assert_eq!(receipt["net_nanousd"], 65_920);
    assert_eq!(receipt["request_id"], done["request_id"]);
    assert_eq!(receipt["seq"], 1);
    let balance = ctl.json(&["billing", "balance"]);
    assert_eq!(balance["tier"], "managed");
    assert_eq!(balance["unbilled_nanousd"], 65_920);
    assert_eq!(balance["held_nanousd"], 0);
    assert_eq!(balance["ceiling_nanousd"], 5_000_000_000_i64);

    ctl.json(&["ask", "--cloud", "six seven"]);
    let verified = ctl.json(&["billing", "verify"]);
    assert_eq!(
        (&verified["receipts"], &verified["chain_ok"], &verified["signatures_ok"]),
        (&2.into(), &true.into(), &true.into())
    );
    assert!(verified["first_bad"].is_null());
    assert_eq!(verified["total_nanousd"], 65_920 + 35_020);
    let receipts = ctl.run(&["--json", "billing", "receipts"]).expect_code(0).json_lines();
    assert_eq!(receipts.len(), 2);
    assert_eq!(receipts[1]["prev_hash"], receipts[0]["hash"]);
}

#[test]
fn the_gateways_own_model_answers_through_the_tunnel() {
    let gateway = Gateway::with_runtime();
    let device = Device::start();
    gateway.enroll(&device);
    let done = device.ctl().json(&["ask", "--cloud", "--max-tokens", "24", "What is the capital of France?"]);
    assert_eq!(done["origin"], "cloud");
    assert!(!done["text"].as_str().expect("text").trim().is_empty());
    assert!(done["usage"]["input_tokens"].as_u64() > Some(5), "{done}");
    assert!(done["receipt"]["net_nanousd"].as_i64() > Some(0), "{done}");
    assert_eq!(done["receipt"]["output_tokens"], done["usage"]["output_tokens"]);
}

#[test]
fn cancelling_reaches_the_provider_and_charges_only_what_was_made() {
    let provider = Provider::start(Script::EchoAndPause);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    let mut ask = ctl.stream(&["--json", "ask", "--cloud", "alpha beta gamma delta"]);
    assert_eq!(ask.next_json().expect("the first word")["type"], "delta");
    drop(ask); // the client is gone
    assert!(provider.wait_until_hung_up(), "the provider was never told");
    ctl.wait_for_status("no receipt outstanding", |status| status["pending_receipts"] == 0);
    let receipts = ctl.run(&["--json", "billing", "receipts"]).expect_code(0).json_lines();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert!(receipts[0]["output_tokens"].as_u64() < Some(8), "only what was made: {receipts:?}");
    assert_eq!(ctl.json(&["billing", "balance"])["held_nanousd"], 0);
    ctl.run(&["billing", "verify"]).expect_code(0);
}

#[test]
fn a_device_that_is_revoked_in_the_middle_of_an_answer_is_told_so() {
    let provider = Provider::start(Script::EchoAndPause);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    let id = ctl.json(&["status"])["device_id"].as_str().expect("enrolled").to_owned();
    let mut ask = ctl.stream(&["--json", "ask", "--cloud", "alpha beta gamma delta"]);
    assert_eq!(ask.next_json().expect("the first word")["type"], "delta");
    gateway.admin(&["device", "revoke", &id]).expect_code(0);
    ask.finish().expect_code(4);
}

#[test]
fn a_failing_provider_costs_nothing_and_says_so() {
    let provider = Provider::start(Script::Fail);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    let outcome = ctl.run(&["ask", "--cloud", "Hello there"]).expect_code(1);
    assert!(outcome.stderr.contains("provider") && outcome.stderr.contains("next:"), "{}", outcome.stderr);
    let balance = ctl.json(&["billing", "balance"]);
    assert_eq!((&balance["unbilled_nanousd"], &balance["held_nanousd"]), (&0.into(), &0.into()));
    ctl.wait_for_status("the request closed as not charged", |status| status["pending_receipts"] == 0);
}

#[test]
fn a_ceiling_a_quota_and_a_daily_limit_refuse_before_anything_is_sent() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);

    let device = Device::start();
    gateway.account("poor", &["--tier", "managed", "--ceiling", "0.000001"]);
    gateway.enroll_with(&device, &gateway.token_file("poor", &[])).expect_code(0);
    device.ctl().wait_for_tunnel();
    let outcome = device.ctl().run(&["ask", "--cloud", "Hello"]).expect_code(7);
    assert!(outcome.stderr.contains("ceiling") && outcome.stderr.contains("next:"), "{}", outcome.stderr);

    let device = Device::start();
    gateway.account("gratis", &["--tier", "free", "--quota", "0.000001"]);
    gateway.enroll_with(&device, &gateway.token_file("gratis", &[])).expect_code(0);
    device.ctl().wait_for_tunnel();
    let outcome = device.ctl().run(&["ask", "--cloud", "Hello"]).expect_code(7);
    assert!(outcome.stderr.contains("quota"), "{}", outcome.stderr);

    // A small answer fits the limit, a larger one could pass it, and so does the small one after a few.
    let device = Device::with_config("[billing]\ndaily_limit_usd = \"0.0005\"\n");
    gateway.enroll(&device);
    let ask =
        |words: &str, tokens: &str| device.ctl().run(&["ask", "--cloud", "--max-tokens", tokens, words]);
    let outcome = ask("could cost more than the limit", "100").expect_code(7);
    assert!(outcome.stderr.contains("daily"), "{}", outcome.stderr);
    assert!(provider.bodies().is_empty(), "nothing that was refused arrived: {:?}", provider.bodies());
    let mut allowed = 0;
    let refused = loop {
        let outcome = ask("one two three four five", "20");
        if outcome.code != 0 {
            break outcome.expect_code(7);
        }
        allowed += 1;
        assert!(allowed < 20, "the limit never bit");
    };
    assert!(refused.stderr.contains("daily"), "{}", refused.stderr);
    assert!(
        allowed > 0 && provider.bodies().len() == allowed,
        "{allowed} were allowed, {:?} arrived",
        provider.bodies()
    );
    let spent = device.ctl().json(&["billing", "balance"])["unbilled_nanousd"].as_i64();
    assert!(spent > Some(0) && spent <= Some(500_000), "{spent:?}");
}

#[test]
fn redact_shows_what_would_leave_and_sends_nothing() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let prompt = prompt();
    let shown = device.ctl().run_with_input(&["--json", "redact", "-"], &prompt).expect_code(0).json();
    let text = shown["text"].as_str().expect("text");
    assert_no_secret(text, "the preview");
    for span in shown["spans"].as_array().expect("spans") {
        let at = |key: &str| usize::try_from(span[key].as_u64().expect("an offset")).expect("fits");
        let hidden = &prompt[at("start")..at("end")];
        assert!(!text.contains(hidden), "{hidden}");
        assert!(text.contains(span["placeholder"].as_str().expect("a placeholder")));
    }
    let lines = "{\"text\": \"mail a@example.org\"}\n{\"text\": \"nothing here\"}\n";
    let shown = device.ctl().run_with_input(&["redact", "--lines"], lines).expect_code(0).json_lines();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["spans"][0]["type"], "EMAIL");
    assert_eq!(shown[1]["text"], "nothing here");
    assert!(provider.bodies().is_empty());
}

#[test]
fn consent_never_keeps_everything_on_the_device() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::with_config("[privacy]\nconsent = \"never\"\n");
    gateway.enroll(&device);
    let outcome = device.ctl().run(&["ask", "--cloud", "Hello"]).expect_code(8);
    assert!(outcome.stderr.contains("next:"), "{}", outcome.stderr);
    assert!(provider.bodies().is_empty());
}
