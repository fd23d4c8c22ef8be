//! Escalation and reconciliation over a real tunnel, against a gateway that says what each test wants it to.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test, a panic is the report")]

mod enrolment;
mod fixture;
mod limit;
mod resume;
mod transfers;

use std::time::Duration;

use fixture::World;
use synesis_ledger::SigningKey;
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1::{AskReceipt, AskUp, ask_down};
use synesis_proto::{Problem, reason};
use synesisd::escalation::EscalationError;
use synesisd::journal::Intent;

#[tokio::test]
async fn a_whole_answer_is_restored_and_comes_with_its_receipt() {
    let world = World::start().await;
    let ((answer, text), signed) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        assert_eq!(asking.stream.header.timeout, Some(Duration::from_secs(600)), "how long anybody waits");
        let prompt = asking.prompt();
        assert!(prompt.starts_with("mail [EMAIL_") && !prompt.contains("ann@"), "{prompt}");
        asking.accept(500).await;
        // The placeholder is cut in two.
        let (head, tail) = prompt.split_at(prompt.len() - 3);
        asking.delta(1, head).await;
        asking.delta(2, tail).await;
        asking.delta(3, ": sent to [EMAIL_9").await;
        asking.finish(3).await;
        let signed = world.key.sign(world.receipt(&asking));
        asking.hand_over(&signed).await;
        signed
    });
    let answer = answer.unwrap();
    assert_eq!(text, "mail ann@example.org: sent to [EMAIL_9");
    assert_eq!((answer.model.as_str(), answer.finish_reason.as_str()), ("big", "stop"));
    assert_eq!(answer.receipt, Some(signed));
    assert_eq!(world.open(), 0);
}

#[tokio::test]
async fn calls_of_tools_are_restored_and_escaped_for_where_they_stand() {
    let world = World::start().await;
    let ((answer, text), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        let prompt = asking.prompt();
        let hidden = prompt.strip_prefix("mail ").unwrap();
        asking.accept(500).await;
        asking.call(0, &format!(r#"[{{"id":"c1","function":{{"arguments":"{{\"to\":\"{hidden}\",\"cc\":\"[EMAIL_9ZZ9]\"}}"}}}}]"#)).await;
        let signed = world.key.sign(world.receipt(&asking));
        asking.hand_over(&signed).await;
    });
    let answer = answer.unwrap();
    let calls =
        r#"[{"id":"c1","function":{"arguments":"{\"to\":\"ann@example.org\",\"cc\":\"[EMAIL_9ZZ9]\"}"}}]"#;
    assert_eq!(answer.tool_calls.as_deref(), Some(calls));
    assert_eq!((answer.finish_reason.as_str(), text.as_str()), ("tool_calls", ""));
    assert_eq!(answer.unknown_placeholders, 1);
}

#[tokio::test]
async fn calls_that_are_no_json_or_too_long_break_the_protocol_and_leave_the_request_open() {
    for calls in ["[{".to_owned(), format!("[\"{}\"]", "x".repeat(256 * 1024))] {
        let world = World::start().await;
        let ((answer, _), ()) = tokio::join!(world.ask(), async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            asking.call(0, &calls).await;
            asking.end().await;
        });
        assert!(matches!(answer, Err(EscalationError::Protocol(_))), "{answer:?}");
        assert_eq!(world.open(), 1);
    }
}

#[tokio::test]
async fn parts_that_are_missing_repeated_or_too_early_break_the_protocol_and_leave_the_request_open() {
    for seqs in [&[2_u64][..], &[1, 1], &[1, 3], &[1, 0]] {
        let world = World::start().await;
        let ((answer, _), ()) = tokio::join!(world.ask(), async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            for seq in seqs {
                asking.delta(*seq, "word ").await;
            }
            // The device hangs up.
            assert!(asking.stream.rx.read::<AskUp>().await.is_err());
        });
        assert!(matches!(answer, Err(EscalationError::Protocol(_))), "{seqs:?}: {answer:?}");
        assert_eq!(world.open(), 1, "{seqs:?}");
    }
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.delta(1, "too early").await;
        assert!(asking.stream.rx.read::<AskUp>().await.is_err());
    });
    assert!(matches!(answer, Err(EscalationError::Protocol(_))), "{answer:?}");
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.delta(1, "one").await;
        asking.finish(2).await;
        assert!(asking.stream.rx.read::<AskUp>().await.is_err());
    });
    assert!(
        matches!(answer, Err(EscalationError::Protocol(_))),
        "the end names a part that never came: {answer:?}"
    );
}

