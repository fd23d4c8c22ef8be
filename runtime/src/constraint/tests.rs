use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;

/// Tokens 0 to 255 are single bytes, then come some longer ones, then the control tokens.
const WORDS: &[&str] = &["\"name\"", "true", "{\"", "ab"];
const CONTROL: &[&str] = &["<|user|>", "<|end|>"];
const END: u32 = 256 + WORDS.len() as u32 + 1;

static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
    let bytes = (0..=255_u8).map(|byte| (vec![byte], false));
    let words = WORDS.iter().map(|word| (word.as_bytes().to_vec(), false));
    let control = CONTROL.iter().map(|word| (word.as_bytes().to_vec(), true));
    Vocabulary::new(bytes.chain(words).chain(control), &[END]).unwrap()
});

fn json(schema: &str) -> Result<Constraint, ConstraintError> {
    Constraint::new(&VOCABULARY, &Source::JsonSchema(schema.to_owned()))
}

fn grammar(text: &str) -> Result<Constraint, ConstraintError> {
    Constraint::new(&VOCABULARY, &Source::Grammar(text.to_owned()))
}

fn refused(result: Result<Constraint, ConstraintError>) -> ConstraintError {
    match result {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error,
    }
}

impl Allowed {
    fn contains(&self, token: u32) -> bool {
        self.iter().any(|allowed| allowed == token)
    }
}

/// Whether `text` is a whole answer, checking every byte against the mask on the way.
fn takes(constraint: Result<Constraint, ConstraintError>, text: &str) -> bool {
    let mut constraint = constraint.unwrap();
    for byte in text.bytes() {
        if constraint.is_finished() || !constraint.allowed().unwrap().contains(u32::from(byte)) {
            return false;
        }
        constraint.accept(u32::from(byte)).unwrap();
    }
    constraint.is_finished() || constraint.allowed().unwrap().contains(END)
}

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":8},
    "age":{"type":"integer","minimum":0,"maximum":150},"kind":{"enum":["cat","dog"]}},
    "required":["name","age"],"additionalProperties":false}"#;

