//! The life of a charge: hold the worst case, then settle what was used or release it. One charge per request,
//! whatever is retried.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use synesis_ledger::{NanoUsd, Receipt, SignedReceipt, charge, cost_within, counted};

use super::Shared;
use super::entries::Entry;
use super::rows::{AccountRow, RequestRow, RequestRowState, asking, uuid};
use crate::control_plane::clock::month_of;
use crate::control_plane::{ControlError, Cut, Hold, RequestKey, RequestState, Reserve, Settle, Settled};

/// A request that was released was never charged, so the device may try it again under the same id.
pub(super) fn reserve(tx: &Transaction<'_>, shared: &Shared, ask: &Reserve) -> Result<Hold, ControlError> {
    let mut account = asking(tx, ask.request.device)?.account;
    match RequestRow::find(tx, &ask.request)?.map(|request| request.state) {
        Some(state @ (RequestRowState::Held | RequestRowState::Settled)) => {
            return Err(ControlError::RequestKnown { state: state.as_str() });
        }
        Some(RequestRowState::Released) | None => {}
    }
    let price = *shared.prices.price(&ask.model).ok_or_else(|| ControlError::NoPrice(ask.model.clone()))?;
    let cost = price.cost(ask.input_tokens, ask.output_tokens)?;
    let tier = account.money.tier;
    within_device_limit(ask, charge(tier, &shared.rates, cost, NanoUsd::ZERO)?.net)?;
    let amount = counted(tier, &shared.rates, cost)?;
    let now_ms = shared.clock.now_ms();
    account.enter_month(&month_of(now_ms));
    account.money.hold(amount)?;
    account.save(tx)?;
    let price_version = shared.prices.version;
    let request = RequestRow {
        account_id: account.id.clone(),
        state: RequestRowState::Held,
        tier,
        model: ask.model.clone(),
        held: amount,
        price_version,
        price,
    };
    request.save(tx, &ask.request, now_ms)?;
    Entry::Hold {
        account: account.id,
        request: ask.request.to_string(),
        model: ask.model.clone(),
        amount,
        price_version,
    }
    .append(tx)?;
    Ok(Hold { amount, price_version })
}

/// The device names what it is ready to be charged; credits are not its business.
fn within_device_limit(ask: &Reserve, worst_case: NanoUsd) -> Result<(), ControlError> {
    match ask.max_charge {
        Some(allowed) if worst_case > allowed => Err(ControlError::OverDeviceLimit { worst_case, allowed }),
        _ => Ok(()),
    }
}

pub(super) fn settle(tx: &Transaction<'_>, shared: &Shared, usage: &Settle) -> Result<Settled, ControlError> {
    let key = &usage.request;
    let mut request = RequestRow::find(tx, key)?.ok_or(ControlError::NotHeld)?;
    match request.state {
        RequestRowState::Held => {}
        RequestRowState::Settled => {
            let receipt = stored_receipt(tx, key)?.as_deref().map(SignedReceipt::from_bytes);
            let lost = || ControlError::Corrupt(format!("the receipt of {key}"));
            let receipt = receipt.and_then(Result::ok).ok_or_else(lost)?;
            return Ok(Settled { receipt, cut: None });
        }
        RequestRowState::Released => return Err(ControlError::NotHeld),
    }
    let mut account = AccountRow::by_id(tx, &request.account_id)?;
    let now_ms = shared.clock.now_ms();
    account.enter_month(&month_of(now_ms));

    let (cost, cut) = cost_of(shared, &request, usage);
    let charge = charge(request.tier, &shared.rates, cost, account.money.credits)?;
    account.money.settle(request.held, &charge)?;
    account.save(tx)?;
    request.state = RequestRowState::Settled;
    request.save(tx, key, now_ms)?;

    let (seq, prev_hash) = chain_head(tx, key)?;
    let receipt = shared.receipt_key.sign(Receipt {
        account: account.name,
        device: key.device.to_string(),
        request_id: key.request_id.to_string(),
        model: request.model,
        adapter_generation: usage.adapter_generation,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        tier: request.tier,
        cost: charge.cost,
        fee: charge.fee,
        credits_used: charge.credits_used,
        net: charge.net,
        price_version: request.price_version,
        redacted_hash: usage.redacted_hash,
        seq,
        prev_hash,
        issued_at_ms: now_ms,
    });
    let hash = receipt.receipt.hash();
    keep(tx, key, seq, &hash, &receipt)?;
    let tokens = (usage.input_tokens, usage.output_tokens, usage.provider_counted);
    Entry::settle(&account.id, key, request.held, &charge, tokens, hash).append(tx)?;
    Ok(Settled { receipt, cut })
}