#[tokio::test]
async fn an_answer_longer_than_any_session_breaks_the_protocol() {
    let world = World::start().await;
    let ((answer, text), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        let piece = "x".repeat(16 * 1024);
        for seq in 1..=32 {
            asking.delta(seq, &piece).await;
        }
        asking.delta(33, "!").await;
        assert!(asking.stream.rx.read::<AskUp>().await.is_err(), "the device hangs up");
    });
    assert!(matches!(answer, Err(EscalationError::Protocol(_))), "{answer:?}");
    assert_eq!(text.len(), 512 * 1024);
    assert_eq!(world.open(), 1, "what was made is settled");
}

#[tokio::test]
async fn a_refusal_before_anything_is_held_closes_the_request() {
    let world = World::with_limit(Some(1_000)).await;
    let refusals = [
        (ErrorCode::CeilingReached, reason::CEILING_REACHED),
        (ErrorCode::OverMaxCharge, reason::DAILY_LIMIT),
        (ErrorCode::Draining, reason::GATEWAY_UNREACHABLE),
    ];
    for (code, reason) in refusals {
        let ((answer, _), ()) = tokio::join!(world.ask(), async {
            let mut asking = world.asked().await;
            asking.say(ask_down::Message::Problem(code.problem("no", "do this"))).await;
            asking.end().await;
        });
        assert_eq!(Problem::from(answer.unwrap_err()).reason, reason);
        assert_eq!(world.open(), 0, "{code}");
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_the_stream_itself_is_heard_too() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let stream = world.gateway.work().await.unwrap();
        let mut problem = ErrorCode::RateLimited.problem("slowly", "try again in 30 seconds");
        problem.retry_after_ms = 30_000;
        stream.refuse_with(problem).await.unwrap();
    });
    let problem = Problem::from(answer.unwrap_err());
    assert_eq!(
        (problem.reason.as_str(), problem.retry_after, problem.next_step.as_str()),
        (reason::RATE_LIMITED, Some(Duration::from_secs(30)), "try again in 30 seconds")
    );
    // What was meant to be asked is in the journal, as something that cost nothing.
    assert_eq!(world.open(), 0);
}

#[tokio::test]
async fn a_gateway_that_has_too_much_to_do_says_when_to_come_back() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        let mut busy = ErrorCode::RateLimited.problem("64 requests wait", "");
        busy.retry_after_ms = 1_500;
        asking.say(ask_down::Message::Problem(busy)).await;
        asking.end().await;
    });
    let problem = Problem::from(answer.unwrap_err());
    assert_eq!(
        (problem.reason.as_str(), problem.retry_after),
        (reason::RATE_LIMITED, Some(Duration::from_millis(1_500)))
    );
}

#[tokio::test]
async fn a_device_that_is_revoked_in_the_middle_of_an_answer_is_told_so() {
    let world = World::start().await;
    let ((answer, _), _asking) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.delta(1, "half").await;
        world.gateway.close(ErrorCode::Revoked, "this device was revoked");
        asking
    });
    let problem = Problem::from(answer.unwrap_err());
    assert_eq!(problem.reason, reason::REVOKED, "{problem:?}");
    assert_eq!(world.open(), 1, "what was made may be charged");
}

#[tokio::test]
async fn a_request_that_the_gateway_knows_already_stays_open() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.say(ask_down::Message::Problem(ErrorCode::RequestKnown.problem("known", ""))).await;
        asking.end().await;
    });
    assert!(matches!(answer, Err(EscalationError::Refused { .. })), "{answer:?}");
    assert_eq!(world.open(), 1, "it may have been charged");
}

