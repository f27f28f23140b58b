//! Asking a facilitator what becomes of a payment: written down before it is sent, the same bytes to the same
//! facilitator each time until it is decided (X402-15, X402-44). And what is written when it is.

use std::time::Duration;

use bytes::Bytes;
use ledger::{AccountId, Chart, Draft, Kind, LegDraft, leg_asset};
use money::{Amount, Asset};
use rails::facilitator::{Expected, Facilitators};
use rails::{Confirmation, Evidence, EvmNode, Receipt, Refused, Settlement, Sought, Unclear};
use store::{Attempt, Op, Payment, Store, StoreError};
use wire::x402::facilitator::SettleRequest;

use crate::clock::Now;
use crate::facilitators::{self, Question, WAIT_MAX};
use crate::gate::Gate;
use crate::random;

/// Wait after the first attempt, doubled after each, and the longest.
const WAIT_MS: u64 = 1_000;
const WAIT_MS_MAX: u64 = 300_000;
/// How long after its end a proof may still turn out to have moved money (X402-14).
const GRACE_S: u64 = 60;

/// One payment that is being asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) gate: &'a Gate,
    /// None: the configuration has no such rail any more.
    pub(crate) facilitators: Option<&'a Facilitators>,
    /// Deposit key.
    pub(crate) key: [u8; 32],
}