#[test]
fn an_object_must_have_its_properties_and_no_others() {
    assert!(takes(json(PERSON), r#"{"name":"Ada","age":36}"#));
    assert!(takes(json(PERSON), "{\"name\": \"Ada\",\n \"age\": 36, \"kind\": \"cat\"}"));
    for wrong in [
        r#"{"name":"Ada"}"#,
        r#"{"name":"Ada","age":151}"#,
        r#"{"name":"Ada","age":36,"more":1}"#,
        r#"{"name":"Ada","age":36,"kind":"cow"}"#,
        r#"{"name":"a very long name","age":36}"#,
        "",
    ] {
        assert!(!takes(json(PERSON), wrong), "{wrong}");
    }
}

#[test]
fn an_empty_schema_is_any_json_value() {
    for schema in ["{}", "true"] {
        for value in [r#"{"a":[1,null,{"b":-2.5e3}]}"#, "[true,false]", "\"x\\n\"", "12"] {
            assert!(takes(json(schema), value), "{schema}: {value}");
        }
        for no_value in ["yes", "{", "[1,]", "{a:1}"] {
            assert!(!takes(json(schema), no_value), "{schema}: {no_value}");
        }
    }
}

#[test]
fn a_local_reference_is_followed_and_may_be_recursive() {
    let list = r##"{"$ref":"#/$defs/list","$defs":{"list":{"type":"object","properties":
        {"next":{"anyOf":[{"$ref":"#/$defs/list"},{"type":"null"}]}},
        "required":["next"],"additionalProperties":false}}}"##;
    assert!(takes(json(list), r#"{"next":{"next":null}}"#));
    assert!(!takes(json(list), r#"{"next":1}"#));
}

#[test]
fn a_grammar_is_followed_to_its_end() {
    let date = "start: YEAR \"-\" MONTH\nYEAR: /[0-9]{4}/\nMONTH: /0[1-9]|1[0-2]/";
    assert!(takes(grammar(date), "2024-12"));
    assert!(!takes(grammar(date), "2024-13") && !takes(grammar(date), "2024-1"));
}

#[test]
fn the_end_is_allowed_only_when_the_answer_is_complete() {
    let mut constraint = grammar("start: \"ab\" \"c\"?").unwrap();
    assert!(!constraint.allowed().unwrap().contains(END));
    let longer = 256 + 3;
    assert!(constraint.allowed().unwrap().contains(longer), "a token of two bytes");
    constraint.accept(longer).unwrap();
    assert!(constraint.allowed().unwrap().contains(END) && !constraint.is_finished());
    constraint.accept(u32::from(b'c')).unwrap();
    assert!(constraint.is_finished());
    assert_eq!(constraint.allowed().unwrap().iter().collect::<Vec<_>>(), [END]);
}

#[test]
fn a_token_that_was_not_allowed_is_an_error_and_no_abort() {
    let mut constraint = grammar("start: \"ab\"").unwrap();
    assert!(matches!(constraint.accept(u32::from(b'z')), Err(ConstraintError::Failed(_))));
    assert!(!constraint.is_finished());
    assert!(constraint.allowed().is_err());
    let mut constraint = grammar("start: \"ab\"").unwrap();
    assert!(constraint.accept(u32::MAX).is_err());
}

#[test]
fn a_control_token_is_never_text_and_comes_only_by_name() {
    let user = 256 + WORDS.len() as u32;
    assert!(!grammar("start: /(.|\\n)*/").unwrap().allowed().unwrap().contains(user));
    assert!(grammar("start: <|user|>").unwrap().allowed().unwrap().contains(user));
}

#[test]
fn white_space_cannot_go_on_for_ever() {
    let spaces = |count| format!("[1,{}2]", " ".repeat(count));
    assert!(takes(json("{}"), &spaces(20)));
    assert!(!takes(json("{}"), &spaces(400)));
    let opened = r#"{"x-guidance":{"whitespace_pattern":"[ ]+"}}"#;
    assert!(!takes(json(opened), &spaces(400)), "a client cannot lift the bound");
}

#[test]
fn masking_leaves_the_allowed_logits_alone() {
    let mut constraint = grammar("start: \"a\" | \"c\"").unwrap();
    let mut logits = vec![1.0_f32; END as usize + 1];
    constraint.allowed().unwrap().mask(&mut logits);
    let left: Vec<usize> = (0..logits.len()).filter(|token| logits[*token].is_finite()).collect();
    assert_eq!(left, [usize::from(b'a'), usize::from(b'c')]);
    let mut short = [1.0_f32; 10];
    constraint.allowed().unwrap().mask(&mut short);
    assert!(short.iter().all(|logit| *logit == f32::NEG_INFINITY));
}

#[test]
fn what_is_no_schema_is_refused_with_the_reason() {
    assert!(matches!(refused(json("{")), ConstraintError::NotJson(_)));
    assert!(matches!(refused(json("[]")), ConstraintError::NotASchema));
    for bad in [
        "false",
        r#"{"type":"nothing"}"#,
        r#"{"type":"string","pattern":"("}"#,
        r#"{"type":"integer","minimum":3,"maximum":2}"#,
        r##"{"$ref":"#/$defs/none"}"##,
    ] {
        let error = refused(json(bad)).to_string();
        assert!(error.starts_with("it cannot be used: ") && error.len() < 500, "{bad}: {error}");
    }
}

#[test]
fn a_reference_to_another_place_is_refused() {
    for address in ["https://example.com/schema.json", "file:///etc/passwd", "other.json"] {
        let schema = json!({ "$ref": address }).to_string();
        assert!(matches!(refused(json(&schema)), ConstraintError::Refused(_)), "{address}");
    }
}

#[test]
fn what_is_no_grammar_is_refused() {
    for bad in ["", "start: (", "start: missing", "no rules", "start: /(/", "start: start"] {
        let error = refused(grammar(bad));
        assert!(matches!(error, ConstraintError::Refused(_) | ConstraintError::DeadEnd), "{bad}: {error}");
    }
}

#[test]
fn sources_that_are_too_long_too_deep_or_repeat_too_much_are_refused_unread() {
    let long = format!("{{\"description\":\"{}\"}}", "x".repeat(bounds::LENGTH));
    assert!(matches!(refused(json(&long)), ConstraintError::TooLong(_)));
    let deep = format!("{}{}", "{\"items\":".repeat(101), "}".repeat(101));
    assert!(matches!(refused(json(&deep)), ConstraintError::TooDeep(_)));
    assert!(matches!(refused(grammar(&format!("start: {}", "(".repeat(200)))), ConstraintError::TooDeep(_)));
    let many = format!("start: /{}/", "a?".repeat(20_000));
    assert!(matches!(refused(grammar(&many)), ConstraintError::TooManyRepetitions(_)));
    let many = json!({ "items": { "pattern": "a?".repeat(20_000) } }).to_string();
    assert!(matches!(refused(json(&many)), ConstraintError::TooManyRepetitions(_)));
}

#[test]
fn sources_that_are_bombs_end_with_an_error_and_not_the_process() {
    let chain: String = (0..4_000).map(|rule| format!("a{rule}: a{}\n", rule + 1)).collect();
    let doubling: String = (0..60).map(|rule| format!("a{rule}: a{} a{}\n", rule + 1, rule + 1)).collect();
    let repeats = "(".repeat(8) + "/a/" + &"){1000}".repeat(8);
    for bomb in [
        format!("start: a0\n{chain}a4000: \"x\""),
        format!("start: a0\n{doubling}a60: \"x\""),
        format!("start: {repeats}"),
        "start: /(((a{1,100}){1,100}){1,100}){1,100}/".to_owned(),
        format!("start: /{}/", "a?".repeat(bounds::REPETITIONS)),
        format!("start: /{}/", "(ab)?c".repeat(bounds::REPETITIONS)),
        format!("start: /{}x/", ".*a".repeat(bounds::REPETITIONS)),
        "start: /(a?b?c?){5000}/".to_owned(),
        "start: /(.*a){5000}/".to_owned(),
        "start: A{1000}\nA: B{1000}\nB: /a?/".to_owned(),
    ] {
        walk(grammar(&bomb));
    }
    for bomb in [
        json!({"type": "array", "items": {}, "minItems": 1_000_000_000_u64}),
        json!({"type": "string", "minLength": 1_000_000_000_u64}),
        json!({"type": "string", "pattern": "^(a|b|ab)*c(.{1000}){1000}$"}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"allOf": (0..2_000).map(|n| json!({"not": {"const": n}})).collect::<Vec<_>>()}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}, {"type": "object"}]}]}),
        json!({"enum": (0..5_000).collect::<Vec<_>>()}),
    ] {
        walk(json(&bomb.to_string()));
    }
}

