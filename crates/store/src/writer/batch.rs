//! One transaction: several writes, each whole or refused whole.
//!
//! What a write needs is checked before anything of it is put into a table, so that a refused one leaves
//! nothing in a transaction that goes on.

use std::collections::{BTreeMap, HashMap};

use ledger::{AccountId, Chart, Draft};
use money::Asset;
use redb::{ReadableTable, Table, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::income::Income;
use super::tail::Tail;
use crate::journal::{Filling, Record};
use crate::read::unavailable;
use crate::recent::Rows;
use crate::tables::{
    ACCOUNTS, BALANCES, BASE_BALANCES, BY_ID, CASHU_COINS, CASHU_SWAPS, CHANNELS, CODES, CREDIT_LOTS,
    EXPIRIES, EXPIRY_IDEMPOTENT, EXPIRY_PAYMENT, FACTS, FACTS_AT, FREE_CALLS, GRANTS, HEADS, IDEMPOTENT,
    JOURNAL, KEYS, LOTS, META, NAMES, OPEN_CALLS, OPEN_PAYOUTS, PARKED, PAYMENTS, PAYOUTS, REVOKED, SESSIONS,
    TILES, TOP_UP_REFUNDS, TOP_UPS, balance_key, expiry_key, free_key,
};
use crate::{
    AccountMode, AccountSettings, CashuWrite, Committed, Idempotent, Op, Outcome, Payment, PaymentState,
    PayoutStep, RefundStep, SignedHead, StoreError, TopUpStep,
};

pub(crate) type Answer = Result<Committed, StoreError>;

/// Seconds after its end that a served payment is kept, for late questions.
pub(super) const PAYMENT_KEPT_SECONDS: u64 = 7 * 24 * 3600;

pub(super) const NO_ENTRY: Committed = Committed { lsn: 0 };

pub(super) struct Batch<'t> {
    pub(super) tail: &'t mut Tail,
    /// Balances as this transaction has them, put down once when it ends.
    pub(super) pending: HashMap<[u8; 18], i64>,
    pub(super) income: Income,
    /// The end of the journal that is in no row yet.
    row: Filling,
    /// Payments as this transaction has them, put down once when it ends: most are deposited and served in the same.
    payments_put: BTreeMap<[u8; 32], Payment>,
    /// What was put since they were last taken.
    rows: Rows,
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
    pub(super) journal: Table<'t, u64, &'static [u8]>,
    pub(super) by_id: Table<'t, &'static [u8; 16], u64>,
    pub(super) balances: Table<'t, &'static [u8; 18], i64>,
    pub(super) tiles: Table<'t, (u8, u64), &'static [u8; 32]>,
    pub(super) names: Table<'t, &'static [u8; 16], &'static str>,
    pub(super) expiries: Table<'t, &'static [u8; 41], ()>,
    payments: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) idempotent: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) base_balances: Table<'t, &'static [u8; 18], i64>,
    pub(super) facts: Table<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) facts_at: Table<'t, u64, &'static [u8]>,
    pub(super) channels: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) payouts: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) open_payouts: Table<'t, &'static [u8; 16], &'static [u8; 32]>,
    pub(super) sessions: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) lots: Table<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) top_ups: Table<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) parked: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) credit_lots: Table<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) codes: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) refunds: Table<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) cashu_swaps: Table<'t, &'static [u8; 32], &'static [u8]>,
    pub(super) cashu_coins: Table<'t, &'static [u8; 32], &'static [u8; 32]>,
    pub(super) grants: Table<'t, &'static [u8; 32], &'static [u8; 32]>,
    pub(super) free_calls: Table<'t, &'static [u8; 24], u32>,
    open_calls: Table<'t, &'static [u8; 16], &'static [u8]>,
    keys: Table<'t, &'static [u8; 16], &'static [u8]>,
    revoked: Table<'t, &'static [u8; 16], u64>,
    accounts: Table<'t, &'static [u8; 16], &'static [u8]>,
    heads: Table<'t, u64, &'static [u8]>,
}

