//! A token as far as it can be looked at here: of a mint of ours, in satoshi, unlocked, and enough (CASHU-6). CPU only;
//! whether it is genuine and unspent its mint will say.

use http::HeaderValue;
use ledger::AccountId;
use money::{Amount, Asset};
use proof::cashu::hash_to_curve;
use proof::{account_id, deposit_key};
use rails::cashu::{Plan, PlanError};
use wire::cashu::{Token, UNIT_SAT};

use super::PROTOCOL;
use super::desk::{self, sats_for};
use crate::call::Arrived;
use crate::challenge::Ask;
use crate::clock::Now;
use crate::gate::Gate;
use crate::payments::{replayed_elsewhere, store_refusal};
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;
use crate::till::Till;

/// Seconds after a mint has told its keysets in which one that it did not name is surely none.
const TOLD_OF_LATE_S: u64 = 30;

/// A token that pays for a request, or that was seen before. Nothing is claimed yet.
pub(crate) struct Paid {
    pub(super) token: Token,
    /// Deposit keys of its coins, in ascending order: the first names the payment.
    pub(super) coins: Vec<[u8; 32]>,
    /// The mint and the rail, as they are written down.
    pub(super) mint: String,
    pub(super) rail: String,
    /// What its mint's fee leaves of it, in satoshi ...
    pub(super) left: u64,
    /// ... and what an account has from that.
    pub(super) credit: Amount,
    pub(super) asset: Asset,
    /// Whether it came before.
    pub(crate) is_known: bool,
}

impl Paid {
    /// The deposit key of the payment.
    pub(super) fn key(&self) -> [u8; 32] {
        self.coins.first().copied().unwrap_or_default()
    }

    /// The account it goes to when no key names one.
    pub(crate) fn account(&self) -> AccountId {
        AccountId(account_id::cashu(&self.key()))
    }

    /// What an account has from it.
    pub(crate) const fn brings(&self) -> (Amount, Asset) {
        (self.credit, self.asset)
    }
}

/// The token in a field of a request.
pub(crate) fn read(value: &HeaderValue) -> Option<Token> {
    value.to_str().ok().and_then(|text| Token::parse(text.trim()).ok())
}

/// Looks at a token that is to pay for `ask`.
///
/// # Errors
/// It does not; nothing was asked of anybody. NUT-24 wants 400 for what is wrong with it.
pub(crate) fn verify(gate: &Gate, arrived: &Arrived, token: Token, ask: &Ask<'_>) -> Result<Paid, Refusal> {
    let (snapshot, limiters, now) = (&arrived.snapshot, &arrived.snapshot.limiters, arrived.now);
    let (desk, till) = snapshot.cashu.as_ref().zip(desk::till(snapshot, ask)).ok_or_else(not_sold)?;
    // Cheap checks first: the points cost as much as signatures.
    let counter = desk.counter(&token.mint);
    let checked = match counter {
        None => Err(wrong("cashu_mint", "The token is of a mint that is not among those asked for.")),
        Some(counter) => fits(gate, snapshot, &token, &counter.mint.url, ask, till, now),
    };
    let seen = |coins: &[[u8; 32]]| {
        let known = gate.store.reader().cashu_payment(coins).map_err(|error| store_refusal(&error))?;
        let Some(key) = known else { return Ok(None) };
        let swap = gate.store.reader().cashu(&key).map_err(|error| store_refusal(&error))?;
        // A part of a token, or one that shares a coin with another.
        swap.filter(|swap| swap.spent == coins).map(Some).ok_or_else(replayed_elsewhere)
    };
    // What only a mint could tell is wrong is nobody's fault, and anybody can make it up: it is no bad proof, and counts
    // like a request that pays nothing.
    let answers = counter.is_some_and(|counter| gate.mints.answers(&counter.mint.url));
    let is_counted = checked.as_ref().map_or_else(is_no_fault, |_| !answers);
    if is_counted {
        limiters.admit_unpaid(arrived.source)?;
    }
    let coins = coins(&token).ok_or_else(|| wrong("cashu_secret", "A coin of the token cannot be read."))?;
    // Its terms were looked at when it came first: whoever brings it again is told what became of it, and never to pay
    // again.
    if let Some(swap) = seen(&coins)? {
        // It has paid before.
        if is_counted {
            limiters.paid(arrived.source);
        }
        let rail = super::rail(&swap.mint);
        let (asset, credit, left) = (till.asset, Amount::ZERO, 0);
        return Ok(Paid { token, coins, mint: swap.mint, rail, left, credit, asset, is_known: true });
    }
    let (left, credit) = checked?;
    let counter = counter.ok_or_else(not_sold)?;
    let (mint, rail) = (counter.mint.url.clone(), counter.rail.clone());
    Ok(Paid { token, coins, mint, rail, left, credit, asset: till.asset, is_known: false })
}

