//! A payment becomes a deposit: verified, claimed once, settled by its rail, durable; then the call
//! draws on it like any other (DESIGN, idea 1; X402-13, X402-14).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ledger::{Account, AccountId, Chart, Draft, Flags, Kind, LegDraft, leg_asset};
use money::{Amount, Asset};
use proof::x402_exact::{self, Binding, ExactError, ExactPayment, Method, Offer, Payer as ProofPayer};
use rails::facilitator::Expected;
use rails::{Receipt, Settlement};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::{KeyRecord, Op, PaymentState, StoreError};
use wire::x402::facilitator::SettleRequest;
use wire::x402::{SettlementResponse, header as x402, network, v1, v2};

use crate::call_id::CallId;
use crate::challenge::Ask;
use crate::charge::{Landing, commit_in_background};
use crate::claims::Claim;
use crate::clock::Now;
use crate::credential::Payment;
use crate::gate::Gate;
use crate::known;
use crate::payer::Payer;
use crate::random;
use crate::refusal::{Code, Facts, Money, Refusal};
use crate::snapshot::{Snapshot, Till};

/// Days a key for change is valid.
const CHANGE_KEY_SECONDS: u64 = 90 * 24 * 3600;
/// A genuine payment for this request, nothing claimed yet.
pub(crate) struct Verified {
    till: Till,
    offer: Offer,
    payment: ExactPayment,
    credit: Amount,
    sent: Payment,
}

impl Verified {
    /// The name of its protocol in logs and receipts.
    pub(crate) const fn protocol(&self) -> &'static str {
        self.sent.protocol()
    }

    /// The account it goes to when no key names one.
    pub(crate) const fn account(&self) -> AccountId {
        AccountId(self.payment.account)
    }
}

/// Checks a payment against our offers for this request. CPU only.
///
/// # Errors
/// A refusal to be made a challenge; nothing was claimed.
pub(crate) fn verify(
    gate: &Gate,
    snapshot: &Snapshot,
    payment: Payment,
    ask: &Ask<'_>,
    fingerprint: &[u8; 32],
    now: Now,
) -> Result<Verified, Refusal> {
    let offered = ask.offers(gate, snapshot, 0);
    let offers: Vec<Offer> = offered.iter().map(|(_, offer)| offer.clone()).collect();
    let url = ask.url(snapshot);
    let binding =
        Binding { key: &gate.keys.quote, scope: ask.scope(gate), ceiling: ask.ceiling, resource_url: &url };
    let checked = match &payment {
        Payment::V1(payment) => x402_exact::verify_v1(payment, &offers, now.seconds()),
        Payment::V2(payment) => x402_exact::verify_v2(payment, &offers, &binding, now.seconds()),
    };
    let (offer, verified) = match checked {
        Ok((offer, verified)) => (offer.clone(), verified),
        Err(error) => {
            known::again(gate, snapshot, &payment, fingerprint)?.ok_or_else(|| proof_refusal(error))?
        }
    };
    let unmatched = || Refusal::new(Code::Internal, "The payment matches no till of ours.");
    let till = offered.iter().map(|(till, _)| till).find(|till| till.made(&offer)).ok_or_else(unmatched)?;
    let too_big = || Refusal::new(Code::ProofInvalid, "The payment is larger than an account can hold.");
    Ok(Verified {
        till: till.clone(),
        credit: till.credit(verified.amount).ok_or_else(too_big)?,
        offer,
        payment: verified,
        sent: payment,
    })
}

fn proof_refusal(error: ExactError) -> Refusal {
    let code = match &error {
        ExactError::Malformed => Code::MalformedCredential,
        ExactError::WrongNetwork => Code::WrongNetwork,
        ExactError::WrongAsset => Code::WrongAsset,
        ExactError::WrongPayee => Code::WrongPayee,
        ExactError::Underpaid { .. } => Code::ProofUnderpaid,
        ExactError::Quote(_) | ExactError::QuoteMissing | ExactError::QuotePrice => Code::QuoteExpired,
        ExactError::Expired(_) => Code::ProofExpired,
        ExactError::Overpaid { .. }
        | ExactError::OfferAltered
        | ExactError::WrongResource
        | ExactError::NotYetValid(_)
        | ExactError::Signature(_)
        | ExactError::Ed25519 => Code::ProofInvalid,
    };
    let reason = Facts { reason: Some(error.reason().to_owned()), ..Facts::default() };
    Refusal::new(code, "The payment does not pay for this request.").facts(reason)
}

