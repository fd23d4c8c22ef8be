//! Nothing in the journal is lost, changed or put back without being noticed and named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

mod fixture;

use std::path::Path;

use fixture::{append, closed_journal, flip, folder};
use rusqlite::Connection;
use synesis_store::{AnchorState, Journal, Store, StoreError, Truncation, chain};

fn edit(dir: &Path, sql: &str) {
    Connection::open(dir.join("journal.db")).unwrap().execute_batch(sql).unwrap();
}

async fn first_fault(journal: &Journal) -> (u64, String) {
    let report = journal.verify().await.unwrap();
    let first = report.first.expect("a fault");
    (first.seq, first.why)
}

#[tokio::test]
async fn records_come_back_in_order_by_kind() {
    let folder = folder();
    let (journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovery.rows, recovery.truncated, recovery.anchor), (0, None, AnchorState::New));
    assert_eq!(journal.append("intent", "r1", "a").await.unwrap(), 1);
    assert_eq!(journal.append("receipt", "r1", vec![0, 255]).await.unwrap(), 2);
    assert_eq!(journal.append("intent", "r2", "").await.unwrap(), 3);
    let intents = journal.rows("intent").await.unwrap();
    assert_eq!(
        intents.iter().map(|row| (row.seq, row.key.as_str())).collect::<Vec<_>>(),
        [(1, "r1"), (3, "r2")]
    );
    let receipts = journal.rows("receipt").await.unwrap();
    assert_eq!((&receipts[0].body, &receipts[0].fault), (&vec![0, 255], &None));
    assert!(journal.rows("outcome").await.unwrap().is_empty());
    let report = journal.verify().await.unwrap();
    assert_eq!((report.rows, report.holds()), (3, true));
    journal.close().await;
    let (_journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovery.rows, recovery.warning(), recovery.anchor), (3, None, AnchorState::Held));
}

