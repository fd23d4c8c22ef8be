//! Devices: enrolled with a token, revoked for good.

use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use synesis_mesh::identity::{Fingerprint, IdentityError, Issued};
use uuid::Uuid;

use super::Shared;
use super::rows::{self, AccountRow};
use crate::control_plane::{ControlError, Dependency, DeviceRecord, Enrolment};

/// Certificates that a device is given within a day, at most: one is enough for a year, and a few more get lost.
const MOST_IN_A_DAY: i64 = 10;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Certificates of a device that are remembered, at most.
const MOST_ON_RECORD: i64 = 16;
/// Server CAs of a device that are remembered, at most.
const MOST_PINS: usize = 8;
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
    let (issued, issuer) = sign(shared, csr_der, device, now_ms)?;
    let agent: String = agent.chars().filter(|c| !c.is_control()).take(MAX_AGENT).collect();
    tx.execute(
        "INSERT INTO devices (id, account_id, state, agent, serial, enrolled_at_ms, receipt_head)
         VALUES (?1, ?2, 'enrolled', ?3, ?4, ?5, ?6)",
        params![device.to_string(), account_id, agent, issued.serial, now_ms, [0_u8; 32]],
    )?;
    record(tx, device, &issued.serial, &issuer, now_ms)?;
    Ok(enrolment(shared, device, account.name, &issued))
}

/// One transaction. The device stays who it is; what it was given before counts until its own end.
pub(super) fn renew(
    tx: &Transaction<'_>,
    shared: &Shared,
    device: Uuid,
    csr_der: &[u8],
    expired_serial: Option<&str>,
) -> Result<Enrolment, ControlError> {
    let account = rows::asking(tx, device)?.account;
    let id = device.to_string();
    let count = |sql: &str, value: &dyn rusqlite::ToSql| {
        tx.query_row(sql, params![id, value], |row| row.get::<_, i64>(0))
    };
    if let Some(serial) = expired_serial
        && count("SELECT count(*) FROM certificates WHERE device_id = ?1 AND serial = ?2", &serial)? == 0
    {
        return Err(ControlError::CertificateUnknown);
    }
    let now_ms = shared.clock.now_ms();
    let recent = "SELECT count(*) FROM certificates WHERE device_id = ?1 AND issued_at_ms > ?2";
    let given = count(recent, &(now_ms - DAY_MS))?;
    if given >= MOST_IN_A_DAY {
        return Err(ControlError::RenewedTooOften(given));
    }
    let (issued, issuer) = sign(shared, csr_der, device, now_ms)?;
    tx.execute("UPDATE devices SET serial = ?2 WHERE id = ?1", params![id, issued.serial])?;
    record(tx, device, &issued.serial, &issuer, now_ms)?;
    tx.execute(
        "DELETE FROM certificates WHERE device_id = ?1 AND serial NOT IN
         (SELECT serial FROM certificates WHERE device_id = ?1 ORDER BY issued_at_ms DESC, serial LIMIT ?2)",
        params![id, MOST_ON_RECORD],
    )?;
    Ok(enrolment(shared, device, account.name, &issued))
}

fn sign(
    shared: &Shared,
    csr_der: &[u8],
    device: Uuid,
    now_ms: i64,
) -> Result<(Issued, Fingerprint), ControlError> {
    let ca = shared.device_ca.borrow().clone();
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).unwrap_or_default());
    let issued = ca.sign_device_csr_at(csr_der, device, now).map_err(|error| match error {
        IdentityError::Csr(_) => ControlError::Csr(error),
        other => ControlError::Certificate(other),
    })?;
    Ok((issued, ca.fingerprint()))
}

fn record(
    tx: &Transaction<'_>,
    device: Uuid,
    serial: &str,
    issuer: &Fingerprint,
    now_ms: i64,
) -> Result<(), ControlError> {
    tx.execute(
        "INSERT INTO certificates (device_id, serial, issuer, issued_at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![device.to_string(), serial, issuer, now_ms],
    )?;
    Ok(())
}

fn enrolment(shared: &Shared, device: Uuid, account: String, issued: &Issued) -> Enrolment {
    let not_after = issued.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    Enrolment {
        device,
        account,
        trust_domain: shared.device_ca.borrow().trust_domain().as_str().to_owned(),
        chain: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
        not_after_s: i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX),
    }
}

/// Gives the certificates of before there was a second CA their issuer.
pub(super) fn name_issuer(tx: &Transaction<'_>, first: &Fingerprint) -> Result<(), ControlError> {
    tx.execute("UPDATE certificates SET issuer = ?1 WHERE issuer IS NULL", [first])?;
    Ok(())
}

/// Pins as they are stored: in hex, with a space between.
pub(super) fn pins(pinned: &[Fingerprint]) -> String {
    pinned.iter().take(MOST_PINS).map(hex::encode).collect::<Vec<_>>().join(" ")
}

pub(super) fn has_pins(conn: &Connection, device: Uuid, pins: &str) -> Result<bool, ControlError> {
    let sql = "SELECT count(*) FROM devices WHERE id = ?1 AND pinned = ?2";
    let mut query = conn.prepare_cached(sql)?;
    Ok(query.query_row(params![device.to_string(), pins], |row| row.get::<_, i64>(0))? > 0)
}

pub(super) fn set_pins(tx: &Transaction<'_>, device: Uuid, pins: &str) -> Result<(), ControlError> {
    tx.execute("UPDATE devices SET pinned = ?2 WHERE id = ?1", params![device.to_string(), pins])?;
    Ok(())
}

pub(super) fn dependencies(conn: &Connection) -> Result<Vec<Dependency>, ControlError> {
    let mut query = conn.prepare(
        "SELECT c.issuer, d.pinned FROM devices d
         JOIN certificates c ON c.device_id = d.id AND c.serial = d.serial
         WHERE d.state = 'enrolled'",
    )?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Fingerprint>(0)?, row.get::<_, String>(1)?));
    let found = query.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
    let dependency = |(issuer, pinned): (Fingerprint, String)| {
        let pin = |hex: &str| {
            let mut pin = Fingerprint::default();
            hex::decode_to_slice(hex, &mut pin).ok()?;
            Some(pin)
        };
        Dependency { issuer, pinned: pinned.split_whitespace().filter_map(pin).collect() }
    };
    Ok(found.into_iter().map(dependency).collect())
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
