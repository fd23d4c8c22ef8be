//! Devices: enrolled with a token, revoked for good.

use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use synesis_mesh::identity::IdentityError;
use uuid::Uuid;

use super::Shared;
use super::rows::{self, AccountRow};
use crate::control_plane::{ControlError, DeviceRecord, Enrolment};

/// More of what a device calls itself is not kept.
const MAX_AGENT: usize = 100;

/// One transaction: a token that turns out to be unusable, or a request that cannot be signed, changes nothing.
pub(super) fn enrol(
    tx: &Transaction<'_>,
    shared: &Shared,
    token_hash: &[u8; 32],
    csr_der: &[u8],
    agent: &str,
) -> Result<Enrolment, ControlError> {
    let now_ms = shared.clock.now_ms();
    let account_id = use_token(tx, token_hash, now_ms)?;
    let account = AccountRow::by_id(tx, &account_id)?;
    let device = Uuid::new_v4();
    let issued = shared.device_ca.sign_device_csr(csr_der, device).map_err(|error| match error {
        IdentityError::Csr(_) => ControlError::Csr(error),
        other => ControlError::Certificate(other),
    })?;
    let agent: String = agent.chars().filter(|c| !c.is_control()).take(MAX_AGENT).collect();
    tx.execute(
        "INSERT INTO devices (id, account_id, state, agent, serial, enrolled_at_ms, receipt_head)
         VALUES (?1, ?2, 'enrolled', ?3, ?4, ?5, ?6)",
        params![device.to_string(), account_id, agent, issued.serial, now_ms, [0_u8; 32]],
    )?;
    let not_after = issued.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Enrolment {
        device,
        account: account.name,
        trust_domain: shared.device_ca.trust_domain().as_str().to_owned(),
        chain: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
        not_after_s: i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX),
    })
}

/// Takes one use off a token.
fn use_token(tx: &Transaction<'_>, hash: &[u8; 32], now_ms: i64) -> Result<String, ControlError> {
    let account_id = token_account(tx, hash, now_ms)?;
    tx.execute("UPDATE tokens SET uses_left = uses_left - 1 WHERE hash = ?1", [hash])?;
    Ok(account_id)
}

/// The account that a token still enrols into. Spent tokens stay on record, so that "used up" and "never heard of" are
/// told apart.
pub(super) fn token_account(conn: &Connection, hash: &[u8; 32], now_ms: i64) -> Result<String, ControlError> {
    let found = conn
        .query_row("SELECT account_id, expires_at_ms, uses_left FROM tokens WHERE hash = ?1", [hash], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let (account_id, expires_at_ms, uses_left) = found.ok_or(ControlError::TokenInvalid)?;
    if uses_left == 0 {
        return Err(ControlError::TokenUsed);
    }
    if now_ms >= expires_at_ms {
        return Err(ControlError::TokenExpired);
    }
    Ok(account_id)
}

pub(super) fn all(conn: &Connection) -> Result<Vec<DeviceRecord>, ControlError> {
    let mut query = conn.prepare_cached(&format!("{} ORDER BY d.enrolled_at_ms, d.id", rows::DEVICE))?;
    let found = query.query_map([], rows::device)?.collect::<Result<Vec<_>, _>>()?;
    found.into_iter().map(rows::device_checked).collect()
}

pub(super) fn one(conn: &Connection, id: Uuid) -> Result<DeviceRecord, ControlError> {
    let mut query = conn.prepare_cached(&format!("{} WHERE d.id = ?1", rows::DEVICE))?;
    let found = query.query_row([id.to_string()], rows::device).optional()?;
    rows::device_checked(found.ok_or(ControlError::DeviceUnknown)?)
}

pub(super) fn revoke(tx: &Transaction<'_>, _: &Shared, id: Uuid) -> Result<(), ControlError> {
    let changed = tx.execute("UPDATE devices SET state = 'revoked' WHERE id = ?1", [id.to_string()])?;
    if changed == 0 { Err(ControlError::DeviceUnknown) } else { Ok(()) }
}

pub(super) fn touch(tx: &Transaction<'_>, shared: &Shared, id: Uuid) -> Result<(), ControlError> {
    tx.execute(
        "UPDATE devices SET last_seen_at_ms = ?2 WHERE id = ?1",
        params![id.to_string(), shared.clock.now_ms()],
    )?;
    Ok(())
}
