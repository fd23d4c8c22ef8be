//! SIGKILL at any moment loses nothing that was acknowledged. The test starts itself again as the process that
//! writes, reads its acknowledgements, and kills it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use synesis_store::{AnchorState, Journal};
use tokio::task::JoinSet;

const FOLDER: &str = "SYNESIS_STORE_TEST_FOLDER";
const WRITERS: u64 = 8;

/// Not a test by itself: without the variable it does nothing.
#[test]
fn the_process_that_writes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (journal, recovery) = Journal::open(Path::new(&folder)).unwrap();
        assert_eq!(recovery.warning(), None);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let journal = journal.clone();
            writers.spawn(async move {
                loop {
                    let seq = journal.append("receipt", format!("writer-{writer}"), "body").await.unwrap();
                    // One write call a line: a killed process leaves whole lines and at most one torn one.
                    let line = format!("\nacknowledged {seq}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
        writers.join_next().await;
    });
}

fn acknowledged_until_killed(folder: &Path, after: usize) -> BTreeSet<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_writes", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        let number = line.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix('\n'));
        acknowledged.extend(number.map(|number| number.parse::<u64>().unwrap()));
        if acknowledged.len() == after {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= after, "the writer ended by itself");
    acknowledged
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_to_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = BTreeSet::new();
    for after in [1, 7, 40, 100, 23] {
        let acknowledged = acknowledged_until_killed(folder.path(), after);
        assert!(all.is_disjoint(&acknowledged), "a row number was acknowledged twice");
        all.extend(acknowledged);

        let (journal, recovery) = Journal::open(folder.path()).unwrap();
        assert_eq!((recovery.truncated, recovery.anchor), (None, AnchorState::Held));
        let stored: BTreeSet<_> = journal.rows("receipt").await.unwrap().iter().map(|row| row.seq).collect();
        let lost: Vec<_> = all.difference(&stored).collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        assert!(journal.verify().await.unwrap().holds());
        journal.close().await;
    }
}
