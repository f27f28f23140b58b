//! A payment that the call does not wait for (X402-17): its money comes while the call runs, or after it, and until then
//! the call is served on what the payer has signed, as far as the operator allows (X402-21).

use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ledger::AccountRef;
use money::{Amount, Asset};
use rails::facilitator::{Expected, Verification};
use serde_json::{Value, json};
use store::{Op, Outcome, PaymentState, Promised};
use tokio::sync::oneshot;
use wire::x402::SettlementResponse;

use super::{
    Bringing, Sent, change_key, intent_refusal, key_header, network_text, response_header, settlement_refused,
};
use crate::claims::Claim;
use crate::clock::Now;
use crate::config::{Settle, X402};
use crate::facilitators;
use crate::facts;
use crate::gate::Gate;
use crate::idempotency::Attempt;
use crate::payer::Credit;
use crate::promises::{Decision, NotTaken, Open, signer};
use crate::refusal::{Code, Facts, Refusal};
use crate::settling;

/// What is left of a permit's time, besides what a settlement may take, when its call has to have ended.
const MARGIN: Duration = Duration::from_secs(5);

/// A payment that is to come, and the call that may be made on it.
pub(crate) struct Promise {
    pub(crate) account: AccountRef,
    pub(crate) key: [u8; 32],
    /// A key for the change where a new account is going to be paid into.
    pub(crate) headers: HeaderMap,
    pub(crate) claim: Claim,
    /// What the call may be asked for again by, beside the payment.
    pub(crate) attempt: Option<Attempt>,
    verified: super::Verified,
    record: store::Payment,
    /// How far below its floor the account may be taken.
    limit: Amount,
    facilitator: String,
    settle_max: Duration,
    how: How,
}

enum How {
    /// What the call cost, once that is known.
    Metered(Open),
    /// All of it, while the call runs.
    Whole(oneshot::Receiver<Decision>),
}

/// What a call of this much is settled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    atomic: u128,
    amount: Amount,
}

impl Promise {
    /// What the call may draw on besides the balance.
    pub(crate) fn credit(&self) -> Credit {
        Credit { most: self.verified.credit, beyond: self.limit }
    }

    /// How long the call may last, so that it can be settled in time; none where that has begun.
    pub(crate) fn time_max(&self, now: Now) -> Option<Duration> {
        match self.how {
            How::Whole(_) => None,
            How::Metered(_) => {
                let left = self.record.valid_before_s.saturating_sub(now.seconds());
                Some(Duration::from_secs(left).saturating_sub(self.settle_max + MARGIN))
            }
        }
    }