impl<'t> Batch<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, tail: &'t mut Tail) -> Result<Self, StoreError> {
        Ok(Self {
            tail,
            pending: HashMap::new(),
            income: Income::default(),
            row: Filling::default(),
            payments_put: BTreeMap::new(),
            rows: Rows::default(),
            meta: transaction.open_table(META).map_err(unavailable)?,
            journal: transaction.open_table(JOURNAL).map_err(unavailable)?,
            by_id: transaction.open_table(BY_ID).map_err(unavailable)?,
            balances: transaction.open_table(BALANCES).map_err(unavailable)?,
            tiles: transaction.open_table(TILES).map_err(unavailable)?,
            names: transaction.open_table(NAMES).map_err(unavailable)?,
            expiries: transaction.open_table(EXPIRIES).map_err(unavailable)?,
            payments: transaction.open_table(PAYMENTS).map_err(unavailable)?,
            idempotent: transaction.open_table(IDEMPOTENT).map_err(unavailable)?,
            base_balances: transaction.open_table(BASE_BALANCES).map_err(unavailable)?,
            facts: transaction.open_table(FACTS).map_err(unavailable)?,
            facts_at: transaction.open_table(FACTS_AT).map_err(unavailable)?,
            channels: transaction.open_table(CHANNELS).map_err(unavailable)?,
            payouts: transaction.open_table(PAYOUTS).map_err(unavailable)?,
            open_payouts: transaction.open_table(OPEN_PAYOUTS).map_err(unavailable)?,
            sessions: transaction.open_table(SESSIONS).map_err(unavailable)?,
            lots: transaction.open_table(LOTS).map_err(unavailable)?,
            top_ups: transaction.open_table(TOP_UPS).map_err(unavailable)?,
            parked: transaction.open_table(PARKED).map_err(unavailable)?,
            credit_lots: transaction.open_table(CREDIT_LOTS).map_err(unavailable)?,
            codes: transaction.open_table(CODES).map_err(unavailable)?,
            refunds: transaction.open_table(TOP_UP_REFUNDS).map_err(unavailable)?,
            cashu_swaps: transaction.open_table(CASHU_SWAPS).map_err(unavailable)?,
            cashu_coins: transaction.open_table(CASHU_COINS).map_err(unavailable)?,
            grants: transaction.open_table(GRANTS).map_err(unavailable)?,
            free_calls: transaction.open_table(FREE_CALLS).map_err(unavailable)?,
            open_calls: transaction.open_table(OPEN_CALLS).map_err(unavailable)?,
            keys: transaction.open_table(KEYS).map_err(unavailable)?,
            revoked: transaction.open_table(REVOKED).map_err(unavailable)?,
            accounts: transaction.open_table(ACCOUNTS).map_err(unavailable)?,
            heads: transaction.open_table(HEADS).map_err(unavailable)?,
        })
    }

    /// Whether a write begins something, rather than recording what money has already done: refused while the
    /// reserve is in use (LED-27). Revocations and an operator's stop are never refused for that.
    pub(super) fn begins_something(&self, op: &Op) -> Result<bool, StoreError> {
        Ok(match op {
            Op::Intent { .. }
            | Op::Attempt { .. }
            | Op::Post { .. }
            | Op::Head { .. }
            | Op::FreeCall { .. } => true,
            // The result of an intent, or a payment of the test rail that nothing has been written of.
            Op::Deposit { key, .. } => self.payment(key)?.is_none(),
            Op::Channel(write) => write.begins,
            // Its end is never refused for want of room.
            Op::LightningSession(write) => write.deposit.is_some(),
            Op::Payout { step, .. } => match step {
                PayoutStep::Begin { .. } | PayoutStep::Asked(_) => true,
                PayoutStep::Paid { .. } | PayoutStep::Failed { .. } => false,
            },
            Op::TopUp { step, .. } => match step {
                TopUpStep::Begin(_) | TopUpStep::Shown { .. } | TopUpStep::Asked(_) => true,
                TopUpStep::Credit { .. } | TopUpStep::Park { .. } | TopUpStep::Close => false,
            },
            Op::Codes(_) => true,
            Op::TopUpRefund { step, .. } => match step {
                RefundStep::Request { .. } | RefundStep::Approve(_) | RefundStep::Asked(_) => true,
                RefundStep::Moved { .. } | RefundStep::Failed { .. } | RefundStep::Reject { .. } => false,
            },
            Op::Cashu(write) => matches!(**write, CashuWrite::Ask { .. }),
            Op::Open { call, .. } => call.owed.is_none(),
            Op::Unknown { .. }
            | Op::Refused { .. }
            | Op::Charged { .. }
            | Op::Ended { .. }
            | Op::ForgetChannel { .. }
            | Op::Served { .. }
            | Op::Capture { .. }
            | Op::Key { .. }
            | Op::Revoke { .. }
            | Op::Account { .. }
            | Op::Sweep { .. }
            | Op::Forget { .. }
            | Op::Flush => false,
        })
    }

    /// Applies one write. [`StoreError::Unavailable`] ends the transaction, any other error only the write.
    pub(super) fn apply(&mut self, op: &Op) -> Answer {
        match op {
            Op::Intent { key, payment } => {
                if self.payment(key)?.is_some() {
                    return Err(StoreError::Conflict);
                }
                self.put_payment(key, Payment { state: PaymentState::Intent, ..payment.clone() })
            }
            Op::Attempt { key, attempt } => {
                let payment = self.unsettled(key)?;
                self.put_payment(key, Payment { attempt: Some(attempt.clone()), ..payment })
            }
            Op::Unknown { key } => {
                let payment = self.unsettled(key)?;
                self.put_payment(key, Payment { state: PaymentState::Unknown, ..payment })
            }
            Op::Refused { key } => {
                let payment = self.unsettled(key)?;
                if payment.promised {
                    return self.put_payment(key, Payment { state: PaymentState::Owed, ..payment });
                }
                self.let_go(key)?;
                self.remove_payment(key)?;
                Ok(NO_ENTRY)
            }
            Op::Deposit { key, payment, entry } => self.deposit(key, payment, entry),
            Op::Charged { grant, key, payment, entry } => self.charged(grant, key, payment, entry),
            Op::Served { key, outcome } => {
                let payment = self.runs(key)?;
                self.end(key, payment, outcome)
            }
            Op::Channel(write) => self.channel(write),
            Op::ForgetChannel { id } => self.forget_channel(id),
            Op::LightningSession(write) => self.lightning_session(write),
            Op::Payout { hash, step } => self.payout(hash, step),
            Op::TopUp { id, step } => self.top_up(id, step),
            Op::Codes(step) => self.codes(step),
            Op::TopUpRefund { id, step } => self.refund(id, step),
            Op::Cashu(write) => self.cashu(write),
            Op::FreeCall { until_s, who, used } => self.give(*until_s, *who, *used),
            Op::Open { id, call } => put_json(&mut self.open_calls, id, call),
            Op::Ended { id } => {
                self.open_calls.remove(id).map_err(unavailable)?;
                Ok(NO_ENTRY)
            }
            Op::Capture { id, entry, facts, served, settles, income, idempotent } => {
                let paid = match served {
                    Some((key, outcome)) => Some((key, self.runs(key)?, outcome)),
                    None => None,
                };
                if let Some(promised) = settles
                    && self.payment(&promised.key)?.is_some()
                {
                    return Err(StoreError::Conflict);
                }
                let income = income.as_ref().map(|chart| (chart.id(), chart));
                let earner = income.map(|(id, _)| id);
                let posting = entry.as_ref().map(|entry| self.prepare(entry, earner)).transpose()?;
                if let (Some((id, chart)), Some(_)) = (income, &posting) {
                    self.name(id, chart)?;
                }
                if let Some((key, payment, outcome)) = paid {
                    self.end(key, payment, outcome)?;
                }
                if let Some(promised) = settles {
                    let payment = promised.payment.clone();
                    let payment = Payment { state: PaymentState::Intent, promised: true, ..payment };
                    self.put_payment(&promised.key, payment)?;
                }
                for (key, outcome) in idempotent {
                    self.put_idempotent(key, outcome)?;
                }
                self.open_calls.remove(id).map_err(unavailable)?;
                let Some(posting) = posting else {
                    self.facts.insert(id, facts.as_slice()).map_err(unavailable)?;
                    return Ok(NO_ENTRY);
                };
                self.post_with(posting, Some(facts))
            }
            Op::Post { entry, names } => {
                let posting = self.prepare(entry, None)?;
                names.iter().try_for_each(|chart| self.name(chart.id(), chart))?;
                self.post(posting)
            }
            Op::Key { id, record } => {
                self.rows.keys.insert(*id, record.clone());
                put_json(&mut self.keys, id, record)
            }
            Op::Account { id, settings } => self.set_account(*id, settings),
            Op::Head { head, signature } => {
                let row = SignedHead { head: *head, signature: *signature }.to_row();
                self.heads.insert(head.size, row.as_slice()).map_err(unavailable)?;
                Ok(NO_ENTRY)
            }
            Op::Revoke { id, time_ms } => {
                self.revoked.insert(id, *time_ms).map_err(unavailable)?;
                Ok(NO_ENTRY)
            }
            Op::Sweep { now_ms } => self.sweep(now_ms / 1000),
            Op::Forget { through_lsn } => self.forget(*through_lsn),
            Op::Flush => Ok(NO_ENTRY),
        }
    }

    /// Puts down what counts once per transaction: the income of its captures, payments, balances, and where the
    /// journal goes on.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.post_income()?;
        self.put_down_row()?;
        for (key, payment) in &self.payments_put {
            put_json(&mut self.payments, key, payment)?;
        }
        for (key, balance) in &self.pending {
            self.balances.insert(key, balance).map_err(unavailable)?;
        }
        self.tail.save(&mut self.meta)
    }

    /// Adds to the journal what follows its last entry.
    pub(super) fn put_record(&mut self, record: Record<'_>) -> Result<(), StoreError> {
        if !self.row.has_room(record.entry, record.facts) {
            self.put_down_row()?;
        }
        self.row.push(record);
        Ok(())
    }

    /// Afterwards the journal's table is whole.
    pub(super) fn put_down_row(&mut self) -> Result<(), StoreError> {
        if let Some((first_lsn, row)) = self.row.take() {
            self.journal.insert(first_lsn, row.as_slice()).map_err(unavailable)?;
        }
        Ok(())
    }

    /// The payment as this transaction has it.
    pub(super) fn payment(&self, key: &[u8; 32]) -> Result<Option<Payment>, StoreError> {
        match self.payments_put.get(key) {
            Some(payment) => Ok(Some(payment.clone())),
            None => get_json(&self.payments, key),
        }
    }

    pub(super) fn remove_payment(&mut self, key: &[u8; 32]) -> Result<(), StoreError> {
        self.payments_put.remove(key);
        self.payments.remove(key).map(drop).map_err(unavailable)
    }

    /// Refused with [`StoreError::Conflict`] where the payment is in already.
    pub(super) fn deposit(&mut self, key: &[u8; 32], payment: &Payment, entry: &Draft) -> Answer {
        let known = self.payment(key)?;
        if known.as_ref().is_some_and(|known| known.state.is_deposited()) || !self.has_coins(key)? {
            return Err(StoreError::Conflict);
        }
        let posting = self.prepare(entry, None)?;
        let rail = Chart::RailClearing(payment.rail.clone());
        self.name(rail.id(), &rail)?;
        self.note_lot(key, payment)?;
        let (attempt, outcome) = known.map_or((None, None), |known| (known.attempt, known.outcome));
        let attempt = payment.attempt.clone().or(attempt);
        let payment = Payment { state: PaymentState::Settled, attempt, ..payment.clone() };
        match outcome.or_else(|| payment.outcome.clone()) {
            // The call did not wait for it.
            Some(outcome) => self.serve(key, payment, &outcome)?,
            None => self.put_payment(key, payment)?,
        };
        self.post(posting)
    }

    pub(super) fn unsettled(&self, key: &[u8; 32]) -> Result<Payment, StoreError> {
        self.payment(key)?.filter(|payment| payment.state.is_open()).ok_or(StoreError::Conflict)
    }

    /// A payment whose call may run: it is in, or nobody waits for it.
    fn runs(&self, key: &[u8; 32]) -> Result<Payment, StoreError> {
        let may_run = |payment: &Payment| payment.promised || payment.state.is_deposited();
        self.payment(key)?.filter(may_run).ok_or(StoreError::Conflict)
    }

    /// A decided payment keeps who was asked, and not what: the request holds the payer's signature.
    pub(super) fn put_payment(&mut self, key: &[u8; 32], mut payment: Payment) -> Answer {
        if !payment.state.is_open()
            && let Some(attempt) = &mut payment.attempt
        {
            attempt.request = String::new();
        }
        self.rows.payments.insert(*key, payment.clone());
        self.payments_put.insert(*key, payment);
        Ok(NO_ENTRY)
    }

    /// What was put since this was last asked, and may have to be read before this transaction is in the database.
    pub(super) fn take_rows(&mut self) -> Rows {
        std::mem::take(&mut self.rows)
    }

    /// The call of a payment has ended; what was promised goes on to be settled.
    fn end(&mut self, key: &[u8; 32], payment: Payment, outcome: &Outcome) -> Answer {
        if payment.state.is_deposited() {
            return self.serve(key, payment, outcome);
        }
        self.put_payment(key, Payment { outcome: Some(outcome.clone()), ..payment })
    }

    fn serve(&mut self, key: &[u8; 32], payment: Payment, outcome: &Outcome) -> Answer {
        self.plan_to_forget(key, &payment)?;
        let outcome = Some(outcome.clone());
        self.put_payment(key, Payment { state: PaymentState::Served, outcome, ..payment })
    }

    pub(super) fn plan_to_forget(&mut self, key: &[u8; 32], payment: &Payment) -> Result<(), StoreError> {
        let Some(expires_s) = forgotten_s(payment) else { return Ok(()) };
        let expiry = expiry_key(expires_s, EXPIRY_PAYMENT, key);
        self.expiries.insert(&expiry, ()).map(drop).map_err(unavailable)
    }

    fn put_idempotent(&mut self, key: &[u8; 32], outcome: &Idempotent) -> Answer {
        let expiry = expiry_key(outcome.expires_s, EXPIRY_IDEMPOTENT, key);
        self.expiries.insert(&expiry, ()).map_err(unavailable)?;
        self.rows.outcomes.insert(*key, outcome.clone());
        put_json(&mut self.idempotent, key, outcome)
    }

    fn give(&mut self, until_s: u64, who: [u8; 16], used: u32) -> Answer {
        let key = free_key(until_s, who);
        let before = self.free_calls.get(&key).map_err(unavailable)?.map_or(0, |used| used.value());
        self.free_calls.insert(&key, used.max(before)).map_err(unavailable)?;
        Ok(NO_ENTRY)
    }

    fn set_account(&mut self, id: AccountId, settings: &AccountSettings) -> Answer {
        if settings.state == AccountMode::Closed {
            for asset in Asset::ALL {
                if self.balance(&balance_key(ledger::leg_asset(asset), id.0))? != 0 {
                    return Err(StoreError::Conflict);
                }
            }
        }
        let before: Option<AccountSettings> = get_json(&self.accounts, &id.0)?;
        let settings = settings.remembering(before.as_ref());
        put_json(&mut self.accounts, &id.0, &settings)
    }

    /// Writes down what an account of ours is called, the first time it is used.
    pub(super) fn name(&mut self, id: AccountId, chart: &Chart) -> Result<(), StoreError> {
        if self.tail.knows(id) {
            return Ok(());
        }
        self.names.insert(&id.0, chart.name().as_str()).map_err(unavailable)?;
        self.tail.learn(id);
        Ok(())
    }

    /// The balance as this transaction has it.
    pub(super) fn balance(&self, key: &[u8; 18]) -> Result<i64, StoreError> {
        if let Some(pending) = self.pending.get(key) {
            return Ok(*pending);
        }
        Ok(self.balances.get(key).map_err(unavailable)?.map_or(0, |balance| balance.value()))
    }
}

/// When a payment may be forgotten once it was served: its proof is refused as expired long before, and
/// cannot settle on any chain. One without an end is never forgotten, because it could be brought again; ecash has none,
/// however long its mint is asked.
pub(crate) fn forgotten_s(payment: &Payment) -> Option<u64> {
    let has_end = payment.valid_before_s != 0 && !payment.rail.starts_with("cashu:");
    has_end.then(|| payment.valid_before_s.checked_add(PAYMENT_KEPT_SECONDS)).flatten()
}

pub(super) fn get_json<K, T>(
    table: &impl ReadableTable<K, &'static [u8]>,
    key: K::SelfType<'_>,
) -> Result<Option<T>, StoreError>
where
    K: redb::Key + 'static,
    T: DeserializeOwned,
{
    let found = table.get(key).map_err(unavailable)?;
    found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()
}

pub(super) fn put_json<K: redb::Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'_>,
    row: &impl Serialize,
) -> Answer {
    let bytes = serde_json::to_vec(row).map_err(unavailable)?;
    table.insert(key, bytes.as_slice()).map_err(unavailable)?;
    Ok(NO_ENTRY)
}