/// A source that compiles must also be followed within the limits.
fn walk(constraint: Result<Constraint, ConstraintError>) {
    let Ok(mut constraint) = constraint else { return };
    for _ in 0..50 {
        let Ok(allowed) = constraint.allowed() else { return };
        let Some(token) = allowed.iter().next() else { return };
        if constraint.accept(token).is_err() || constraint.is_finished() {
            return;
        }
    }
}

#[test]
fn a_vocabulary_without_tokens_or_ends_is_refused() {
    let tokens = || [(b"a".to_vec(), false)];
    assert!(Vocabulary::new([], &[0]).is_err());
    assert!(Vocabulary::new(tokens(), &[]).is_err());
    assert!(Vocabulary::new(tokens(), &[1]).is_err());
    assert!(Vocabulary::new(tokens(), &[0]).is_ok());
}

#[test]
fn a_vocabulary_that_lacks_the_bytes_is_a_dead_end() {
    let poor = Vocabulary::new([(b"a".to_vec(), false), (b"<end>".to_vec(), true)], &[1]).unwrap();
    let source = Source::Grammar("start: \"b\"".to_owned());
    assert!(Constraint::new(&poor, &source).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_texts_never_panic(text in ".{0,200}") {
        walk(grammar(&text));
        walk(grammar(&format!("start: {text}")));
        walk(json(&text));
        walk(json(&serde_json::json!({ "pattern": text }).to_string()));
    }
}