#[tokio::test]
async fn many_writers_make_one_chain() {
    let folder = folder();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let journal = journal.clone();
        writers.spawn(async move {
            for number in 0..10 {
                journal.append("intent", format!("{writer}-{number}"), "body").await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let report = journal.verify().await.unwrap();
    assert_eq!((report.rows, report.holds()), (160, true));
}

#[tokio::test]
async fn a_changed_byte_of_a_record_is_reported_and_the_row_named() {
    let folder = folder();
    closed_journal(folder.path(), 5).await;
    flip(&folder.path().join("journal.db"), "the body of receipt 3", 7);
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let rows = journal.rows("receipt").await.unwrap();
    let faults: Vec<_> = rows.iter().map(|row| row.fault.as_deref()).collect();
    assert_eq!(faults, [None, None, Some("row 3 does not match its hash"), None, None]);
    assert_eq!(rows[2].key, "request-3");
    let report = journal.verify().await.unwrap();
    let first = report.first.unwrap();
    assert_eq!((report.faults, first.seq, first.key.as_str()), (1, 3, "request-3"));
}

#[tokio::test]
async fn each_damaged_column_blames_exactly_its_row() {
    for (column, value) in [
        ("key", "'request-9'"),
        ("body", "x'00'"),
        ("prev", "zeroblob(32)"),
        ("hash", "zeroblob(32)"),
        ("hash", "x'00'"),
        ("kind", "'receipd'"),
    ] {
        let folder = folder();
        closed_journal(folder.path(), 4).await;
        edit(folder.path(), &format!("UPDATE journal SET {column} = {value} WHERE seq = 2"));
        let (journal, _) = Journal::open(folder.path()).unwrap();
        let rows = journal.rows("receipt").await.unwrap();
        let bad: Vec<_> = rows.iter().filter(|row| row.fault.is_some()).map(|row| row.seq).collect();
        assert_eq!((rows.len(), bad), (4, vec![2]), "{column} = {value}");
        let report = journal.verify().await.unwrap();
        assert_eq!((report.faults, report.first.unwrap().seq), (1, 2), "{column} = {value}");
    }
}

#[tokio::test]
async fn a_changed_key_byte_in_the_file_is_noticed() {
    let folder = folder();
    closed_journal(folder.path(), 3).await;
    flip(&folder.path().join("journal.db"), "request-2", 8);
    let (journal, _) = Journal::open(folder.path()).unwrap();
    assert_eq!(first_fault(&journal).await, (2, "row 2 does not match its hash".to_owned()));
}

#[tokio::test]
async fn a_removed_row_is_missing_by_number() {
    let folder = folder();
    closed_journal(folder.path(), 6).await;
    edit(folder.path(), "DELETE FROM journal WHERE seq IN (3, 4)");
    let (journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovery.truncated, None);
    assert_eq!(first_fault(&journal).await, (3, "rows 3 to 4 are missing".to_owned()));
}

#[tokio::test]
async fn a_row_replaced_with_a_well_hashed_one_breaks_the_link() {
    let (folder, other) = (folder(), folder());
    closed_journal(folder.path(), 3).await;
    let (journal, _) = Journal::open(other.path()).unwrap();
    journal.append("receipt", "another", "a different body").await.unwrap();
    journal.close().await;
    let forged = other.path().join("journal.db");
    edit(
        folder.path(),
        &format!(
            "ATTACH '{}' AS other; DELETE FROM journal WHERE seq = 1; INSERT INTO journal SELECT * FROM other.journal",
            forged.display()
        ),
    );
    let (journal, _) = Journal::open(folder.path()).unwrap();
    assert_eq!(first_fault(&journal).await, (2, "row 2 does not follow the row before it".to_owned()));
    let rows = journal.rows("receipt").await.unwrap();
    assert_eq!(rows[1].fault.as_deref(), Some("row 2 does not follow the row before it"));
}

#[tokio::test]
async fn an_old_copy_put_back_is_reported_and_the_loss_stays_visible() {
    let folder = folder();
    let (database, copy) = (folder.path().join("journal.db"), folder.path().join("copy.db"));
    closed_journal(folder.path(), 4).await;
    std::fs::copy(&database, &copy).unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    append(&journal, 5..=9).await;
    journal.close().await;
    std::fs::copy(&copy, &database).unwrap();

    for _ in 0..2 {
        let (journal, recovery) = Journal::open(folder.path()).unwrap();
        assert_eq!(recovery.rows, 4);
        assert_eq!(recovery.truncated, Some(Truncation::Missing { anchored: 9, found: 4 }));
        let warning = recovery.warning().unwrap();
        assert!(warning.starts_with("the journal ends at row 4, but row 9 was acknowledged"), "{warning}");
        assert_eq!(first_fault(&journal).await, (5, "rows 5 to 9 are missing".to_owned()));
        journal.close().await;
    }

    let (journal, _) = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.append("receipt", "after", "the loss").await.unwrap(), 10);
    assert_eq!(journal.rows("receipt").await.unwrap().len(), 5);
    journal.close().await;
    let (journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovery.rows, recovery.truncated), (10, None));
    assert_eq!(first_fault(&journal).await, (5, "rows 5 to 9 are missing".to_owned()));
}

#[tokio::test]
async fn a_database_that_vanished_is_reported() {
    let folder = folder();
    closed_journal(folder.path(), 3).await;
    std::fs::remove_file(folder.path().join("journal.db")).unwrap();
    let (_journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovery.truncated, Some(Truncation::Missing { anchored: 3, found: 0 }));
}

#[tokio::test]
async fn another_chain_of_the_same_length_is_reported() {
    let (ours, theirs) = (folder(), folder());
    closed_journal(ours.path(), 3).await;
    let (journal, _) = Journal::open(theirs.path()).unwrap();
    for number in 0..3 {
        journal.append("receipt", format!("other-{number}"), "x").await.unwrap();
    }
    journal.close().await;
    std::fs::copy(theirs.path().join("journal.db"), ours.path().join("journal.db")).unwrap();
    let (journal, recovery) = Journal::open(ours.path()).unwrap();
    assert_eq!(recovery.truncated, Some(Truncation::Replaced { seq: 3 }));
    assert_eq!(first_fault(&journal).await, (3, "row 3 is not the one that was acknowledged".to_owned()));
    journal.append("receipt", "next", "x").await.unwrap();
    assert_eq!(first_fault(&journal).await, (4, "row 4 does not follow the row before it".to_owned()));
}

#[tokio::test]
async fn a_lost_anchor_is_said_and_made_again() {
    let folder = folder();
    let anchor = folder.path().join("journal.head");
    for damage in [None, Some(vec![0; 8192])] {
        closed_journal(folder.path(), 2).await;
        match damage {
            None => std::fs::remove_file(&anchor).unwrap(),
            Some(bytes) => std::fs::write(&anchor, bytes).unwrap(),
        }
        let (journal, recovery) = Journal::open(folder.path()).unwrap();
        assert_eq!((recovery.truncated, recovery.anchor), (None, AnchorState::Lost));
        assert!(recovery.warning().is_some());
        journal.close().await;
        let (journal, recovery) = Journal::open(folder.path()).unwrap();
        assert_eq!((recovery.warning(), recovery.anchor), (None, AnchorState::Held));
        journal.close().await;
    }
}

#[tokio::test]
async fn an_anchor_behind_the_database_is_fine() {
    // A power cut between the commit and the anchor.
    let folder = folder();
    let anchor = folder.path().join("journal.head");
    closed_journal(folder.path(), 2).await;
    let behind = std::fs::read(&anchor).unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    append(&journal, 3..=5).await;
    journal.close().await;
    std::fs::write(&anchor, behind).unwrap();
    let (journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovery.rows, recovery.warning()), (5, None));
    append(&journal, 6..=6).await;
    assert!(journal.verify().await.unwrap().holds());
}

