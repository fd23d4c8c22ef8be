//! What must hold for every text: nothing planted leaves, an echo comes back as it was, and however an answer is
//! cut, it is restored alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use proptest::prelude::*;
use synesis_privacy::{Message, Policy, Vault};

/// Values with the words around them that make them what they are.
fn planted() -> impl Strategy<Value = (String, String)> {
    let whole = |value: String| (value.clone(), value);
    prop_oneof![
        "[a-z]{3,9}\\.[a-z]{2,9}@[a-z]{3,9}\\.(com|org|de)".prop_map(whole),
        "\\+4930[1-9][0-9]{6}".prop_map(whole),
        "(10|172|192|203)\\.[1-9][0-9]?\\.[1-9][0-9]\\.[1-9][0-9]".prop_map(whole),
        "ghp_[A-Za-z0-9]{36}".prop_map(whole),
        "sk-ant-api03-[A-Za-z0-9_-]{40}[a-z]".prop_map(whole),
        "[A-Z][a-z]{4}[0-9]{4}[!#$]x".prop_map(|value| (format!("password: {value}"), value)),
        "[a-z]{4}[0-9]{3}[A-Z]{3}".prop_map(|value| (format!("{{\"password\": \"{value}\"}}"), value)),
        "[a-z]{3}[0-9]{3}[A-Z]{3}"
            .prop_map(|value| (format!("postgres://app:{value}@db.example.org/x"), value)),
        "[a-z]{5,8}[0-9]{2}".prop_map(|value| (format!("/home/{value}/x"), value)),
    ]
}

/// Anything a person may type, with what the restorer and the rules care about mixed in.
fn filler() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "(\\[|\\]|EMAIL_|_7F3K|\\\\_|\\\\|API_KEY|[0-9A-Z]|é|日本|@|:| ){0,12}",
        Just("[EMAIL_7F3K]".to_owned()),
        Just("-----BEGIN RSA PRIVATE KEY-----\nabc".to_owned()),
    ]
}

fn policy() -> &'static Policy {
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(|| Policy::standard().unwrap())
}

fn send(text: &str, vault: &mut Vault) -> String {
    let message = Message::new("user", text);
    policy().redact(&[message], vault).unwrap().messages()[0].content().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_planted_value_leaves_and_an_echo_comes_back_as_it_was(
        parts in prop::collection::vec((filler(), planted()), 1..5),
        tail in filler(),
    ) {
        let mut text = String::new();
        for (before, (in_context, _)) in &parts {
            text.push_str(before);
            text.push('\n');
            text.push_str(in_context);
            text.push('\n');
        }
        text.push_str(&tail);
        let mut vault = Vault::with_seed(9);
        let sent = send(&text, &mut vault);
        for (_, (_, value)) in &parts {
            prop_assert!(!sent.contains(value.as_str()), "{value} in {sent}");
        }
        let mut restorer = vault.restorer();
        let back = restorer.push(&sent) + &restorer.finish();
        prop_assert_eq!(back, text);
        prop_assert_eq!(restorer.unknown(), 0);
    }

    #[test]
    fn arbitrary_text_survives_the_round_trip(text in any::<String>()) {
        let mut vault = Vault::with_seed(9);
        let sent = send(&text, &mut vault);
        let mut restorer = vault.restorer();
        prop_assert_eq!(restorer.push(&sent) + &restorer.finish(), text);
    }

    #[test]
    fn a_preview_explains_its_text(text in filler(), (planted, _) in planted()) {
        let text = format!("{text} {planted}");
        let preview = policy().preview(&text).unwrap();
        let mut rebuilt = String::new();
        let mut at = 0;
        for span in &preview.spans {
            prop_assert!(span.start >= at && span.end > span.start);
            rebuilt.push_str(&text[at..span.start]);
            rebuilt.push_str(&span.placeholder);
            at = span.end;
        }
        rebuilt.push_str(&text[at..]);
        prop_assert_eq!(rebuilt, preview.text);
    }

    #[test]
    fn random_cuts_restore_like_the_whole(
        parts in prop::collection::vec(filler(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut vault = Vault::with_seed(9);
        let held = send("ann@example.org", &mut vault);
        let answer = parts.join(&held);
        let mut places: Vec<_> = cuts.iter().map(|cut| answer.floor_char_boundary(cut.index(answer.len() + 1))).collect();
        places.sort_unstable();
        prop_assert_eq!(restored(&vault, &answer, &places), restored(&vault, &answer, &[]));
    }
}

/// The restored answer and the number of unknown placeholders, with `answer` cut at `places`.
fn restored(vault: &Vault, answer: &str, places: &[usize]) -> (String, u32) {
    let mut restorer = vault.restorer();
    let mut out = String::new();
    let mut at = 0;
    for place in places.iter().copied().chain([answer.len()]) {
        out.push_str(&restorer.push(&answer[at..place]));
        at = place;
    }
    out.push_str(&restorer.finish());
    (out, restorer.unknown())
}

#[test]
fn every_pair_of_cuts_restores_like_the_whole_and_holds_back_less_than_a_placeholder() {
    let mut vault = Vault::with_seed(4);
    let mail = send("ann@example.org", &mut vault);
    let ip = send("203.0.113.7", &mut vault);
    let escaped = ip.replace('_', "\\_");
    let answer = format!("é[{mail}]{} [EMAIL_0002] [[{ip} {escaped}[IP\\ [API_KEY", mail.to_lowercase());
    let whole = restored(&vault, &answer, &[]);
    assert!(whole.0.contains("203.0.113.7") && whole.1 == 1, "{whole:?}");
    let places: Vec<_> = (0..=answer.len()).filter(|at| answer.is_char_boundary(*at)).collect();
    for first in &places {
        let mut restorer = vault.restorer();
        let shown = restorer.push(&answer[..*first]);
        let held = restorer.finish();
        assert!(held.len() < 48 && (held.is_empty() || held.starts_with('[')), "{shown} | {held}");
        for second in places.iter().filter(|second| *second >= first) {
            assert_eq!(restored(&vault, &answer, &[*first, *second]), whole, "cut at {first} and {second}");
        }
    }
}
