//! What payers do with a session besides drawing on it: open it, fill it up, end it. Each is done once, however often it is
//! asked for (MPP-28).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use ledger::AccountId;
use money::{Amount, Asset};
use serde_json::json;
use store::{LightningSession, Outcome, SessionDeposit, StoreError};
use wire::mpp::problem::LightningProblem;
use wire::mpp::{PAYMENT_RECEIPT, Problem, Receipt, SESSION, lightning};
use wire::rfc3339;

use super::claim::{self, Paid, RAIL};
use super::closing;
use super::sessions::{self, Slot};
use crate::admission;
use crate::clock::Now;
use crate::config::L402;
use crate::gate::Gate;
use crate::idempotency::{self, Begun};
use crate::mpp;
use crate::payer::Payer;
use crate::payments::{Arrival, Delivery, Deposit, Spends, change_key, key_header, store_refusal, unsure};
use crate::refusal::{Code, Refusal};
use crate::settling;
use crate::snapshot::Snapshot;

/// What is asked of a session. Holds no preimage.
#[derive(Debug)]
pub(crate) struct Act {
    /// The challenge that its credential answers.
    pub(crate) challenge_id: String,
    pub(crate) what: What,
}

/// Which.
#[derive(Debug)]
pub(crate) enum What {
    /// Its first invoice is paid.
    Open {
        /// That payment, whose hash names the session.
        paid: Paid,
        /// Where the rest goes in the end.
        return_invoice: String,
    },
    /// A further one is.
    TopUp {
        /// The session.
        id: [u8; 32],
        /// The payment.
        paid: Paid,
    },
    /// What is left is to go back.
    Close {
        /// The session.
        id: [u8; 32],
    },
}

impl Act {
    /// The account of its session.
    pub(crate) fn account(&self) -> AccountId {
        match &self.what {
            What::Open { paid, .. } => paid.account(),
            What::TopUp { id, .. } | What::Close { id } => claim::account_of(id),
        }
    }

    /// What a call may draw on; none where no call is made.
    pub(crate) const fn incoming(&self) -> Option<(Amount, Asset)> {
        match &self.what {
            What::Open { paid, .. } => Some((paid.credit, paid.asset)),
            What::TopUp { .. } | What::Close { .. } => None,
        }
    }
}

/// Does it.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn act(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    act: Act,
    delivery: Delivery,
) -> Result<Arrival, Refusal> {
    if delivery.payer.is_some() {
        return Err(admission::two_balances());
    }
    let lacks = || Refusal::new(Code::Internal, "No payment is taken over Lightning.");
    let rules = snapshot.config.rails.l402.as_ref().ok_or_else(lacks)?;
    let Act { challenge_id, what } = act;
    match what {
        What::Open { paid, return_invoice } => {
            let opening = Opening { gate, snapshot, rules, paid, challenge_id };
            opening.open(return_invoice, delivery).await
        }
        What::TopUp { id, paid } => {
            let slot = find(gate, &id)?;
            top_up(gate, snapshot, rules, &slot, &paid, &delivery).await?;
            let body = json!({"status": "ok"});
            Ok(done(&body.to_string(), &receipt(&id, &challenge_id)))
        }
        What::Close { id } => {
            let slot = find(gate, &id)?;
            let closed = closing::close(gate, snapshot, &slot, &challenge_id).await?;
            let (sats, status) = (closed.sats, closed.status);
            let body = json!({"status": "closed", "refundSats": sats, "refundStatus": status});
            let mut receipt = receipt(&id, &challenge_id);
            receipt.refund_sats = i64::try_from(sats).ok();
            receipt.refund_status = Some(status);
            Ok(done(&body.to_string(), &receipt))
        }
    }
}