    /// Whether all of it is settled, whatever the call costs.
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self.how, How::Whole(_))
    }

    /// What the head of the answer says: also what has become of a settlement that began before the upstream was
    /// asked, where that is known by now.
    ///
    /// # Errors
    /// It was refused: nothing of the answer goes on, and nothing is charged.
    pub(super) fn at_head(&mut self) -> Result<HeaderMap, Refusal> {
        let decision = match &mut self.how {
            How::Metered(_) => None,
            How::Whole(heard) => heard.try_recv().ok().inspect(|decision| {
                // What was heard once is still there for the end of the call.
                let (told, again) = oneshot::channel();
                let _ = told.send(decision.clone());
                *heard = again;
            }),
        };
        let mut headers = self.headers.clone();
        match decision {
            Some(Decision::Refused { code }) => return Err(settlement_refused(&self.verified, &code)),
            Some(decision) => headers.extend(self.statement(None).header(&decision)),
            None => {}
        }
        Ok(headers)
    }

    /// For the facts of the call. What became of it is looked up when they are asked for.
    pub(crate) fn facts(&self, captured: Amount) -> Value {
        let asset = self.account.asset();
        let (scheme, settles) = match self.how {
            How::Metered(_) => ("upto", self.sum(captured)),
            How::Whole(_) => ("exact", Some(self.whole())),
        };
        json!({"rail": self.record.rail, "network": self.verified.proof.network(), "payer": self.record.payer,
               "scheme": scheme, "promised": facts::amount(self.verified.credit, asset),
               "settles": settles.map(|sum| facts::amount(sum.amount, asset)),
               "settles_atomic": settles.map(|sum| sum.atomic.to_string()),
               "deposit_key": wire::hex::encode(&self.key)})
    }

    /// The settlement that is written with a charge; none where all of it is settled anyway, or nothing was charged.
    pub(crate) fn settles(&self, captured: Amount, outcome: &Outcome, now: Now) -> Option<Box<Promised>> {
        let How::Metered(_) = &self.how else { return None };
        let sum = self.sum(captured)?;
        let request = self.verified.settle_request(sum.atomic);
        let request =
            request.inspect_err(|error| tracing::error!(%error, "a charge cannot be settled")).ok()??;
        let attempt = settling::unasked(self.facilitator.clone(), &request, now);
        let (amount, outcome) = (sum.amount.units(), Some(outcome.clone()));
        let payment = store::Payment { amount, outcome, attempt, ..self.record.clone() };
        Some(Box::new(Promised { key: self.key, payment }))
    }

    /// The call has ended and took `captured`, which is settled if `is_due`: what the payer is told, and the claim to
    /// let go when that is on disk.
    pub(crate) fn ended(self, captured: Amount, is_due: bool) -> Ended {
        let sum = self.sum(captured).filter(|_| is_due);
        let statement = self.statement(match self.how {
            How::Metered(_) => Some(sum.map_or(0, |sum| sum.atomic)),
            How::Whole(_) => None,
        });
        let heard = match (self.how, sum) {
            (How::Whole(heard), _) => heard,
            (How::Metered(open), Some(sum)) => open.settles(self.key, &self.account, sum.amount),
            (How::Metered(_), None) => {
                // Nothing to settle, and so nobody to wait for.
                let (told, heard) = oneshot::channel();
                let _ = told.send(Decision::Settled { transaction: String::new() });
                heard
            }
        };
        let result = Box::pin(statement.once(heard, self.settle_max));
        Ended { key: self.key, claim: self.claim, result }
    }

    /// A charge in whole atomic units, rounded up, and never more than was signed: the rest is the balance's.
    fn sum(&self, captured: Amount) -> Option<Sum> {
        let atomic = self.verified.till.atomic_up(captured)?.min(self.verified.proof.amount());
        let amount = self.verified.till.credit(atomic)?;
        (atomic > 0).then_some(Sum { atomic, amount })
    }

    fn whole(&self) -> Sum {
        Sum { atomic: self.verified.proof.amount(), amount: self.verified.credit }
    }

    fn statement(&self, atomic: Option<u128>) -> Statement {
        Statement {
            sent: self.verified.sent.clone(),
            network: network_text(&self.verified),
            payer: self.record.payer.clone(),
            atomic,
        }
    }
}

/// What is left of a promise when its call has ended.
pub(crate) struct Ended {
    pub(crate) key: [u8; 32],
    pub(crate) claim: Claim,
    pub(crate) result: PaymentResult,
}

/// `PAYMENT-RESPONSE`, once it is known; none if nobody knows in time.
pub(crate) type PaymentResult = Pin<Box<dyn Future<Output = Option<(HeaderName, HeaderValue)>>>>;

/// What a payer is told of a settlement that he did not wait for.
struct Statement {
    sent: Sent,
    network: String,
    payer: String,
    /// What was settled, where that is not what was signed.
    atomic: Option<u128>,
}

impl Statement {
    async fn once(
        self,
        heard: oneshot::Receiver<Decision>,
        time_max: Duration,
    ) -> Option<(HeaderName, HeaderValue)> {
        let decision = tokio::time::timeout(time_max, heard).await.ok()?.ok()?;
        self.header(&decision)
    }

    fn header(&self, decision: &Decision) -> Option<(HeaderName, HeaderValue)> {
        let said = SettlementResponse {
            network: self.network.clone(),
            payer: Some(self.payer.clone()),
            ..SettlementResponse::default()
        };
        let said = match decision {
            Decision::Settled { transaction } => SettlementResponse {
                success: true,
                transaction: transaction.clone(),
                amount: self.atomic.map(|atomic| atomic.to_string()),
                ..said
            },
            Decision::Refused { code } => SettlementResponse { error_reason: Some(code.clone()), ..said },
            Decision::Unclear => return None,
        };
        response_header(&self.sent, &said)
    }
}