/// Whether a token is refused for what its payer can do nothing about.
fn is_no_fault(refusal: &Refusal) -> bool {
    refusal.code() == Code::FacilitatorFailed
}

/// What its mint leaves of a token, and what an account gets for that.
fn fits(
    gate: &Gate,
    snapshot: &Snapshot,
    token: &Token,
    mint: &str,
    ask: &Ask<'_>,
    till: &Till,
    now: Now,
) -> Result<(u64, Amount), Refusal> {
    if token.unit != UNIT_SAT {
        return Err(wrong("cashu_unit", "The token is not in sat."));
    }
    if token.proofs.iter().any(|proof| proof.is_locked()) {
        return Err(wrong("cashu_lock", "A coin of the token is locked, and none was asked to be."));
    }
    let Some((keysets, told_s)) = gate.mints.keysets(mint) else { return Err(unreachable()) };
    let price = desk::price(snapshot, now).ok_or_else(unpriced)?;
    let deposit = ask.deposit(till);
    let quoted = gate.mints.best_price(price, now.seconds());
    // What it is worth after its mint's fee is looked at below.
    if sats_for(quoted, deposit).is_none_or(|asked| token.amount() < asked) {
        return Err(underpaid("The token is worth less than was asked for."));
    }
    let left = Plan::left(token, &keysets).map_err(|error| {
        let may_be_new = now.seconds().saturating_sub(told_s) > TOLD_OF_LATE_S;
        if error == PlanError::Keyset && may_be_new {
            gate.mints.doubt(mint);
            return unreachable();
        }
        plan_refusal(error)
    })?;
    let worth = |price: money::BitcoinPrice| {
        let msat = left.checked_mul(1000)?;
        price.credit_for_down(msat).ok()
    };
    let too_big = || wrong("cashu_amount", "The token is worth more than an account can hold.");
    let (now_worth, quoted_worth) = (worth(price).ok_or_else(too_big)?, worth(quoted).ok_or_else(too_big)?);
    // Who was quoted another price of late has it for what was asked for, and for no more.
    let credit = now_worth.max(quoted_worth.min(deposit));
    if credit < deposit {
        return Err(underpaid("After the fee of its mint the token is worth less than was asked for."));
    }
    Ok((left, credit))
}

/// The deposit keys of a token's coins, in ascending order.
fn coins(token: &Token) -> Option<Vec<[u8; 32]>> {
    let key = |secret: &str| hash_to_curve(secret.as_bytes()).ok().map(|point| deposit_key::cashu(&point));
    let mut coins: Vec<[u8; 32]> =
        token.proofs.iter().map(|proof| key(&proof.secret)).collect::<Option<_>>()?;
    coins.sort_unstable();
    Some(coins)
}

/// Why a token cannot be swapped, for its payer.
pub(super) fn plan_refusal(error: PlanError) -> Refusal {
    match error {
        PlanError::Keyset => {
            wrong("cashu_keyset", "The mint has no such keyset in sat, or a coin no key of it.")
        }
        PlanError::Fee => underpaid("The fee of its mint leaves nothing of the token."),
        PlanError::Evidence => {
            let facts = Facts { reason: Some("cashu_dleq".to_owned()), ..Facts::default() };
            Refusal::new(Code::ProofInvalid, "A coin of the token is not signed by its mint.").facts(facts)
        }
        PlanError::Point => wrong("cashu_point", "A signature of the token is no point of the curve."),
        PlanError::NoKeys => unreachable(),
    }
}

/// 400, as NUT-24 wants it: no challenge, because what was asked for stands in the one before.
fn wrong(reason: &str, detail: &str) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(Code::BadRequest, detail).facts(facts)
}

fn underpaid(detail: &str) -> Refusal {
    wrong("cashu_amount", detail)
}

fn not_sold() -> Refusal {
    wrong("cashu_mint", "Nothing is sold for ecash here.")
}

pub(super) fn unreachable() -> Refusal {
    Refusal::new(Code::FacilitatorFailed, "The mint of the token cannot be asked now.").retry_after(5)
}

fn unpriced() -> Refusal {
    let detail = "Nobody knows now what a bitcoin costs, so no ecash is taken.";
    Refusal::new(Code::FacilitatorFailed, detail).retry_after(30)
}

impl std::fmt::Debug for Paid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Paid({:?} over {PROTOCOL}, {:?})", self.token, self.credit)
    }
}