impl Asking<'_> {
    /// Asks for the first time: one facilitator after the other, as long as the one before surely did nothing.
    /// From here on the key is taken.
    ///
    /// # Errors
    /// The intent could not be written, or is known already; nothing was sent.
    ///
    /// # Cancel safety
    /// None: dropped midway, money may have moved.
    pub(crate) async fn first(
        self,
        payment: Payment,
        request: &SettleRequest,
    ) -> Result<Settlement, StoreError> {
        let (Some(all), Some(expected)) = (self.facilitators, Expected::of(request)) else {
            return Ok(Settlement::NotSent);
        };
        let Ok(text) = serde_json::to_string(request) else { return Ok(Settlement::NotSent) };
        let Gate { directory, health, .. } = self.gate;
        let Some(mut share) = health.share(expected.payers.first()) else {
            tracing::warn!(payer = %payment.payer, "this payer has asked for too many settlements");
            return Ok(Settlement::NotSent);
        };
        let mut is_first = true;
        for facilitator in directory.candidates(all, request, &expected.network) {
            let name = facilitator.name();
            let Some(_turn) = health.turn(name, all.at_once_max, WAIT_MAX).await else { continue };
            if !health.admits(name, Question::Settle, health.now_ms()) {
                continue;
            }
            let attempt = attempt(name.to_owned(), &text, 1, Now::read());
            if std::mem::take(&mut is_first) {
                let payment = Payment { attempt: Some(attempt.clone()), ..payment.clone() };
                self.gate.store.write(Op::Intent { key: self.key, payment }).await?;
            } else if let Err(error) = self.write(&attempt).await {
                // The intent stands, and its facilitator will be asked about it.
                tracing::error!(%error, "an attempt could not be recorded");
                return Ok(unclear());
            }
            self.gate.unsettled.watch(self.key, attempt.next_ms);
            match self.ask(&payment, &attempt, &expected).await {
                Settlement::Settled(receipt) => return Ok(Settlement::Settled(receipt)),
                Settlement::Refused(refused) => {
                    share.was_in_vain();
                    return Ok(Settlement::Refused(refused));
                }
                Settlement::Unknown(unclear) if unclear.pending => {
                    return Ok(self.once_more(payment, attempt, unclear).await);
                }
                Settlement::Unknown(unclear) => return Ok(Settlement::Unknown(unclear)),
                Settlement::NotSent => {
                    let name = &attempt.facilitator;
                    tracing::warn!(facilitator = %name, "facilitator did nothing, trying the next");
                }
            }
        }
        Ok(Settlement::NotSent)
    }

    /// The facilitator is at it: the same request, once more at once (X402-15). Then the resolver's turn comes.
    async fn once_more(self, payment: Payment, attempt: Attempt, unclear: Unclear) -> Settlement {
        let attempt = Attempt { transaction: unclear.transaction.clone(), ..attempt };
        let payment = Payment { attempt: Some(attempt), ..payment };
        self.repeat(&payment).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an attempt could not be recorded");
            Settlement::Unknown(unclear)
        })
    }

    /// Asks again, after an attempt whose end nobody knows. Refused only where the chain itself shows that nothing
    /// moved and nothing will: a facilitator's failure may speak of this second attempt only.
    ///
    /// # Errors
    /// The attempt could not be written down; nothing was sent.
    ///
    /// # Cancel safety
    /// As for [`Asking::first`].
    pub(crate) async fn again(self, payment: &Payment) -> Result<Settlement, StoreError> {
        let (Some(last), Some(all)) = (&payment.attempt, self.facilitators) else { return Ok(unclear()) };
        let turn = self.gate.health.turn(&last.facilitator, all.at_once_max, WAIT_MAX).await;
        if turn.is_none() {
            return Ok(unclear());
        }
        self.repeat(payment).await
    }

    async fn repeat(self, payment: &Payment) -> Result<Settlement, StoreError> {
        let Some(last) = &payment.attempt else { return Ok(unclear()) };
        let count = last.count.saturating_add(1);
        let next = attempt(last.facilitator.clone(), &last.request, count, Now::read());
        let attempt = Attempt { transaction: last.transaction.clone(), ..next };
        self.write(&attempt).await?;
        let outcome = match expected_again(&attempt.request) {
            Some(expected) => self.ask(payment, &attempt, &expected).await,
            None => unclear(),
        };
        self.gate.unsettled.watch(self.key, attempt.next_ms);
        Ok(outcome)
    }

    /// Asks about a payment that no call waits for: for the first time, or again. Refused only where nothing can have
    /// come of any attempt before.
    ///
    /// # Errors
    /// The attempt could not be written down; nothing was sent.
    ///
    /// # Cancel safety
    /// As for [`Asking::first`].
    pub(crate) async fn promised(self, payment: &Payment) -> Result<Settlement, StoreError> {
        let Some(last) = &payment.attempt else { return Ok(unclear()) };
        let Some(request) = serde_json::from_str::<SettleRequest>(&last.request).ok() else {
            return Ok(unclear());
        };
        let Some(expected) = Expected::of(&request) else { return Ok(unclear()) };
        let facilitator = self.next_of(last, &request, &expected.network);
        let at_once_max = self.facilitators.map_or(1, |all| all.at_once_max);
        let Some(_turn) = self.gate.health.turn(&facilitator, at_once_max, WAIT_MAX).await else {
            // It is busy: nothing was asked, and it is soon somebody else's turn again.
            self.gate.unsettled.watch(self.key, Now::read().millis().saturating_add(WAIT_MS));
            return Ok(Settlement::NotSent);
        };
        let expected = if last.is_unclear() { expected.after_unknown() } else { expected };
        let next = attempt(facilitator, &last.request, last.count.saturating_add(1), Now::read());
        let attempt = Attempt { in_vain: last.in_vain, transaction: last.transaction.clone(), ..next };
        self.write(&attempt).await?;
        let outcome = self.ask(payment, &attempt, &expected).await;
        if let Settlement::Unknown(unclear) = &outcome
            && unclear.pending
        {
            return Ok(self.once_more(payment.clone(), attempt, unclear.clone()).await);
        }
        if outcome == Settlement::NotSent {
            self.write(&Attempt { in_vain: attempt.in_vain.saturating_add(1), ..attempt.clone() }).await?;
        }
        self.gate.unsettled.watch(self.key, attempt.next_ms);
        Ok(outcome)
    }

    /// Whoever may have acted is asked again, and nobody else; after one who surely did nothing, the next.
    fn next_of(&self, last: &Attempt, request: &SettleRequest, network: &str) -> String {
        let again = last.facilitator.clone();
        let Some(all) = self.facilitators.filter(|_| last.count > 0 && !last.is_unclear()) else {
            return again;
        };
        let others = self.gate.directory.candidates(all, request, network);
        let place = others.iter().position(|facilitator| facilitator.name() == again);
        // One that has left the configuration has no place, and did nothing.
        let next = others.iter().cycle().nth(place.map_or(0, |place| place + 1));
        next.map_or(again, |facilitator| facilitator.name().to_owned())
    }

    /// Keeps the transaction that an unclear answer names: where to look on the chain (X402-15). Without it the
    /// payment is as undecided as with it.
    async fn remember(&self, attempt: &Attempt, unclear: &Unclear) {
        if unclear.transaction.is_empty() || unclear.transaction == attempt.transaction {
            return;
        }
        let attempt = Attempt { transaction: unclear.transaction.clone(), ..attempt.clone() };
        if let Err(error) = self.write(&attempt).await {
            tracing::error!(%error, transaction = unclear.transaction, "a transaction could not be recorded");
        }
    }

    async fn write(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let op = Op::Attempt { key: self.key, attempt: attempt.clone() };
        self.gate.store.write(op).await.map(|_| ())
    }

    async fn ask(&self, payment: &Payment, attempt: &Attempt, expected: &Expected) -> Settlement {
        let named = self.facilitators.and_then(|all| Some((all, all.named(&attempt.facilitator)?)));
        let Some((all, facilitator)) = named else {
            let name = &attempt.facilitator;
            tracing::error!(facilitator = %name, "a facilitator that is to be asked again has left the configuration");
            return Settlement::NotSent;
        };
        let body = Bytes::from(attempt.request.clone());
        let said = facilitators::settle(self.gate, all, facilitator, body, expected).await;
        let outcome = self.borne_out(payment, attempt, expected, said).await;
        let state = match &outcome {
            Settlement::Settled(_) => "settled",
            Settlement::Refused(_) => "refused",
            Settlement::NotSent => "not_sent",
            Settlement::Unknown(unclear) => {
                self.remember(attempt, unclear).await;
                "unknown"
            }
        };
        self.gate.metrics.settlement(&payment.rail, state);
        outcome
    }
}

