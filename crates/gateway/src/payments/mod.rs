//! A payment becomes a deposit: verified, claimed once, settled by its rail, durable; then the call
//! draws on it like any other (DESIGN, idea 1; X402-13, X402-14). Or the call is served on the promise of it.

mod change;
mod ending;
mod incoming;
mod known;
mod promised;
mod result;
mod verified;

pub(crate) use change::{change_key, key_header};
pub(crate) use ending::{Ending, Joined, Waits};
pub(crate) use incoming::{Incoming, Start, Terms};
pub(crate) use promised::{PaymentResult, Promise, settlement};
use result::{network_text, payment_response, response_header, settlement_refused};
use verified::{Proof, Sent};
pub(crate) use verified::{Verified, charged_before, of_charge, of_permit, transfer_refusal, verify};

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use ledger::{AccountId, AccountRef};
use money::{Amount, Asset};
use rails::{PermitOrder, Receipt, Settlement};
use serde_json::{Value, json};
use store::{Op, PaymentState, StoreError};
use wire::x402::facilitator::SettleRequest;

use crate::channels::{self, Drawing, Drawn};
use crate::claims::{Claim, InFlight};
use crate::clock::Now;
use crate::credential::Payment;
use crate::facts;
use crate::gate::Gate;
use crate::idempotency::{self, Asked, Attempt, Before, Begun};
use crate::identity;
use crate::payer::Payer;
use crate::promises::NotTaken;
use crate::refusal::{Code, Money, Refusal};
use crate::resolver::RESOLVING;
use crate::session::Session;
use crate::settling::{self, Asking};
use crate::snapshot::Snapshot;
use crate::submitting;

/// How often a proof opens what it paid for (reference item 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spends {
    /// Once: everybody can see it by then.
    Once,
    /// Until a call is charged: it has a secret part, and its route a fixed price.
    OnceCharged,
    /// Until nothing is left: it has a secret part.
    Again,
}

/// A settled payment, and the call that may draw on it.
pub(crate) struct Deposit {
    pub(crate) account: AccountRef,
    pub(crate) key: [u8; 32],
    /// `PAYMENT-RESPONSE`, and a key for the change where a new account was paid into.
    pub(crate) headers: HeaderMap,
    pub(crate) amount: Amount,
    /// Whether this request has brought it in: a proof that is shown again finds it there.
    pub(crate) is_new: bool,
    pub(crate) rail: String,
    pub(crate) reference: String,
    pub(crate) payer: String,
    /// None where several calls may draw on it at once.
    pub(crate) claim: Option<Claim>,
    /// How often it is shown.
    pub(crate) spends: Spends,
    /// What the call may be asked for again by, beside the payment.
    pub(crate) attempt: Option<Attempt>,
    /// Where it comes from a channel: it is charged at the head of the answer, and not before.
    pub(crate) drawing: Option<Drawing>,
    /// The session that it opened, or came into.
    pub(crate) session: Option<Rc<Session>>,
}

impl Deposit {
    /// A voucher that the call may be charged by. What came into its channel is there whatever becomes of the call.
    async fn drawn(mut drawing: Drawing, claim: Claim) -> Self {
        let headers = drawing.told_of_escrow().await;
        Self {
            account: drawing.account(),
            key: drawing.key,
            headers,
            amount: drawing.amount(),
            is_new: true,
            rail: drawing.rail(),
            reference: drawing.reference(),
            payer: drawing.payer.clone(),
            claim: Some(claim),
            spends: Spends::Once,
            attempt: drawing.attempt.take(),
            drawing: Some(drawing),
            session: None,
        }
    }

    /// The upstream has answered with this status. What the head says of the payment.
    ///
    /// # Errors
    /// A voucher could not be charged: nothing of the answer may go on.
    pub(crate) async fn at_head(&mut self, status: StatusCode) -> Result<HeaderMap, Refusal> {
        match &mut self.drawing {
            None => Ok(self.headers.clone()),
            Some(drawing) => drawing.at_head(status).await,
        }
    }

