//! JSON that leaves: tool definitions, calls and results, schemas. What comes out is JSON again, nothing planted is
//! in it however it was written, and what comes back says what it said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use proptest::prelude::*;
use serde_json::{Value, json};
use synesis_privacy::{Message, Policy, RedactError, Vault};

fn policy() -> &'static Policy {
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(|| Policy::standard().unwrap())
}

fn sent(json: &str, vault: &mut Vault) -> String {
    policy().redact_json(json, vault).unwrap().text().to_owned()
}

#[test]
fn tool_definitions_without_a_secret_leave_as_they_are() {
    let tools = r#"[ {"type": "function", "function": {"name": "log_in", "description": "Sign a user in.\nAsks twice.",
        "parameters": {"type": "object", "required": ["username", "first_name", "password"], "properties": {
            "username": {"type": "string", "description": "The login name"}, "first_name": {"type": "string"},
            "password": {"type": "string", "description": "At least 8 characters", "minLength": 8},
            "retries": {"type": "integer", "default": 3, "maximum": 1e2}, "created": {"const": 1700000000}}}}} ]"#;
    let redacted = policy().redact_json(tools, &mut Vault::with_seed(1)).unwrap();
    assert_eq!(redacted.text(), tools);
    assert!(redacted.counts().is_empty());
}

#[test]
fn no_escape_hides_a_value() {
    for json in [
        r#""ann\u0040example.org""#,
        r#""\u0061nn@ex\u0061mple.org""#,
        r#"{"to": "Ann <ann\u0040example.org>"}"#,
        r#"["{\"to\":\"ann\\u0040example.org\"}"]"#,
        r#"["[\"{\\\"to\\\":\\\"ann\\\\u0040example.org\\\"}\"]"]"#,
        r#"["\"ann\\u0040example.org\""]"#,
        r#"{"ann\u0040example.org": true}"#,
    ] {
        let mut vault = Vault::with_seed(1);
        let redacted = sent(json, &mut vault);
        assert!(redacted.contains("[EMAIL_") && !redacted.contains("example"), "{json}: {redacted}");
        let back = vault.restorer().restore_json(&redacted).unwrap();
        assert_eq!(value(&back), value(json));
    }
}

/// What a text says, strings of JSON in it read too.
fn value(json: &str) -> Value {
    fn inner(value: Value) -> Value {
        match value {
            Value::String(text) => serde_json::from_str(&text).map_or(Value::String(text), inner),
            Value::Array(all) => all.into_iter().map(inner).collect(),
            Value::Object(all) => all.into_iter().map(|(key, value)| (key, inner(value))).collect(),
            other => other,
        }
    }
    inner(serde_json::from_str(json).unwrap())
}

#[test]
fn a_number_that_is_a_secret_leaves_as_a_placeholder() {
    for number in ["4111111111111111", "4111111111111111.0", "4.111111111111111e15", "4111111111111111E0"] {
        for json in [number.to_owned(), format!("{{\"n\": {number}}}"), format!("[0, {number} ]")] {
            let redacted = sent(&json, &mut Vault::with_seed(1));
            assert!(redacted.contains("\"[CREDIT_CARD_") && !redacted.contains("1111"), "{json}: {redacted}");
            serde_json::from_str::<Value>(&redacted).unwrap();
        }
    }
}

#[test]
fn a_name_announces_its_value_wherever_it_stands() {
    for json in [
        json!({"password": "cor\"rect horse"}),
        json!({"dbPassword": 20_241_979}),
        json!({"name": "DB_PASSWORD", "value": "cor\"rect horse"}),
        json!({"value": "cor\"rect horse", "key": "password"}),
        json!({"properties": {"password": {"type": "string", "default": "cor\"rect horse"}}}),
        json!({"passwords": ["cor\"rect horse", "20241979"]}),
        json!({"headers": [{"name": "Authorization", "value": "Bearer Zq8vN3kLw0PxT5rY7uB2"}]}),
        json!({"passport_no": "K1173953", "passportNumber": "K1173953"}),
    ] {
        let redacted = sent(&json.to_string(), &mut Vault::with_seed(1));
        for secret in ["rect", "horse", "20241979", "Zq8vN3", "K1173953"] {
            assert!(!redacted.contains(secret), "{json}: {redacted}");
        }
    }
}

