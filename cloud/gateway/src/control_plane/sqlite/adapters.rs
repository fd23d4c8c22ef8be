//! Records of adapters. Every statement names the account, so that none can reach another's.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::Shared;
use super::rows::{asking, uuid};
use crate::control_plane::{
    AdapterDigest, AdapterFacts, AdapterQuota, AdapterRecord, ControlError, NewAdapter, RemovedAdapters,
    Wanted,
};

const RECORD: &str =
    "SELECT name, sha256, size_bytes, architecture, rank, alpha, base_model, pushed_by, pushed_at_ms
    FROM adapters";
const NEWEST_FIRST: &str = "ORDER BY pushed_at_ms DESC, rowid DESC";

pub(super) fn account(conn: &Connection, device: Uuid) -> Result<String, ControlError> {
    Ok(asking(conn, device)?.account.id)
}

pub(super) fn all(conn: &Connection, device: Uuid) -> Result<Vec<AdapterRecord>, ControlError> {
    let account = account(conn, device)?;
    let sql = format!("{RECORD} WHERE account_id = ?1 ORDER BY name, pushed_at_ms DESC, rowid DESC");
    let mut query = conn.prepare_cached(&sql)?;
    let rows = query.query_map([account], columns)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(checked).collect()
}

pub(super) fn find(conn: &Connection, device: Uuid, wanted: &Wanted) -> Result<AdapterRecord, ControlError> {
    let account = account(conn, device)?;
    let found = matching(conn, &account, wanted)?;
    found.into_iter().next().ok_or_else(|| ControlError::AdapterUnknown(wanted.to_string()))
}

/// Those that `wanted` means, the newest first.
fn matching(conn: &Connection, account: &str, wanted: &Wanted) -> Result<Vec<AdapterRecord>, ControlError> {
    let (column, value) = match wanted {
        Wanted::Digest(digest) => ("sha256", digest.as_str()),
        Wanted::Name(name) => ("name", name.as_str()),
    };
    let sql = format!("{RECORD} WHERE account_id = ?1 AND {column} = ?2 {NEWEST_FIRST}");
    let mut query = conn.prepare_cached(&sql)?;
    let rows = query.query_map([account, value], columns)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(checked).collect()
}

/// Lists a file under a name. The same again is a success that only makes it the newest. The quota holds here, in the
/// transaction, whatever was promised to streams that ran side by side.
pub(super) fn record(
    tx: &Transaction<'_>,
    shared: &Shared,
    device: Uuid,
    new: NewAdapter,
    quota: AdapterQuota,
) -> Result<AdapterRecord, ControlError> {
    let account = account(tx, device)?;
    let (others, entries) = usage(tx, &account, &new)?;
    let used = others.saturating_add(new.size_bytes);
    if used > quota.bytes || entries >= quota.entries {
        return Err(ControlError::AdapterQuota { needed: new.size_bytes, used: others, quota });
    }
    let now_ms = shared.clock.now_ms();
    let NewAdapter { name, sha256, size_bytes, facts } = &new;
    tx.execute(
        "INSERT OR REPLACE INTO adapters (account_id, name, sha256, size_bytes, architecture, rank, alpha, base_model,
         pushed_by, pushed_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            account,
            name,
            sha256.as_str(),
            i64::try_from(*size_bytes).unwrap_or(i64::MAX),
            facts.architecture,
            facts.rank,
            f64::from(facts.alpha),
            facts.base_model,
            device.to_string(),
            now_ms,
        ],
    )?;
    Ok(AdapterRecord { adapter: new, pushed_by: device, pushed_at_ms: now_ms })
}

/// Bytes of the account's other files, and its other entries.
fn usage(conn: &Connection, account: &str, new: &NewAdapter) -> Result<(u64, u64), ControlError> {
    let bytes: i64 = conn.query_row(
        "SELECT COALESCE(SUM(size_bytes), 0) FROM
         (SELECT DISTINCT sha256, size_bytes FROM adapters WHERE account_id = ?1 AND sha256 <> ?2)",
        params![account, new.sha256.as_str()],
        |row| row.get(0),
    )?;
    let entries: i64 = conn.query_row(
        "SELECT COUNT(*) FROM adapters WHERE account_id = ?1 AND NOT (name = ?2 AND sha256 = ?3)",
        params![account, new.name, new.sha256.as_str()],
        |row| row.get(0),
    )?;
    Ok((bytes.unsigned_abs(), entries.unsigned_abs()))
}

/// What the account keeps beside `digest`, in bytes.
pub(super) fn kept(conn: &Connection, account: &str, digest: &AdapterDigest) -> Result<u64, ControlError> {
    let new = NewAdapter {
        name: String::new(),
        sha256: digest.clone(),
        size_bytes: 0,
        facts: AdapterFacts::default(),
    };
    Ok(usage(conn, account, &new)?.0)
}

pub(super) fn remove(
    tx: &Transaction<'_>,
    _: &Shared,
    device: Uuid,
    wanted: &Wanted,
) -> Result<RemovedAdapters, ControlError> {
    let account = account(tx, device)?;
    let records = matching(tx, &account, wanted)?;
    if records.is_empty() {
        return Err(ControlError::AdapterUnknown(wanted.to_string()));
    }
    for AdapterRecord { adapter, .. } in &records {
        tx.execute(
            "DELETE FROM adapters WHERE account_id = ?1 AND name = ?2 AND sha256 = ?3",
            params![account, adapter.name, adapter.sha256.as_str()],
        )?;
    }
    let digests: BTreeSet<&AdapterDigest> = records.iter().map(|record| &record.adapter.sha256).collect();
    let mut unused = Vec::new();
    for digest in digests {
        if !is_listed(tx, &account, digest)? {
            unused.push(digest.clone());
        }
    }
    Ok(RemovedAdapters { account, records, unused })
}

/// Whether some name of the account means the file.
pub(super) fn is_listed(
    conn: &Connection,
    account: &str,
    digest: &AdapterDigest,
) -> Result<bool, ControlError> {
    let sql = "SELECT 1 FROM adapters WHERE account_id = ?1 AND sha256 = ?2 LIMIT 1";
    Ok(conn.prepare_cached(sql)?.query_row([account, digest.as_str()], |_| Ok(())).optional()?.is_some())
}

type Columns = (String, String, i64, AdapterFacts, String, i64);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    let facts = AdapterFacts {
        architecture: row.get(3)?,
        rank: row.get(4)?,
        // Written from an f32.
        alpha: row.get::<_, f64>(5)? as f32,
        base_model: row.get(6)?,
    };
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, facts, row.get(7)?, row.get(8)?))
}

fn checked(
    (name, sha256, size, facts, pushed_by, pushed_at_ms): Columns,
) -> Result<AdapterRecord, ControlError> {
    let digest = AdapterDigest::parse(&sha256);
    let sha256 =
        digest.ok_or_else(|| ControlError::Corrupt("no digest where an adapter's belongs".to_owned()))?;
    let adapter = NewAdapter { name, sha256, size_bytes: size.unsigned_abs(), facts };
    Ok(AdapterRecord { adapter, pushed_by: uuid(&pushed_by)?, pushed_at_ms })
}
