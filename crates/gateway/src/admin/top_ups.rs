//! Orders, codes and refunds of top-ups: the operator's lists, and his word.

use money::{Amount, Asset, parse_money};
use serde_json::{Value, json};
use store::{
    Asking, CodeStep, Op, RedemptionCode, RefundState, RefundStep, StoreError, TopUpRefund, TopUpState,
};
use wire::hex;

use super::office::{Office, OfficeError, usage};
use crate::clock::Now;
use crate::endpoints::paid_amount;
use crate::facts;
use crate::payer::usual_asset;
use crate::top_ups::{self, Open};

/// Orders and codes that are shown at most.
const LISTED_MAX: usize = 1000;
/// Codes that are made at once.
const CODES_MAX: u32 = 1000;

/// Orders that are open or wait for the operator first, the newest first of each; and payments that wait.
pub(super) async fn list(office: &Office<'_>) -> Result<Value, OfficeError> {
    office.store().commit(Op::Flush).await?;
    let reader = office.store().reader();
    let mut orders = reader.top_ups()?;
    let needs_look = |state| matches!(state, TopUpState::Parked | TopUpState::Open);
    orders.sort_by_key(|(_, order)| (!needs_look(order.state), std::cmp::Reverse(order.created_ms)));
    let orders: Vec<Value> = orders
        .iter()
        .take(LISTED_MAX)
        .map(|(id, order)| {
            json!({
                "order": hex::encode(id), "state": order.state, "account": hex::encode(&order.account),
                "rail": order.rail, "amount": paid_amount(order.currency, order.minor),
                "credit": money(order.credit, order.asset), "bonus": money(order.bonus, order.asset),
                "created_ms": order.created_ms, "expires_ms": order.expires_ms,
                "attempts": order.asking.count, "deposit_key": order.key.map(|key| hex::encode(&key)),
            })
        })
        .collect();
    let parked: Vec<Value> = reader
        .parked()?
        .iter()
        .map(|(key, parked)| {
            json!({
                "deposit_key": hex::encode(key), "why": parked.why, "rail": parked.paid.rail,
                "reference": parked.paid.reference, "order": hex::encode(&parked.paid.order),
                "amount": paid_amount(parked.paid.currency, parked.paid.minor), "at_ms": parked.at_ms,
            })
        })
        .collect();
    Ok(json!({ "orders": orders, "parked": parked }))
}

/// Refunds, those that wait for the operator first, then those that wait for their rail.
pub(super) async fn refunds(office: &Office<'_>) -> Result<Value, OfficeError> {
    office.store().commit(Op::Flush).await?;
    let mut refunds = office.store().reader().top_up_refunds()?;
    refunds.sort_by_key(|(_, refund)| {
        (refund.state != RefundState::Requested, !refund.state.is_open(), refund.created_ms)
    });
    let row = |(id, refund): &([u8; 16], TopUpRefund)| {
        json!({
            "refund": hex::encode(id), "state": refund.state, "account": hex::encode(&refund.account),
            "order": hex::encode(&refund.paid.order), "reference": refund.paid.reference,
            "amount": paid_amount(refund.paid.currency, refund.minor),
            "of": paid_amount(refund.paid.currency, refund.paid.minor),
            "credit": money(refund.credit, refund.asset), "bonus": money(refund.bonus, refund.asset),
            "created_ms": refund.created_ms, "attempts": refund.asking.count,
            "reason": Some(&refund.reason).filter(|reason| !reason.is_empty()),
        })
    };
    Ok(json!({ "refunds": refunds.iter().map(row).collect::<Vec<_>>() }))
}

/// Agrees to a refund, or does not. The same word again changes nothing.
pub(super) async fn decide(office: &Office<'_>, id: &str, agrees: bool) -> Result<Value, OfficeError> {
    let id = hex::decode_array(id).map_err(|_| usage("a refund is 32 hex digits"))?;
    let refund =
        office.store().reader().top_up_refund(&id)?.ok_or_else(|| usage("there is no such refund"))?;
    let done = match (refund.state, agrees) {
        (RefundState::Requested, true) => approve(office, id, &refund).await?,
        (RefundState::Requested, false) => reject(office, id, &refund).await?,
        (RefundState::Sent | RefundState::Moved | RefundState::Failed, true) => "already approved",
        (RefundState::Rejected, false) => "already rejected",
        (RefundState::Rejected, true) => return Err(usage("this refund was rejected, and was given back")),
        (RefundState::Sent | RefundState::Moved | RefundState::Failed, false) => {
            return Err(usage("this refund was approved"));
        }
    };
    Ok(json!({ "refund": hex::encode(&id), "done": done }))
}