#[test]
fn what_is_no_json_is_refused_without_being_repeated() {
    let mut vault = Vault::with_seed(1);
    for json in ["", "hunter2", "{\"password\": \"hunter2\"", "[1,]", r#""hunter2\ud800""#] {
        let error = policy().redact_json(json, &mut vault).unwrap_err();
        assert!(matches!(error, RedactError::Json(_)), "{json}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let message = Message::new("assistant", "").calling(json);
        let error = policy().redact(&[message], &mut vault).unwrap_err();
        assert!(matches!(error, RedactError::ToolCalls { index: 0, .. }), "{json}");
    }
    let mut deep = "1".to_owned();
    for _ in 0..12 {
        deep = Value::Array(vec![Value::String(deep)]).to_string();
    }
    assert!(
        policy().redact_json(&deep, &mut vault).is_err(),
        "strings of JSON in strings of JSON have an end"
    );
}

#[test]
fn every_part_of_a_message_is_redacted_under_the_same_placeholders() {
    let calls = json!([{"id": "call_9xK2mQ", "type": "function", "function":
        {"name": "send_mail", "arguments": json!({"to": "ann@example.org", "body": "hi"}).to_string()}}]);
    let messages = [
        Message::new("user", "mail ann@example.org"),
        Message::new("assistant", "").calling(calls.to_string()),
        Message::new("tool", r#"{"sent_to": "ann\u0040example.org", "card": 4111111111111111}"#)
            .answering("call_9xK2mQ")
            .named("send_mail"),
    ];
    let mut vault = Vault::with_seed(1);
    let redacted = policy().redact(&messages, &mut vault).unwrap();
    let [user, assistant, tool] = redacted.messages() else { panic!("three") };
    let mail = user.content().strip_prefix("mail ").unwrap();
    let calls: Value = serde_json::from_str(assistant.tool_calls().unwrap()).unwrap();
    let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"to": mail, "body": "hi"}));
    assert_eq!(
        (&calls[0]["id"], &calls[0]["function"]["name"]),
        (&json!("call_9xK2mQ"), &json!("send_mail"))
    );
    let result: Value = serde_json::from_str(tool.content()).unwrap();
    assert_eq!(result["sent_to"], mail);
    assert!(result["card"].as_str().unwrap().starts_with("[CREDIT_CARD_"));
    assert_eq!((tool.tool_call_id(), tool.name()), (Some("call_9xK2mQ"), Some("send_mail")));
    assert_eq!(redacted.counts().values().sum::<usize>(), 4);

    let later = [Message::new("tool", "ok").answering("x")];
    assert_eq!(policy().redact(&later, &mut vault).unwrap().messages()[0].tool_call_id(), Some("x"));
}

