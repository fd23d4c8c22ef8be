//! What is recorded, how much of it is kept, and that it decides the same again.

use std::fs;

use futures_util::StreamExt;
use synesis_supervise::{Context, HealthBoard, Subsystem as _};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Consent, RoutingPolicy};
use crate::route::{Fit, Mode, ModelHealth, Thresholds, Uplink};

fn inputs() -> Inputs {
    Inputs {
        mode: Mode::Unspecified,
        policy: RoutingPolicy::Auto,
        consent: Consent::Auto,
        detectors_ready: true,
        model: ModelHealth::Ready,
        fit: Fit::Fits,
        uplink: Uplink::Up,
        budget_left: true,
        local_only: None,
        wait_ms: None,
        memory_ppm: Some(410_000),
        temperature_c: None,
        thresholds: Thresholds {
            min_confidence_ppm: 600_000,
            confidence_tokens: 24,
            ..Thresholds::default()
        },
    }
}

fn doubt() -> Evidence {
    Evidence::Confidence { tokens: 24, confidence_ppm: 312_000 }
}

/// Runs the log's writer beside `test`, and stops it in good order.
async fn with_writer<T>(folder: &Path, keep: u32, test: impl AsyncFnOnce(DecisionLog) -> T) -> T {
    let (log, mut keeper) = DecisionLog::new(folder, keep);
    let (board, stop) = (HealthBoard::new(), CancellationToken::new());
    let cx = Context::detached(&board, "decisions", stop.clone());
    let test = async {
        let outcome = test(log).await;
        stop.cancel();
        outcome
    };
    let (ran, outcome) = tokio::join!(keeper.run(&cx), test);
    ran.unwrap();
    outcome
}

async fn lines(log: &DecisionLog, limit: u32) -> Vec<String> {
    log.newest(limit).await.map(Result::unwrap).collect().await
}

async fn ids(log: &DecisionLog, limit: u32) -> Vec<String> {
    lines(log, limit).await.iter().map(|line| replay(line).request_id).collect()
}

