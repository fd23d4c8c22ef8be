//! Price tables by version: what a receipt's `price_version` refers to stays on record for ever.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction, params};
use synesis_ledger::{Price, PriceTable};

use crate::control_plane::ControlError;

/// The configured prices under their version: the newest one on record when nothing changed, else the next.
pub(super) fn in_force(
    tx: &Transaction<'_>,
    prices: BTreeMap<String, Price>,
    now_ms: i64,
) -> Result<PriceTable, ControlError> {
    let newest = tx
        .query_row("SELECT version, prices FROM price_versions ORDER BY version DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    if let Some((version, stored)) = &newest {
        let stored: BTreeMap<String, Price> = serde_json::from_str(stored)
            .map_err(|_| ControlError::Corrupt(format!("price table {version} does not parse")))?;
        if stored == prices {
            return Ok(PriceTable { version: version.unsigned_abs(), prices });
        }
    }
    let version = newest.map_or(1, |(version, _)| version + 1);
    let text = serde_json::to_string(&prices).map_err(|error| ControlError::Corrupt(error.to_string()))?;
    tx.execute(
        "INSERT INTO price_versions (version, prices, created_at_ms) VALUES (?1, ?2, ?3)",
        params![version, text, now_ms],
    )?;
    Ok(PriceTable { version: version.unsigned_abs(), prices })
}