/// How often a node is asked for a transaction that a facilitator says is there, and how long in between: nodes
/// are a moment behind each other.
const LOOKS_MAX: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(400);
/// What all questions to a node about one answer may take: a payer waits for them.
const NODE_TIME_MAX: Duration = Duration::from_secs(6);

impl Asking<'_> {
    /// What a facilitator has said, held against the operator's own node where there is one (X402-45): no success that
    /// the chain does not show, no failure and no doubt where it shows the money.
    async fn borne_out(
        &self,
        payment: &Payment,
        attempt: &Attempt,
        expected: &Expected,
        said: Settlement,
    ) -> Settlement {
        let node = self.facilitators.and_then(|all| all.nodes.get(&expected.network));
        let sought = serde_json::from_str(&attempt.request).ok().and_then(|request| Sought::of(&request));
        let (Some(node), Some(sought)) = (node, sought) else { return said };
        match said {
            Settlement::NotSent => Settlement::NotSent,
            Settlement::Settled(receipt) => {
                let outcome = confirmed(node, &sought, receipt).await;
                if let Settlement::Unknown(Unclear { is_fault: true, .. }) = &outcome {
                    let health = &self.gate.health;
                    health.ended(&attempt.facilitator, Question::Settle, true, health.now_ms());
                }
                outcome
            }
            Settlement::Refused(refused) => match node.is_used(&sought).await {
                // Whoever could use it, it was used: where the money is, is looked up.
                Some(true) => found(node, &sought, "", payment).await.unwrap_or_else(unclear),
                Some(false) | None => Settlement::Refused(refused),
            },
            Settlement::Unknown(said) => {
                let named = Some(&said.transaction).filter(|text| !text.is_empty());
                let transaction = named.unwrap_or(&attempt.transaction).clone();
                found(node, &sought, &transaction, payment).await.unwrap_or(Settlement::Unknown(said))
            }
        }
    }
}

async fn confirmed(node: &EvmNode, sought: &Sought, receipt: Receipt) -> Settlement {
    let looking = looked_at(node, sought, &receipt.reference);
    let found = tokio::time::timeout(NODE_TIME_MAX, looking).await.unwrap_or(Confirmation::NotYet);
    let transaction = receipt.reference.clone();
    let is_fault = match found {
        Confirmation::Yes => return Settlement::Settled(receipt),
        Confirmation::No => {
            let what = "ALARM: a facilitator tells of a transfer that is not in the transaction it names";
            tracing::error!(transaction, "{what}");
            true
        }
        // The node may be the one that is behind, or gone.
        Confirmation::NotYet => {
            tracing::error!(
                transaction,
                "ALARM: a facilitator tells of a transaction that the chain does not have"
            );
            false
        }
    };
    Settlement::Unknown(Unclear { transaction, pending: false, is_fault })
}

