//! A holder orders balance: the order is durable, then the rail makes what the payer scans.

use std::time::Duration;

use ledger::AccountRef;
use money::Amount;
use sha2::{Digest, Sha256};
use store::{Asking, Op, StoreError, TopUp, TopUpState, TopUpStep};

use super::rail::{FAMILIES, Made};
use super::{Open, Rail};
use crate::clock::Now;
use crate::config::TopUpRules;
use crate::gate::Gate;
use crate::payments::store_refusal;
use crate::random;
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;

/// What a holder asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Family of the rail.
    pub(crate) rail: String,
    /// As the rail writes sums, `36.00`.
    pub(crate) amount: String,
    /// `CNY`
    pub(crate) currency: String,
    /// What the holder calls it: asked again under the same name it is the same order.
    pub(crate) name: Option<String>,
}

/// Orders balance for an account, or tells of the order that has this name already.
///
/// # Errors
/// The refusal says why; nothing was taken, and nobody can pay.
///
/// # Cancel safety
/// An order that was begun is asked about all the same, and closed when its time is over.
pub(crate) async fn start(
    gate: &Gate,
    snapshot: &Snapshot,
    account: &AccountRef,
    wish: &Wish,
) -> Result<([u8; 16], TopUp), Refusal> {
    let no_rail = || {
        let offered = FAMILIES.into_iter().filter(|family| Rail::named(snapshot, family).is_some());
        let offered: Vec<&str> = offered.collect();
        let detail = match offered.as_slice() {
            [] => "This gateway sells no balance by order.".to_owned(),
            offered => format!("Balance is sold by order over {}.", offered.join(", ")),
        };
        unfit("rail_unknown", detail)
    };
    let rules = snapshot.config.top_up.as_ref().ok_or_else(no_rail)?;
    let rail = Rail::named(snapshot, &wish.rail).ok_or_else(no_rail)?;
    let now = Now::read();
    let fresh = order(rules, rail, account, wish, now)?;
    let id = wish.name.as_ref().map_or_else(random::bytes, |name| named(account, name));
    let known = gate.store.reader().top_up(&id).map_err(|error| store_refusal(&error))?;
    let order = match known {
        Some(known) if same(&known, &fresh) => known,
        Some(_) => {
            let detail = "Another order was made under this Idempotency-Key.";
            return Err(Refusal::new(Code::IdempotencyMismatch, detail));
        }
        None => begin(gate, id, fresh, rules, now).await?,
    };
    if order.state == TopUpState::Open && order.qr.is_empty() {
        return show(gate, rail, id, order).await.map(|order| (id, order));
    }
    Ok((id, order))
}

/// The order that a wish comes to, within the bounds.
fn order(
    rules: &TopUpRules,
    rail: Rail<'_>,
    account: &AccountRef,
    wish: &Wish,
    now: Now,
) -> Result<TopUp, Refusal> {
    let (currency, asset) = (rail.currency(), account.asset());
    if wish.currency != currency.name() {
        return Err(unfit("currency", format!("This rail is paid in {currency}.")));
    }
    if !asset.is_dollar_parity() {
        return Err(unfit("asset", format!("This account holds {asset}: it is not topped up by order.")));
    }
    let minor = rail.minor(&wish.amount).map_err(|why| unfit("amount", format!("The amount is {why}.")))?;
    let credit = rules.credit(currency, minor).unwrap_or(Amount::MAX);
    let told = |amount: Amount| amount.short(asset);
    if credit < rules.min {
        let (comes_to, least) = (told(credit), told(rules.min));
        let detail = format!("That comes to {comes_to} {asset} of credit; the least is {least} {asset}.");
        return Err(unfit("below_min", detail));
    }
    if credit > rules.max {
        let detail = format!("The most that is sold at once is {} {asset} of credit.", told(rules.max));
        return Err(unfit("above_max", detail));
    }
    let next_ms = now.millis().saturating_add(millis(rules.reconcile_every));
    Ok(TopUp {
        state: TopUpState::Open,
        account: account.id().0,
        asset: asset.code(),
        credit: credit.units(),
        bonus: rules.bonus(credit).units(),
        rail: wish.rail.clone(),
        currency: currency.code(),
        minor,
        policy: rules.policy,
        qr: String::new(),
        created_ms: now.millis(),
        expires_ms: now.millis().saturating_add(millis(rules.order_ttl)),
        asking: Asking { count: 0, last_ms: now.millis(), next_ms },
        key: None,
    })
}