    /// For the facts of the call.
    pub(crate) fn facts(&self) -> Value {
        json!({"rail": self.rail, "network": facts::network_of(&self.rail), "transaction": self.reference,
               "payer": self.payer, "deposited": facts::amount(self.amount, self.account.asset())})
    }
}

/// What a call was paid with, in whichever order.
pub(crate) enum Brought {
    /// The money is in.
    Deposit(Box<Deposit>),
    /// It is to come.
    Promise(Box<Promise>),
}

impl Brought {
    /// For the facts of a call that took `captured`.
    pub(crate) fn facts(&self, captured: Amount) -> Value {
        match self {
            Self::Deposit(deposit) => deposit.facts(),
            Self::Promise(promise) => promise.facts(captured),
        }
    }

    /// The upstream has answered with this status. What the head says of the payment.
    ///
    /// # Errors
    /// A voucher could not be charged, or a payment was refused meanwhile: nothing of the answer may go on.
    pub(crate) async fn at_head(&mut self, status: StatusCode) -> Result<HeaderMap, Refusal> {
        match self {
            Self::Deposit(deposit) => deposit.at_head(status).await,
            Self::Promise(promise) => promise.at_head(),
        }
    }

    /// The promise, if it is one.
    pub(crate) fn promise(&self) -> Option<&Promise> {
        match self {
            Self::Deposit(_) => None,
            Self::Promise(promise) => Some(promise),
        }
    }
}

/// What a payment leads to.
pub(crate) enum Arrival {
    /// A call may be made, and is paid for.
    Deposited(Box<Deposit>),
    /// A call may be made before it is paid for.
    Promised(Box<Promise>),
    /// The call was made before.
    Answered(Before),
    /// It asked for what is left in its channel, and got it: no call is made.
    Refunded(HeaderMap),
    /// It asked for something else of its session, and this is the answer: no call is made.
    Done(Box<Response<Bytes>>),
}

/// Who a payment is credited to, and for which request.
pub(crate) struct Delivery {
    /// The credit key beside the payment.
    pub(crate) payer: Option<Payer>,
    pub(crate) fingerprint: [u8; 32],
    /// None where nothing but the payment itself is remembered: free routes, top-ups.
    pub(crate) asked: Option<Asked>,
    /// Whether a call is to be made: what is no call is never served on a promise.
    pub(crate) for_call: bool,
    pub(crate) now: Now,
}

impl Delivery {
    /// An account holds one asset: that of the first payment into it, unless its key says another.
    pub(crate) fn may_bring(&self, gate: &Gate, asset: Asset) -> bool {
        let Some(payer) = &self.payer else { return true };
        let limited = payer.key.as_ref().and_then(|key| key.asset());
        // Fixed before anything is settled: two payments at once must not bring two assets.
        limited.is_none_or(|limit| limit == asset) && gate.book.fix_asset(payer.account.id(), asset)
    }
}