async fn looked_at(node: &EvmNode, sought: &Sought, transaction: &str) -> Confirmation {
    for look in 0..LOOKS_MAX {
        if look > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        match node.confirms(transaction, sought).await {
            Confirmation::NotYet => {}
            found @ (Confirmation::Yes | Confirmation::No) => return found,
        }
    }
    Confirmation::NotYet
}

/// What the chain knows of a payment that nobody is clear about; none where it does not know either.
async fn found(node: &EvmNode, sought: &Sought, transaction: &str, payment: &Payment) -> Option<Settlement> {
    let looking = node.look_for(sought, transaction, payment.valid_before_s);
    match tokio::time::timeout(NODE_TIME_MAX, looking).await.unwrap_or(Evidence::Nothing) {
        Evidence::Moved { transaction } => {
            Some(Settlement::Settled(Receipt { reference: transaction, ..Receipt::default() }))
        }
        Evidence::Never => Some(Settlement::Refused(Refused { code: NEVER_MOVED.to_owned() })),
        Evidence::Nothing => None,
    }
}

/// The code of a payment whose time is over and whose nonce the chain has unused.
const NEVER_MOVED: &str = "payment_expired_unused";

fn unclear() -> Settlement {
    Settlement::Unknown(Unclear::default())
}

/// What a payment is going to be asked about; nobody has been asked yet.
pub(crate) fn unasked(facilitator: String, request: &SettleRequest, now: Now) -> Option<Attempt> {
    let request = serde_json::to_string(request).ok()?;
    let (last_ms, next_ms) = (now.millis(), now.millis());
    Some(Attempt { facilitator, request, count: 0, in_vain: 0, last_ms, next_ms, transaction: String::new() })
}

/// An asking that is about to be made, for the time with this number.
pub(crate) fn attempt(facilitator: String, request: &str, count: u32, now: Now) -> Attempt {
    let next_ms = now.millis().saturating_add(wait_ms(count, random::bytes()));
    let request = request.to_owned();
    let last_ms = now.millis();
    Attempt { facilitator, request, count, in_vain: 0, last_ms, next_ms, transaction: String::new() }
}

/// How long to wait after so many attempts: doubling, and up to a quarter more or less, so that what failed
/// together does not come again together.
pub(crate) fn wait_ms(count: u32, random: [u8; 2]) -> u64 {
    let doublings = count.saturating_sub(1).min(30);
    let wait = (WAIT_MS << doublings).min(WAIT_MS_MAX);
    wait * 3 / 4 + wait / 2 * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX)
}

/// What a truthful answer to a request that we have sent before agrees with.
fn expected_again(request: &str) -> Option<Expected> {
    let request: SettleRequest = serde_json::from_str(request).ok()?;
    Some(Expected::of(&request)?.after_unknown())
}

/// Whether nobody but the operator can tell what became of a payment: its time is over, and the facilitator
/// was asked once more after that.
pub(crate) fn needs_operator(payment: &Payment, now_ms: u64) -> bool {
    let end_ms = payment.valid_before_s.saturating_add(GRACE_S).saturating_mul(1000);
    let asked_since = payment.attempt.as_ref().is_none_or(|attempt| attempt.last_ms >= end_ms);
    now_ms >= end_ms && asked_since
}

/// Whether a proof can settle no more, whoever tries.
pub(crate) fn is_over(payment: &Payment, now_ms: u64) -> bool {
    now_ms >= payment.valid_before_s.saturating_add(GRACE_S).saturating_mul(1000)
}

/// Writes down that the money of a payment is ours. The balance in memory is the caller's to raise.
///
/// # Errors
/// A conflict when it was written down before; nothing is deposited twice.
pub(crate) async fn deposit(
    store: &Store,
    key: [u8; 32],
    payment: Payment,
    reference: String,
) -> Result<(), StoreError> {
    let entry = entry(key, &payment, &reference, Now::read()).ok_or(StoreError::Range)?;
    let payment = Payment { reference, ..payment };
    store.write(Op::Deposit { key, payment, entry }).await.map(|_| ())
}