/// Writes the order down, and has it asked about from now on.
async fn begin(
    gate: &Gate,
    id: [u8; 16],
    order: TopUp,
    rules: &TopUpRules,
    now: Now,
) -> Result<TopUp, Refusal> {
    let account = ledger::AccountId(order.account);
    if !gate.top_ups.admit(id, account, order.asking.next_ms) {
        let wait_s = u32::try_from(rules.order_ttl.as_secs().clamp(1, 60)).unwrap_or(60);
        let facts = Facts { limit_source: Some("open_orders"), ..Facts::default() };
        let detail = "This account has too many orders that can still be paid.";
        return Err(Refusal::new(Code::RateLimited, detail).facts(facts).retry_after(wait_s));
    }
    let step = TopUpStep::Begin(Box::new(order.clone()));
    match gate.store.commit(Op::TopUp { id, step }).await {
        Ok(_) => Ok(order),
        // An earlier copy of this request was faster.
        Err(StoreError::Conflict) => {
            let known = gate.store.reader().top_up(&id).map_err(|error| store_refusal(&error))?;
            let known = known.filter(|known| same(known, &order));
            known.ok_or_else(|| Refusal::new(Code::InProgress, "This order has just begun.").retry_after(1))
        }
        Err(error) => {
            // What was not written is decided the first time that somebody looks.
            gate.top_ups.watch(Open::Order(id), account, now.millis());
            Err(store_refusal(&error))
        }
    }
}

/// Has the rail make the code.
async fn show(gate: &Gate, rail: Rail<'_>, id: [u8; 16], order: TopUp) -> Result<TopUp, Refusal> {
    let left_ms = order.expires_ms.saturating_sub(Now::read().millis());
    let failed = |detail| Refusal::new(Code::FacilitatorFailed, detail).retry_after(5);
    match rail.make(&id, order.minor, Duration::from_millis(left_ms.max(1))).await {
        Made::Qr(qr) => {
            let step = TopUpStep::Shown { qr: qr.clone() };
            match gate.store.commit(Op::TopUp { id, step }).await {
                // A conflict: it was paid or closed meanwhile, which its state tells.
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(store_refusal(&error)),
            }
            Ok(TopUp { qr, ..order })
        }
        Made::Refused => {
            match gate.store.commit(Op::TopUp { id, step: TopUpStep::Close }).await {
                Ok(_) | Err(StoreError::Conflict) => gate.top_ups.forget(Open::Order(id)),
                Err(error) => return Err(store_refusal(&error)),
            }
            Err(failed("The rail does not take this order now."))
        }
        Made::Unknown => Err(failed(
            "The rail did not say whether it takes this order. Ask again, under the same Idempotency-Key.",
        )),
    }
}

/// Whether an order is what is asked for.
fn same(known: &TopUp, asked: &TopUp) -> bool {
    (known.account, &known.rail, known.currency, known.minor)
        == (asked.account, &asked.rail, asked.currency, asked.minor)
}

/// The id of an order that its holder has named.
fn named(account: &AccountRef, name: &str) -> [u8; 16] {
    let hash = Sha256::new_with_prefix(b"farthing/top-up/1").chain_update(account.id().0);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.chain_update(name).finalize()[..16]);
    id
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unfit(reason: &str, detail: impl Into<String>) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(Code::BadRequest, detail.into()).facts(facts)
}
