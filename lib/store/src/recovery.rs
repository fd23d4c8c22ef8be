//! What opening an anchored store found: whether the database still ends where it was acknowledged to end.

use std::fmt;

use rusqlite::Connection;

use crate::StoreError;
use crate::chain::{self, Head};

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How far the chain reaches: the sequence number of its last row.
    pub rows: u64,
    /// Set if acknowledged rows are gone or replaced. The store works on: the next row takes the number after
    /// the acknowledged head and points to it, so the loss stays visible to [`chain::verify`] for good.
    pub truncated: Option<Truncation>,
    /// Whether there was an anchor to compare with.
    pub anchor: AnchorState,
}

/// How the database differs from what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// It ends too early.
    Missing {
        /// The last acknowledged row.
        anchored: u64,
        /// The last row that is there.
        found: u64,
    },
    /// It has another row in the place of the last acknowledged one.
    Replaced {
        /// Which.
        seq: u64,
    },
}

/// What is known of the anchor file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorState {
    /// It was created with the database.
    New,
    /// It was there.
    Held,
    /// It was missing or unreadable though the chain has rows, and was made again from the chain's end: a
    /// loss from before now cannot be noticed.
    Lost,
}

impl Recovery {
    /// What an operator should look at, as a sentence without a period; `None` if all is well.
    pub fn warning(&self) -> Option<String> {
        match (self.truncated, self.anchor) {
            (Some(truncation), _) => Some(truncation.to_string()),
            (None, AnchorState::Lost) => {
                Some("the journal's anchor file was missing or unreadable and was made again".to_owned())
            }
            (None, AnchorState::New | AnchorState::Held) => None,
        }
    }
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { anchored, found } => write!(
                f,
                "the journal ends at row {found}, but row {anchored} was acknowledged: an old copy was put back, or the file was cut"
            ),
            Self::Replaced { seq } => {
                write!(f, "row {seq} of the journal is not the row that was acknowledged")
            }
        }
    }
}

/// Compares the database with its anchor, if there is a readable one. Leaves the recorded head where the next
/// row must go.
pub(crate) fn examine(conn: &Connection, anchored: Option<Head>) -> Result<Recovery, StoreError> {
    let last = chain::last_row(conn)?;
    let truncated = match anchored {
        Some(anchored) => compare(conn, last, anchored)?,
        None => None,
    };
    let recorded = chain::head(conn).ok();
    let next = match anchored {
        // Pointing to the acknowledged row, not to what lies there now: the break must never heal.
        Some(anchored) if truncated.is_some() => {
            Head { seq: anchored.seq.max(last.seq), hash: anchored.hash }
        }
        Some(anchored) if anchored.seq == last.seq => anchored,
        // A recorded head beyond the last row is evidence of a loss too, and stays.
        _ => recorded.filter(|recorded| recorded.seq >= last.seq).unwrap_or(last),
    };
    if recorded != Some(next) {
        chain::set_head(conn, next)?;
    }
    let anchor = match anchored {
        Some(_) => AnchorState::Held,
        None if next.seq == 0 => AnchorState::New,
        None => AnchorState::Lost,
    };
    Ok(Recovery { rows: last.seq, truncated, anchor })
}

fn compare(conn: &Connection, last: Head, anchored: Head) -> Result<Option<Truncation>, StoreError> {
    if last.seq < anchored.seq {
        return Ok(Some(Truncation::Missing { anchored: anchored.seq, found: last.seq }));
    }
    let replaced = anchored.seq > 0 && chain::hash_of(conn, anchored.seq)? != Some(anchored.hash);
    Ok(replaced.then_some(Truncation::Replaced { seq: anchored.seq }))
}
