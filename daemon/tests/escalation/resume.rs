//! Answers that survive the tunnel: the line is cut at every place there is, and the user sees one whole answer.

use std::sync::Arc;

use synesis_mesh::gateway::Session;
use synesis_mesh::kind::{ErrorCode, StreamKind};
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1::{self, ask_down, ask_up};
use synesis_proto::{Problem, reason};
use synesisd::escalation::EscalationError;

use super::fixture::{Asking, World};

const WORDS: [&str; 4] = ["one ", "two ", "three ", "four"];
/// Acceptance, words, end, receipt.
const FRAMES: usize = 1 + WORDS.len() + 2;

/// What a stream begins with.
enum First {
    Start(v1::AskStart),
    Resume(v1::AskResume),
    Cancel,
}

async fn arrives(session: &Session) -> (WorkStream, First) {
    let mut stream = session.work().await.unwrap();
    assert_eq!(stream.header.kind, StreamKind::Ask);
    let first = match stream.rx.read::<v1::AskUp>().await.unwrap().unwrap().message {
        Some(ask_up::Message::Start(start)) => First::Start(start),
        Some(ask_up::Message::Resume(resume)) => First::Resume(resume),
        Some(ask_up::Message::Cancel(_)) => First::Cancel,
        other => panic!("no first frame but {other:?}"),
    };
    (stream, first)
}

async fn resumes(session: &Session) -> (WorkStream, v1::AskResume) {
    match arrives(session).await {
        (stream, First::Resume(resume)) => (stream, resume),
        _ => panic!("it does not resume"),
    }
}

/// Frame `number` of the answer; 0 is its acceptance.
async fn say(world: &World, asking: &mut Asking, number: usize) {
    match number {
        0 => asking.accept(500).await,
        n if n <= WORDS.len() => asking.delta(n as u64, WORDS[n - 1]).await,
        n if n == WORDS.len() + 1 => asking.finish(WORDS.len() as u64).await,
        _ => {
            let signed = world.key.sign(world.receipt(asking));
            let receipt =
                v1::AskReceipt { signed_receipt: signed.to_bytes().into(), seq: WORDS.len() as u64 + 2 };
            asking.say(ask_down::Message::Receipt(receipt)).await;
        }
    }
}

/// Serves the rest of the answer as a gateway does.
async fn serve(world: &World, mut asking: Asking, from: usize) -> WorkStream {
    say(world, &mut asking, 0).await;
    for number in from..FRAMES {
        say(world, &mut asking, number).await;
    }
    asking.stream
}

/// Whether the device says that it has everything.
async fn done(stream: &mut WorkStream) {
    let last = stream.rx.read::<v1::AskUp>().await.unwrap().unwrap().message;
    assert!(matches!(last, Some(ask_up::Message::Done(_))), "{last:?}");
}

#[tokio::test]
async fn a_cut_after_any_frame_costs_no_word_and_nothing_twice() {
    for sent in 0..FRAMES {
        for clean in [true, false] {
            let world = World::resuming().await;
            let ((answer, text), ()) = tokio::join!(world.ask(), async {
                let mut asking = world.asked().await;
                for number in 0..sent {
                    say(&world, &mut asking, number).await;
                }
                if clean {
                    // Everything that was said arrives, and then the stream is over.
                    asking.end().await;
                } else {
                    // What is still on its way is lost.
                    world.gateway.close(ErrorCode::Draining, "cut");
                }
                let (start, second);
                let session = if clean {
                    &world.gateway
                } else {
                    second = world.reconnected().await;
                    &second
                };
                let (stream, first) = arrives(session).await;
                let from = match first {
                    First::Start(again) => {
                        assert_eq!(again, asking.start, "byte for byte the same");
                        start = again;
                        1
                    }
                    First::Resume(resume) => {
                        let asked = usize::try_from(resume.from_seq).unwrap();
                        assert!(!clean || asked == sent, "after {sent} frames it asks from {asked}");
                        start = asking.start.clone();
                        asked
                    }
                    First::Cancel => panic!("nobody cancels"),
                };
                let mut stream = serve(&world, Asking { stream, start }, from).await;
                done(&mut stream).await;
            });
            let answer = answer.unwrap();
            assert_eq!(text, WORDS.concat(), "after {sent} frames");
            assert!(answer.receipt.is_some());
            assert_eq!((answer.model.as_str(), world.open()), ("big", 0));
            assert_eq!(world.escalation.journal.receipts().await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn an_answer_goes_on_over_many_cuts() {
    let world = World::resuming().await;
    let ((answer, text), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        say(&world, &mut asking, 0).await;
        let start = asking.start.clone();
        let mut number = 1;
        loop {
            say(&world, &mut asking, number).await;
            asking.end().await;
            let (stream, resume) = resumes(&world.gateway).await;
            number = usize::try_from(resume.from_seq).unwrap();
            asking = Asking { stream, start: start.clone() };
            say(&world, &mut asking, 0).await;
            if number == FRAMES - 1 {
                say(&world, &mut asking, number).await;
                return done(&mut asking.stream).await;
            }
        }
    });
    assert_eq!((text, answer.unwrap().receipt.is_some()), (WORDS.concat(), true));
}

#[tokio::test]
async fn frames_that_do_not_go_on_where_it_was_break_the_protocol() {
    // Repeated, missing, without acceptance, of another model.
    for (accepted, seq) in [(Some("big"), 1), (Some("big"), 3), (None, 2), (Some("other"), 2)] {
        let world = World::resuming().await;
        let ((answer, text), ()) = tokio::join!(world.ask(), async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            asking.delta(1, "one ").await;
            asking.end().await;
            let (stream, _) = resumes(&world.gateway).await;
            let mut asking = Asking { stream, start: asking.start };
            if let Some(model) = accepted {
                let again = v1::AskAccepted { model: model.to_owned(), held_nanousd: 500, price_version: 1 };
                asking.say(ask_down::Message::Accepted(again)).await;
            }
            // The device may have hung up by now.
            let delta = ask_down::Message::Delta(v1::AskDelta { seq, text: "two ".to_owned() });
            let _ = asking.stream.tx.write(&v1::AskDown { message: Some(delta) }).await;
            while let Ok(Some(_)) = asking.stream.rx.read::<v1::AskUp>().await {}
        });
        assert!(matches!(answer, Err(EscalationError::Protocol(_))), "{accepted:?} {seq}: {answer:?}");
        assert_eq!((text.as_str(), world.open()), ("one ", 1));
    }
}

#[tokio::test]
async fn an_answer_that_the_gateway_does_not_keep_is_interrupted_and_stays_open() {
    let refusals = [ErrorCode::ResumeUnknown, ErrorCode::Superseded, ErrorCode::BadFrame];
    for code in refusals {
        let world = World::resuming().await;
        let ((answer, text), ()) = tokio::join!(world.ask(), async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            asking.delta(1, "half").await;
            asking.end().await;
            let (stream, _) = resumes(&world.gateway).await;
            let mut asking = Asking { stream, start: asking.start };
            asking.say(ask_down::Message::Problem(code.problem("no", ""))).await;
            asking.end().await;
        });
        assert_eq!(Problem::from(answer.unwrap_err()).reason, reason::INTERRUPTED, "{code}");
        assert_eq!((text.as_str(), world.open()), ("half", 1));
    }
}

#[tokio::test]
async fn a_gateway_that_is_busy_or_leaving_is_asked_again() {
    let world = World::resuming().await;
    let ((answer, text), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.delta(1, WORDS[0]).await;
        asking.end().await;
        for code in [ErrorCode::Draining, ErrorCode::RateLimited] {
            let (stream, resume) = resumes(&world.gateway).await;
            assert_eq!(resume.from_seq, 2);
            stream.refuse(code, "later", "").await.unwrap();
        }
        let (stream, _) = resumes(&world.gateway).await;
        done(&mut serve(&world, Asking { stream, start: asking.start }, 2).await).await;
    });
    assert_eq!((text, answer.is_ok()), (WORDS.concat(), true));
}

