//! Rows in and out of the tables: each type of the ledger is read strictly, so a damaged row is an error and never
//! a wrong amount.

use rusqlite::{Connection, OptionalExtension, Row, params};
use synesis_ledger::{Account, NanoUsd, Price, Tier};
use uuid::Uuid;

use crate::control_plane::{ControlError, DeviceRecord, DeviceState, RequestKey};

/// The money of an account, with the month its quota counts for.
pub(super) struct AccountRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) money: Account,
    pub(super) quota_month: String,
}

const ACCOUNT: &str =
    "SELECT id, name, tier, ceiling, quota, credits, unbilled, held, quota_used, quota_month FROM accounts";

impl AccountRow {
    pub(super) fn by_id(conn: &Connection, id: &str) -> Result<Self, ControlError> {
        Self::find(conn, &format!("{ACCOUNT} WHERE id = ?1"), id)
    }

    /// By name first: a name that looks like another account's id is still that name.
    pub(super) fn by_name_or_id(conn: &Connection, wanted: &str) -> Result<Self, ControlError> {
        Self::find(
            conn,
            &format!("{ACCOUNT} WHERE name = ?1 OR id = ?1 ORDER BY name = ?1 DESC LIMIT 1"),
            wanted,
        )
    }

    fn find(conn: &Connection, sql: &str, wanted: &str) -> Result<Self, ControlError> {
        let row = conn.prepare_cached(sql)?.query_row([wanted], |row| {
            let money = |index| row.get::<_, i64>(index).map(NanoUsd::from_i64);
            let limit = |index| row.get::<_, Option<i64>>(index).map(|amount| amount.map(NanoUsd::from_i64));
            Ok((
                row.get::<_, String>(2)?,
                Self {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    money: Account {
                        tier: Tier::Managed,
                        ceiling: limit(3)?,
                        quota: limit(4)?,
                        credits: money(5)?,
                        unbilled: money(6)?,
                        held: money(7)?,
                        quota_used: money(8)?,
                    },
                    quota_month: row.get(9)?,
                },
            ))
        });
        let (tier, mut found) =
            row.optional()?.ok_or_else(|| ControlError::AccountUnknown(wanted.to_owned()))?;
        found.money.tier = tier_of(&tier)?;
        Ok(found)
    }

    /// Begins a new quota period when the month has changed. A clock that jumps back begins none.
    pub(super) fn enter_month(&mut self, month: &str) {
        if month > self.quota_month.as_str() {
            month.clone_into(&mut self.quota_month);
            self.money.quota_used = NanoUsd::ZERO;
        }
    }