#[tokio::test]
async fn a_decision_is_one_line_that_decides_the_same_again() {
    let folder = TempDir::new().unwrap();
    with_writer(folder.path(), 10, async |log| {
        let mut case = log.case(Ulid::from_parts(1, 1), inputs());
        case.weigh(doubt());
        drop(case);
        let lines = lines(&log, 0).await;
        assert_eq!(lines.len(), 1);
        let replay = replay(&lines[0]);
        assert!(replay.is_same(), "{replay:?}");
        assert_eq!(replay.outcome.unwrap().0, "cloud low_confidence");
        assert_eq!(replay.request_id, Ulid::from_parts(1, 1).to_string());
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_was_given_up_was_decided_too() {
    let folder = TempDir::new().unwrap();
    with_writer(folder.path(), 10, async |log| {
        let case = log.case(Ulid::generate(), inputs());
        let given_up = async {
            let _case = case;
            std::future::pending::<()>().await;
        };
        drop(given_up);
        assert_eq!(lines(&log, 0).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_newest_decisions_are_kept_in_two_files_and_given_oldest_first() {
    let folder = TempDir::new().unwrap();
    let id = |n: u64| Ulid::from_parts(n, 7).to_string();
    with_writer(folder.path(), 3, async |log| {
        for n in 0..8 {
            drop(log.case(Ulid::from_parts(n, 7), inputs()));
        }
        assert_eq!(ids(&log, 0).await, [id(5), id(6), id(7)]);
        assert_eq!(ids(&log, 2).await, [id(6), id(7)]);
    })
    .await;
    let on_disk: usize = ["decisions.jsonl", "decisions.1.jsonl"]
        .map(|name| fs::read_to_string(folder.path().join(name)).unwrap().lines().count())
        .iter()
        .sum();
    assert!((3..=6).contains(&on_disk), "{on_disk}");
}

#[tokio::test]
async fn a_line_cut_short_by_a_power_cut_costs_that_line_only() {
    let folder = TempDir::new().unwrap();
    with_writer(folder.path(), 10, async |log| drop(log.case(Ulid::from_parts(1, 1), inputs()))).await;
    let file = folder.path().join("decisions.jsonl");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], &whole[..whole.len() / 2]].concat()).unwrap();
    with_writer(folder.path(), 10, async |log| {
        drop(log.case(Ulid::from_parts(2, 1), inputs()));
        let same: Vec<bool> = lines(&log, 0).await.iter().map(|line| replay(line).is_same()).collect();
        assert_eq!(same, [true, false, true]);
    })
    .await;
}

#[tokio::test]
async fn with_nothing_to_keep_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    with_writer(folder.path(), 0, async |log| {
        drop(log.case(Ulid::generate(), inputs()));
        assert!(lines(&log, 0).await.is_empty());
    })
    .await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_log_that_nobody_writes_never_keeps_anybody_waiting() {
    let (log, keeper) = DecisionLog::new(Path::new("/nowhere"), 10);
    for _ in 0..AHEAD + 5 {
        drop(log.case(Ulid::generate(), inputs()));
    }
    assert_eq!(log.dropped.load(Ordering::Relaxed), 5);
    drop(keeper);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said_and_stops_nothing() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("missing");
    let (log, mut keeper) = DecisionLog::new(&nowhere, 10);
    let (board, stop) = (HealthBoard::new(), CancellationToken::new());
    let cx = Context::detached(&board, "decisions", stop.clone());
    let mut health = board.subscribe();
    let test = async {
        drop(log.case(Ulid::generate(), inputs()));
        health.wait_for(|all| all.iter().any(|one| one.reason.contains("cannot be recorded"))).await.unwrap();
        fs::create_dir(&nowhere).unwrap();
        drop(log.case(Ulid::generate(), inputs()));
        health.wait_for(|all| all.iter().all(|one| one.reason.is_empty())).await.unwrap();
        assert_eq!(lines(&log, 0).await.len(), 1, "it goes on when the folder is back");
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(keeper.run(&cx), test);
    ran.unwrap();
}

#[test]
fn a_line_that_cannot_be_decided_says_why() {
    let line = Record::new(Ulid::from_parts(1, 1), SystemTime::UNIX_EPOCH, inputs(), vec![doubt()])
        .to_line()
        .unwrap();
    assert!(replay(&line).is_same());
    let cases = [
        (String::new(), "damaged"),
        ("{}".to_owned(), "version"),
        ("not json".to_owned(), "damaged"),
        (line[..line.len() - 4].to_owned(), "damaged"),
        (line.replace("\"version\":1", "\"version\":2"), "format version 2"),
        (line.replace("\"budget_left\":true", "\"budget_left\":\"yes\""), "damaged"),
        (line.replace("\"budget_left\":true,", ""), "damaged"),
        (line.replace("{\"version\":1", "{\"prompt\":\"hello\",\"version\":1"), "unknown field"),
        (line.replace("\"ready\"", "\"happy\""), "damaged"),
        ("[".repeat(20_000), "longer"),
        ("[".repeat(10_000), "damaged"),
    ];
    for (line, why) in cases {
        let replay = replay(&line);
        let fault = replay.outcome.expect_err(&line).to_string();
        assert!(fault.contains(why), "{fault}: {line}");
    }
}

#[test]
fn a_line_whose_outcome_was_changed_is_different() {
    let line = Record::new(Ulid::from_parts(1, 1), SystemTime::UNIX_EPOCH, inputs(), vec![doubt()])
        .to_line()
        .unwrap();
    let (recorded, decided) = replay(&line.replace("low_confidence", "policy_cloud")).outcome.unwrap();
    assert_eq!((recorded.as_str(), decided.as_str()), ("cloud policy_cloud", "cloud low_confidence"));
}

/// The format is a promise to files that exist: this line was written by version 1.
#[test]
fn the_line_of_version_1_reads_as_it_was_written() {
    let record = Record::new(Ulid::from_parts(1, 1), SystemTime::UNIX_EPOCH, inputs(), vec![doubt()]);
    let line = concat!(
        r#"{"version":1,"request_id":"00000000010000000000000001","at":"1970-01-01T00:00:00Z","inputs":{"#,
        r#""mode":"unspecified","policy":"auto","consent":"auto","detectors_ready":true,"model":"ready","fit":"fits","#,
        r#""uplink":"up","budget_left":true,"local_only":null,"wait_ms":null,"memory_ppm":410000,"temperature_c":null,"#,
        r#""thresholds":{"min_confidence_ppm":600000,"confidence_tokens":24,"min_agreement_ppm":0,"agreement_samples":0,"#,
        r#""max_wait_ms":0,"max_memory_ppm":0,"max_temperature_c":0}},"#,
        r#""evidence":[{"confidence":{"tokens":24,"confidence_ppm":312000}}],"decision":"cloud","reason":"low_confidence"}"#,
    );
    assert_eq!(record.to_line().unwrap(), line);
}