/// Brings a verified payment in.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    verified: Verified,
    delivery: Delivery,
) -> Result<Arrival, Refusal> {
    if !verified.asks_for_refund() && identity::is_payer_blocked(snapshot, &verified.proof.payer()) {
        return Err(Refusal::new(Code::AgentBlocked, "This payer is not served here."));
    }
    let verified = match verified.proof {
        Proof::Channel(presented) => {
            return Ok(match channels::receive(gate, snapshot, *presented, delivery).await? {
                Drawn::Call(drawing, claim) => {
                    Arrival::Deposited(Box::new(Deposit::drawn(*drawing, claim).await))
                }
                Drawn::Answered(before) => Arrival::Answered(before),
                Drawn::Refunded(headers) => Arrival::Refunded(headers),
            });
        }
        Proof::Transfer(..) | Proof::Permit(..) | Proof::Charge(..) | Proof::Transaction(..) => verified,
    };
    let key = verified.proof.deposit_key();
    let claim = gate.claims.take(key, delivery.fingerprint).map_err(claimed)?;
    let known = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
    let account = match &known {
        None => delivery.payer.as_ref().map_or_else(|| verified.account(), |payer| payer.account.id()),
        Some(known) if known.fingerprint != delivery.fingerprint => return Err(replayed_elsewhere()),
        Some(known) => AccountId(known.account),
    };
    // Whose the money was when it first came, it stays: a proof is public once it has settled.
    if delivery.payer.as_ref().is_some_and(|payer| payer.account.id() != account) {
        return Err(replayed_elsewhere());
    }
    if let Some(known) = &known
        && (known.state == PaymentState::Served || known.promised && known.outcome.is_some())
    {
        let Some(outcome) = known.outcome.clone() else { return Err(in_progress()) };
        return Ok(Arrival::Answered(outcome.into()));
    }
    let attempt = match delivery.asked {
        None => None,
        Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), account, asked, delivery.now)? {
            Begun::Runs(attempt) => Some(attempt),
            Begun::Ended(before) => return again(&verified, &delivery, known.is_some(), before),
        },
    };
    let bringing = Bringing { gate, snapshot, verified, delivery, account, claim, attempt };
    let deposit = match known {
        None if bringing.must_wait() => return bringing.metered().await.map(promised),
        None if bringing.may_run_ahead() => {
            bringing.check_asset()?;
            match bringing.open() {
                Ok(open) => return bringing.whole(open).await.map(promised),
                // Then the money first.
                Err(NotTaken::Owes | NotTaken::Exposed) => bringing.settle().await,
            }
        }
        None => bringing.settle().await,
        Some(known) => match known.state {
            // Its call was cut off; it is being asked about, and then there is a deposit to serve it from.
            PaymentState::Intent | PaymentState::Unknown if known.promised => Err(unknown_outcome()),
            PaymentState::Intent | PaymentState::Unknown => bringing.settle_again(known).await,
            PaymentState::Settled | PaymentState::Served => Ok(bringing.resume(known)),
            // Refused while its call ran, and that was cut off.
            PaymentState::Owed => Err(settlement_refused(&bringing.verified, "refused")),
        },
    };
    deposit.map(|deposit| Arrival::Deposited(Box::new(deposit)))
}

fn promised(promise: Promise) -> Arrival {
    Arrival::Promised(Box::new(promise))
}

/// Somebody has the payment's claim.
pub(crate) fn claimed(running: InFlight) -> Refusal {
    if running.fingerprint == RESOLVING { unknown_outcome() } else { in_progress() }
}

/// The request was served before, for another payment or from the account's balance: this payment is not
/// taken. A version 1 payment that nobody has seen is bound to no gateway and no request; it shows who signed
/// it, not who sends it, and gets no body.
fn again(
    verified: &Verified,
    delivery: &Delivery,
    is_known: bool,
    before: Before,
) -> Result<Arrival, Refusal> {
    match &verified.sent {
        Sent::X402(Payment::V1(_)) if delivery.payer.is_none() && !is_known => Err(before.receipt()),
        Sent::X402(Payment::V1(_) | Payment::V2(_)) | Sent::Mpp(_) => Ok(Arrival::Answered(before)),
    }
}

/// Who makes a payment's money move.
enum SettledBy {
    /// Nobody has to: play money.
    Nobody,
    Facilitator(Box<SettleRequest>),
    /// A transaction of our own.
    Us(Box<PermitOrder>),
}

struct Bringing<'g> {
    gate: &'g Gate,
    snapshot: &'g Snapshot,
    verified: Verified,
    delivery: Delivery,
    /// Where it is credited.
    account: AccountId,
    claim: Claim,
    attempt: Option<Attempt>,
}