    pub(super) fn save(&self, conn: &Connection) -> Result<(), ControlError> {
        let sql =
            "UPDATE accounts SET credits = ?2, unbilled = ?3, held = ?4, quota_used = ?5, quota_month = ?6
                   WHERE id = ?1";
        let Account { credits, unbilled, held, quota_used, .. } = &self.money;
        let [credits, unbilled, held, quota_used] = [credits, unbilled, held, quota_used].map(|a| a.as_i64());
        let values = params![self.id, credits, unbilled, held, quota_used, self.quota_month];
        conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// The device that asks: whose it is, and whether it may.
pub(super) struct Asking {
    pub(super) account: AccountRow,
}

/// The account of a device that may come in.
pub(super) fn asking(conn: &Connection, device: Uuid) -> Result<Asking, ControlError> {
    let sql = "SELECT account_id, state FROM devices WHERE id = ?1";
    let found = conn
        .prepare_cached(sql)?
        .query_row([device.to_string()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let (account, state) = found.ok_or(ControlError::DeviceUnknown)?;
    match device_state(&state)? {
        DeviceState::Revoked => Err(ControlError::DeviceRevoked),
        DeviceState::Enrolled => Ok(Asking { account: AccountRow::by_id(conn, &account)? }),
    }
}

/// A request as it was last left.
pub(super) struct RequestRow {
    pub(super) account_id: String,
    pub(super) state: RequestRowState,
    pub(super) tier: Tier,
    pub(super) model: String,
    pub(super) held: NanoUsd,
    pub(super) price_version: u64,
    pub(super) price: Price,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestRowState {
    Held,
    Settled,
    Released,
}

impl RequestRowState {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Settled => "settled",
            Self::Released => "released",
        }
    }

    fn parse(text: &str) -> Result<Self, ControlError> {
        [Self::Held, Self::Settled, Self::Released]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| ControlError::Corrupt(format!("a request in the state {text:?}")))
    }
}

impl RequestRow {
    pub(super) fn find(conn: &Connection, key: &RequestKey) -> Result<Option<Self>, ControlError> {
        let sql =
            "SELECT account_id, state, tier, model, held, price_version, input_per_mtok, output_per_mtok
                   FROM requests WHERE device_id = ?1 AND request_id = ?2";
        let found = conn
            .prepare_cached(sql)?
            .query_row([key.device.to_string(), key.request_id.to_string()], |row| {
                let price = Price {
                    input_per_mtok: NanoUsd::from_i64(row.get(6)?),
                    output_per_mtok: NanoUsd::from_i64(row.get(7)?),
                };
                let texts: (String, String) = (row.get(1)?, row.get(2)?);
                Ok((texts, row.get(0)?, row.get(3)?, row.get::<_, i64>(4)?, row.get::<_, i64>(5)?, price))
            })
            .optional()?;
        let Some(((state, tier), account_id, model, held, price_version, price)) = found else {
            return Ok(None);
        };
        Ok(Some(Self {
            account_id,
            state: RequestRowState::parse(&state)?,
            tier: tier_of(&tier)?,
            model,
            held: NanoUsd::from_i64(held),
            price_version: price_version.unsigned_abs(),
            price,
        }))
    }

    pub(super) fn save(&self, conn: &Connection, key: &RequestKey, now_ms: i64) -> Result<(), ControlError> {
        let sql =
            "INSERT OR REPLACE INTO requests (device_id, request_id, account_id, state, tier, model, held,
                   price_version, input_per_mtok, output_per_mtok, changed_at_ms)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        conn.prepare_cached(sql)?.execute(params![
            key.device.to_string(),
            key.request_id.to_string(),
            self.account_id,
            self.state.as_str(),
            self.tier.as_str(),
            self.model,
            self.held.as_i64(),
            i64::try_from(self.price_version).unwrap_or(i64::MAX),
            self.price.input_per_mtok.as_i64(),
            self.price.output_per_mtok.as_i64(),
            now_ms,
        ])?;
        Ok(())
    }
}

/// The columns that [`device`] reads.
pub(super) const DEVICE: &str = "SELECT d.id, a.name, d.state, d.enrolled_at_ms, d.last_seen_at_ms
    FROM devices d JOIN accounts a ON a.id = d.account_id";

pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<(String, String, DeviceRecord)> {
    let record = DeviceRecord {
        id: Uuid::nil(),
        account: row.get(1)?,
        state: DeviceState::Revoked,
        enrolled_at_ms: row.get(3)?,
        last_seen_at_ms: row.get(4)?,
    };
    Ok((row.get(0)?, row.get(2)?, record))
}

/// Completes what [`device`] read with the two columns that must be parsed.
pub(super) fn device_checked(
    (id, state, record): (String, String, DeviceRecord),
) -> Result<DeviceRecord, ControlError> {
    Ok(DeviceRecord { id: uuid(&id)?, state: device_state(&state)?, ..record })
}

pub(super) fn uuid(text: &str) -> Result<Uuid, ControlError> {
    text.parse().map_err(|_| ControlError::Corrupt(format!("{text:?} where a device id belongs")))
}

fn tier_of(text: &str) -> Result<Tier, ControlError> {
    text.parse().map_err(|_| ControlError::Corrupt(format!("{text:?} where a tier belongs")))
}

fn device_state(text: &str) -> Result<DeviceState, ControlError> {
    match text {
        "enrolled" => Ok(DeviceState::Enrolled),
        "revoked" => Ok(DeviceState::Revoked),
        _ => Err(ControlError::Corrupt(format!("a device in the state {text:?}"))),
    }
}
