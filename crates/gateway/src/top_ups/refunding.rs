//! A purchase goes back to who paid for it: asked for by the holder, agreed to by the operator, moved by the rail, each
//! once (FIN-34, FIN-35).

use ledger::{AccountId, AccountRef, Reserve};
use money::{Amount, Asset};
use store::{
    Asking, LotBook, NotRefundable, Op, RefundState, RefundStep, StoreError, TopUp, TopUpRefund, TopUpState,
};

use super::rail::Told;
use super::{Open, Rail, entries};
use crate::clock::Now;
use crate::gate::Gate;
use crate::payments::{store_refusal, unsure};
use crate::payouts;
use crate::refusal::{Code, Facts, Refusal};

/// Calls that end between a look and the write, at most: each of them changes what is left.
const LOOKS_MAX: usize = 4;

/// Sets aside what is left of an order, for the operator to agree to. Asked again it is the same refund, until that has
/// failed.
///
/// # Errors
/// The refusal says why; nothing was taken.
///
/// # Cancel safety
/// None: between the write and the balance in memory it must not be dropped.
pub(crate) async fn request(
    gate: &Gate,
    account: &AccountRef,
    order: &TopUp,
) -> Result<([u8; 16], TopUpRefund), Refusal> {
    let key = order.key.filter(|_| order.state == TopUpState::Credited);
    let key = key.ok_or_else(|| unfit("not_credited", "This order was not paid: nothing can go back."))?;
    for _ in 0..LOOKS_MAX {
        // Charges are written just behind the answers: what is left is counted after all of them (FIN-31).
        gate.store.commit(Op::Flush).await.map_err(|error| store_refusal(&error))?;
        let now = Now::read();
        let lots = gate.store.reader().credit_lots(account.id(), account.asset());
        let lots = lots.map_err(|error| store_refusal(&error))?.unwrap_or_default();
        let (id, refund) = match wanted(gate, account, &lots, &key, now)? {
            Wanted::Known(id, refund) => return Ok((id, refund)),
            Wanted::New(id, refund) => (id, refund),
        };
        let amount = Amount::from_units(refund.held());
        let reserve = Reserve { account, budgets: &[], amount, beyond: Amount::ZERO };
        let hold = gate.book.reserve(reserve).map_err(|error| payouts::short(error, calls_under_way))?;
        let entry = entries::set_aside(&id, &refund, now);
        let step = RefundStep::Request { refund: Box::new(refund.clone()), entry };
        match gate.store.commit(Op::TopUpRefund { id, step }).await {
            Ok(_) => {
                hold.finish(amount);
                tracing::info!(refund = %wire::hex::encode(&id), "a refund was asked for");
                return Ok((id, refund));
            }
            // A call has ended meanwhile, or an earlier copy of this request was faster.
            Err(StoreError::Conflict) => drop(hold),
            Err(error @ StoreError::Unavailable(_)) => return Err(unsure(&error)),
            Err(error) => return Err(store_refusal(&error)),
        }
    }
    Err(calls_under_way())
}

enum Wanted {
    /// One that was asked for before.
    Known([u8; 16], TopUpRefund),
    New([u8; 16], TopUpRefund),
}

/// What goes back of the lot with this key.
fn wanted(
    gate: &Gate,
    account: &AccountRef,
    lots: &LotBook,
    key: &[u8; 32],
    now: Now,
) -> Result<Wanted, Refusal> {
    let lot = lots.lots.iter().find(|lot| lot.key == *key && lot.paid.is_some());
    let last = lot.and_then(|lot| lot.refunds.checked_sub(1)).map(|number| TopUpRefund::id(key, number));
    let of = |id: &[u8; 16]| gate.store.reader().top_up_refund(id).map_err(|error| store_refusal(&error));
    let what = match lots.refundable(key, now.millis()) {
        Ok(what) => what,
        Err(why) => {
            // What has gone back, or is on its way, is told of however late it is asked for.
            let known = match (why, last) {
                (NotRefundable::UnderWay(id), _) | (_, Some(id)) => of(&id)?.map(|refund| (id, refund)),
                (_, None) => None,
            };
            let told =
                known.filter(|(_, refund)| refund.state.is_open() || refund.state == RefundState::Moved);
            return told.map(|(id, refund)| Wanted::Known(id, refund)).ok_or_else(|| cannot(why));
        }
    };
    let lot = lot.ok_or_else(|| cannot(NotRefundable::Unknown))?;
    let paid = lot.paid.clone().ok_or_else(|| cannot(NotRefundable::Given))?;
    let refund = TopUpRefund {
        state: RefundState::Requested,
        account: account.id().0,
        asset: account.asset().code(),
        key: *key,
        paid,
        credit: what.credit,
        bonus: what.bonus,
        minor: what.minor,
        created_ms: now.millis(),
        asking: Asking::default(),
        reason: String::new(),
    };
    Ok(Wanted::New(TopUpRefund::id(key, lot.refunds), refund))
}