impl Bringing<'_> {
    const fn asking(&self) -> Asking<'_> {
        let facilitators = self.snapshot.facilitators.as_ref();
        Asking { gate: self.gate, facilitators, key: self.verified.proof.deposit_key() }
    }

    fn check_asset(&self) -> Result<(), Refusal> {
        if self.delivery.may_bring(self.gate, self.verified.till.asset) {
            return Ok(());
        }
        let detail = format!("This key's account does not hold {}.", self.verified.till.asset);
        Err(Refusal::new(Code::WrongAsset, detail))
    }

    /// Who settles it, for all that was signed.
    fn settled_by(&self) -> Result<SettledBy, Refusal> {
        if let Proof::Charge(_, charge) = &self.verified.proof {
            return Ok(SettledBy::Us(Box::new(PermitOrder::of(charge))));
        }
        let request = self.request()?;
        Ok(request.map_or(SettledBy::Nobody, |request| SettledBy::Facilitator(Box::new(request))))
    }

    /// What a facilitator is asked to settle, for all that was signed; none where none is asked.
    fn request(&self) -> Result<Option<SettleRequest>, Refusal> {
        self.verified.settle_request(self.verified.proof.amount()).map_err(|error| {
            tracing::error!(%error, "a payment that was verified cannot be settled");
            Refusal::new(Code::Internal, "The payment cannot be settled.")
        })
    }

    /// A payment nobody has seen.
    async fn settle(self) -> Result<Deposit, Refusal> {
        self.check_asset()?;
        // Who is only asked to settle does not tell that an allowance lacks (X402-42).
        if let verified::Proof::Permit(..) = self.verified.proof {
            self.vouched().await?;
        }
        let record = self.record();
        let outcome = match self.settled_by()? {
            // Play money is ours as soon as it is signed: intent and result are one write.
            SettledBy::Nobody => {
                self.gate.metrics.settlement(&record.rail, "settled");
                let id = wire::hex::encode(&self.verified.proof.deposit_key()[..8]);
                Settlement::Settled(Receipt { reference: format!("test:{id}"), ..Receipt::default() })
            }
            SettledBy::Facilitator(request) => {
                let asked = self.asking().first(record.clone(), &request).await;
                asked.map_err(|error| intent_refusal(&error))?
            }
            SettledBy::Us(order) => {
                let key = self.verified.proof.deposit_key();
                let sent = submitting::first(self.gate, self.snapshot, key, record.clone(), *order).await;
                sent.map_err(|error| intent_refusal(&error))?
            }
        };
        match outcome {
            Settlement::Settled(receipt) => self.deposited(record, receipt, Presented::First).await,
            Settlement::Refused(refused) => {
                self.free().await?;
                Err(settlement_refused(&self.verified, &refused.code))
            }
            Settlement::NotSent => {
                self.free().await?;
                let detail = "Nobody can settle the payment now.";
                Err(Refusal::new(Code::FacilitatorFailed, detail).retry_after(5))
            }
            Settlement::Unknown(_) => self.unknown().await,
        }
    }

    /// A payment that a facilitator was asked about before, and whose end nobody knows.
    async fn settle_again(self, known: store::Payment) -> Result<Deposit, Refusal> {
        let outcome = if submitting::network_of(&known.rail).is_some() {
            submitting::again(self.gate, self.snapshot, self.verified.proof.deposit_key(), &known).await
        } else {
            self.asking().again(&known).await
        };
        match outcome.map_err(|error| unsure(&error))? {
            Settlement::Settled(receipt) => self.deposited(known, receipt, Presented::Again).await,
            // The chain has shown that nothing moved and nothing will (X402-45).
            Settlement::Refused(refused) => {
                self.free().await?;
                Err(settlement_refused(&self.verified, &refused.code))
            }
            Settlement::NotSent | Settlement::Unknown(_) => self.unknown().await,
        }
    }

    /// Nothing moved: the proof is as good as new.
    async fn free(&self) -> Result<(), Refusal> {
        free(self.gate, self.verified.proof.deposit_key()).await
    }

    async fn unknown(self) -> Result<Deposit, Refusal> {
        let key = self.verified.proof.deposit_key();
        self.gate.store.commit(Op::Unknown { key }).await.map_err(|error| unsure(&error))?;
        tracing::warn!(rail = %self.verified.till.rail, "settlement outcome unknown");
        Err(unknown_outcome())
    }

    async fn deposited(
        self,
        payment: store::Payment,
        receipt: Receipt,
        presented: Presented,
    ) -> Result<Deposit, Refusal> {
        let Self { gate, verified, delivery, account, claim, attempt, .. } = self;
        let key = verified.proof.deposit_key();
        let reference = receipt.reference;
        let amount = Amount::from_units(payment.amount);
        let (rail, payer) = (payment.rail.clone(), payment.payer.clone());
        let written = settling::deposit(&gate.store, key, payment, reference.clone()).await;
        written.map_err(|error| unsure(&error))?;
        gate.unsettled.forget(&key);
        let in_book = gate.deposit(account, verified.till.asset, amount);
        let mut headers = payment_response(&verified, &reference);
        // Only the first to show a proof is surely its signer: after that the chain shows it to everybody.
        if presented == Presented::First
            && delivery.payer.is_none()
            && let Some(text) = change_key(gate, account, delivery.now)
        {
            headers.extend(key_header(&text));
        }
        let drawing = None;
        Ok(Deposit {
            account: in_book,
            key,
            headers,
            amount,
            is_new: true,
            rail,
            reference,
            payer,
            claim: Some(claim),
            spends: Spends::Once,
            attempt,
            drawing,
            session: None,
        })
    }

    /// The deposit of a payment whose call never ended: served from what is there, settled no second time,
    /// and without a new key, because the proof is public by now (reference items 5 and 14).
    fn resume(self, known: store::Payment) -> Deposit {
        let Self { gate, verified, account, claim, attempt, .. } = self;
        Deposit {
            account: gate.book.account(account, verified.till.asset),
            key: verified.proof.deposit_key(),
            headers: payment_response(&verified, &known.reference),
            amount: Amount::from_units(known.amount),
            is_new: false,
            rail: known.rail,
            reference: known.reference,
            payer: known.payer,
            claim: Some(claim),
            spends: Spends::Once,
            attempt,
            drawing: None,
            session: None,
        }
    }

    fn record(&self) -> store::Payment {
        let verified = &self.verified;
        store::Payment {
            state: PaymentState::Intent,
            fingerprint: self.delivery.fingerprint,
            account: self.account.0,
            asset: verified.till.asset.code(),
            amount: verified.credit.units(),
            rail: verified.till.rail.clone(),
            payer: verified.proof.payer(),
            reference: String::new(),
            created_ms: self.delivery.now.millis(),
            valid_before_s: verified.proof.valid_before_s(self.delivery.now.seconds()),
            outcome: None,
            received_msat: None,
            promised: false,
            attempt: None,
        }
    }
}