/// Who draws on an open session.
///
/// # Errors
/// There is none, or it has ended.
pub(crate) fn bearer(
    gate: &Gate,
    snapshot: &Snapshot,
    id: &[u8; 32],
    challenge_id: &str,
) -> Result<Payer, Refusal> {
    let slot = find(gate, id)?;
    if slot.is_closed() {
        return Err(closed());
    }
    slot.touch();
    Ok(slot.payer(challenge_id, grace(snapshot)))
}

fn find(gate: &Gate, id: &[u8; 32]) -> Result<Arc<Slot>, Refusal> {
    gate.lightning_sessions.find(id).ok_or_else(|| {
        let detail = "There is no such session, or it was closed long ago.";
        refused(LightningProblem::SessionNotFound, "session_not_found", detail)
    })
}

pub(super) fn closed() -> Refusal {
    let detail = "The session is closed: what was left of it has gone back.";
    refused(LightningProblem::SessionClosed, "session_closed", detail)
}

fn used() -> Refusal {
    let detail = "The invoice of this challenge has paid for something else.";
    refused(LightningProblem::UnknownChallenge, "payment_used", detail)
}

fn refused(problem: LightningProblem, reason: &'static str, detail: &'static str) -> Refusal {
    mpp::refused(Problem::Lightning(problem), reason, detail)
}

fn grace(snapshot: &Snapshot) -> Duration {
    snapshot.mpp.as_ref().map_or(Duration::ZERO, |mpp| mpp.rules.sessions.grace)
}

fn receipt(id: &[u8; 32], challenge_id: &str) -> Receipt {
    let timestamp = rfc3339::format(Now::read().seconds()).unwrap_or_default();
    let mut receipt = Receipt::new(lightning::METHOD, &wire::hex::encode(id), &timestamp);
    receipt.challenge_id = Some(challenge_id.to_owned());
    receipt.intent = Some(SESSION.to_owned());
    receipt
}

/// An answer that is no call's.
fn done(body: &str, receipt: &Receipt) -> Arrival {
    let mut response = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&receipt.encode()) {
        headers.insert(HeaderName::from_static("payment-receipt"), value);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(PAYMENT_RECEIPT));
    }
    Arrival::Done(Box::new(response))
}

/// A session that is being opened.
struct Opening<'g> {
    gate: &'g Arc<Gate>,
    snapshot: &'g Arc<Snapshot>,
    rules: &'g L402,
    paid: Paid,
    challenge_id: String,
}

impl Opening<'_> {
    /// The first to show the payment opens the session with it. Whoever shows it again draws on the session.
    async fn open(self, return_invoice: String, delivery: Delivery) -> Result<Arrival, Refusal> {
        let (gate, snapshot, paid) = (self.gate, self.snapshot, self.paid);
        let (owner, key, id) = (paid.account(), paid.key(), paid.payment_hash);
        let attempt = match delivery.asked {
            None => None,
            Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), owner, asked, delivery.now)? {
                Begun::Runs(attempt) => Some(attempt),
                Begun::Ended(before) => return Ok(Arrival::Answered(before)),
            },
        };
        let first = async {
            claim::settled(snapshot, self.rules, &id).await?;
            self.write(return_invoice.clone(), Some(&delivery)).await?;
            gate.deposit(owner, paid.asset, paid.credit);
            claim::came_in(gate, &paid);
            Ok(owner)
        };
        let (account, is_first) = claim::once(gate, &key, first).await?;
        if account != owner {
            return Err(used());
        }
        // It may have come in as a charge, or by a token: then that is what the session has.
        let slot = match gate.lightning_sessions.find(&id) {
            Some(slot) => slot,
            None => self.write(return_invoice, None).await?,
        };
        if slot.is_closed() {
            return Err(closed());
        }
        slot.touch();
        let mut headers = HeaderMap::new();
        if is_first && let Some(text) = change_key(gate, owner, delivery.now) {
            headers.extend(key_header(&text));
        }
        Ok(Arrival::Deposited(Box::new(Deposit {
            account: slot.account.clone(),
            key,
            headers,
            amount: paid.credit,
            is_new: is_first,
            rail: RAIL.to_owned(),
            reference: paid.reference(),
            payer: paid.reference(),
            claim: None,
            spends: Spends::Again,
            attempt,
            drawing: None,
            session: Some(Rc::new(slot.session(&self.challenge_id, grace(snapshot)))),
        })))
    }

    /// Writes the session down, with the payment where that comes in by it.
    async fn write(&self, return_invoice: String, delivery: Option<&Delivery>) -> Result<Arc<Slot>, Refusal> {
        let (gate, paid) = (self.gate, &self.paid);
        let record = LightningSession {
            account: paid.account().0,
            asset: paid.asset.code(),
            msat: paid.amount_msat,
            credit: paid.credit.units(),
            return_invoice,
            opened_ms: Now::read().millis(),
            closing: None,
        };
        let other = || Refusal::new(Code::WrongAsset, "The account of this payment holds another asset.");
        let slot = Slot::new(paid.payment_hash, record.clone(), &gate.book).ok_or_else(other)?;
        let deposit = delivery.map(|delivery| deposit(paid, paid.account(), delivery)).transpose()?;
        let written = sessions::write(&gate.store, paid.payment_hash, record, deposit).await;
        written.map_err(|error| unwritten(&error))?;
        Ok(gate.lightning_sessions.add(slot))
    }
}