#[test]
fn an_id_that_could_say_something_leaves_under_another_name_in_both_places() {
    let long = "x".repeat(65);
    for id in [
        "ann@example.org",
        "call of ann",
        "4111111111111111",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        &long,
        "",
    ] {
        let calls = json!([{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
        let messages = [
            Message::new("assistant", "").calling(calls.to_string()),
            Message::new("tool", "ok").answering(id),
        ];
        let redacted = policy().redact(&messages, &mut Vault::with_seed(1)).unwrap();
        let sent = redacted.messages()[1].tool_call_id().unwrap();
        let calls: Value = serde_json::from_str(redacted.messages()[0].tool_calls().unwrap()).unwrap();
        assert_eq!(calls[0]["id"], sent);
        assert_ne!(sent, id);
        assert!(sent.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{sent}");
    }
}

#[test]
fn a_value_the_session_knows_is_hidden_in_json_and_one_from_json_in_text() {
    let mut vault = Vault::with_seed(1);
    policy().redact(&[Message::new("user", "password: xK9fooBar")], &mut vault).unwrap();
    let redacted = sent(r#"{"try": "is xK9fooBar right?", "xK9fooBar": 1}"#, &mut vault);
    assert!(!redacted.contains("xK9"), "{redacted}");
    sent(r#"{"password": "Tr0ub4dor!3"}"#, &mut vault);
    let later = policy().redact(&[Message::new("user", "why not Tr0ub4dor!3?")], &mut vault).unwrap();
    assert!(!later.messages()[0].content().contains("Tr0ub"), "{:?}", later.messages());
}

#[test]
fn calls_that_come_back_are_restored_and_escaped_for_where_they_stand() {
    let mut vault = Vault::with_seed(1);
    let secret = "a\"b\\c\n7!xY";
    let hidden = sent(&json!({"password": secret}).to_string(), &mut vault);
    let placeholder = value(&hidden)["password"].as_str().unwrap().to_owned();
    assert!(placeholder.starts_with("[PASSWORD_"), "{placeholder}");
    let arguments = json!({"pw": format!("<{placeholder}>"), "n": 1, "other": "[EMAIL_0002]"}).to_string();
    let calls = json!([{"id": "c1", "function": {"name": "f", "arguments": arguments}}]).to_string();
    let mut restorer = vault.restorer();
    let back: Value = serde_json::from_str(&restorer.restore_json(&calls).unwrap()).unwrap();
    let arguments: Value = serde_json::from_str(back[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"pw": format!("<{secret}>"), "n": 1, "other": "[EMAIL_0002]"}));
    assert_eq!(restorer.unknown(), 1);
    // Arguments that a model did not finish are text.
    let broken = json!([{"function": {"arguments": format!("{{\"pw\": \"{placeholder}")}}]).to_string();
    let back: Value = serde_json::from_str(&restorer.restore_json(&broken).unwrap()).unwrap();
    assert_eq!(back[0]["function"]["arguments"], format!("{{\"pw\": \"{secret}"));
    assert!(restorer.restore_json("[").is_err());
}

/// A string of JSON with some of its characters escaped, as `style` says.
fn written(text: &str, style: &[bool]) -> String {
    let mut out = "\"".to_owned();
    for (i, c) in text.chars().enumerate() {
        if style.get(i % style.len().max(1)).copied().unwrap_or_default()
            || c < ' '
            || matches!(c, '"' | '\\')
        {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            out.push(c);
        }
    }
    out + "\""
}

fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{3,9}\\.[a-z]{2,9}@[a-z]{3,9}\\.(com|org|de)",
        "\\+4930[1-9][0-9]{6}",
        "ghp_[A-Za-z0-9]{36}",
    ]
}

/// A JSON text, and the secrets in it.
fn document() -> impl Strategy<Value = (String, Vec<String>)> {
    let style = prop::collection::vec(any::<bool>(), 1..5);
    let scalar = prop_oneof![
        any::<bool>().prop_map(|b| (b.to_string(), Vec::new())),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| (json!(n).to_string(), Vec::new())),
        (any::<String>(), style.clone()).prop_map(|(text, style)| (written(&text, &style), Vec::new())),
        ("[a-z \\[\"\\\\]{0,6} ", secret(), " [a-z]{0,6}", style.clone()).prop_map(
            |(a, secret, b, style)| { (written(&format!("{a}{secret}{b}"), &style), vec![secret]) }
        ),
    ];
    scalar.prop_recursive(4, 24, 4, move |inner| {
        let key = ("[a-z_A-Z]{1,8}|value|name|password|type", style.clone());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|all| {
                let (texts, secrets): (Vec<_>, Vec<_>) = all.into_iter().unzip();
                (format!("[{}]", texts.join(" , ")), secrets.concat())
            }),
            prop::collection::vec((key, inner.clone()), 0..4).prop_map(|all| {
                let member =
                    |((key, style), (text, secrets)): ((String, Vec<bool>), (String, Vec<String>))| {
                        (format!("{}:{text}", written(&key, &style)), secrets)
                    };
                let (texts, secrets): (Vec<_>, Vec<_>) = all.into_iter().map(member).unzip();
                (format!("{{{}}}", texts.join(",\n")), secrets.concat())
            }),
            // A document in a string, as the arguments of a call are.
            (inner, style.clone()).prop_map(|((text, secrets), style)| (written(&text, &style), secrets)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_leaves_is_json_without_the_secrets_and_comes_back_as_it_was((text, secrets) in document()) {
        let mut vault = Vault::with_seed(3);
        let redacted = sent(&text, &mut vault);
        let said = strings(&redacted);
        for secret in &secrets {
            prop_assert!(!redacted.contains(secret.as_str()) && !said.contains(secret.as_str()), "{} in {}", secret, redacted);
        }
        let mut restorer = vault.restorer();
        let back = restorer.restore_json(&redacted).unwrap();
        prop_assert_eq!(numbers_as_strings(&back), numbers_as_strings(&text));
        prop_assert_eq!(restorer.unknown(), 0);
    }

    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_is_what_others_call_json(text in "[\\[\\]{}:,\"\\\\u0-9a-e.+ \\-]{0,24}") {
        let ours = policy().redact_json(&text, &mut Vault::with_seed(3)).is_ok();
        let theirs = serde_json::from_str::<Value>(&text);
        // A number that is too large for a float is JSON all the same.
        let theirs = theirs.as_ref().map_or_else(|error| error.to_string().contains("out of range"), |_| true);
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}

/// Everything the strings of a JSON text say, at every level.
fn strings(json: &str) -> String {
    let text = value(json).to_string();
    text.replace("\\\"", "\"")
}

/// A number that was hidden comes back as a string.
fn numbers_as_strings(json: &str) -> Value {
    fn inner(value: Value) -> Value {
        match value {
            Value::Number(number) => Value::String(number.to_string()),
            Value::Array(all) => all.into_iter().map(inner).collect(),
            Value::Object(all) => all.into_iter().map(|(key, value)| (key, inner(value))).collect(),
            other => other,
        }
    }
    inner(value(json))
}