/// Asks the rail to move a refund that was agreed to, and what became of it where that was asked before. None: it does
/// not say yet.
pub(super) async fn ask(rail: Rail<'_>, id: &[u8; 16], refund: &TopUpRefund) -> Option<Result<(), String>> {
    let (order, minor) = (&refund.paid.order, refund.minor);
    if refund.asking.count > 1 && rail.refund_look(order, id, minor).await == Told::Moved {
        return Some(Ok(()));
    }
    match rail.refund(order, id, minor).await {
        Told::Moved => Some(Ok(())),
        Told::Accepted | Told::Unknown => None,
        // An earlier asking, whose answer was lost, may have moved it all the same.
        Told::Refused(why) => match rail.refund_look(order, id, minor).await {
            Told::Moved => Some(Ok(())),
            Told::Accepted | Told::Refused(_) => Some(Err(why)),
            Told::Unknown => None,
        },
    }
}

/// Writes down what the rail has decided.
///
/// # Errors
/// [`StoreError::Conflict`] when it was decided before.
pub(super) async fn decided(
    gate: &Gate,
    id: [u8; 16],
    refund: &TopUpRefund,
    moved: Result<(), String>,
) -> Result<(), StoreError> {
    let now = Now::read();
    let step = match moved {
        Ok(()) => RefundStep::Moved { entry: entries::moved(&id, refund, now).ok_or(StoreError::Range)? },
        Err(reason) => RefundStep::Failed { reason, entry: entries::given_back(&id, refund, now) },
    };
    write_end(gate, id, refund, step).await
}

/// Writes an end down; then what the holder has back is there to be spent.
///
/// # Errors
/// [`StoreError::Conflict`] when it had ended before.
pub(crate) async fn write_end(
    gate: &Gate,
    id: [u8; 16],
    refund: &TopUpRefund,
    step: RefundStep,
) -> Result<(), StoreError> {
    let (state, is_back) = match &step {
        RefundStep::Moved { .. } => ("refund_moved", false),
        RefundStep::Failed { .. } => ("refund_failed", true),
        RefundStep::Reject { .. } => ("refund_rejected", true),
        RefundStep::Request { .. } | RefundStep::Approve(_) | RefundStep::Asked(_) => ("refund_open", false),
    };
    gate.store.commit(Op::TopUpRefund { id, step }).await?;
    gate.top_ups.forget(Open::Refund(id));
    if let Some(asset) = Asset::from_code(refund.asset).filter(|_| is_back) {
        gate.deposit(AccountId(refund.account), asset, Amount::from_units(refund.held()));
    }
    gate.metrics.settlement(&refund.paid.rail, state);
    tracing::info!(refund = %wire::hex::encode(&id), state, "a refund of a top-up ended");
    Ok(())
}

fn calls_under_way() -> Refusal {
    let facts = Facts { reason: Some("calls_under_way".to_owned()), ..Facts::default() };
    let detail =
        "Calls of this account are under way, and what they use does not go back. Ask again after them.";
    Refusal::new(Code::InProgress, detail).facts(facts).retry_after(5)
}

fn cannot(why: NotRefundable) -> Refusal {
    let reason = match why {
        NotRefundable::Unknown | NotRefundable::NothingLeft => "nothing_left",
        NotRefundable::Given => "given",
        NotRefundable::UnderWay(_) => "under_way",
        NotRefundable::Window => "window_over",
        NotRefundable::Used => "used",
    };
    unfit(reason, &format!("This order does not go back: {why}."))
}

fn unfit(reason: &str, detail: &str) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(Code::BadRequest, detail).facts(facts)
}