/// Names the request a payment came with: the same bytes again are the same request.
pub(crate) fn fingerprint(method: &http::Method, target: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"farthing/request/1");
    for part in [method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A settled payment, and the call that may draw on it.
pub(crate) struct Deposit {
    pub(crate) account: Arc<Account>,
    pub(crate) key: [u8; 32],
    /// `PAYMENT-RESPONSE`, and a key for the change where a new account was paid into.
    pub(crate) headers: HeaderMap,
    pub(crate) amount: Amount,
    pub(crate) rail: String,
    pub(crate) reference: String,
    pub(crate) payer: String,
    pub(crate) claim: Claim,
}

/// What a payment leads to.
pub(crate) enum Arrival {
    /// A call may be made.
    Deposited(Deposit),
    /// The call was made before; this was its answer.
    Answered(Response<Bytes>),
}

/// Who a payment is credited to, and for which request.
pub(crate) struct Delivery {
    /// The credit key beside the payment.
    pub(crate) payer: Option<Payer>,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) now: Now,
}

impl Delivery {
    /// An account holds one asset: that of the first payment into it, unless its key says another.
    fn may_bring(&self, gate: &Gate, asset: Asset) -> bool {
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
    gate: &Gate,
    snapshot: &Snapshot,
    verified: Verified,
    delivery: Delivery,
) -> Result<Arrival, Refusal> {
    if !delivery.may_bring(gate, verified.till.asset) {
        let detail = format!("This key's account does not hold {}.", verified.till.asset);
        return Err(Refusal::new(Code::WrongAsset, detail));
    }
    let key = verified.payment.deposit_key;
    let claim = gate.claims.take(key).ok_or_else(in_progress)?;
    let known = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
    let after_unknown = match known {
        None => false,
        Some(known) if known.fingerprint != delivery.fingerprint => return Err(replayed_elsewhere()),
        Some(known) => match known.state {
            PaymentState::Intent | PaymentState::Unknown => true,
            PaymentState::Served => return Ok(Arrival::Answered(stored_answer(gate, &key, &known)?)),
            PaymentState::Settled => {
                let deposit = resumed(gate, &verified, known, claim);
                return Ok(Arrival::Deposited(deposit));
            }
        },
    };
    let bringing = Bringing { gate, snapshot, verified, delivery, claim, after_unknown };
    bringing.settle().await.map(Arrival::Deposited)
}

struct Bringing<'g> {
    gate: &'g Gate,
    snapshot: &'g Snapshot,
    verified: Verified,
    delivery: Delivery,
    claim: Claim,
    after_unknown: bool,
}

