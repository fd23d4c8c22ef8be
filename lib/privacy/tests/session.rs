//! One session: what a vault remembers across messages and requests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use synesis_privacy::{Message, Policy, RedactError, Vault};

fn redact(policy: &Policy, vault: &mut Vault, messages: &[(&str, &str)]) -> Vec<String> {
    let messages: Vec<_> = messages.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    policy.redact(&messages, vault).unwrap().messages().iter().map(|m| m.content().to_owned()).collect()
}

#[test]
fn every_message_of_a_request_is_redacted_and_counted() {
    let policy = Policy::standard().unwrap();
    let roles = ["system", "user", "assistant", "tool"];
    let messages = roles.map(|role| Message::new(role, format!("{role}@example.org from 203.0.113.9")));
    let redacted = policy.redact(&messages, &mut Vault::with_seed(1)).unwrap();
    for (message, role) in redacted.messages().iter().zip(roles) {
        assert_eq!(message.role().as_str(), role);
        assert!(
            !message.content().contains('@') && !message.content().contains("203"),
            "{}",
            message.content()
        );
    }
    let counts: Vec<_> = redacted.counts().iter().map(|(kind, n)| (kind.as_str(), *n)).collect();
    assert_eq!(counts, [("EMAIL", 4), ("IP_ADDRESS", 4)]);
    assert_eq!(redacted.detector_version(), synesis_privacy::DETECTOR_VERSION);
}

#[test]
fn an_unknown_role_is_refused_without_being_repeated() {
    let policy = Policy::standard().unwrap();
    let messages = [Message::new("user", "hi"), Message::new("bob@example.org", "hi")];
    let error = policy.redact(&messages, &mut Vault::with_seed(1)).unwrap_err();
    assert!(matches!(error, RedactError::Role { index: 1, .. }));
    assert!(!format!("{error} {error:?}").contains("bob"));
}

#[test]
fn a_value_keeps_its_placeholder_over_a_thousand_turns() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    let first = redact(&policy, &mut vault, &[("user", "ann@example.org")]).remove(0);
    for turn in 0..1_000 {
        let other = format!("user{turn}@example.org and ann@example.org");
        let text = redact(&policy, &mut vault, &[("user", &other)]).remove(0);
        assert!(text.ends_with(&first), "turn {turn}: {text}");
    }
}

#[test]
fn a_password_named_once_is_hidden_without_its_context_before_and_after() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    let texts = redact(&policy, &mut vault, &[("system", "try xK9fooBar"), ("user", "password: xK9fooBar")]);
    assert!(texts.iter().all(|text| !text.contains("xK9fooBar")), "{texts:?}");
    let later = redact(&policy, &mut vault, &[("user", "why does xK9fooBar not work?")]).remove(0);
    assert!(!later.contains("xK9fooBar"), "{later}");
}

#[test]
fn a_placeholder_the_user_typed_is_hidden_and_comes_back_as_typed() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    let held = redact(&policy, &mut vault, &[("user", "ann@example.org")]).remove(0);
    let typed = format!("what is {} or [phone_12]?", held.to_lowercase());
    let sent = redact(&policy, &mut vault, &[("user", &typed)]).remove(0);
    assert!(!sent.to_lowercase().contains(&held.to_lowercase()) && !sent.contains("phone_12"), "{sent}");
    let mut restorer = vault.restorer();
    assert_eq!(restorer.push(&sent) + &restorer.finish(), typed);
    assert_eq!(restorer.unknown(), 0);
}

#[test]
fn an_empty_request_and_an_empty_message_are_no_error() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    assert!(redact(&policy, &mut vault, &[]).is_empty());
    assert_eq!(redact(&policy, &mut vault, &[("user", "")]), [""]);
    assert!(vault.is_empty());
}

#[test]
fn debug_of_clear_text_shows_nothing() {
    let message = Message::new("user", "ann@example.org");
    assert_eq!(format!("{message:?}"), "Message(..)");
}

#[test]
fn a_value_in_another_case_is_hidden_and_comes_back_as_typed() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    redact(&policy, &mut vault, &[("user", "password: xK9fooBar")]);
    let typed = "is XK9FOOBAR or xk9foobar the same as xK9fooBar?";
    let sent = redact(&policy, &mut vault, &[("user", typed)]).remove(0);
    assert!(!sent.to_lowercase().contains("xk9foobar"), "{sent}");
    let mut restorer = vault.restorer();
    assert_eq!(restorer.push(&sent) + &restorer.finish(), typed);
}

#[test]
fn the_secret_inside_a_url_or_a_connection_string_is_hidden_alone() {
    let policy = Policy::standard().unwrap();
    for (first, secret) in [
        ("postgres://app:Tr0ub4dor@db/app", "Tr0ub4dor"),
        ("https://bob:Tr0ub4dor@git.example.org/x", "Tr0ub4dor"),
        ("host=h port=1 user=u password=Tr0ub4dor now", "Tr0ub4dor"),
        ("\"Server=db;User Id=sa;Password=Tr0ub4dor;\"", "Tr0ub4dor"),
        ("jdbc:mysql://h:3306/d?user=u&password=Tr0ub4dor", "Tr0ub4dor"),
        ("DB_PASSWORD=blue_monkey", "blue_monkey"),
    ] {
        let mut vault = Vault::with_seed(1);
        let later = format!("is {secret} too short?");
        let sent = redact(&policy, &mut vault, &[("user", first), ("user", &later)]).remove(1);
        assert!(!sent.contains(secret), "{first}: {sent}");
    }
}

#[test]
fn a_password_that_is_a_common_word_does_not_hide_the_word() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    let texts =
        redact(&policy, &mut vault, &[("user", "password: admin"), ("user", "ask the admin of postgres")]);
    assert_eq!(texts[1], "ask the admin of postgres");
}

#[test]
fn a_placeholder_with_escaped_underscores_is_restored() {
    let policy = Policy::standard().unwrap();
    let mut vault = Vault::with_seed(1);
    let held = redact(&policy, &mut vault, &[("user", "203.0.113.9")]).remove(0);
    let mut restorer = vault.restorer();
    assert_eq!(restorer.push(&held.replace('_', "\\_")) + &restorer.finish(), "203.0.113.9");
    assert_eq!(restorer.unknown(), 0);
}
