//! What people and models write: nothing is lost on the way out and back, however the answer is cut.

use std::sync::OnceLock;

use serde_json::Value;
use synesis_privacy::{Message, Policy, Vault};

fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| Policy::standard().expect("the standard rules"))
}

/// A message. It comes back as it was, and so does the same text as a preview shows it.
pub(crate) fn redact(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut vault = Vault::with_seed(9);
    let sent = policy().redact(&[Message::new("user", text.as_ref())], &mut vault).expect("there is room");
    let mut restorer = vault.restorer();
    let back = restorer.push(sent.messages()[0].content()) + &restorer.finish();
    assert_eq!(back, text);
    assert_eq!(restorer.unknown(), 0);

    let preview = policy().preview(&text).expect("there is room");
    let (mut rebuilt, mut at) = (String::new(), 0);
    for span in &preview.spans {
        rebuilt.push_str(&text[at..span.start]);
        rebuilt.push_str(&span.placeholder);
        at = span.end;
    }
    rebuilt.push_str(&text[at..]);
    assert_eq!(rebuilt, preview.text);
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "write to ann.lee@example.org or +4930123456, card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00",
        "password: Hunter2222!x\napi_key=sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789ABCDx token ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "postgres://app:s3cretXY@db.example.org/x jdbc:mysql://h/d?user=a&password=bcde12 curl -u a:b1c2d3 http://h",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\n-----END RSA PRIVATE KEY-----\n/home/ann_lee7/x C:\\Users\\annlee7\\y",
        "{\"password\": \"cor\\\"rect horse1\"} [EMAIL_7F3K] [EMAIL\\_7F3K] std::fs::read 10.1.2.3 fe80::1 52.5200, 13.4050",
        "dob 1990-01-02 ssn 078-05-1120 passport no C01X00T47 VIN 1HGCM82633A004352 eyJhbGciOi.eyJzdWIiOiIx.c2lnbmF0",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Definitions, a schema, or calls of tools. What is JSON leaves as JSON and comes back as it was; what is none is refused.
pub(crate) fn redact_json(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut vault = Vault::with_seed(9);
    let said = Message::new("assistant", "").calling(text.as_ref());
    let _ = policy().redact(&[said], &mut Vault::with_seed(9));
    let Ok(sent) = policy().redact_json(&text, &mut vault) else { return };
    let mut restorer = vault.restorer();
    let back = restorer.restore_json(sent.text()).expect("JSON leaves as JSON");
    assert_eq!(restorer.unknown(), 0);
    // Others know limits of numbers and of depth that JSON does not have.
    if let (Ok(before), Ok(after)) = (serde_json::from_str(&text), serde_json::from_str(&back)) {
        assert_eq!(without_numbers(after), without_numbers(before));
    }
}

/// JSON in strings is read too. A number that was hidden comes back as a string.
fn without_numbers(value: Value) -> Value {
    match value {
        Value::Number(_) => Value::Null,
        Value::String(text) => serde_json::from_str(&text).map_or(Value::String(text), without_numbers),
        Value::Array(all) => all.into_iter().map(without_numbers).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (key, without_numbers(value))).collect(),
        Value::Bool(_) | Value::Null => value,
    }
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"[{"type":"function","function":{"name":"send","description":"to ann@example.org","parameters":{"type":"object","properties":{"password":{"type":"string","default":"cor\"rect horse1"}}}}}]"#,
        r#"[{"id":"call_1","type":"function","function":{"name":"send","arguments":"{\"to\":\"ann@example.org\",\"card\":4111111111111111}"}}]"#,
        r#"{"a":[1,-2.5e3,true,null,"\u0061nn@ex\u0061mple.org \ud83d\ude00"],"ann@example.org":{"n":4111111111111111},"e":[],"o":{}}"#,
        r#""[EMAIL_7F3K] \\ \/ \b""#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Where the answer is cut (eight places), the answer.
pub(crate) fn restore(data: &[u8]) {
    let Some((cuts, answer)) = data.split_first_chunk::<8>() else { return };
    let answer = String::from_utf8_lossy(answer);
    let vault = session();
    let mut places: Vec<_> = cuts.iter().map(|cut| usize::from(*cut) * (answer.len() + 1) / 256).collect();
    places.sort_unstable();
    assert_eq!(restored(vault, &answer, &places), restored(vault, &answer, &[]), "cut at {places:?}");
    let mut restorer = vault.restorer();
    if let Ok(json) = restorer.restore_json(&answer) {
        restorer.restore_json(&json).expect("JSON stays JSON");
    }
}

/// The restored answer, and how many placeholders were unknown.
fn restored(vault: &Vault, answer: &str, places: &[usize]) -> (String, u32) {
    let mut restorer = vault.restorer();
    let (mut out, mut at) = (String::new(), 0);
    for place in places.iter().map(|place| answer.floor_char_boundary(*place)).chain([answer.len()]) {
        out.push_str(&restorer.push(&answer[at..place]));
        at = place;
    }
    out.push_str(&restorer.finish());
    (out, restorer.unknown())
}

const SECRETS: &str =
    "ann@example.org 203.0.113.7 password: Hunter2222!x say \"hi\" to postgres://a:b1c2d3@h/x";

/// Always with the same placeholders.
fn session() -> &'static Vault {
    static SESSION: OnceLock<Vault> = OnceLock::new();
    SESSION.get_or_init(|| {
        let mut vault = Vault::with_seed(9);
        policy().redact(&[Message::new("user", SECRETS)], &mut vault).expect("there is room");
        vault
    })
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let mut vault = Vault::with_seed(9);
    let sent = policy().redact(&[Message::new("user", SECRETS)], &mut vault).expect("there is room");
    let held = sent.messages()[0].content();
    let answers = [
        held.to_owned(),
        format!("é[{}[[EMAIL_0002] [IP\\ [API_KEY", held.replace('_', "\\_").to_lowercase()),
        serde_json::json!([{ "arguments": serde_json::json!({ "to": held }).to_string() }]).to_string(),
    ];
    answers.iter().map(|answer| [&[7, 40, 80, 120, 128, 160, 200, 250], answer.as_bytes()].concat()).collect()
}