impl Bringing<'_> {
    async fn settle(self) -> Result<Deposit, Refusal> {
        let key = self.verified.payment.deposit_key;
        let outcome = match &self.verified.offer.method {
            // Play money is ours as soon as it is signed: intent and result are one write.
            Method::Test { .. } => {
                Settlement::Settled(Receipt { reference: format!("test:{}", wire::hex::encode(&key[..8])) })
            }
            Method::Evm { .. } => {
                if !self.after_unknown {
                    let intent = Op::Intent { key, payment: self.record(String::new()) };
                    self.gate.store.commit(intent).await.map_err(|error| intent_refusal(&error))?;
                }
                self.ask_facilitators().await
            }
        };
        let state = match &outcome {
            Settlement::Settled(_) => "settled",
            Settlement::Refused(_) => "refused",
            Settlement::NotSent => "not_sent",
            Settlement::Unknown => "unknown",
        };
        self.gate.metrics.settlement(&self.verified.till.rail, state);
        match outcome {
            Settlement::Settled(receipt) => self.deposited(receipt).await,
            Settlement::Refused(refused) => {
                self.gate.store.commit(Op::Refused { key }).await.map_err(|error| unsure(&error))?;
                Err(self.settlement_failed(&refused.code))
            }
            Settlement::NotSent if !self.after_unknown => {
                self.gate.store.commit(Op::Refused { key }).await.map_err(|error| unsure(&error))?;
                let detail = "No facilitator could be reached to settle the payment.";
                Err(Refusal::new(Code::FacilitatorFailed, detail).retry_after(5))
            }
            Settlement::NotSent | Settlement::Unknown => {
                self.gate.store.commit(Op::Unknown { key }).await.map_err(|error| unsure(&error))?;
                tracing::warn!(rail = %self.verified.till.rail, "settlement outcome unknown");
                Err(unknown_outcome())
            }
        }
    }

    async fn ask_facilitators(&self) -> Settlement {
        let ProofPayer::Evm(payer) = self.verified.payment.payer else { return Settlement::NotSent };
        let Some(facilitators) = &self.snapshot.facilitators else { return Settlement::NotSent };
        let Some(request) = settle_request(&self.verified) else { return Settlement::NotSent };
        let expected = Expected {
            network: self.verified.offer.network(),
            payer,
            amount: self.verified.payment.amount,
            after_unknown: self.after_unknown,
        };
        facilitators.settle(&request, expected).await
    }

    async fn deposited(self, receipt: Receipt) -> Result<Deposit, Refusal> {
        let Self { gate, verified, delivery, .. } = &self;
        let key = verified.payment.deposit_key;
        let account_id = self.account_id();
        let asset = verified.till.asset;
        let leg = |account, amount| LegDraft { asset: leg_asset(asset), account, amount };
        let taken =
            verified.credit.negated().map_err(|_| Refusal::new(Code::Internal, "Amount out of range."))?;
        let mut id = [0; 16];
        id.copy_from_slice(&key[..16]);
        let entry = Draft {
            kind: Kind::Deposit,
            flags: Flags::default(),
            time_ms: delivery.now.millis(),
            id,
            key,
            reference: receipt.reference.clone(),
            corrects: [0; 16],
            price_version: 0,
            cost_femto: 0,
            legs: vec![
                leg(Chart::RailClearing(verified.till.rail.clone()).id(), taken),
                leg(account_id, verified.credit),
            ],
        };
        let write = Op::Deposit { key, payment: self.record(receipt.reference.clone()), entry };
        gate.store.commit(write).await.map_err(|error| unsure(&error))?;
        let account = gate.book.deposit(account_id, asset, verified.credit);
        let mut headers = payment_response(verified, &receipt.reference);
        if delivery.payer.is_none()
            && let Some(text) = change_key(gate, account_id, delivery.now)
            && let Ok(mut value) = HeaderValue::from_str(&text)
        {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("farthing-key"), value);
        }
        let (amount, rail) = (verified.credit, verified.till.rail.clone());
        let payer = payer_text(&verified.payment.payer);
        Ok(Deposit {
            account,
            key,
            headers,
            amount,
            rail,
            reference: receipt.reference,
            payer,
            claim: self.claim,
        })
    }

    fn account_id(&self) -> AccountId {
        let own = AccountId(self.verified.payment.account);
        self.delivery.payer.as_ref().map_or(own, |payer| payer.account.id())
    }

    fn record(&self, reference: String) -> store::Payment {
        let verified = &self.verified;
        store::Payment {
            state: PaymentState::Intent,
            fingerprint: self.delivery.fingerprint,
            account: self.account_id().0,
            asset: verified.till.asset.code(),
            amount: verified.credit.units(),
            rail: verified.till.rail.clone(),
            payer: payer_text(&verified.payment.payer),
            reference,
            created_ms: self.delivery.now.millis(),
            valid_before_s: verified.payment.valid_before,
            outcome: None,
            attempt: None,
        }
    }

    fn settlement_failed(&self, code: &str) -> Refusal {
        let said = SettlementResponse {
            success: false,
            network: network_text(&self.verified),
            error_reason: Some(code.to_owned()),
            payer: Some(payer_text(&self.verified.payment.payer)),
            ..SettlementResponse::default()
        };
        let (name, value) = response_header(&self.verified.sent, &said);
        let reason = Facts { reason: Some(code.to_owned()), ..Facts::default() };
        let detail = "The payment was refused when it was to be settled.";
        Refusal::new(Code::SettlementFailed, detail).facts(reason).header(name, value)
    }
}