#[tokio::test]
async fn a_failure_after_the_hold_stays_open_until_the_gateway_says_released() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        let failed = ErrorCode::ProviderUnavailable.problem("it is down", "try again");
        asking.say(ask_down::Message::Problem(failed)).await;
        asking.end().await;
    });
    assert_eq!(Problem::from(answer.unwrap_err()).reason, reason::PROVIDER_FAILED);
    assert_eq!(world.open(), 1);
    tokio::join!(world.reconcile(), async {
        world.tell("held", None).await;
        world.tell("released", None).await;
    });
    assert_eq!(world.open(), 0);
}

#[tokio::test]
async fn a_request_the_gateway_does_not_know_is_closed_only_when_it_cannot_arrive_any_more() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        drop(world.asked().await);
    });
    assert!(answer.is_err());
    let tried = async {
        world.tell("unknown", None).await;
        world.tell("unknown", None).await;
    };
    tokio::select! {
        () = world.reconcile() => panic!("it may still be on its way"),
        () = tried => {}
    }
    let young = world.escalation.journal.unsettled().remove(0);
    tokio::join!(world.reconcile(), world.tell("released", None));

    let old = Intent { at_ms: 0, ..young };
    drop(world.escalation.journal.begin(old).await.unwrap());
    tokio::join!(world.reconcile(), world.tell("unknown", None));
    assert_eq!(world.open(), 0);
}

#[tokio::test]
async fn an_answer_whose_receipt_is_lost_is_whole_and_the_receipt_is_fetched() {
    let world = World::start().await;
    let ((answer, text), signed) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.delta(1, "done").await;
        asking.finish(1).await;
        asking.end().await;
        world.key.sign(world.receipt(&asking))
    });
    assert_eq!((answer.unwrap().receipt, text.as_str()), (None, "done"));
    assert_eq!(world.open(), 1);
    tokio::join!(world.reconcile(), world.tell("settled", Some(&signed)));
    let rows = world.escalation.journal.receipts().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].body, signed.to_bytes());
}

#[tokio::test]
async fn a_gateway_that_cannot_settle_does_not_take_the_answer_back() {
    let world = World::start().await;
    let ((answer, text), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.delta(1, "done").await;
        asking.finish(1).await;
        asking.say(ask_down::Message::Problem(ErrorCode::StoreFailed.problem("full", ""))).await;
        asking.end().await;
    });
    assert!(answer.unwrap().receipt.is_none());
    assert_eq!((text.as_str(), world.open()), ("done", 1));
}

#[tokio::test]
async fn a_stream_that_is_cut_in_the_middle_is_an_interruption_when_nobody_waits_for_the_tunnel() {
    let world = World::start().await;
    for orderly in [true, false] {
        let ((answer, text), ()) = tokio::join!(world.ask(), async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            asking.delta(1, "half").await;
            if orderly {
                asking.end().await;
            } else {
                asking.stream.tx.reset(ErrorCode::Internal);
            }
        });
        assert_eq!(Problem::from(answer.unwrap_err()).reason, reason::INTERRUPTED);
        assert!(text == "half" || !orderly, "{text}");
    }
    assert_eq!(world.open(), 2);
}

#[tokio::test]
async fn a_receipt_signed_by_another_key_is_none() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.finish(0).await;
        let forged = SigningKey::generate([8; 32]).sign(world.receipt(&asking));
        asking.hand_over(&forged).await;
    });
    assert!(answer.unwrap().receipt.is_none());
    assert_eq!(world.open(), 1);
    assert!(world.escalation.journal.receipts().await.unwrap().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_receipt_are_none() {
    let world = World::start().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.finish(0).await;
        asking
            .say(ask_down::Message::Receipt(AskReceipt { signed_receipt: vec![0; 9].into(), seq: 0 }))
            .await;
        asking.end().await;
    });
    assert!(answer.unwrap().receipt.is_none());
    assert_eq!(world.open(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_resets_the_stream_and_the_request_stays_open() {
    let world = World::start().await;
    let mut asking = {
        let until_accepted = async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            asking.delta(1, "half").await;
            asking
        };
        tokio::select! {
            _ = world.ask() => panic!("the answer has no end"),
            asking = until_accepted => asking,
        }
    };
    let read = asking.stream.rx.read::<AskUp>().await;
    assert!(matches!(read, Err(FrameError::Reset(Some(ErrorCode::Cancelled)))), "{read:?}");
    assert_eq!(world.open(), 1);
}
