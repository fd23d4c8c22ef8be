//! What sessions remember, for whom, and for how long.

use std::time::Duration;

use synesis_supervise::{Context, HealthBoard, Subsystem as _};
use tokio_util::sync::CancellationToken;

use super::table::{IDLE, MAX_OF_ONE, MAX_SESSIONS};
use super::*;

fn user(text: &str) -> Vec<Message> {
    vec![Message::new("user", text)]
}

fn contents(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.content.as_str()).collect()
}

#[tokio::test]
async fn a_session_remembers_its_turns_and_belongs_to_its_user() {
    let sessions = Sessions::default();
    {
        let mut session = sessions.enter(1000, "s").await.unwrap();
        let asked = session.with(&user("one")).unwrap();
        session.remember(asked, "1", None);
    }
    let mine = sessions.enter(1000, "s").await.unwrap();
    assert_eq!(contents(&mine.with(&user("two")).unwrap()), ["one", "1", "two"]);
    let theirs = sessions.enter(1001, "s").await.unwrap();
    assert_eq!(contents(&theirs.with(&user("two")).unwrap()), ["two"]);
}

#[test]
fn an_answer_is_remembered_to_the_letter_with_its_calls() {
    let mut session = Session::default();
    let asked = session.with(&user(" leading and trailing \n")).unwrap();
    session.remember(asked, "\n an answer \t", Some("[]"));
    let next = session.with(&user("next")).unwrap();
    assert_eq!(contents(&next), [" leading and trailing \n", "\n an answer \t", "next"]);
    assert_eq!(next[1].tool_calls.as_deref(), Some("[]"));
}

#[tokio::test]
async fn a_turn_that_failed_leaves_no_trace() {
    let sessions = Sessions::default();
    let asked = sessions.enter(0, "s").await.unwrap().with(&user("lost")).unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(contents(&sessions.enter(0, "s").await.unwrap().with(&user("next")).unwrap()), ["next"]);
}

#[tokio::test]
async fn a_new_system_message_replaces_the_old_one() {
    let mut session = Session::default();
    let asked = session.with(&[Message::new("system", "be brief"), Message::new("user", "a")]).unwrap();
    session.remember(asked, "b", None);
    assert_eq!(contents(&session.with(&user("c")).unwrap()), ["be brief", "a", "b", "c"]);
    let changed = session.with(&[Message::new("system", "be long"), Message::new("user", "c")]).unwrap();
    assert_eq!(contents(&changed), ["be long", "a", "b", "c"]);
}

#[tokio::test]
async fn without_a_name_nothing_is_kept() {
    let sessions = Sessions::default();
    sessions.enter(0, "").await.unwrap().remember(user("a"), "b", None);
    assert!(sessions.enter(0, "").await.unwrap().with(&[]).unwrap().is_empty());
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_an_error_that_says_how_long() {
    let long = "x".repeat(MAX_HISTORY + 1);
    let error = Session::default().with(&user(&long)).unwrap_err();
    assert_eq!(error, SessionError::TooLong { bytes: MAX_HISTORY + 1, max: MAX_HISTORY });
}

/// What the session remembers of its only turn.
async fn keep(sessions: &Sessions, uid: u32, name: &str) {
    tokio::time::advance(Duration::from_millis(1)).await;
    sessions.enter(uid, name).await.unwrap().remember(user("a"), "b", None);
}

async fn keeps(sessions: &Sessions, uid: u32, name: &str) -> bool {
    match sessions.look(uid, name).await {
        Some(session) => !session.with(&[]).unwrap().is_empty(),
        None => false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_s_sessions_make_room_for_each_other_and_not_for_another_user_s() {
    let sessions = Sessions::default();
    keep(&sessions, 1, "theirs").await;
    for n in 0..=MAX_OF_ONE {
        keep(&sessions, 2, &format!("s{n}")).await;
    }
    assert!(keeps(&sessions, 1, "theirs").await, "the oldest, and another user's");
    assert!(!keeps(&sessions, 2, "s0").await && keeps(&sessions, 2, "s1").await);
    assert_eq!(sessions.len(), MAX_OF_ONE + 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_table_is_full_the_one_idle_for_longest_makes_room_whoever_s_it_is() {
    let sessions = Sessions::default();
    for n in 0..MAX_SESSIONS {
        keep(&sessions, u32::try_from(n / MAX_OF_ONE).unwrap(), &format!("s{n}")).await;
    }
    keep(&sessions, 99, "new").await;
    assert!(keeps(&sessions, 99, "new").await && !keeps(&sessions, 0, "s0").await);
    assert_eq!(sessions.len(), MAX_SESSIONS);
}

#[tokio::test]
async fn a_session_that_is_being_answered_makes_no_room() {
    let sessions = Sessions::default();
    let mut answering = Vec::new();
    for n in 0..MAX_OF_ONE {
        answering.push(sessions.enter(1, &format!("s{n}")).await.unwrap());
    }
    let refused = sessions.enter(1, "one more").await.unwrap_err();
    assert_eq!(refused, SessionError::TooMany { busy: MAX_OF_ONE });
    drop(sessions.enter(2, "another user's").await.unwrap());
    answering.pop();
    sessions.enter(1, "one more").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn looking_makes_and_forgets_nothing() {
    let sessions = Sessions::default();
    assert!(sessions.look(1, "s").await.is_none() && sessions.look(1, "").await.is_none());
    assert_eq!(sessions.len(), 0);
    keep(&sessions, 1, "s").await;
    tokio::time::advance(IDLE / 2).await;
    assert!(keeps(&sessions, 1, "s").await);
    tokio::time::advance(IDLE / 2).await;
    assert!(!keeps(&sessions, 1, "s").await, "looking is not using");
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_are_wiped_without_another_request() {
    let sessions = Sessions::default();
    keep(&sessions, 1, "idle").await;
    let answering = sessions.enter(1, "busy").await.unwrap();
    let (board, stop) = (HealthBoard::new(), CancellationToken::new());
    let cx = Context::detached(&board, "sessions", stop.clone());
    let mut sweeper = Sweeper::new(sessions.clone());
    let check = async {
        tokio::time::sleep(IDLE / 2).await;
        assert_eq!(sessions.len(), 2);
        tokio::time::sleep(IDLE).await;
        assert_eq!(sessions.len(), 1, "the one being answered stays");
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(sweeper.run(&cx), check);
    ended.unwrap();
    drop(answering);
}

#[test]
fn a_session_never_prints() {
    let mut session = Session::default();
    session.remember(user("secret"), "secret", None);
    assert_eq!(format!("{session:?}"), "Session(..)");
}