/// The deposit of a payment whose call never ended: served from what is there, settled no second time,
/// and without a new key, because the proof is public by now (reference items 5 and 14).
fn resumed(gate: &Gate, verified: &Verified, known: store::Payment, claim: Claim) -> Deposit {
    let account = gate.book.account(AccountId(known.account), verified.till.asset);
    Deposit {
        account,
        key: verified.payment.deposit_key,
        headers: payment_response(verified, &known.reference),
        amount: Amount::from_units(known.amount),
        rail: known.rail,
        reference: known.reference,
        payer: known.payer,
        claim,
    }
}

impl Deposit {
    /// What the same request gets from now on, and the claim to let go when that is on disk.
    pub(crate) fn served(self, status: StatusCode, call: CallId) -> Served {
        let Self { key, headers, claim, .. } = self;
        let ours = headers.iter().filter(|(name, _)| *name != "farthing-key");
        let headers = ours
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let outcome = store::Outcome { status: status.as_u16(), headers, call: call.0 };
        Served { key, outcome, claim }
    }
}

/// A payment that has been used.
pub(crate) struct Served {
    pub(crate) key: [u8; 32],
    pub(crate) outcome: store::Outcome,
    claim: Claim,
}

impl Served {
    /// Writes it down with `capture`, where there was one; the claim is let go when that is on disk, and the
    /// answer ends no earlier.
    pub(crate) fn write(self, gate: &Gate, capture: Option<Op>) -> Landing {
        let Self { key, outcome, claim } = self;
        let op = match capture {
            Some(Op::Capture { id, entry, facts, income, idempotent, .. }) => {
                Op::Capture { id, entry, facts, served: Some((key, outcome)), income, idempotent }
            }
            Some(_) | None => Op::Served { key, outcome },
        };
        commit_in_background(gate, op, claim)
    }
}

fn stored_answer(gate: &Gate, key: &[u8; 32], known: &store::Payment) -> Result<Response<Bytes>, Refusal> {
    if let Some(answer) = gate.replays.find(key) {
        return Ok(answer);
    }
    let Some(outcome) = &known.outcome else { return Err(in_progress()) };
    let call = CallId(outcome.call);
    let detail = "This payment has been used by this very request; its answer is no longer kept.";
    let mut refusal = Refusal::new(Code::AlreadyServed, detail).money(Money::Captured(call));
    for (name, value) in &outcome.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            refusal = refusal.header(name, value);
        }
    }
    Err(refusal)
}

/// A key that opens what the payer did not use. It is in one answer and nowhere else (item 38).
pub(crate) fn change_key(gate: &Gate, account: AccountId, now: Now) -> Option<String> {
    let key_id = random::bytes();
    let expires = now.seconds() + CHANGE_KEY_SECONDS;
    let caveats = [format!("expires={expires}")];
    let text =
        proof::credit_key::mint(&gate.keys.masters, gate.keys.mode, account.0, key_id, &caveats).ok()?;
    let record = KeyRecord {
        account: account.0,
        label: "change".to_owned(),
        created_ms: now.millis(),
        expires_s: Some(expires),
    };
    if let Err(error) = gate.store.submit(Op::Key { id: key_id, record }, None) {
        tracing::error!(%error, "a key for change could not be recorded");
        return None;
    }
    Some(text)
}

