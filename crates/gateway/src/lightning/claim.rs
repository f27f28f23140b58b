//! A payment over Lightning becomes a deposit: the first time it is shown, once, durable before anything is served
//! (L402-45, L402-59). After that its token draws on it like a credit key.

use std::sync::Arc;

use dashmap::DashMap;
use http::HeaderMap;
use ledger::AccountId;
use proof::l402::{self, FirstClaim};
use rails::lightning::InvoiceState;
use store::{Payment, PaymentState};
use tokio::sync::OnceCell;

use super::token::{self, TokenUse};
use crate::config::L402;
use crate::gate::Gate;
use crate::idempotency::{self, Begun};
use crate::payments::{Arrival, Delivery, Deposit, Spends, change_key, key_header, store_refusal, unsure};
use crate::refusal::{Code, Facts, Money, Refusal};
use crate::settling;
use crate::snapshot::Snapshot;

/// The rail, in journal and metrics.
pub(crate) const RAIL: &str = "lightning";

/// Deposits that are being made: whoever shows the same payment meanwhile waits for the one that makes it.
#[derive(Default)]
pub(crate) struct Claiming(DashMap<[u8; 32], Arc<OnceCell<AccountId>>>);

/// Brings a payment in by its token, if it is not in yet.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    token: &TokenUse,
    delivery: Delivery,
    spends: Spends,
) -> Result<Arrival, Refusal> {
    let rules = snapshot.config.rails.l402.as_ref().ok_or_else(not_ours)?;
    let terms = *token.terms().ok_or_else(not_ours)?;
    let verified = &token.open().verified;
    let key = verified.deposit_key();
    let claim = match spends {
        Spends::Once | Spends::OnceCharged => {
            Some(gate.claims.take(key, delivery.fingerprint).map_err(|_| in_progress())?)
        }
        Spends::Again => None,
    };
    let mut is_first = false;
    let owner = match &delivery.payer {
        Some(payer) if token.is_whole() => payer.account.id(),
        Some(_) => return Err(narrowed()),
        None => token.open().account(),
    };
    // Before anything comes in: what was answered before, or runs already, needs no payment.
    let attempt = match delivery.asked {
        None => None,
        Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), owner, asked, delivery.now)? {
            Begun::Runs(attempt) => Some(attempt),
            Begun::Ended(before) => return Ok(Arrival::Answered(before)),
        },
    };
    let cell = Arc::clone(&gate.claiming.0.entry(key).or_default());
    let bringing = async {
        let known = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
        if let Some(known) = known {
            return Ok(AccountId(known.account));
        }
        let window = FirstClaim {
            now_unix_s: delivery.now.seconds(),
            window_s: rules.claim_window.as_secs(),
            epoch_min: rules.first_claim_epoch_min,
        };
        l402::first_claim(&terms, window).map_err(|error| {
            if error == l402::L402Error::BeforeRestore {
                tracing::error!(payment_hash = %wire::hex::encode(&verified.payment_hash.0),
                    "ALARM: a payment was shown that was sold before the store was restored; it is not credited");
            }
            token::refusal(error)
        })?;
        settled(snapshot, rules, &verified.payment_hash.0).await?;
        deposit(gate, &terms, token, owner, &delivery, rules).await?;
        is_first = true;
        Ok(owner)
    };
    let account = cell.get_or_try_init(|| bringing).await.copied();
    // Whoever comes later finds it in the store.
    gate.claiming.0.remove_if(&key, |_, known| Arc::ptr_eq(known, &cell));
    let account = account?;
    if account != owner {
        return Err(elsewhere());
    }
    if !is_first && claim.is_some() && is_spent(gate, &key)? {
        return Err(spent());
    }
    let mut headers = HeaderMap::new();
    // Who was given less than the whole token must not get a key to all of it.
    if is_first
        && delivery.payer.is_none()
        && token.is_whole()
        && let Some(text) = change_key(gate, account, delivery.now)
    {
        headers.extend(key_header(&text));
    }
    if account == token.open().account() {
        token.open().came_in();
    }
    let account = gate.book.account(account, terms.asset);
    let reference = wire::hex::encode(&verified.payment_hash.0);
    Ok(Arrival::Deposited(Box::new(Deposit {
        account,
        key,
        headers,
        amount: terms.credit,
        is_new: is_first,
        rail: RAIL.to_owned(),
        reference: reference.clone(),
        payer: reference,
        claim,
        spends,
        attempt,
        drawing: None,
        session: None,
    })))
}

