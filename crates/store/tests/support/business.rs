//! Payers, payments and calls, as a gateway writes them down, and the memory of what it was told.
//!
//! Balances in memory decide what may be charged, as in a gateway. Everything that is handed to the store is
//! noted first, and noted again when the store has answered: a crash between the two may go either way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger::{
    AccountId, AccountRef, Book, Chart, Draft, Flags, Kind, LegDraft, Reserve, leg_asset, memo_asset,
};
use money::{Amount, Asset};
use store::{
    AccountSettings, Attempt, Channel, ChannelKind, ChannelMirror, ChannelWrite, Idempotent, KeyRecord, Op,
    OpenCall, Outcome, Payment, PaymentState, Promise, Promised, RefundState, Store, StoreError, Submitted,
    TopUpState,
};

use super::dice::Dice;
use super::payouts::Said;
use super::top_ups;

pub(crate) const ASSET: Asset = Asset::Usd;
pub(crate) const PAYERS: u8 = 4;
/// Unix milliseconds of everything.
pub(crate) const NOW_MS: u64 = 1_795_000_000_000;

/// What the writer of an entry was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: it may be there or not.
    Nothing,
    /// It is on disk.
    Written,
    /// It is on its way, and the answer went on: may be lost, within the caps.
    Behind,
    /// It was refused, or was found to be lost: it must never be there.
    Refused,
}

/// Where a payment was last said to be; `Absent` also after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Absent,
    At(PaymentState, u32),
}

impl Place {
    pub(crate) fn of(payment: Option<&Payment>) -> Self {
        payment.map_or(Self::Absent, |payment| {
            Self::At(payment.state, payment.attempt.as_ref().map_or(0, |attempt| attempt.count))
        })
    }
}

/// One entry that was handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posted {
    pub(crate) kind: Kind,
    pub(crate) payer: AccountId,
    pub(crate) units: i64,
    pub(crate) told: Told,
}

/// Everything that was handed to the store, and what was said.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) entries: HashMap<[u8; 16], Posted>,
    pub(crate) payments: HashMap<[u8; 32], (Place, Option<Place>)>,
    pub(crate) payouts: HashMap<[u8; 32], Said>,
    pub(crate) orders: HashMap<[u8; 16], top_ups::Said<TopUpState>>,
    pub(crate) refunds: HashMap<[u8; 16], top_ups::Said<RefundState>>,
    pub(crate) idempotent: HashMap<[u8; 32], [u8; 16]>,
    pub(crate) keys: HashMap<[u8; 16], Told>,
    pub(crate) revoked: HashMap<[u8; 16], Told>,
    pub(crate) settings: HashMap<AccountId, (Option<AccountSettings>, Option<AccountSettings>)>,
    pub(crate) heads: HashMap<u64, Told>,
    /// Whether a call is open, and whether that is being changed.
    pub(crate) open_calls: HashMap<[u8; 16], (bool, Option<bool>)>,
    pub(crate) acked_a: u64,
    pub(crate) disk_full: u64,
    pub(crate) acked_b: u64,
    pub(crate) waited_b: u64,
}

/// One process that uses the store. It ends with the store.
#[derive(Clone)]
pub(crate) struct Business {
    pub(crate) store: Store,
    pub(super) book: Arc<Book>,
    history: Arc<Mutex<History>>,
}