/// As [`deposit`], for a payment that its processor has named only now: the intent stands under the grant.
///
/// # Errors
/// A conflict when a payment of this name was written down before; nothing is deposited twice.
pub(crate) async fn charged(
    store: &Store,
    grant: [u8; 32],
    key: [u8; 32],
    payment: Payment,
    reference: String,
) -> Result<(), StoreError> {
    let entry = entry(key, &payment, &reference, Now::read()).ok_or(StoreError::Range)?;
    let payment = Payment { reference, ..payment };
    store.commit(Op::Charged { grant, key, payment, entry }).await.map(|_| ())
}

/// The entry of a deposit; none out of range. Its id is the beginning of the deposit key: the same payment is the same entry.
pub(crate) fn entry(key: [u8; 32], payment: &Payment, reference: &str, now: Now) -> Option<Draft> {
    let asset = leg_asset(Asset::from_code(payment.asset)?);
    let credit = Amount::from_units(payment.amount);
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    let legs = vec![
        LegDraft::of(asset, Chart::RailClearing(payment.rail.clone()).id(), credit.negated().ok()?.units()),
        LegDraft::of(asset, AccountId(payment.account), credit.units()),
    ];
    let reference = reference.to_owned();
    Some(Draft { key, reference, ..Draft::of(Kind::Deposit, id, now.millis(), legs) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::{Attempt, Payment, PaymentState};

    use rails::facilitator::Moves;

    use super::{expected_again, needs_operator, wait_ms};

    /// LED-23: 1 s doubling to 5 min, and not all at once.
    #[test]
    fn the_wait_doubles_and_is_bounded() {
        for (count, least, most) in [
            (1, 750, 1_250),
            (2, 1_500, 2_500),
            (5, 12_000, 20_000),
            (9, 192_000, 320_000),
            (u32::MAX, 225_000, 375_000),
        ] {
            assert_eq!((wait_ms(count, [0; 2]), wait_ms(count, [0xff; 2])), (least, most), "{count}");
        }
    }

    #[test]
    fn what_is_asked_is_read_from_our_own_request() {
        let request = json!({"x402Version": 2, "paymentRequirements": {"network": "eip155:84532"}, "paymentPayload": {"payload": {
            "signature": format!("0x{}", "ab".repeat(65)),
            "authorization": {"from": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
                "to": "0x976EA74026E726554dB657fA54763abd0C3a0aa9", "value": "10000", "validAfter": "0",
                "validBefore": "9", "nonce": format!("0x{}", "cd".repeat(32))}}}});
        let expected = expected_again(&request.to_string()).unwrap();
        assert_eq!(expected.payers, ["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"]);
        assert_eq!((expected.moves, expected.after_unknown), (Moves::Exactly(10_000), true));
        assert_eq!(expected_again(""), None);
        assert_eq!(expected_again("{}"), None);
    }

    /// LED-23: the end of polling, 60 s after the proof's own end and never before a last question.
    #[test]
    fn an_operator_is_needed_when_time_is_over_and_the_last_question_was_in_vain() {
        let payment = |last_ms: Option<u64>| Payment {
            state: PaymentState::Unknown,
            fingerprint: [0; 32],
            account: [0; 16],
            asset: 1,
            amount: 1,
            rail: "x402:eip155:84532".into(),
            payer: String::new(),
            reference: String::new(),
            created_ms: 0,
            valid_before_s: 100,
            outcome: None,
            received_msat: None,
            promised: false,
            attempt: last_ms.map(|last_ms| Attempt {
                facilitator: String::new(),
                request: String::new(),
                count: 1,
                in_vain: 0,
                last_ms,
                next_ms: 0,
                transaction: String::new(),
            }),
        };
        for (last_ms, now_ms, needed) in [
            (Some(99_000), 159_999, false),
            (Some(99_000), 160_000, false),
            (Some(160_000), 160_000, true),
            (Some(170_000), 180_000, true),
            (None, 159_999, false),
            (None, 160_000, true),
        ] {
            assert_eq!(needs_operator(&payment(last_ms), now_ms), needed, "{last_ms:?} {now_ms}");
        }
    }
}