/// Lets go of the key of a payment that moved nothing.
///
/// # Errors
/// It could not be written down.
pub(crate) async fn free(gate: &Gate, key: [u8; 32]) -> Result<(), Refusal> {
    match gate.store.commit(Op::Refused { key }).await {
        // Nobody was asked, so nothing was written.
        Ok(_) | Err(StoreError::Conflict) => {
            gate.unsettled.forget(&key);
            Ok(())
        }
        Err(error) => Err(unsure(&error)),
    }
}

pub(crate) fn in_progress() -> Refusal {
    Refusal::new(Code::InProgress, "A request with this payment is being served.")
        .money(Money::FirstAttemptDecides)
        .retry_after(1)
}

pub(crate) fn replayed_elsewhere() -> Refusal {
    Refusal::new(Code::VerificationFailed, "This payment was made for another request.")
}

pub(crate) fn unknown_outcome() -> Refusal {
    Refusal::new(Code::SettlementUnknown, "The rail did not say whether the payment moved.")
        .money(Money::Unknown)
        .retry_after(5)
}

pub(crate) fn store_refusal(error: &StoreError) -> Refusal {
    tracing::error!(%error, "store refused");
    Refusal::new(Code::StoreUnavailable, "The gateway cannot record payments now.").retry_after(5)
}

/// Whether a proof is shown for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presented {
    First,
    Again,
}

pub(crate) fn intent_refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Conflict => in_progress(),
        // Refused before it was written.
        StoreError::Entry(_) | StoreError::Range | StoreError::DiskFull | StoreError::Full => {
            store_refusal(error)
        }
        // It may have been written, and then it is asked about when the gateway starts again.
        StoreError::Unavailable(_) => unsure(error),
    }
}

/// The rail has acted, or may have, and the journal could not say so.
pub(crate) fn unsure(error: &StoreError) -> Refusal {
    tracing::error!(%error, "a settlement could not be recorded");
    Refusal::new(Code::StoreUnavailable, "The gateway cannot record the payment now.")
        .money(Money::Unknown)
        .retry_after(5)
}