impl Business {
    /// Starts with the balances that are on disk.
    pub(crate) fn open(store: Store, history: Arc<Mutex<History>>) -> Result<Self, StoreError> {
        let book = Book::default();
        for row in store.reader().balances()? {
            if row.asset == leg_asset(ASSET) {
                book.restore(row.account, ASSET, row.amount);
            }
        }
        Ok(Self { store, book: Arc::new(book), history })
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn payer(&self, dice: &mut Dice) -> AccountRef {
        self.book.account(AccountId([1 + dice.below(PAYERS.into()) as u8; 16]), ASSET)
    }

    /// Bursts of up to `at_once` actions, until `steps` are done or the store says that it is over.
    pub(crate) async fn work(&self, dice: &mut Dice, steps: u64, at_once: u64) {
        for _ in 0..steps {
            let mut burst = tokio::task::JoinSet::new();
            for _ in 0..1 + dice.below(at_once) {
                let (business, mut dice) = (self.clone(), Dice::new(dice.roll()));
                burst.spawn(async move { business.act(&mut dice).await });
            }
            let mut over = false;
            while let Some(done) = burst.join_next().await {
                over |= matches!(done.expect("the business itself does not fail"), Err(Over));
            }
            if over {
                return;
            }
        }
    }

    async fn act(&self, dice: &mut Dice) -> Result<(), Over> {
        match dice.below(20) {
            0 => self.credit(dice).await,
            1 | 2 => self.pay(dice, false).await,
            3 | 4 => self.pay(dice, true).await,
            5 => self.hand_out_key(dice).await,
            6 => self.set_limits(dice).await,
            7 => self.sign_head().await,
            8 | 9 => self.open_call(dice).await,
            10 => self.commit(Op::Sweep { now_ms: NOW_MS }).await.map(drop),
            11 => self.promised_call(dice).await,
            12 | 13 => self.payout(dice).await,
            14 => self.top_up(dice).await,
            _ => self.call(dice).await,
        }
    }

    /// An operator's credit.
    async fn credit(&self, dice: &mut Dice) -> Result<(), Over> {
        let (payer, id, units) = (self.payer(dice), dice.bytes(), 1 + dice.below(100_000) as i64);
        let rail = Chart::RailClearing("operator".into());
        let entry = draft(Kind::Deposit, id, [0; 32], &[(rail.id(), -units), (payer.id(), units)]);
        let answer =
            self.post(Kind::Deposit, id, payer.id(), units, Op::Post { entry, names: vec![rail] }).await?;
        if answer {
            self.book.deposit(payer.id(), ASSET, Amount::from_units(units));
        }
        Ok(())
    }

    /// A payment from its intent to its end, as far as it gets.
    async fn pay(&self, dice: &mut Dice, on_chain: bool) -> Result<(), Over> {
        let (payer, key, units) = (self.payer(dice), dice.bytes::<32>(), 1 + dice.below(200_000) as i64);
        let received_msat = (!on_chain).then_some(units.unsigned_abs() * 20);
        let mut payment = Payment { received_msat, ..payment(payer.id(), units) };
        let is_voucher = dice.one_in(3);
        if is_voucher {
            payment.rail = "x402-batch:eip155:84532".into();
        }
        if on_chain {
            let intent = Op::Intent { key, payment: payment.clone() };
            if !self.move_payment(key, Place::At(PaymentState::Intent, 0), intent.clone()).await? {
                return Ok(());
            }
            assert_ne!(self.commit(intent).await?, Ok(()), "an intent was taken twice");
            let attempt = Attempt {
                facilitator: "f".into(),
                request: "{}".into(),
                count: 1,
                in_vain: 0,
                last_ms: NOW_MS,
                next_ms: NOW_MS + 1000,
                transaction: String::new(),
            };
            self.move_payment(key, Place::At(PaymentState::Intent, 1), Op::Attempt { key, attempt }).await?;
            if dice.one_in(4) {
                let unknown = Place::At(PaymentState::Unknown, self.attempts(&key));
                self.move_payment(key, unknown, Op::Unknown { key }).await?;
            }
            if dice.one_in(4) {
                return self.move_payment(key, Place::Absent, Op::Refused { key }).await.map(drop);
            }
        }
        let rail = Chart::RailClearing(payment.rail.clone());
        let mut id = [0; 16];
        id.copy_from_slice(&key[..16]);
        let entry = draft(Kind::Deposit, id, key, &[(rail.id(), -units), (payer.id(), units)]);
        let attempts = self.attempts(&key);
        let deposit = if is_voucher {
            // With where its channel stands: all of it, or nothing.
            let (channel, paid) = (channel(units.unsigned_abs().into()), payment.clone());
            let payment = Some((key, Payment { state: PaymentState::Settled, ..paid }));
            let write = ChannelWrite { id: key, channel, payment, entry: Some(entry), begins: !on_chain };
            Op::Channel(Box::new(write))
        } else {
            Op::Deposit { key, payment: payment.clone(), entry }
        };
        self.note(id, Kind::Deposit, payer.id(), units);
        let settled =
            self.move_payment(key, Place::At(PaymentState::Settled, attempts), deposit.clone()).await;
        self.told(id, &settled);
        if !settled? {
            return Ok(());
        }
        self.book.deposit(payer.id(), ASSET, Amount::from_units(units));
        assert_ne!(self.commit(deposit).await?, Ok(()), "one payment was deposited twice");
        let served = Place::At(PaymentState::Served, attempts);
        match dice.below(3) {
            0 => {
                let call = dice.bytes();
                self.move_payment(key, served, Op::Served { key, outcome: outcome(call) }).await.map(drop)
            }
            1 => self.call_with_payment(dice, &payer, key, served).await,
            _ => Ok(()),
        }
    }

    /// How often a facilitator was asked, as far as it could be written down.
    fn attempts(&self, key: &[u8; 32]) -> u32 {
        match self.history().payments.get(key) {
            Some((Place::At(_, attempts), _)) => *attempts,
            _ => 0,
        }
    }

    /// A call whose charge and whose payment end in one write.
    async fn call_with_payment(
        &self,
        dice: &mut Dice,
        payer: &AccountRef,
        key: [u8; 32],
        served: Place,
    ) -> Result<(), Over> {
        let Some((call, units, mut op)) = self.charge(dice, payer) else { return Ok(()) };
        if let Op::Capture { served, .. } = &mut op {
            *served = Some((key, outcome(call)));
        }
        self.note(call, Kind::Capture, payer.id(), units);
        let written = self.move_payment(key, served, op).await;
        self.told(call, &written);
        written.map(drop)
    }

    /// A call whose payment settles after it: its charge and the intent of that are one write, and what is refused then
    /// is owed.
    async fn promised_call(&self, dice: &mut Dice) -> Result<(), Over> {
        let payer = self.payer(dice);
        let Some((call, units, mut op)) = self.charge(dice, &payer) else { return Ok(()) };
        let key = dice.bytes::<32>();
        let payment = Payment { promised: true, outcome: Some(outcome(call)), ..payment(payer.id(), units) };
        if let Op::Capture { settles, .. } = &mut op {
            *settles = Some(Box::new(Promised { key, payment: payment.clone() }));
        }
        self.note(call, Kind::Capture, payer.id(), units);
        let written = self.move_payment(key, Place::At(PaymentState::Intent, 0), op).await;
        self.told(call, &written);
        if !written? {
            return Ok(());
        }
        if dice.one_in(3) {
            let owed = Place::At(PaymentState::Owed, 0);
            return self.move_payment(key, owed, Op::Refused { key }).await.map(drop);
        }
        let rail = Chart::RailClearing(payment.rail.clone());
        let mut id = [0; 16];
        id.copy_from_slice(&key[..16]);
        let entry = draft(Kind::Deposit, id, key, &[(rail.id(), -units), (payer.id(), units)]);
        self.note(id, Kind::Deposit, payer.id(), units);
        let deposit = Op::Deposit { key, payment, entry };
        let settled = self.move_payment(key, Place::At(PaymentState::Served, 0), deposit).await;
        self.told(id, &settled);
        if settled? {
            self.book.deposit(payer.id(), ASSET, Amount::from_units(units));
        }
        Ok(())
    }

    /// A call that is paid from the balance.
    async fn call(&self, dice: &mut Dice) -> Result<(), Over> {
        let payer = self.payer(dice);
        let Some((call, units, op)) = self.charge(dice, &payer) else { return Ok(()) };
        self.note(call, Kind::Capture, payer.id(), units);
        match self.store.submit(op, Some((payer, Amount::from_units(units)))) {
            Ok(Submitted::Behind) => {
                self.history().acked_b += 1;
                // The writer may have been faster: then it is known later that it is there.
                self.set_told(call, Told::Behind);
                Ok(())
            }
            Ok(Submitted::Wait(durable)) => {
                self.history().waited_b += 1;
                let answer = settled(durable.await);
                self.told(call, &answer);
                answer.map(drop)
            }
            Err(refused) => {
                self.set_told(call, Told::Refused);
                if matches!(refused.why, StoreError::Unavailable(_)) { Err(Over) } else { Ok(()) }
            }
        }
    }

    /// A call that is on disk before it goes up. It ends charged, free, or with the process.
    async fn open_call(&self, dice: &mut Dice) -> Result<(), Over> {
        let payer = self.payer(dice);
        let Some((id, units, capture)) = self.charge(dice, &payer) else { return Ok(()) };
        let call = OpenCall {
            account: payer.id().0,
            asset: ASSET.code(),
            held: units,
            begun_ms: NOW_MS,
            owed: None,
        };
        if !self.set_open(id, true, Op::Open { id, call }).await? {
            return Ok(());
        }
        match dice.below(3) {
            0 => self.set_open(id, false, Op::Ended { id }).await.map(drop),
            1 => {
                self.note(id, Kind::Capture, payer.id(), units);
                let written = self.set_open(id, false, capture).await;
                self.told(id, &written);
                written.map(drop)
            }
            _ => Ok(()),
        }
    }

    async fn set_open(&self, id: [u8; 16], open: bool, op: Op) -> Result<bool, Over> {
        let said = self.history().open_calls.get(&id).is_some_and(|(said, _)| *said);
        self.history().open_calls.insert(id, (said, Some(open)));
        let is_done = self.commit(op).await?.is_ok();
        self.history().open_calls.insert(id, (if is_done { open } else { said }, None));
        Ok(is_done)
    }

    /// Holds and takes money in memory; the write that goes with it.
    fn charge(&self, dice: &mut Dice, payer: &AccountRef) -> Option<([u8; 16], i64, Op)> {
        let held = Amount::from_units(1 + dice.below(40_000) as i64);
        let hold = self
            .book
            .reserve(Reserve { account: payer, budgets: &[], amount: held, beyond: Amount::ZERO })
            .ok()?;
        let ended = hold.finish(Amount::from_units(1 + dice.below(held.units() as u64) as i64))?;
        let (call, units) = (dice.bytes(), ended.captured.units());
        let mut entry =
            draft(Kind::Capture, call, [0; 32], &[(payer.id(), -units), (Chart::UsageClearing.id(), units)]);
        if dice.one_in(3) {
            let leg = |account, units| LegDraft {
                asset: memo_asset(ASSET),
                account,
                amount: Amount::from_units(units),
            };
            entry.legs.extend([leg(AccountId([0xee; 16]), -units), leg(Chart::Memo.id(), units)]);
        }
        let names = [0, 0, 1, 2][dice.below(4) as usize];
        let mut name = || {
            let expires_s = NOW_MS / 1000 + 3600;
            (dice.bytes(), Idempotent { fingerprint: [1; 32], outcome: outcome(call), expires_s })
        };
        let idempotent: Vec<_> = (0..names).map(|_| name()).collect();
        for (key, _) in &idempotent {
            self.history().idempotent.insert(*key, call);
        }
        let model = ["m1", "m2", "m3"][dice.below(3) as usize];
        let facts = format!("{{\"units\":{units}}}").into_bytes();
        let income = Some(Chart::Usage(model.into()));
        Some((
            call,
            units,
            Op::Capture {
                id: call,
                entry: Some(entry),
                facts,
                served: None,
                settles: None,
                income,
                idempotent,
            },
        ))
    }

    async fn hand_out_key(&self, dice: &mut Dice) -> Result<(), Over> {
        let id = dice.bytes();
        self.history().keys.insert(id, Told::Nothing);
        let record = KeyRecord { account: [1; 16], label: "k".into(), created_ms: NOW_MS, expires_s: None };
        if self.commit(Op::Key { id, record }).await?.is_ok() {
            self.history().keys.insert(id, Told::Written);
        }
        self.history().revoked.insert(id, Told::Nothing);
        if self.commit(Op::Revoke { id, time_ms: NOW_MS }).await?.is_ok() {
            self.history().revoked.insert(id, Told::Written);
        }
        Ok(())
    }

    async fn set_limits(&self, dice: &mut Dice) -> Result<(), Over> {
        // One writer per account: with two at once nobody could say which is last.
        let id = AccountId(dice.bytes());
        let overdraft = dice.below(9) as i64;
        let settings = AccountSettings { overdraft, overdraft_max: overdraft, ..AccountSettings::default() };
        self.history().settings.insert(id, (None, Some(settings.clone())));
        if self.commit(Op::Account { id, settings: settings.clone() }).await?.is_ok() {
            self.history().settings.insert(id, (Some(settings), None));
        }
        Ok(())
    }

    async fn sign_head(&self) -> Result<(), Over> {
        let head = self.store.reader().unsigned_head(NOW_MS).map_err(|_| Over)?;
        self.history().heads.entry(head.size).or_insert(Told::Nothing);
        if self.commit(Op::Head { head, signature: [9; 64] }).await?.is_ok() {
            self.history().heads.insert(head.size, Told::Written);
        }
        Ok(())
    }

    /// Commits an entry of its own; true when it is on disk.
    async fn post(
        &self,
        kind: Kind,
        id: [u8; 16],
        payer: AccountId,
        units: i64,
        op: Op,
    ) -> Result<bool, Over> {
        self.note(id, kind, payer, units);
        let answer = self.commit(op).await.map(|answer| answer.is_ok());
        self.told(id, &answer);
        answer
    }

    /// Commits a step of a payment; true when it is on disk.
    async fn move_payment(&self, key: [u8; 32], to: Place, op: Op) -> Result<bool, Over> {
        self.history().payments.entry(key).or_insert((Place::Absent, None)).1 = Some(to);
        let answer = self.commit(op).await?;
        let found = self.store.reader().payment(&key);
        let mut history = self.history();
        let place = history.payments.get_mut(&key).expect("noted above");
        // Nobody else moves it, and a disk that is gone or full says nothing.
        if let (Ok(()), Ok(found)) = (&answer, found) {
            assert_eq!(Place::of(found.as_ref()), to, "a payment is not read as it was written");
        }
        place.1 = None;
        if answer.is_ok() {
            place.0 = to;
        }
        Ok(answer.is_ok())
    }

    /// Writes, and now and then waits until everything can be read.
    pub(super) async fn commit(&self, op: Op) -> Result<Result<(), StoreError>, Over> {
        let is_to_be_read = self.history().acked_a.is_multiple_of(8);
        let answer = if is_to_be_read { self.store.commit(op).await } else { self.store.write(op).await };
        match answer {
            Ok(_) => {
                self.history().acked_a += 1;
                Ok(Ok(()))
            }
            Err(StoreError::Unavailable(_)) => Err(Over),
            Err(error) => {
                self.history().disk_full += u64::from(error == StoreError::DiskFull);
                Ok(Err(error))
            }
        }
    }

    pub(super) fn note(&self, id: [u8; 16], kind: Kind, payer: AccountId, units: i64) {
        self.history().entries.insert(id, Posted { kind, payer, units, told: Told::Nothing });
    }

    /// Over: not told anything, so either way.
    pub(super) fn told(&self, id: [u8; 16], answer: &Result<bool, Over>) {
        match answer {
            Ok(true) => self.set_told(id, Told::Written),
            Ok(false) => self.set_told(id, Told::Refused),
            Err(Over) => {}
        }
    }

    fn set_told(&self, id: [u8; 16], told: Told) {
        if let Some(posted) = self.history().entries.get_mut(&id) {
            posted.told = told;
        }
    }
}

/// The store is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over;

fn settled<T>(answer: Result<T, StoreError>) -> Result<bool, Over> {
    match answer {
        Ok(_) => Ok(true),
        Err(StoreError::Unavailable(_)) => Err(Over),
        Err(_) => Ok(false),
    }
}

pub(crate) fn draft(kind: Kind, id: [u8; 16], key: [u8; 32], legs: &[(AccountId, i64)]) -> Draft {
    let charged: i64 = legs.iter().map(|leg| leg.1.max(0)).sum();
    Draft {
        kind,
        flags: Flags::default(),
        time_ms: NOW_MS,
        id,
        key,
        reference: String::new(),
        corrects: [0; 16],
        price_version: 1,
        cost_femto: if kind == Kind::Capture { charged as u128 * money::FEMTO_PER_NANO } else { 0 },
        legs: legs
            .iter()
            .map(|&(account, units)| LegDraft {
                asset: leg_asset(ASSET),
                account,
                amount: Amount::from_units(units),
            })
            .collect(),
    }
}

pub(crate) fn payment(payer: AccountId, units: i64) -> Payment {
    Payment {
        state: PaymentState::Intent,
        fingerprint: [1; 32],
        account: payer.0,
        asset: ASSET.code(),
        amount: units,
        rail: "x402:eip155:84532".into(),
        payer: "0x".into(),
        reference: "0xabc".into(),
        created_ms: NOW_MS,
        valid_before_s: NOW_MS / 1000 + 60,
        outcome: None,
        received_msat: None,
        promised: false,
        attempt: None,
    }
}

/// A channel that was charged.
pub(crate) fn channel(charged: u128) -> Channel {
    Channel {
        kind: ChannelKind::Batch,
        network: "eip155:84532".into(),
        config: serde_json::json!({"salt": "0x00"}),
        asset: ASSET.code(),
        decimals: 6,
        charged,
        accepted: charged,
        newest: Some(Promise { max_claimable: charged, signature: "0xaa".into(), expires_at: 0 }),
        earlier: vec![],
        published: vec![1, u128::MAX],
        published_floor: 1,
        mirror: ChannelMirror {
            balance: u128::MAX,
            total_claimed: 1,
            withdrawing: 0,
            withdraw_requested_at: 0,
            refund_nonce: [0; 32],
            synced_at_s: NOW_MS / 1000,
        },
        used_ms: NOW_MS,
        era: 0,
        refunding: None,
        refunded: None,
        closing: None,
        taking: None,
    }
}

pub(crate) fn outcome(call: [u8; 16]) -> Outcome {
    Outcome { status: 200, headers: vec![], call }
}