#[tokio::test]
async fn a_damaged_head_row_is_mended_from_the_chain() {
    let folder = folder();
    for damage in [
        "UPDATE journal_head SET seq = 1",
        "UPDATE journal_head SET hash = x'00'",
        "DELETE FROM journal_head",
    ] {
        let (journal, recovery) = Journal::open(folder.path()).unwrap();
        append(&journal, recovery.rows + 1..=recovery.rows + 2).await;
        journal.close().await;
        edit(folder.path(), damage);
        let (journal, recovery) = Journal::open(folder.path()).unwrap();
        assert_eq!(recovery.warning(), None, "{damage}");
        append(&journal, recovery.rows + 1..=recovery.rows + 1).await;
        assert!(journal.verify().await.unwrap().holds(), "{damage}");
        journal.close().await;
    }
}

#[tokio::test]
async fn a_journal_has_one_owner() {
    let folder = folder();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    append(&journal, 1..=1).await;
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("journal.head"));
}

#[tokio::test]
async fn a_store_may_chain_beside_its_own_tables_without_an_anchor() {
    let folder = folder();
    let path = folder.path().join("gateway.db");
    let store = Store::open(&path, &[chain::SCHEMA, fixture::NOTES]).unwrap();
    let both = |text: &'static str, fail: bool| {
        let store = store.clone();
        async move {
            store
                .write(move |tx| {
                    tx.execute("INSERT INTO notes (text) VALUES (?1)", [text])?;
                    let head = chain::append(tx, "note", text, b"")?;
                    if fail { Err(StoreError::Closed) } else { Ok(head.seq) }
                })
                .await
        }
    };
    assert_eq!(both("a", false).await.unwrap(), 1);
    assert!(both("b", true).await.is_err());
    assert_eq!(both("c", false).await.unwrap(), 2);
    let report = store.verify_chain().await.unwrap();
    assert_eq!((report.rows, report.holds()), (2, true));
    assert!(!folder.path().join("gateway.head").exists());
}

#[tokio::test]
async fn no_damage_to_the_file_panics_or_goes_unnoticed() {
    let folder = folder();
    closed_journal(folder.path(), 40).await;
    let database = folder.path().join("journal.db");
    let good = std::fs::read(&database).unwrap();
    let anchor = std::fs::read(folder.path().join("journal.head")).unwrap();
    let mut noticed = 0;
    for position in (0..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[position] ^= 0xff;
        std::fs::write(&database, &bytes).unwrap();
        std::fs::write(folder.path().join("journal.head"), &anchor).unwrap();
        let Ok((journal, recovery)) = Journal::open(folder.path()) else {
            noticed += 1;
            continue;
        };
        let verified = journal.verify().await;
        let rows = journal.rows("receipt").await;
        journal.close().await;
        if recovery.warning().is_some() || !verified.is_ok_and(|report| report.holds()) {
            noticed += 1;
            continue;
        }
        // Whatever was changed, the records were not.
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 40, "byte {position}");
        for (row, number) in rows.iter().zip(1..) {
            assert_eq!(row.body, format!("the body of receipt {number}").into_bytes(), "byte {position}");
        }
    }
    assert!(noticed > 20, "{noticed} noticed");
}
