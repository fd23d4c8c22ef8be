//! Rows that prove each other: each carries the hash of the one before it, so that a changed, missing or
//! re-ordered row is found and named.
//!
//! Put [`SCHEMA`] into a store's migrations and call [`append`] inside a write closure; a row then commits or
//! rolls back with everything else in it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use crate::StoreError;

/// The migration that creates the chain's tables.
pub const SCHEMA: &str = "
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key  TEXT NOT NULL,
    body BLOB NOT NULL,
    prev BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE journal_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO journal_head VALUES (1, 0, zeroblob(32));
";

const DOMAIN: &[u8] = b"synesis.journal-row/1\0";
const SELECT: &str = "SELECT seq, kind, key, body, prev, hash FROM journal ORDER BY seq";

/// Where a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the last row, from 1; 0: no row yet.
    pub seq: u64,
    /// Hash of the last row; zeros if there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// The head of a chain without rows.
    pub const START: Self = Self { seq: 0, hash: [0; 32] };
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position in the chain, from 1.
    pub seq: u64,
    /// What kind of record it is.
    pub kind: String,
    /// What it is about, such as a request id.
    pub key: String,
    /// The record.
    pub body: Vec<u8>,
    /// What is wrong with the row itself; `None`: it is as it was written.
    pub fault: Option<String>,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How many rows there are.
    pub rows: u64,
    /// How many faults were found.
    pub faults: u64,
    /// The first of them.
    pub first: Option<Fault>,
}

/// A place where the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The row, or the first one that is missing.
    pub seq: u64,
    /// The row's key; empty if the row is missing.
    pub key: String,
    /// What is wrong, as a sentence without a period.
    pub why: String,
}

impl Report {
    /// Whether the chain is whole.
    pub const fn holds(&self) -> bool {
        self.faults == 0
    }

    fn add(&mut self, seq: u64, key: &str, why: String) {
        self.faults += 1;
        self.first.get_or_insert_with(|| Fault { seq, key: key.to_owned(), why });
    }
}

/// Appends a row and returns the new head. It is durable when the surrounding write is answered.
pub fn append(tx: &Transaction<'_>, kind: &str, key: &str, body: &[u8]) -> Result<Head, StoreError> {
    let last = head(tx)?;
    let seq = last.seq.checked_add(1).ok_or(StoreError::ChainHead)?;
    let hash = row_hash(seq, kind.as_bytes(), key.as_bytes(), body, &last.hash);
    let head = Head { seq, hash };
    tx.prepare_cached(
        "INSERT INTO journal (seq, kind, key, body, prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![seq.cast_signed(), kind, key, body, last.hash, hash])?;
    set_head(tx, head)?;
    Ok(head)
}

/// The rows of one kind, oldest first, each with what is wrong with it. A row whose kind was damaged is still
/// found; missing rows are found by [`verify`].
pub fn rows(conn: &Connection, kind: &str) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    walk(conn, |stored, link| {
        let fault = match (stored.is_sound(), stored.kind == kind.as_bytes()) {
            (true, true) => match link {
                Link::Broken => Some(format!("row {} does not follow the row before it", stored.seq)),
                Link::Whole | Link::Gap { .. } | Link::OutOfOrder => None,
            },
            (false, true) => Some(stored.damage()),
            (false, false) if stored.is_sound_as(kind) => {
                Some(format!("the kind of row {} was changed", stored.seq))
            }
            (_, false) => return,
        };
        found.push(Row {
            seq: stored.seq,
            kind: String::from_utf8_lossy(stored.kind).into_owned(),
            key: String::from_utf8_lossy(stored.key).into_owned(),
            body: stored.body.to_vec(),
            fault,
        });
    })?;
    Ok(found)
}

/// Checks every row, every link, and that the chain reaches its recorded head and the anchored one.
/// Read the anchor before the rows: it is written after them.
pub fn verify(conn: &Connection, anchor: Option<Head>) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let mut last = Head::START;
    walk(conn, |stored, link| {
        let key = String::from_utf8_lossy(stored.key);
        let seq = stored.seq;
        report.rows += 1;
        if !stored.is_sound() {
            report.add(seq, &key, stored.damage());
        }
        match link {
            Link::Whole => {}
            Link::Gap { first } => report.add(first, "", missing(first, seq.saturating_sub(1))),
            Link::Broken => report.add(seq, &key, format!("row {seq} does not follow the row before it")),
            Link::OutOfOrder => report.add(seq, &key, format!("row {seq} is out of order")),
        }
        if let Some(anchor) = anchor.filter(|anchor| anchor.seq == seq)
            && anchor.hash != stored.computed
        {
            report.add(seq, &key, format!("row {seq} is not the one that was acknowledged"));
        }
        last = Head { seq, hash: stored.computed };
    })?;
    let recorded = head(conn)?;
    let end = anchor.map_or(0, |anchor| anchor.seq).max(recorded.seq);
    if end > last.seq {
        let first = last.seq.saturating_add(1);
        report.add(first, "", missing(first, end));
    } else if report.holds() && recorded != last {
        report.add(recorded.seq, "", "the recorded head is not the last row".to_owned());
    }
    Ok(report)
}