/// What the usage costs, cut to what was held for it: a provider that reports more than the worst case is not paid
/// for by the customer.
fn cost_of(shared: &Shared, request: &RequestRow, usage: &Settle) -> (NanoUsd, Option<Cut>) {
    let cost = request.price.cost(usage.input_tokens, usage.output_tokens).ok();
    let reported = cost.and_then(|cost| counted(request.tier, &shared.rates, cost).ok());
    match (cost, reported) {
        (Some(cost), Some(reported)) if reported <= request.held => (cost, None),
        _ => {
            let cost = cost_within(request.tier, &shared.rates, request.held);
            (cost, Some(Cut { reported, held: request.held }))
        }
    }
}

/// Where the device's chain of receipts goes on.
fn chain_head(tx: &Transaction<'_>, key: &RequestKey) -> Result<(u64, [u8; 32]), ControlError> {
    let sql = "SELECT receipt_seq, receipt_head FROM devices WHERE id = ?1";
    let (seq, head): (i64, [u8; 32]) =
        tx.prepare_cached(sql)?.query_row([key.device.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((seq.unsigned_abs() + 1, head))
}

fn keep(
    tx: &Transaction<'_>,
    key: &RequestKey,
    seq: u64,
    hash: &[u8; 32],
    receipt: &SignedReceipt,
) -> Result<(), ControlError> {
    let device = key.device.to_string();
    let seq =
        i64::try_from(seq).map_err(|_| ControlError::Corrupt(format!("the receipt chain of {device}")))?;
    tx.prepare_cached("INSERT INTO receipts (device_id, seq, request_id, signed) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![device, seq, key.request_id.to_string(), receipt.to_bytes()])?;
    tx.prepare_cached("UPDATE devices SET receipt_seq = ?2, receipt_head = ?3 WHERE id = ?1")?
        .execute(params![device, seq, hash])?;
    Ok(())
}

/// Says whether anything was held.
pub(super) fn release(tx: &Transaction<'_>, shared: &Shared, key: &RequestKey) -> Result<bool, ControlError> {
    let Some(mut request) = RequestRow::find(tx, key)?.filter(|r| r.state == RequestRowState::Held) else {
        return Ok(false);
    };
    let mut account = AccountRow::by_id(tx, &request.account_id)?;
    account.money.release(request.held)?;
    account.save(tx)?;
    request.state = RequestRowState::Released;
    request.save(tx, key, shared.clock.now_ms())?;
    Entry::Release { account: account.id, request: key.to_string(), amount: request.held }.append(tx)?;
    Ok(true)
}

pub(super) fn release_orphans(
    tx: &Transaction<'_>,
    shared: &Shared,
) -> Result<Vec<RequestKey>, ControlError> {
    let held = {
        let mut query = tx.prepare("SELECT device_id, request_id FROM requests WHERE state = 'held'")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.collect::<Result<Vec<_>, _>>()?
    };
    let mut released = Vec::new();
    for (device, request_id) in held {
        let request_id = request_id
            .parse()
            .map_err(|_| ControlError::Corrupt(format!("{request_id:?} where a request id belongs")))?;
        let key = RequestKey { device: uuid(&device)?, request_id };
        if release(tx, shared, &key)? {
            released.push(key);
        }
    }
    Ok(released)
}

pub(super) fn state(conn: &Connection, key: &RequestKey) -> Result<RequestState, ControlError> {
    asking(conn, key.device)?;
    Ok(match RequestRow::find(conn, key)?.map(|request| request.state) {
        None => RequestState::Unknown,
        Some(RequestRowState::Held) => RequestState::Held,
        Some(RequestRowState::Released) => RequestState::Released,
        Some(RequestRowState::Settled) => {
            let lost = || ControlError::Corrupt(format!("the receipt of {key}"));
            RequestState::Settled(stored_receipt(conn, key)?.ok_or_else(lost)?)
        }
    })
}

fn stored_receipt(conn: &Connection, key: &RequestKey) -> Result<Option<Vec<u8>>, ControlError> {
    let sql = "SELECT signed FROM receipts WHERE device_id = ?1 AND request_id = ?2";
    let found = conn
        .prepare_cached(sql)?
        .query_row([key.device.to_string(), key.request_id.to_string()], |row| row.get(0))
        .optional()?;
    Ok(found)
}
