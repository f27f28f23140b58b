//! A payment on its way in that is settled before anything is served, by whichever rail: whose it is going to be, the claim
//! that lets nobody else bring it meanwhile, and the deposit that it becomes.

use http::HeaderMap;
use ledger::AccountId;
use money::{Amount, Asset};
use store::{Payment, PaymentState};

use super::change::{change_key, key_header};
use super::{Delivery, Deposit, Spends, in_progress, replayed_elsewhere};
use crate::claims::Claim;
use crate::gate::Gate;
use crate::idempotency::{self, Attempt, Before, Begun};
use crate::refusal::{Code, Refusal};
use crate::snapshot::Snapshot;

/// A payment that its rail may be asked for.
pub(crate) struct Incoming<'g> {
    gate: &'g Gate,
    pub(crate) delivery: Delivery,
    /// Where it is credited, and in what.
    account: AccountId,
    asset: Asset,
    claim: Claim,
    attempt: Option<Attempt>,
}

/// What is to be done about a payment.
pub(crate) enum Start<'g> {
    /// It is brought in, or served from what is in.
    Goes(Box<Incoming<'g>>),
    /// It was served before, or its request was for another payment: this one is not taken.
    Ended(Before),
}

/// What is written down of a payment before its rail is asked.
pub(crate) struct Terms {
    /// What it is worth in the ledger.
    pub(crate) amount: Amount,
    pub(crate) rail: String,
    /// As the rail writes him.
    pub(crate) payer: String,
    /// For how long its rail is asked what became of it.
    pub(crate) asked_seconds: u64,
}

impl<'g> Incoming<'g> {
    /// Takes a payment up that is claimed and, if it came before, `known`. `own`: where it goes when no key names an account,
    /// and in what.
    ///
    /// # Errors
    /// It came for another request, or is another's.
    pub(crate) fn begin(
        gate: &'g Gate,
        snapshot: &Snapshot,
        claim: Claim,
        known: Option<&Payment>,
        own: (AccountId, Asset),
        delivery: Delivery,
    ) -> Result<Start<'g>, Refusal> {
        let account = match known {
            None => delivery.payer.as_ref().map_or(own.0, |payer| payer.account.id()),
            Some(known) if known.fingerprint != delivery.fingerprint => return Err(replayed_elsewhere()),
            Some(known) => AccountId(known.account),
        };
        // Whose the money was when it first came, it stays.
        if delivery.payer.as_ref().is_some_and(|payer| payer.account.id() != account) {
            return Err(replayed_elsewhere());
        }
        if let Some(known) = known
            && known.state == PaymentState::Served
        {
            return Ok(Start::Ended(known.outcome.clone().ok_or_else(in_progress)?.into()));
        }
        let attempt = match delivery.asked {
            None => None,
            Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), account, asked, delivery.now)? {
                Begun::Runs(attempt) => Some(attempt),
                Begun::Ended(before) => return Ok(Start::Ended(before)),
            },
        };
        let incoming = Self { gate, delivery, account, asset: own.1, claim, attempt };
        Ok(Start::Goes(Box::new(incoming)))
    }

    /// Whether its account holds what it brings.
    ///
    /// # Errors
    /// It holds something else.
    pub(crate) fn check_asset(&self) -> Result<(), Refusal> {
        if self.delivery.may_bring(self.gate, self.asset) {
            return Ok(());
        }
        let detail = format!("This key's account does not hold {}.", self.asset);
        Err(Refusal::new(Code::WrongAsset, detail))
    }

    /// What is written down before its rail is asked.
    pub(crate) fn record(&self, terms: Terms) -> Payment {
        let Terms { amount, rail, payer, asked_seconds } = terms;
        let now = self.delivery.now;
        Payment {
            state: PaymentState::Intent,
            fingerprint: self.delivery.fingerprint,
            account: self.account.0,
            asset: self.asset.code(),
            amount: amount.units(),
            rail,
            payer,
            reference: String::new(),
            created_ms: now.millis(),
            valid_before_s: now.seconds().saturating_add(asked_seconds),
            outcome: None,
            promised: false,
            attempt: None,
            received_msat: None,
        }
    }

    /// The deposit of a payment that is on disk just now; the balance in memory is raised already. Only the first to show it
    /// is surely its owner, and gets a key where nobody has one: after that others may have seen it.
    pub(crate) fn deposited(self, key: [u8; 32], payment: Payment, is_first: bool) -> Deposit {
        let mut headers = HeaderMap::new();
        if is_first
            && self.delivery.payer.is_none()
            && let Some(text) = change_key(self.gate, self.account, self.delivery.now)
        {
            headers.extend(key_header(&text));
        }
        self.into_deposit(key, payment, headers, true)
    }

    /// The deposit of one whose call never ended: served from what is there.
    pub(crate) fn resumed(self, key: [u8; 32], payment: Payment) -> Deposit {
        self.into_deposit(key, payment, HeaderMap::new(), false)
    }

    fn into_deposit(self, key: [u8; 32], payment: Payment, headers: HeaderMap, is_new: bool) -> Deposit {
        Deposit {
            account: self.gate.book.account(self.account, self.asset),
            key,
            headers,
            amount: Amount::from_units(payment.amount),
            is_new,
            rail: payment.rail,
            reference: payment.reference,
            payer: payment.payer,
            claim: Some(self.claim),
            spends: Spends::Once,
            attempt: self.attempt,
            drawing: None,
            session: None,
        }
    }
}