/// What became of a promise, for the receipt of its call.
pub(crate) fn settlement(gate: &Gate, payment: &Value, asset: Asset) -> Result<Value, store::StoreError> {
    let key = payment
        .get("deposit_key")
        .and_then(Value::as_str)
        .and_then(|text| wire::hex::decode_array(text).ok());
    let Some(key) = key else { return Ok(Value::Null) };
    let text = |name: &str| payment.get(name).cloned().unwrap_or_default();
    let result = |success: bool, transaction: &str| {
        json!({"success": success, "transaction": transaction, "network": text("network"), "payer": text("payer"),
               "amount": text("settles_atomic")})
    };
    if text("settles").is_null() {
        let nothing = json!({"success": true, "transaction": "", "network": text("network"), "payer": text("payer"),
                             "amount": "0"});
        return Ok(json!({"state": "nothing_to_settle", "result": nothing}));
    }
    let reader = gate.store.reader();
    let settled = |transaction: &str, amount: Amount| {
        json!({"state": "settled", "transaction": transaction, "deposited": facts::amount(amount, asset),
               "result": result(true, transaction)})
    };
    if let Some(found) = reader.payment(&key)? {
        return Ok(match found.state {
            PaymentState::Intent => json!({"state": "pending"}),
            PaymentState::Unknown => json!({"state": "unknown"}),
            PaymentState::Owed => json!({"state": "refused", "result": result(false, "")}),
            PaymentState::Settled | PaymentState::Served => {
                settled(&found.reference, Amount::from_units(found.amount))
            }
        });
    }
    // Forgotten by now; its entry is not.
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    let Some((entry, _)) = reader.entry_of(&id)? else { return Ok(json!({"state": "pending"})) };
    let credited = entry.legs.iter().find(|leg| leg.amount > Amount::ZERO);
    Ok(settled(&entry.draft.reference, credited.map_or(Amount::ZERO, |leg| leg.amount)))
}