#[tokio::test]
async fn a_request_that_was_cut_before_its_acceptance_is_not_closed_by_a_door_that_is_shut() {
    let world = World::resuming().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        world.asked().await.end().await;
        let (stream, _) = arrives(&world.gateway).await;
        stream.refuse(ErrorCode::Draining, "later", "").await.unwrap();
        assert_eq!(world.open_in_all(), 1, "it may be running");
        let (stream, first) = arrives(&world.gateway).await;
        let First::Start(start) = first else { panic!("nothing was accepted") };
        let mut asking = Asking { stream, start };
        asking.say(ask_down::Message::Problem(ErrorCode::RequestKnown.problem("known", ""))).await;
        asking.end().await;
    });
    assert!(answer.is_err());
    assert_eq!(world.open(), 1, "it may have been charged");
}

#[tokio::test]
async fn a_tunnel_that_stays_away_for_longer_than_the_window_ends_the_answer() {
    let mut world = World::resuming().await;
    world.escalation.resume.window = std::time::Duration::from_millis(300);
    let ((answer, text), _endpoint) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.delta(1, "half").await;
        world.gateway.close(ErrorCode::Draining, "for good");
    });
    assert_eq!(Problem::from(answer.unwrap_err()).reason, reason::INTERRUPTED);
    assert!(text == "half" || text.is_empty(), "{text}");
    assert_eq!(world.open(), 1);
}

#[tokio::test]
async fn a_user_who_gives_up_while_the_tunnel_is_down_is_heard_on_the_next_connection() {
    let world = World::resuming().await;
    let request_id = {
        let cut = async {
            let mut asking = world.asked().await;
            asking.accept(500).await;
            world.gateway.close(ErrorCode::Draining, "cut");
            asking.stream.header.request_id
        };
        tokio::select! {
            _ = world.ask() => panic!("the answer has no end"),
            id = cut => id,
        }
    };
    let session = Arc::new(world.reconnected().await);
    tokio::join!(world.reconcile(), async {
        let (stream, first) = arrives(&session).await;
        assert!(matches!(first, First::Cancel));
        assert_eq!(stream.header.request_id, request_id);
        drop(stream);
        world.tell_on(&session, "released", None).await;
    });
    assert_eq!(world.open(), 0);
}

#[tokio::test]
async fn a_request_that_is_being_resumed_is_not_reconciled() {
    let world = World::resuming().await;
    let ((answer, _), ()) = tokio::join!(world.ask(), async {
        let mut asking = world.asked().await;
        asking.accept(500).await;
        asking.end().await;
        let (stream, _) = resumes(&world.gateway).await;
        assert!(world.escalation.journal.unsettled().is_empty(), "somebody works on it");
        assert_eq!(world.open_in_all(), 1);
        done(&mut serve(&world, Asking { stream, start: asking.start }, 1).await).await;
    });
    answer.unwrap();
}