/// Our values in the payer's form, and nothing private (X402-11).
fn settle_request(verified: &Verified) -> Option<SettleRequest> {
    let mut public = verified.offer.clone();
    public.quote = None;
    let accepted = public.requirements_v2();
    match &verified.sent {
        Payment::V2(sent) => {
            let requirements = serde_json::to_value(&accepted).ok()?;
            let payload = v2::PaymentPayload {
                x402_version: v2::VERSION,
                resource: None,
                accepted,
                payload: exact_members(&sent.payload)?,
                extensions: None,
            };
            Some(SettleRequest {
                x402_version: v2::VERSION,
                payment_payload: serde_json::to_value(payload).ok()?,
                payment_requirements: requirements,
            })
        }
        Payment::V1(sent) => {
            let requirements = public.requirements_v1("", "", "application/json")?;
            let payload = v1::PaymentPayload {
                x402_version: v1::VERSION,
                scheme: requirements.scheme.clone(),
                network: requirements.network.clone(),
                payload: exact_members(&sent.payload)?,
            };
            Some(SettleRequest {
                x402_version: v1::VERSION,
                payment_payload: serde_json::to_value(payload).ok()?,
                payment_requirements: serde_json::to_value(requirements).ok()?,
            })
        }
    }
}

fn exact_members(payload: &Value) -> Option<Value> {
    serde_json::to_value(wire::x402::ExactPayload::from_value(payload)?).ok()
}

fn payment_response(verified: &Verified, transaction: &str) -> HeaderMap {
    let said = SettlementResponse {
        success: true,
        transaction: transaction.to_owned(),
        network: network_text(verified),
        payer: Some(payer_text(&verified.payment.payer)),
        ..SettlementResponse::default()
    };
    let (name, value) = response_header(&verified.sent, &said);
    HeaderMap::from_iter([(name, value)])
}

fn response_header(sent: &Payment, said: &SettlementResponse) -> (HeaderName, HeaderValue) {
    let name = match sent {
        Payment::V1(_) => x402::X_PAYMENT_RESPONSE,
        Payment::V2(_) => x402::PAYMENT_RESPONSE,
    };
    let value = HeaderValue::from_str(&x402::encode(said)).unwrap_or(HeaderValue::from_static(""));
    (HeaderName::from_static(name), value)
}

fn network_text(verified: &Verified) -> String {
    let caip2 = verified.offer.network();
    match &verified.sent {
        Payment::V1(_) => network::v1_from_caip2(caip2).unwrap_or(caip2).to_owned(),
        Payment::V2(_) => caip2.to_owned(),
    }
}

fn payer_text(payer: &ProofPayer) -> String {
    match payer {
        ProofPayer::Evm(address) => address.to_string(),
        ProofPayer::Test(key) => wire::hex::encode(key),
    }
}

fn in_progress() -> Refusal {
    Refusal::new(Code::InProgress, "A request with this payment is being served.")
        .money(Money::FirstAttemptDecides)
        .retry_after(1)
}

pub(crate) fn replayed_elsewhere() -> Refusal {
    Refusal::new(Code::VerificationFailed, "This payment was made for another request.")
}

fn unknown_outcome() -> Refusal {
    Refusal::new(Code::SettlementUnknown, "The rail did not say whether the payment moved.")
        .money(Money::Unknown)
        .retry_after(5)
}

pub(crate) fn store_refusal(error: &StoreError) -> Refusal {
    tracing::error!(%error, "store refused");
    Refusal::new(Code::StoreUnavailable, "The gateway cannot record payments now.").retry_after(5)
}

fn intent_refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Conflict => in_progress(),
        StoreError::Entry(_)
        | StoreError::Range
        | StoreError::DiskFull
        | StoreError::Full
        | StoreError::Unavailable(_) => store_refusal(error),
    }
}

/// The rail has acted, or may have, and the journal could not say so.
fn unsure(error: &StoreError) -> Refusal {
    tracing::error!(%error, "a settlement could not be recorded");
    Refusal::new(Code::StoreUnavailable, "The gateway cannot record the payment now.")
        .money(Money::Unknown)
        .retry_after(5)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::fingerprint;

    #[test]
    fn a_fingerprint_tells_parts_apart() {
        let a = fingerprint(&Method::POST, "/a", b"bc");
        assert_ne!(a, fingerprint(&Method::POST, "/ab", b"c"));
        assert_ne!(a, fingerprint(&Method::PUT, "/a", b"bc"));
        assert_eq!(a, fingerprint(&Method::POST, "/a", b"bc"));
    }
}