/// The recorded head: where the next row goes.
pub(crate) fn head(conn: &Connection) -> Result<Head, StoreError> {
    conn.prepare_cached("SELECT seq, hash FROM journal_head WHERE id = 1")?
        .query_row([], |row| Ok(head_from(row)))
        .optional()?
        .flatten()
        .ok_or(StoreError::ChainHead)
}

/// Moves the recorded head.
pub(crate) fn set_head(conn: &Connection, head: Head) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO journal_head (id, seq, hash) VALUES (1, ?1, ?2)")?
        .execute(params![head.seq.cast_signed(), head.hash])?;
    Ok(())
}

/// The last row that is really there. One whose hash cannot be read counts with zeros.
pub(crate) fn last_row(conn: &Connection) -> Result<Head, StoreError> {
    let last = conn
        .query_row("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok(head_from(row).unwrap_or(Head { seq: row.get::<_, i64>(0)?.cast_unsigned(), hash: [0; 32] }))
        })
        .optional()?;
    Ok(last.unwrap_or(Head::START))
}

/// The hash stored with a row; `None` if there is no such row, or nothing readable.
pub(crate) fn hash_of(conn: &Connection, seq: u64) -> Result<Option<[u8; 32]>, StoreError> {
    let found = conn
        .query_row("SELECT seq, hash FROM journal WHERE seq = ?1", [seq.cast_signed()], |row| {
            Ok(head_from(row))
        })
        .optional()?;
    Ok(found.flatten().map(|head| head.hash))
}

fn head_from(row: &rusqlite::Row<'_>) -> Option<Head> {
    let seq = u64::try_from(row.get_ref(0).ok()?.as_i64().ok()?).ok()?;
    Some(Head { seq, hash: bytes(row, 1).ok()?.try_into().ok()? })
}

fn missing(first: u64, last: u64) -> String {
    if first == last {
        format!("row {first} is missing")
    } else {
        format!("rows {first} to {last} are missing")
    }
}

/// A row as it lies in the file: nothing about it is believed yet.
struct Stored<'a> {
    seq: u64,
    kind: &'a [u8],
    key: &'a [u8],
    body: &'a [u8],
    prev: &'a [u8],
    hash: &'a [u8],
    computed: [u8; 32],
}

impl Stored<'_> {
    fn is_sound(&self) -> bool {
        self.computed == self.hash
    }

    /// Whether the row would be sound if it were of this kind.
    fn is_sound_as(&self, kind: &str) -> bool {
        row_hash(self.seq, kind.as_bytes(), self.key, self.body, self.prev) == self.hash
    }

    fn damage(&self) -> String {
        format!("row {} does not match its hash", self.seq)
    }
}

/// How a row stands to the one before it.
enum Link {
    Whole,
    Gap { first: u64 },
    Broken,
    OutOfOrder,
}

fn walk(conn: &Connection, mut visit: impl FnMut(&Stored<'_>, Link)) -> Result<(), StoreError> {
    // Before the first row: number zero, hash zero.
    let (mut last, mut stored_hash, mut computed_hash) = (0_u64, vec![0; 32], [0; 32]);
    let mut statement = conn.prepare_cached(SELECT)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq = row.get_ref(0)?.as_i64().unwrap_or_default().cast_unsigned();
        let (kind, key, body) = (bytes(row, 1)?, bytes(row, 2)?, bytes(row, 3)?);
        let (prev, hash) = (bytes(row, 4)?, bytes(row, 5)?);
        let computed = row_hash(seq, kind, key, body, prev);
        let next = last.saturating_add(1);
        let link = if seq < next {
            Link::OutOfOrder
        } else if seq > next {
            Link::Gap { first: next }
        } else if prev == stored_hash || prev == computed_hash {
            // Either hash of the row before will do: if they differ, that row is the damaged one, not this.
            Link::Whole
        } else if computed != hash {
            // What it points to cannot be told from a damaged row; its own fault is reported.
            Link::Whole
        } else {
            Link::Broken
        };
        visit(&Stored { seq, kind, key, body, prev, hash, computed }, link);
        (last, stored_hash, computed_hash) = (seq, hash.to_vec(), computed);
    }
    Ok(())
}

/// A column's bytes. Damage can change a value's type too: then there are none, and the hash will not match.
fn bytes<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a [u8], rusqlite::Error> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    })
}

fn row_hash(seq: u64, kind: &[u8], key: &[u8], body: &[u8], prev: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(seq.to_be_bytes());
    for field in [kind, key, body, prev] {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field);
    }
    hasher.finalize().into()
}