impl Bringing<'_> {
    fn policy(&self) -> Option<&X402> {
        self.verified.till.kind().and(self.snapshot.config.rails.x402.as_ref())
    }

    /// Whether what is signed can only be settled after its call.
    pub(super) const fn must_wait(&self) -> bool {
        self.verified.till.is_settled_after()
    }

    /// Whether its call may begin before all of it is settled, as far as the operator's wishes go. Not on a proof that
    /// may be over before its turn at a facilitator has come: whoever signs for so short a time keeps his money.
    pub(super) fn may_run_ahead(&self) -> bool {
        let left_s = self.record().valid_before_s.saturating_sub(self.delivery.now.seconds());
        let wanted = |x402: &X402| {
            x402.settle == Settle::After
                && self.verified.credit <= x402.optimistic_max
                && Duration::from_secs(left_s) >= x402.settle_timeout + MARGIN
        };
        // A receipt of the `Payment` scheme says that the money has moved, at the head of the answer.
        let may_be_told_later = self.verified.is_x402();
        self.delivery.for_call
            && self.delivery.asked.is_some()
            && may_be_told_later
            && self.policy().is_some_and(wanted)
    }

    /// Takes the payment for a promise.
    ///
    /// # Errors
    /// The payer owes, or too much of him is open.
    pub(super) fn open(&self) -> Result<Open, NotTaken> {
        let limit = self.policy().map_or(Amount::ZERO, |x402| x402.optimistic_max);
        // Nothing of a stranger is remembered before he is vouched for.
        let payer = signer(&self.verified.till.rail, &self.verified.proof.payer());
        self.gate.promises.take(self.account, payer, self.verified.credit, limit)
    }

    /// Why a ceiling is not taken.
    pub(super) fn not_taken(&self, why: NotTaken) -> Refusal {
        let asset = self.verified.till.asset;
        let account = self.gate.book.find(self.account, asset);
        let balance = account.map_or(Amount::ZERO, |account| account.available());
        let facts = |source| Facts {
            balance: Some((balance, asset)),
            limit_source: Some(source),
            ..Facts::default()
        };
        match why {
            NotTaken::Owes => {
                // Who signed for another account owes there.
                let owed = balance.negated().ok().filter(|owed| *owed > Amount::ZERO);
                let owed = owed.map(|owed| format!(": {} {asset} are owed", owed.short(asset)));
                let detail = format!(
                    "A payment of this payer was refused after its call was served{}. A deposit, by scheme exact, makes that good.",
                    owed.unwrap_or_default()
                );
                Refusal::new(Code::InsufficientBalance, detail).facts(facts("debt"))
            }
            NotTaken::Exposed => {
                let detail = "Payments are being settled, and no more can be promised until they are.";
                Refusal::new(Code::RateLimited, detail).facts(facts("promises")).retry_after(1)
            }
        }
    }

    /// A payment nobody has seen, of which the call cost is settled when that is known.
    pub(super) async fn metered(self) -> Result<Promise, Refusal> {
        if !self.delivery.for_call {
            let detail = "A ceiling pays for a call, and this is none: pay by scheme exact.";
            return Err(Refusal::new(Code::ProofInvalid, detail));
        }
        self.check_asset()?;
        let open = self.open().map_err(|why| self.not_taken(why))?;
        let facilitator = self.vouched().await?;
        Ok(self.promise(facilitator, How::Metered(open)))
    }

    /// A payment nobody has seen, all of which is settled while the call runs.
    pub(super) async fn whole(self, open: Open) -> Result<Promise, Refusal> {
        // A signature is free: that there is money behind it, and that its nonce was not used elsewhere, is on the chain.
        // Before that is known nothing is served, and nobody gets a key to the account that it names.
        let facilitator = self.vouched().await?;
        let key = self.verified.proof.deposit_key();
        let request = self.request()?.ok_or_else(unsettleable)?;
        let attempt = settling::unasked(facilitator.clone(), &request, Now::read());
        let payment = store::Payment { promised: true, attempt, ..self.record() };
        let intent = self.gate.store.write(Op::Intent { key, payment }).await;
        intent.map_err(|error| intent_refusal(&error))?;
        let account = self.gate.book.account(self.account, self.verified.till.asset);
        let heard = open.settles(key, &account, self.verified.credit);
        self.gate.unsettled.ask_now(key);
        Ok(self.promise(facilitator, How::Whole(heard)))
    }

    /// Who settles it, and that he would, as things stand (X402-42): allowances and balances are on the chain. What is
    /// served before it settles is served on that.
    pub(super) async fn vouched(&self) -> Result<String, Refusal> {
        let unreachable = || {
            let detail = "No facilitator could be asked about the payment.";
            Refusal::new(Code::FacilitatorFailed, detail).retry_after(5)
        };
        let facilitator = self.candidate()?;
        let all = self.snapshot.facilitators.as_ref().ok_or_else(unreachable)?;
        let request = self.verified.verify_request().ok_or_else(unsettleable)?;
        match facilitators::verify(self.gate, all, &request).await {
            Verification::Valid { .. } => Ok(facilitator),
            Verification::Invalid(invalid) => Err(settlement_refused(&self.verified, &invalid.code)),
            Verification::NoAnswer => Err(unreachable()),
        }
    }

    /// The first who settles such a payment.
    fn candidate(&self) -> Result<String, Refusal> {
        let request = self.verified.verify_request().ok_or_else(unsettleable)?;
        let network = Expected::of(&request).map(|expected| expected.network).ok_or_else(unsettleable)?;
        let all = self.snapshot.facilitators.as_ref();
        let first = all.and_then(|all| {
            let found = self.gate.directory.candidates(all, &request, &network);
            found.first().map(|facilitator| facilitator.name().to_owned())
        });
        first.ok_or_else(|| {
            let detail = "No facilitator is known that settles this payment.";
            Refusal::new(Code::FacilitatorFailed, detail).retry_after(5)
        })
    }

    fn promise(self, facilitator: String, how: How) -> Promise {
        let record = store::Payment { promised: true, ..self.record() };
        let Self { gate, snapshot, verified, delivery, account, claim, attempt } = self;
        let mut headers = HeaderMap::new();
        if delivery.payer.is_none()
            && let Some(text) = change_key(gate, account, delivery.now)
        {
            headers.extend(key_header(&text));
        }
        let x402 = snapshot.config.rails.x402.as_ref();
        Promise {
            account: gate.book.account(account, verified.till.asset),
            key: verified.proof.deposit_key(),
            headers,
            claim,
            attempt,
            record,
            limit: x402.map_or(Amount::ZERO, |x402| x402.optimistic_max),
            settle_max: x402.map_or(Duration::ZERO, |x402| x402.settle_timeout),
            facilitator,
            verified,
            how,
        }
    }
}

fn unsettleable() -> Refusal {
    Refusal::new(Code::Internal, "The payment cannot be settled.")
}
