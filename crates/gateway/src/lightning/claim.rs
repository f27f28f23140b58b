//! A payment over Lightning becomes a deposit: the first time it is shown, once, durable before anything is served
//! (L402-45, L402-59, MPP-23). After that its token draws on it like a credit key, and so does the credential of the
//! `Payment` scheme that shows the same preimage.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use http::HeaderMap;
use ledger::AccountId;
use money::{Amount, Asset};
use proof::l402::{self, FirstClaim};
use rails::lightning::InvoiceState;
use store::{Payment, PaymentState};
use tokio::sync::OnceCell;
use wire::l402::PaymentHash;

use super::token::{self, TokenUse};
use crate::clock::Now;
use crate::config::L402;
use crate::gate::Gate;
use crate::idempotency::{self, Begun};
use crate::mpp;
use crate::payments::{Arrival, Delivery, Deposit, Spends, change_key, key_header, store_refusal, unsure};
use crate::refusal::{Code, Facts, Money, Refusal};
use crate::settling;
use crate::snapshot::Snapshot;

/// The rail, in journal and metrics.
pub(crate) const RAIL: &str = "lightning";

/// Deposits that are being made: whoever shows the same payment meanwhile waits for the one that makes it.
#[derive(Default)]
pub(crate) struct Claiming(DashMap<[u8; 32], Arc<OnceCell<AccountId>>>);

/// A payment that was shown with its preimage, and what it has bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paid {
    pub(crate) payment_hash: [u8; 32],
    pub(crate) asset: Asset,
    pub(crate) credit: Amount,
    pub(crate) amount_msat: u64,
    /// Unix seconds from which on nobody can bring it in: even if it were forgotten, not a second time.
    pub(crate) until_s: u64,
}

/// What a payment is shown by: two doors to one claim.
#[derive(Debug)]
pub(crate) enum Door {
    /// A token of L402 over its payment hash.
    Token(TokenUse),
    /// A challenge of the `Payment` scheme that asked for its invoice.
    Challenge(Paid),
}

impl Paid {
    fn of_token(token: &TokenUse, rules: &L402) -> Option<Self> {
        let terms = token.terms()?;
        Some(Self {
            payment_hash: token.open().verified.payment_hash.0,
            asset: terms.asset,
            credit: terms.credit,
            amount_msat: terms.amount_msat,
            until_s: Self::until_s(terms.issued_at_s.into(), rules.claim_window),
        })
    }

    /// Until when somebody may bring in the payment of an invoice that was made at this time or before. The token that was
    /// sold with it may for a whole window, whatever else its payment was shown by first: until then it has to be known.
    pub(crate) const fn until_s(made_at_s: u64, claim_window: Duration) -> u64 {
        made_at_s.saturating_add(claim_window.as_secs())
    }

    pub(crate) fn account(&self) -> AccountId {
        account_of(&self.payment_hash)
    }

    pub(crate) fn key(&self) -> [u8; 32] {
        proof::deposit_key::ln(&self.payment_hash)
    }

    pub(crate) fn reference(&self) -> String {
        wire::hex::encode(&self.payment_hash)
    }

    /// As it is written down.
    pub(super) fn payment(&self, owner: AccountId, delivery: &Delivery) -> Payment {
        Payment {
            state: PaymentState::Intent,
            fingerprint: delivery.fingerprint,
            account: owner.0,
            asset: self.asset.code(),
            amount: self.credit.units(),
            rail: RAIL.to_owned(),
            payer: self.reference(),
            reference: String::new(),
            created_ms: delivery.now.millis(),
            valid_before_s: self.until_s,
            outcome: None,
            received_msat: Some(self.amount_msat),
            promised: false,
            attempt: None,
        }
    }
}

/// The account of a payment that no key is named beside.
pub(crate) fn account_of(payment_hash: &[u8; 32]) -> AccountId {
    AccountId(proof::account_id::lightning(&PaymentHash(*payment_hash)))
}

impl Door {
    /// The account of its payment.
    pub(crate) fn account(&self) -> AccountId {
        match self {
            Self::Token(token) => token.open().account(),
            Self::Challenge(paid) => paid.account(),
        }
    }

    /// What it brings in.
    pub(crate) fn incoming(&self) -> Option<(Amount, Asset)> {
        match self {
            Self::Token(token) => token.terms().map(|terms| (terms.credit, terms.asset)),
            Self::Challenge(paid) => Some((paid.credit, paid.asset)),
        }
    }