async fn approve(
    office: &Office<'_>,
    id: [u8; 16],
    refund: &TopUpRefund,
) -> Result<&'static str, OfficeError> {
    let now_ms = Now::read().millis();
    let step = RefundStep::Approve(Asking { count: 0, last_ms: now_ms, next_ms: now_ms });
    match office.store().commit(Op::TopUpRefund { id, step }).await {
        Ok(_) => {
            // A gateway that starts later finds it.
            if let Office::Running(gate) = office {
                gate.top_ups.watch(Open::Refund(id), ledger::AccountId(refund.account), now_ms);
            }
            Ok("approved")
        }
        Err(StoreError::Conflict) => Err(usage("this refund has just been decided")),
        Err(error) => Err(error.into()),
    }
}

async fn reject(
    office: &Office<'_>,
    id: [u8; 16],
    refund: &TopUpRefund,
) -> Result<&'static str, OfficeError> {
    let step = RefundStep::Reject { entry: top_ups::given_back(&id, refund, Now::read()) };
    let written = match office {
        Office::Running(gate) => top_ups::write_end(gate, id, refund, step).await,
        Office::Alone { store, .. } => store.commit(Op::TopUpRefund { id, step }).await.map(drop),
    };
    match written {
        Ok(()) => Ok("rejected"),
        Err(StoreError::Conflict) => Err(usage("this refund has just been decided")),
        Err(error) => Err(error.into()),
    }
}

/// Makes codes. Their text is shown once and stored nowhere.
pub(super) async fn new_codes(
    office: &Office<'_>,
    credit: &str,
    count: u32,
    label: &str,
    expires_s: Option<u64>,
) -> Result<Value, OfficeError> {
    let (amount, asset) =
        parse_money(credit).map_err(|error| usage(format!("amount \"{credit}\": {error}")))?;
    let usual = usual_asset(office.keys().mode);
    if amount <= Amount::ZERO || asset != usual {
        return Err(usage(format!("a code is for some {usual}")));
    }
    if !(1..=CODES_MAX).contains(&count) {
        return Err(usage(format!("between 1 and {CODES_MAX} codes are made at once")));
    }
    let created_ms = Now::read().millis();
    let texts: Vec<String> = (0..count).map(|_| top_ups::draw()).collect();
    let code = RedemptionCode {
        asset: asset.code(),
        credit: amount.units(),
        label: label.to_owned(),
        created_ms,
        expires_s,
        redeemed: None,
    };
    let codes = texts.iter().filter_map(|text| Some((top_ups::hash_of(text)?, code.clone()))).collect();
    office.store().commit(Op::Codes(CodeStep::Make(codes))).await?;
    Ok(
        json!({ "codes": texts, "credit": facts::amount(amount, asset), "label": label, "expires_s": expires_s }),
    )
}

/// Every code that was made, by the beginning of its hash; the newest first.
pub(super) fn list_codes(office: &Office<'_>) -> Result<Value, OfficeError> {
    let mut codes = office.store().reader().codes()?;
    codes.sort_by_key(|(_, code)| std::cmp::Reverse(code.created_ms));
    let row = |(hash, code): &([u8; 32], RedemptionCode)| {
        json!({
            "code": hex::encode(&hash[..8]), "label": code.label, "credit": money(code.credit, code.asset),
            "created_ms": code.created_ms, "expires_s": code.expires_s,
            "account": code.redeemed.map(|by| hex::encode(&by.account)),
            "redeemed_ms": code.redeemed.map(|by| by.at_ms),
        })
    };
    Ok(json!({ "codes": codes.iter().take(LISTED_MAX).map(row).collect::<Vec<_>>() }))
}

fn money(units: i64, asset: u8) -> Value {
    let asset = Asset::from_code(asset).unwrap_or(Asset::Usd);
    facts::amount(Amount::from_units(units), asset)
}
