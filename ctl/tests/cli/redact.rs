//! `redact`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;
use synesis_proto::control::v1::Span;

use crate::fake::{Fake, Script};
use crate::run::{Running, command, synctl, synctl_with_input};

/// Hides the first four bytes of every text that has them.
fn fake() -> Fake {
    let span = Span {
        r#type: "USERNAME".into(),
        start: 0,
        end: 4,
        placeholder: "[USERNAME_1]".into(),
        rule: "fake.first_four".into(),
    };
    Fake::start(Script { preview: vec![span], ..Script::default() })
}

#[test]
fn one_text_gives_one_object_with_its_spans() {
    let fake = fake();
    let expected = json!({
        "schema": "synesis.redact/1", "text": "[USERNAME_1] was here\n", "detector_version": "fake/1",
        "spans": [{"type": "USERNAME", "start": 0, "end": 4, "placeholder": "[USERNAME_1]", "rule": "fake.first_four"}],
    });
    let path = fake.file("text", "mary was here\n");
    let named = synctl(&fake.socket, &["redact", path.to_str().unwrap(), "--json"]).expect(0);
    assert_eq!(named.object(), expected);
    for arguments in [&["redact", "--json"][..], &["redact", "-", "--json"]] {
        let piped = synctl_with_input(&fake.socket, arguments, b"mary was here\n").expect(0);
        assert_eq!(piped.object(), expected);
    }
}

#[test]
fn people_see_the_text_and_a_table_of_spans() {
    let ended = synctl_with_input(&fake().socket, &["redact"], b"mary was here").expect(0);
    let expected = "[USERNAME_1] was here\n\nTYPE      BYTES  PLACEHOLDER   RULE\n\
                    USERNAME  0..4   [USERNAME_1]  fake.first_four\n";
    assert_eq!(ended.stdout, expected);
}

#[test]
fn lines_are_answered_in_order_one_for_one() {
    let input: String = (0..5_000).map(|n| format!("{{\"text\":\"mary {n}\",\"id\":{n}}}\n")).collect();
    let ended = synctl_with_input(&fake().socket, &["redact", "--lines"], input.as_bytes()).expect(0);
    let results = ended.objects();
    assert_eq!(results.len(), 5_000);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["text"], format!("[USERNAME_1] {n}"));
    }
}

#[test]
fn a_line_is_answered_while_the_next_is_not_there_yet() {
    let fake = fake();
    let mut running =
        Running::start(command(&fake.socket, &["redact", "--lines", "-"]).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    for name in ["mary", "jane"] {
        writeln!(stdin, "{{\"text\":\"{name} x\"}}").unwrap();
        assert!(running.line().contains("\"text\":\"[USERNAME_1] x\""));
    }
    drop(stdin);
    assert_eq!(running.finish().expect(0).stdout, "");
}

#[test]
fn a_bad_line_is_named_and_the_lines_before_it_are_answered() {
    let fake = fake();
    let input = b"{\"text\":\"mary\"}\n{\"text\":\"jane\"}\n{\"txet\":\"oops\"}\n{\"text\":\"never\"}\n";
    let ended = synctl_with_input(&fake.socket, &["redact", "--lines"], input);
    let ended = ended.expect_failure(2, "line 3 is not a JSON object");
    assert_eq!(ended.objects().len(), 2);
    let ended = synctl_with_input(&fake.socket, &["redact", "--lines", "--json"], input).expect(2);
    assert_eq!(ended.error()["reason"], "BAD_INPUT");
}

#[test]
fn no_lines_give_no_results() {
    let ended = synctl_with_input(&fake().socket, &["redact", "--lines"], b"").expect(0);
    assert_eq!(ended.stdout, "");
}

#[test]
fn input_that_cannot_be_read_is_a_clear_error() {
    let fake = fake();
    let missing = fake.dir.path().join("missing");
    synctl(&fake.socket, &["redact", missing.to_str().unwrap()]).expect_failure(9, "cannot read");
    synctl(&fake.socket, &["redact", "--lines", missing.to_str().unwrap()]).expect_failure(9, "cannot read");
    synctl(&fake.socket, &["redact", fake.dir.path().to_str().unwrap()]).expect_failure(1, "cannot read");
    synctl_with_input(&fake.socket, &["redact"], b"ab\xffcd").expect_failure(2, "byte 2");
}