    pub(crate) const fn protocol(&self) -> &'static str {
        match self {
            Self::Token(_) => super::PROTOCOL,
            Self::Challenge(_) => mpp::PROTOCOL,
        }
    }

    /// The token that limits what may be drawn.
    pub(crate) fn into_token(self) -> Option<TokenUse> {
        match self {
            Self::Token(token) => Some(token),
            Self::Challenge(_) => None,
        }
    }

    fn paid(&self, rules: &L402) -> Option<Paid> {
        match self {
            Self::Token(token) => Paid::of_token(token, rules),
            Self::Challenge(paid) => Some(*paid),
        }
    }

    /// Whether whoever shows it has all that was sold: less must not become more (L402-51).
    fn is_whole(&self) -> bool {
        match self {
            Self::Token(token) => token.is_whole(),
            Self::Challenge(_) => true,
        }
    }

    /// Whether a payment that nobody has seen may come in by it now. Of a challenge that was asked when it was checked.
    fn may_be_first(&self, rules: &L402, now: Now) -> Result<(), Refusal> {
        let Self::Token(token) = self else { return Ok(()) };
        let terms = token.terms().ok_or_else(not_ours)?;
        let window = FirstClaim {
            now_unix_s: now.seconds(),
            window_s: rules.claim_window.as_secs(),
            epoch_min: rules.first_claim_epoch_min,
        };
        l402::first_claim(terms, window).map_err(|error| {
            if error == l402::L402Error::BeforeRestore {
                let hash = wire::hex::encode(&token.open().verified.payment_hash.0);
                tracing::error!(payment_hash = %hash,
                    "ALARM: a payment was shown that was sold before the store was restored; it is not credited");
            }
            token::refusal(error)
        })
    }

    /// Its payment is in the account that it names.
    fn came_in(&self) {
        if let Self::Token(token) = self {
            token.open().came_in();
        }
    }
}

/// Brings a payment in, if it is not in yet.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    door: &Door,
    delivery: Delivery,
    spends: Spends,
) -> Result<Arrival, Refusal> {
    let rules = snapshot.config.rails.l402.as_ref().ok_or_else(not_ours)?;
    let paid = door.paid(rules).ok_or_else(not_ours)?;
    let key = paid.key();
    let claim = match spends {
        Spends::Once | Spends::OnceCharged => {
            Some(gate.claims.take(key, delivery.fingerprint).map_err(|_| in_progress())?)
        }
        Spends::Again => None,
    };
    let owner = match &delivery.payer {
        Some(payer) if door.is_whole() => payer.account.id(),
        Some(_) => return Err(narrowed()),
        None => door.account(),
    };
    // Before anything comes in: what was answered before, or runs already, needs no payment.
    let attempt = match delivery.asked {
        None => None,
        Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), owner, asked, delivery.now)? {
            Begun::Runs(attempt) => Some(attempt),
            Begun::Ended(before) => return Ok(Arrival::Answered(before)),
        },
    };
    let first = async {
        door.may_be_first(rules, delivery.now)?;
        settled(snapshot, rules, &paid.payment_hash).await?;
        deposit(gate, &paid, owner, &delivery).await?;
        Ok(owner)
    };
    let (account, is_first) = once(gate, &key, first).await?;
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
        && door.is_whole()
        && let Some(text) = change_key(gate, account, delivery.now)
    {
        headers.extend(key_header(&text));
    }
    if account == door.account() {
        door.came_in();
    }
    Ok(Arrival::Deposited(Box::new(Deposit {
        account: gate.book.account(account, paid.asset),
        key,
        headers,
        amount: paid.credit,
        is_new: is_first,
        rail: RAIL.to_owned(),
        reference: paid.reference(),
        payer: paid.reference(),
        claim,
        spends,
        attempt,
        drawing: None,
        session: None,
    })))
}

/// Brings a payment in by `first` where nobody has; whoever shows it meanwhile waits for the one who does. Which account it
/// is in, and whether this has brought it there.
///
/// # Errors
/// Those of `first`; the next who shows it tries again.
pub(super) async fn once(
    gate: &Gate,
    key: &[u8; 32],
    first: impl Future<Output = Result<AccountId, Refusal>>,
) -> Result<(AccountId, bool), Refusal> {
    let mut is_first = false;
    let cell = Arc::clone(&gate.claiming.0.entry(*key).or_default());
    let bringing = async {
        let known = gate.store.reader().payment(key).map_err(|error| store_refusal(&error))?;
        if let Some(known) = known {
            return Ok(AccountId(known.account));
        }
        let account = first.await?;
        is_first = true;
        Ok(account)
    };
    let account = cell.get_or_try_init(|| bringing).await.copied();
    // Whoever comes later finds it in the store.
    gate.claiming.0.remove_if(key, |_, known| Arc::ptr_eq(known, &cell));
    account.map(|account| (account, is_first))
}

/// Writes the deposit down; then it is there to be spent.
async fn deposit(gate: &Gate, paid: &Paid, owner: AccountId, delivery: &Delivery) -> Result<(), Refusal> {
    if !delivery.may_bring(gate, paid.asset) {
        let detail = format!("This key's account does not hold {}.", paid.asset);
        return Err(Refusal::new(Code::WrongAsset, detail));
    }
    let payment = paid.payment(owner, delivery);
    settling::deposit(&gate.store, paid.key(), payment, paid.reference())
        .await
        .map_err(|error| unsure(&error))?;
    gate.deposit(owner, paid.asset, paid.credit);
    came_in(gate, paid);
    Ok(())
}

/// A payment is in: its client gets another invoice next time.
pub(super) fn came_in(gate: &Gate, paid: &Paid) {
    gate.invoices.paid(&paid.payment_hash);
    gate.metrics.settlement(RAIL, "settled");
}

/// With `strict` a payment counts only once the node has it: a preimage may leak (L402-50).
pub(super) async fn settled(
    snapshot: &Snapshot,
    rules: &L402,
    payment_hash: &[u8; 32],
) -> Result<(), Refusal> {
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