/// Writes the deposit down; then it is there to be spent.
async fn deposit(
    gate: &Gate,
    terms: &wire::l402::Terms,
    token: &TokenUse,
    owner: AccountId,
    delivery: &Delivery,
    rules: &L402,
) -> Result<(), Refusal> {
    if !delivery.may_bring(gate, terms.asset) {
        let detail = format!("This key's account does not hold {}.", terms.asset);
        return Err(Refusal::new(Code::WrongAsset, detail));
    }
    let verified = &token.open().verified;
    let reference = wire::hex::encode(&verified.payment_hash.0);
    let payment = Payment {
        state: PaymentState::Intent,
        fingerprint: delivery.fingerprint,
        account: owner.0,
        asset: terms.asset.code(),
        amount: terms.credit.units(),
        rail: RAIL.to_owned(),
        payer: reference.clone(),
        reference: String::new(),
        created_ms: delivery.now.millis(),
        // After that it could not be claimed a second time, even if it were forgotten.
        valid_before_s: u64::from(terms.issued_at_s).saturating_add(rules.claim_window.as_secs()),
        outcome: None,
        received_msat: Some(terms.amount_msat),
        promised: false,
        attempt: None,
    };
    settling::deposit(&gate.store, verified.deposit_key(), payment, reference)
        .await
        .map_err(|error| unsure(&error))?;
    gate.deposit(owner, terms.asset, terms.credit);
    gate.invoices.paid(&verified.payment_hash.0);
    gate.metrics.settlement(RAIL, "settled");
    Ok(())
}

/// With `strict` a payment counts only once the node has it: a preimage may leak (L402-50).
async fn settled(snapshot: &Snapshot, rules: &L402, payment_hash: &[u8; 32]) -> Result<(), Refusal> {
    let Some(desk) = snapshot.lightning.as_ref().filter(|_| rules.strict) else { return Ok(()) };
    match desk.look_up(payment_hash).await {
        Ok(InvoiceState::Settled { .. }) => Ok(()),
        Ok(InvoiceState::Unpaid | InvoiceState::Cancelled) => {
            let facts = Facts { reason: Some("not_settled".to_owned()), ..Facts::default() };
            Err(Refusal::new(Code::ProofInvalid, "The node has not got this payment.").facts(facts))
        }
        Err(error) => {
            tracing::warn!(%error, "the node could not be asked for a payment");
            let detail = "The node cannot be asked now whether this payment arrived.";
            Err(Refusal::new(Code::SettlementUnknown, detail).money(Money::Unknown).retry_after(5))
        }
    }
}

/// Whether a call was charged that this payment was good for.
fn is_spent(gate: &Gate, key: &[u8; 32]) -> Result<bool, Refusal> {
    let known = gate.store.reader().payment(key).map_err(|error| store_refusal(&error))?;
    Ok(known.is_some_and(|payment| payment.state == PaymentState::Served))
}

fn not_ours() -> Refusal {
    Refusal::new(Code::Internal, "The token was lost on the way.")
}

fn in_progress() -> Refusal {
    Refusal::new(Code::InProgress, "A request with this payment is being served.")
        .money(Money::FirstAttemptDecides)
        .retry_after(1)
}

/// Single use, and used (reference items 5 and 14).
fn spent() -> Refusal {
    let facts = Facts { reason: Some("token_used".to_owned()), ..Facts::default() };
    let detail =
        "This token was good for one call, and that was made. Send the request without it to buy another.";
    Refusal::new(Code::VerificationFailed, detail).facts(facts)
}

fn narrowed() -> Refusal {
    let facts = Facts { reason: Some("token_narrowed".to_owned()), ..Facts::default() };
    let detail = "This token was narrowed: what its payment has left cannot be moved to another account.";
    Refusal::new(Code::KeyForbidden, detail).facts(facts)
}

fn elsewhere() -> Refusal {
    let facts = Facts { reason: Some("deposited_elsewhere".to_owned()), ..Facts::default() };
    let detail =
        "This payment is in another account: use the key of that, or the token alone, as when it came in.";
    Refusal::new(Code::VerificationFailed, detail).facts(facts)
}
