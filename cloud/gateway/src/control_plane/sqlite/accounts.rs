//! Accounts, their balances, and the tokens that bring devices into them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, Transaction, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Shared;
use super::rows::{AccountRow, asking};
use crate::control_plane::clock::month_of;
use crate::control_plane::{AccountRecord, Balance, ControlError, IssuedToken, NewAccount};
use crate::secret::Secret;

/// Every token begins with it, so that a scanner finds one that leaked.
const TOKEN_PREFIX: &str = "syn1_";
const MAX_NAME: usize = 64;

pub(super) fn create(
    tx: &Transaction<'_>,
    shared: &Shared,
    new: NewAccount,
) -> Result<AccountRecord, ControlError> {
    let NewAccount { name, tier, ceiling, quota } = new;
    if name.trim().is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ControlError::AccountName(name));
    }
    let taken: bool =
        tx.query_row("SELECT EXISTS (SELECT 1 FROM accounts WHERE name = ?1)", [&name], |row| row.get(0))?;
    if taken {
        return Err(ControlError::AccountExists(name));
    }
    let (id, now_ms) = (Uuid::new_v4().to_string(), shared.clock.now_ms());
    let sql = "INSERT INTO accounts (id, name, tier, ceiling, quota, quota_month, created_at_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let [ceiling_nano, quota_nano] = [ceiling, quota].map(|amount| amount.map(|a| a.as_i64()));
    tx.execute(sql, params![id, name, tier.as_str(), ceiling_nano, quota_nano, month_of(now_ms), now_ms])?;
    Ok(AccountRecord { id, name, tier, ceiling, quota })
}

/// What is stored of a token, and compared. A stolen database holds nothing to enrol with.
pub(super) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}

pub(super) fn create_token(
    tx: &Transaction<'_>,
    shared: &Shared,
    account: &str,
    ttl: Duration,
    uses: u32,
) -> Result<IssuedToken, ControlError> {
    let account = AccountRow::by_name_or_id(tx, account)?;
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random).map_err(ControlError::Random)?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random));
    let token = Secret::new(&Zeroizing::new(format!("{TOKEN_PREFIX}{}", *text)));
    let now_ms = shared.clock.now_ms();
    let expires_at_ms = now_ms.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    let sql = "INSERT INTO tokens (hash, account_id, expires_at_ms, uses_left, created_at_ms)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.execute(sql, params![token_hash(token.expose()), account.id, expires_at_ms, uses, now_ms])?;
    Ok(IssuedToken { token, expires_at_ms })
}

pub(super) fn balance(conn: &Connection, device: Uuid, now_ms: i64) -> Result<Balance, ControlError> {
    let mut account = asking(conn, device)?.account;
    account.enter_month(&month_of(now_ms));
    Ok(Balance { account: account.name, money: account.money })
}