/// Adds a payment to a session; a stream that waits for it goes on.
async fn top_up(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    rules: &L402,
    slot: &Slot,
    paid: &Paid,
    delivery: &Delivery,
) -> Result<(), Refusal> {
    // What has opened a session fills up none.
    if paid.payment_hash == slot.id {
        return Err(used());
    }
    slot.touch();
    let owner = slot.account.id();
    let first = async {
        claim::settled(snapshot, rules, &paid.payment_hash).await?;
        let mut record = slot.lock().await;
        if record.closing.is_some() {
            return Err(closed());
        }
        if paid.asset != slot.account.asset() {
            let detail = format!("This session does not hold {}.", paid.asset);
            return Err(Refusal::new(Code::WrongAsset, detail));
        }
        let next = LightningSession {
            msat: record.msat.saturating_add(paid.amount_msat),
            credit: record.credit.saturating_add(paid.credit.units()),
            ..record.clone()
        };
        let deposit = deposit(paid, owner, delivery)?;
        let written = slot.write(&gate.store, &mut record, next, Some(deposit)).await;
        written.map_err(|error| unwritten(&error))?;
        gate.deposit(owner, paid.asset, paid.credit);
        claim::came_in(gate, paid);
        Ok(owner)
    };
    let (account, _) = claim::once(gate, &paid.key(), first).await?;
    if account == owner { Ok(()) } else { Err(used()) }
}

/// The payment as it comes in. No call is served for it alone, so it is done with at once.
fn deposit(paid: &Paid, owner: AccountId, delivery: &Delivery) -> Result<SessionDeposit, Refusal> {
    let (key, reference) = (paid.key(), paid.reference());
    let outcome = Some(Outcome { status: 200, headers: Vec::new(), call: [0; 16] });
    let payment = store::Payment { outcome, ..paid.payment(owner, delivery) };
    let out_of_range = || Refusal::new(Code::Internal, "The deposit came out of range.");
    let entry = settling::entry(key, &payment, &reference, Now::read()).ok_or_else(out_of_range)?;
    Ok(SessionDeposit { key, payment: store::Payment { reference, ..payment }, entry })
}

/// A step that could not be written down.
pub(super) fn unwritten(error: &StoreError) -> Refusal {
    match error {
        // Somebody else was faster, and this finds out how.
        StoreError::Conflict => {
            Refusal::new(Code::InProgress, "Another request with this session is being served.")
                .retry_after(1)
        }
        StoreError::Unavailable(_) => unsure(error),
        StoreError::Entry(_) | StoreError::Range | StoreError::DiskFull | StoreError::Full => {
            store_refusal(error)
        }
    }
}
