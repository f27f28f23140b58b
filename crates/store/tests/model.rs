//! Random sequences of writes against a model that does everything one by one and in the obvious way (ledger.md 9.1,
//! T2). After each write the answer is the same, and after each sequence, with reopening between, everything that
//! can be read is.
//!
//! `FARTHING_CASES` sets how many sequences. Keys, ids and accounts are few, so that writes get in each other's way.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::thread;

use ledger::{AccountId, Chart, Draft, Kind, LegDraft, leg_asset, memo_asset};
use money::{Amount, Asset};
use store::{
    AccountMode, AccountSettings, Asking, Attempt, Channel, ChannelWrite, Idempotent, KeyRecord, Lot, Op,
    OpenCall, Options, Outcome, OwedInput, Payment, PaymentState, Payout, PayoutState, PayoutStep, Promised,
    Store, StoreError, Taken,
};
use support::business::{NOW_MS, channel, draft, outcome, payment};
use support::dice::Dice;
use support::payouts::{begins, failed, paid, payout};
use support::platter::Platter;

const WEEK_S: u64 = 7 * 24 * 3600;
const NOW_S: u64 = NOW_MS / 1000;
const ASSETS: [Asset; 2] = [Asset::Usd, Asset::Test];

/// The store as one would write it without a disk.
#[derive(Default)]
struct Model {
    entries: Vec<Draft>,
    ids: BTreeSet<[u8; 16]>,
    balances: BTreeMap<(u16, AccountId), i128>,
    payments: HashMap<[u8; 32], Payment>,
    facts: HashMap<[u8; 16], Vec<u8>>,
    idempotent: HashMap<[u8; 32], Idempotent>,
    keys: BTreeMap<[u8; 16], KeyRecord>,
    revoked: BTreeMap<[u8; 16], u64>,
    settings: BTreeMap<[u8; 16], AccountSettings>,
    open_calls: BTreeMap<[u8; 16], OpenCall>,
    channels: BTreeMap<[u8; 32], Channel>,
    free: BTreeMap<(u64, [u8; 16]), u32>,
    payouts: BTreeMap<[u8; 32], Payout>,
    lots: BTreeMap<[u8; 16], Vec<Lot>>,
}

/// What can be said of a refusal without copying the store's rules in detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Conflict,
    Entry,
    Range,
}

impl Model {
    fn apply(&mut self, op: &Op) -> Result<(), Refusal> {
        match op {
            Op::Intent { key, payment } => {
                if self.payments.contains_key(key) {
                    return Err(Refusal::Conflict);
                }
                self.payments.insert(*key, Payment { state: PaymentState::Intent, ..payment.clone() });
            }
            Op::Attempt { key, attempt } => self.undecided(key)?.attempt = Some(attempt.clone()),
            Op::Unknown { key } => self.undecided(key)?.state = PaymentState::Unknown,
            Op::Refused { key } => {
                let payment = self.undecided(key)?;
                if payment.promised {
                    payment.state = PaymentState::Owed;
                    payment.attempt.iter_mut().for_each(|attempt| attempt.request.clear());
                } else {
                    self.payments.remove(key);
                }
            }
            Op::Deposit { key, payment, entry } => {
                let known = self.payments.get(key);
                if known.is_some_and(is_deposited) {
                    return Err(Refusal::Conflict);
                }
                let mut attempt =
                    payment.attempt.clone().or_else(|| known.and_then(|known| known.attempt.clone()));
                let ended = known.and_then(|known| known.outcome.clone()).or_else(|| payment.outcome.clone());
                self.post(entry, None)?;
                add_lot(self.lots.entry(payment.account).or_default(), *key, payment);
                attempt.iter_mut().for_each(|attempt| attempt.request.clear());
                self.payments
                    .insert(*key, Payment { state: PaymentState::Settled, attempt, ..payment.clone() });
                if let Some(outcome) = ended {
                    self.serve(key, &outcome)?;
                }
            }
            Op::Served { key, outcome } => self.serve(key, outcome)?,
            Op::Channel(write) => {
                let known = write.payment.as_ref().and_then(|(key, _)| self.payments.get(key));
                if known.is_some_and(is_deposited) {
                    return Err(Refusal::Conflict);
                }
                let mut attempt = known.and_then(|known| known.attempt.clone());
                if let Some(entry) = &write.entry {
                    self.post(entry, None)?;
                }
                if let Some((key, payment)) = &write.payment {
                    attempt = attempt.or_else(|| payment.attempt.clone());
                    attempt.iter_mut().for_each(|attempt| attempt.request.clear());
                    self.payments.insert(*key, Payment { attempt, ..payment.clone() });
                }
                self.channels.insert(write.id, write.channel.clone());
            }
            Op::ForgetChannel { id } => {
                let ended = self.channels.get(id).and_then(|channel| channel.closing.as_ref());
                if !ended.is_some_and(|closing| closing.is_done) {
                    return Err(Refusal::Conflict);
                }
                self.channels.remove(id);
            }
            Op::FreeCall { until_s, who, used } => {
                let row = self.free.entry((*until_s, *who)).or_default();
                *row = (*row).max(*used);
            }
            Op::Payout { hash, step } => self.payout(hash, step)?,
            // They have tests of their own.
            Op::Cashu(_) | Op::LightningSession(_) | Op::Charged { .. } => unreachable!(),
            Op::Open { id, call } => drop(self.open_calls.insert(*id, call.clone())),
            Op::Ended { id } => drop(self.open_calls.remove(id)),
            Op::Capture { id, entry, facts, served, settles, income, idempotent } => {
                if let Some((key, _)) = served
                    && !self.payments.get(key).is_some_and(may_run)
                {
                    return Err(Refusal::Conflict);
                }
                if settles.as_ref().is_some_and(|promised| self.payments.contains_key(&promised.key)) {
                    return Err(Refusal::Conflict);
                }
                if let Some(entry) = entry {
                    self.post(entry, income.as_ref())?;
                }
                if let Some((key, outcome)) = served {
                    self.serve(key, outcome)?;
                }
                if let Some(of) = settles {
                    let state = PaymentState::Intent;
                    self.payments.insert(of.key, Payment { state, promised: true, ..of.payment.clone() });
                }
                for (key, outcome) in idempotent {
                    self.idempotent.insert(*key, outcome.clone());
                }
                self.open_calls.remove(id);
                self.facts.insert(*id, facts.clone());
            }
            Op::Post { entry, .. } => self.post(entry, None)?,
            Op::Key { id, record } => drop(self.keys.insert(*id, record.clone())),
            Op::Account { id, settings } => {
                let has_money = |(asset, account): &(u16, AccountId)| account == id && *asset < 0x8000;
                let left = self.balances.iter().any(|(key, units)| has_money(key) && *units != 0);
                if settings.state == AccountMode::Closed && left {
                    return Err(Refusal::Conflict);
                }
                let before = self.settings.get(&id.0).map_or(0, |before| before.overdraft_max);
                let overdraft_max = before.max(settings.overdraft).max(settings.overdraft_max);
                self.settings.insert(id.0, AccountSettings { overdraft_max, ..settings.clone() });
            }
            Op::Revoke { id, time_ms } => drop(self.revoked.insert(*id, *time_ms)),
            Op::Sweep { now_ms } => {
                let now_s = now_ms / 1000;
                self.idempotent.retain(|_, outcome| outcome.expires_s >= now_s);
                self.free.retain(|(until_s, _), _| *until_s >= now_s);
                self.payouts.retain(|_, payout| {
                    let ended_s = payout.expires_s.max(NOW_S);
                    payout.state == PayoutState::Open || ended_s + WEEK_S >= now_s
                });
                self.payments.retain(|_, payment| {
                    let ends = payment.state == PaymentState::Served && payment.valid_before_s != 0;
                    !ends || payment.valid_before_s.checked_add(WEEK_S).is_none_or(|end| end >= now_s)
                });
            }
            // Not among the writes that are tried here: `top_ups.rs` has them.
            Op::TopUp { .. } | Op::Codes(_) | Op::TopUpRefund { .. } => return Err(Refusal::Conflict),
            Op::Head { .. } | Op::Forget { .. } | Op::Flush => {}
        }
        Ok(())
    }

    fn payout(&mut self, hash: &[u8; 32], step: &PayoutStep) -> Result<(), Refusal> {
        let is_open = |payout: &Payout| payout.state == PayoutState::Open;
        if let PayoutStep::Begin { payout, entry } = step {
            let of_account = |other: &Payout| other.account == payout.account && is_open(other);
            let none = Vec::new();
            let lots = self.lots.get(&payout.account).unwrap_or(&none);
            let has = |part: &Taken| {
                lots.iter().any(|lot| lot.key == part.key && lot.back_msat + part.msat <= lot.msat)
            };
            if self.payouts.contains_key(hash)
                || self.payouts.values().any(of_account)
                || !payout.taken.iter().all(has)
            {
                return Err(Refusal::Conflict);
            }
            self.post(entry, None)?;
            self.payouts.insert(*hash, Payout { state: PayoutState::Open, ..Payout::clone(payout) });
            return Ok(());
        }
        let mut payout =
            self.payouts.get(hash).filter(|payout| is_open(payout)).cloned().ok_or(Refusal::Conflict)?;
        match step {
            PayoutStep::Begin { .. } => unreachable!("above"),
            PayoutStep::Asked(asking) => payout.asking = *asking,
            PayoutStep::Paid { fee_msat, spent, entry } => {
                self.post(entry, None)?;
                let charged = spent.iter().map(|part| part.credit).sum();
                payout = Payout {
                    state: PayoutState::Paid,
                    fee_msat: *fee_msat,
                    charged,
                    invoice: String::new(),
                    ..payout
                };
                let lots = self.lots.entry(payout.account).or_default();
                for part in spent {
                    for lot in lots.iter_mut().filter(|lot| lot.key == part.key).take(1) {
                        lot.back_msat = (lot.back_msat + part.msat).min(lot.msat);
                        lot.back_credit = (lot.back_credit + part.credit).min(lot.credit);
                    }
                }
            }
            PayoutStep::Failed { reason, entry } => {
                self.post(entry, None)?;
                let (state, reason) = (PayoutState::Failed, reason.clone());
                payout = Payout { state, reason, invoice: String::new(), ..payout };
            }
        }
        self.payouts.insert(*hash, payout);
        Ok(())
    }

    fn undecided(&mut self, key: &[u8; 32]) -> Result<&mut Payment, Refusal> {
        let is_open =
            |payment: &&mut Payment| matches!(payment.state, PaymentState::Intent | PaymentState::Unknown);
        self.payments.get_mut(key).filter(is_open).ok_or(Refusal::Conflict)
    }

    fn serve(&mut self, key: &[u8; 32], outcome: &Outcome) -> Result<(), Refusal> {
        let payment =
            self.payments.get_mut(key).filter(|payment| may_run(payment)).ok_or(Refusal::Conflict)?;
        payment.outcome = Some(outcome.clone());
        if is_deposited(payment) {
            payment.state = PaymentState::Served;
        }
        Ok(())
    }

    /// Posts an entry, and its clearing legs straight on to the income account.
    fn post(&mut self, entry: &Draft, income: Option<&Chart>) -> Result<(), Refusal> {
        let clearing = Chart::UsageClearing.id();
        let cleared = entry.legs.iter().any(|leg| leg.account == clearing);
        let sums_to_zero = |asset: u16| {
            let legs = entry.legs.iter().filter(|leg| leg.asset == asset);
            legs.map(|leg| i128::from(leg.amount.units())).sum::<i128>() == 0
        };
        let accounts: BTreeSet<_> = entry.legs.iter().map(|leg| (leg.asset, leg.account)).collect();
        let is_entry = !entry.legs.is_empty()
            && accounts.len() == entry.legs.len()
            && entry.legs.iter().all(|leg| sums_to_zero(leg.asset));
        if cleared != income.is_some() {
            return Err(Refusal::Entry);
        }
        let mut after = self.balances.clone();
        for leg in &entry.legs {
            *after.entry((leg.asset, leg.account)).or_default() += i128::from(leg.amount.units());
        }
        let mut spread = after.clone();
        if let Some(chart) = income {
            for leg in entry.legs.iter().filter(|leg| leg.account == clearing) {
                let units = i128::from(leg.amount.units());
                *spread.entry((leg.asset, clearing)).or_default() -= units;
                *spread.entry((leg.asset, chart.id())).or_default() += units;
            }
        }
        let in_range =
            |balances: &BTreeMap<_, i128>| balances.values().all(|units| i64::try_from(*units).is_ok());
        if !is_entry {
            return Err(Refusal::Entry);
        }
        if self.ids.contains(&entry.id) {
            return Err(Refusal::Conflict);
        }
        if !in_range(&after) || !in_range(&spread) {
            return Err(Refusal::Range);
        }
        self.balances = spread;
        self.ids.insert(entry.id);
        self.entries.push(entry.clone());
        Ok(())
    }
}

/// What a deposit adds to the lots of its account.
fn add_lot(lots: &mut Vec<Lot>, key: [u8; 32], payment: &Payment) {
    let Some(msat) = payment.received_msat else { return };
    lots.retain(|lot| lot.back_msat < lot.msat);
    lots.push(Lot::new(key, payment.amount, msat));
    while lots.len() > 64 {
        lots.remove(0);
    }
}

fn is_deposited(payment: &Payment) -> bool {
    matches!(payment.state, PaymentState::Settled | PaymentState::Served)
}

/// Whether its call may be, or have been, made.
fn may_run(payment: &Payment) -> bool {
    payment.promised || is_deposited(payment)
}

/// One of few.
fn few<const N: usize>(dice: &mut Dice, count: u64) -> [u8; N] {
    [1 + dice.below(count) as u8; N]
}

fn some_entry(dice: &mut Dice, kind: Kind) -> (Draft, Option<Chart>) {
    let (payer, asset) = (AccountId(few(dice, 3)), leg_asset(ASSETS[dice.below(2) as usize]));
    // Now and then so much that balances leave their range.
    let units = if dice.one_in(12) { i64::MAX / 2 } else { 1 + dice.below(1000) as i64 };
    let other = match kind {
        Kind::Capture => Chart::UsageClearing,
        Kind::Deposit | Kind::Refund | Kind::Adjust | Kind::Income => Chart::RailClearing("r".into()),
    };
    let signed = if kind == Kind::Deposit { units } else { -units };
    let mut entry = draft(kind, few(dice, 40), [0; 32], &[(payer, signed), (other.id(), -signed)]);
    entry.legs.iter_mut().for_each(|leg| leg.asset = asset);
    if dice.one_in(3) {
        let leg = |account, units| LegDraft {
            asset: memo_asset(Asset::Usd),
            account,
            amount: Amount::from_units(units),
        };
        entry.legs.extend([leg(payer, -units), leg(Chart::Memo.id(), units)]);
    }
    match dice.below(30) {
        0 => drop(entry.legs.pop()),
        1 => entry.legs.push(entry.legs[0]),
        2 => entry.legs.clear(),
        _ => {}
    }
    let model = Chart::Usage(format!("m{}", dice.below(2)));
    let wants = (kind == Kind::Capture) != dice.one_in(20);
    (entry, wants.then_some(model))
}

/// A deposit that came in over Lightning.
fn from_lightning(payer: AccountId, units: i64, msat: u64) -> Payment {
    Payment { rail: "lightning".into(), received_msat: Some(msat), ..payment(payer, units) }
}

fn some_payment(dice: &mut Dice) -> Payment {
    let valid_before_s = [0, NOW_S, NOW_S + 100, u64::MAX][dice.below(4) as usize];
    let outcome = dice.one_in(5).then(|| outcome(few(dice, 40)));
    let payment = match dice.below(3) {
        0 => from_lightning(AccountId(few(dice, 3)), 5, 50),
        _ => payment(AccountId(few(dice, 3)), 5),
    };
    Payment { valid_before_s, outcome, promised: dice.one_in(3), ..payment }
}

fn some_promise(dice: &mut Dice) -> Box<Promised> {
    Box::new(Promised { key: few(dice, 6), payment: some_payment(dice) })
}

fn some_op(dice: &mut Dice, model: &Model) -> Op {
    let key = few::<32>(dice, 6);
    match dice.below(27) {
        26 => Op::FreeCall {
            until_s: NOW_S + dice.below(3) * 40,
            who: few(dice, 3),
            used: dice.below(5) as u32,
        },
        20 | 21 if dice.one_in(6) => Op::ForgetChannel { id: few(dice, 4) },
        20 | 21 => some_channel(dice, key),
        22..=25 => some_payout(dice, &model.lots),
        0 | 1 => Op::Intent { key, payment: some_payment(dice) },
        2 => Op::Attempt {
            key,
            attempt: Attempt {
                facilitator: "f".into(),
                request: "{}".into(),
                count: dice.below(5) as u32,
                in_vain: dice.below(3) as u32,
                last_ms: 1,
                next_ms: 2,
                transaction: String::new(),
            },
        },
        3 => Op::Unknown { key },
        4 => Op::Refused { key },
        5..=7 => Op::Deposit { key, payment: some_payment(dice), entry: some_entry(dice, Kind::Deposit).0 },
        8 => Op::Served { key, outcome: outcome(few(dice, 40)) },
        9..=12 => some_capture(dice, key),
        13 => {
            Op::Post { entry: some_entry(dice, Kind::Refund).0, names: vec![Chart::RailClearing("r".into())] }
        }
        14 => {
            let record = KeyRecord {
                account: few(dice, 3),
                label: String::new(),
                created_ms: dice.below(9),
                expires_s: None,
            };
            Op::Key { id: few(dice, 4), record }
        }
        15 => Op::Revoke { id: few(dice, 4), time_ms: dice.below(100) },
        16 => {
            let state = [AccountMode::Open, AccountMode::Frozen, AccountMode::Closed][dice.below(3) as usize];
            let group = [None, Some("partner".to_owned())][dice.below(2) as usize].clone();
            let settings = AccountSettings {
                state,
                overdraft: dice.below(50) as i64,
                group,
                ..AccountSettings::default()
            };
            Op::Account { id: AccountId(few(dice, 5)), settings }
        }
        17 => Op::Open { id: few(dice, 40), call: some_open_call(dice) },
        18 => Op::Ended { id: few(dice, 40) },
        _ => {
            Op::Sweep { now_ms: (NOW_S + [0, 50, WEEK_S + 50, WEEK_S + 500][dice.below(4) as usize]) * 1000 }
        }
    }
}

/// Few invoices of few accounts: most steps meet a payout that is elsewhere.
fn some_payout(dice: &mut Dice, lots: &BTreeMap<[u8; 16], Vec<Lot>>) -> Op {
    let (hash, account) = (few(dice, 4), AccountId(few(dice, 3)));
    let known: Vec<[u8; 32]> = lots.get(&account.0).into_iter().flatten().map(|lot| lot.key).collect();
    let part = |dice: &mut Dice| Taken {
        // As a rule one that is there.
        key: match known.len() {
            0 => few(dice, 6),
            count => known[dice.below(count as u64) as usize],
        },
        msat: 1 + dice.below(40),
        credit: 1 + dice.below(400) as i64,
    };
    let payout = payout(account, (0..1 + dice.below(2)).map(|_| part(dice)).collect());
    match dice.below(6) {
        0..=2 => begins(hash, payout),
        3 => Op::Payout { hash, step: PayoutStep::Asked(Asking { count: 7, last_ms: 1, next_ms: 2 }) },
        4 => paid(hash, &payout, vec![part(dice)]),
        _ => failed(hash, &payout),
    }
}

fn some_channel(dice: &mut Dice, key: [u8; 32]) -> Op {
    let state = [PaymentState::Settled, PaymentState::Served][dice.below(2) as usize];
    let payment = dice.one_in(2).then(|| (key, Payment { state, ..some_payment(dice) }));
    let kind = if dice.one_in(4) { Kind::Refund } else { Kind::Deposit };
    let entry = dice.one_in(2).then(|| some_entry(dice, kind).0);
    let begins = dice.one_in(2);
    let closing = dice.one_in(3).then(|| {
        let (promise, reference, is_done) = (None, String::new(), dice.one_in(2));
        store::ChannelClose { capture: 1, refund: 1, promise, is_done, asked_ms: NOW_MS, reference }
    });
    let channel = store::Channel { closing, ..channel(u128::MAX - u128::from(dice.below(9))) };
    Op::Channel(Box::new(ChannelWrite { id: few(dice, 4), channel, payment, entry, begins }))
}

fn some_open_call(dice: &mut Dice) -> OpenCall {
    let owed = dice.one_in(2).then(|| OwedInput {
        amount: 5,
        cost_femto: "5000000".into(),
        chain: vec![few(dice, 3)],
        model: "m".into(),
        price_version: 1,
        facts: "{}".into(),
        settles: dice.one_in(3).then(|| some_promise(dice)),
    });
    OpenCall { account: few(dice, 3), asset: 1, held: dice.below(1000) as i64, begun_ms: NOW_MS, owed }
}

fn some_capture(dice: &mut Dice, key: [u8; 32]) -> Op {
    let (entry, income) = some_entry(dice, Kind::Capture);
    let id = entry.id;
    let names = [0, 0, 1, 2][dice.below(4) as usize];
    let mut name = || {
        let expires_s = NOW_S + [0, 40, WEEK_S][dice.below(3) as usize];
        (few(dice, 4), Idempotent { fingerprint: few(dice, 9), outcome: outcome(id), expires_s })
    };
    let idempotent = (0..names).map(|_| name()).collect();
    let free = dice.one_in(6);
    Op::Capture {
        // A free call has an id of its own, as calls have.
        id: if free { few(dice, 3).map(|byte: u8| byte + 200) } else { id },
        entry: (!free).then_some(entry),
        // As what is not packed.
        facts: [b"{", dice.bytes::<4>().as_slice()].concat(),
        served: dice.one_in(4).then(|| (key, outcome(id))),
        // Never the payment that was served: it settles already.
        settles: dice.one_in(5).then(|| some_promise(dice)).filter(|own| own.key != key),
        income: if free { None } else { income },
        idempotent,
    }
}

fn is_huge(op: &Op) -> bool {
    let Op::Capture { entry: Some(entry), .. } = op else { return false };
    entry.legs.iter().any(|leg| leg.amount.units() > i64::MAX / 4)
}

struct Case {
    platter: Platter,
    store: Option<Store>,
    model: Model,
}

impl Case {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    fn open(platter: &Platter) -> Store {
        Store::open_media(platter.media(), Options { reserve_bytes: 0, ..Options::new([7; 16]) }).unwrap()
    }

    fn run(seed: u64, runtime: &tokio::runtime::Runtime) {
        let platter = Platter::default();
        let store = Some(Self::open(&platter));
        let mut case = Self { platter, store, model: Model::default() };
        let mut dice = Dice::new(seed);
        for step in 0..5 + dice.below(40) {
            match dice.below(20) {
                0 => {
                    // The file is closed before it is opened again.
                    case.store = None;
                    case.store = Some(Self::open(&case.platter));
                }
                1 => case.burst(&mut dice, runtime),
                _ => {
                    let op = some_op(&mut dice, &case.model);
                    let expected = case.model.apply(&op);
                    let answer = runtime.block_on(case.store().commit(op.clone()));
                    assert_eq!(refusal(answer), expected, "seed {seed}, step {step}: {op:?}");
                }
            }
        }
        case.compare(seed);
    }

    /// Several at once: they share transactions, and nothing of it can be seen.
    fn burst(&mut self, dice: &mut Dice, runtime: &tokio::runtime::Runtime) {
        for _ in 0..dice.below(12) {
            let op = some_op(dice, &self.model);
            // What a batch earns stands in clearing until its end, and so much at once is out of range there.
            if is_huge(&op) {
                continue;
            }
            // Of those nobody waits for, only what is refused is not seen; the model knows.
            let _ = self.model.apply(&op);
            self.store().submit(op, None).unwrap();
        }
        runtime.block_on(self.store().commit(Op::Flush)).unwrap();
    }

    fn compare(&self, seed: u64) {
        let (reader, model) = (self.store().reader(), &self.model);
        let mut entries = Vec::new();
        reader
            .each_entry(|entry, _| {
                if entry.draft.kind != Kind::Income {
                    entries.push((entry.draft.id, entry.draft.kind, entry.legs.len()));
                }
            })
            .unwrap();
        let expected: Vec<_> =
            model.entries.iter().map(|entry| (entry.id, entry.kind, entry.legs.len())).collect();
        assert_eq!(entries, expected, "seed {seed}");
        let balances: BTreeMap<_, _> = reader
            .balances()
            .unwrap()
            .into_iter()
            .map(|row| ((row.asset, row.account), i128::from(row.amount.units())))
            .collect();
        let nonzero = |balances: &BTreeMap<(u16, AccountId), i128>| {
            balances
                .iter()
                .filter(|(_, units)| **units != 0)
                .map(|(key, units)| (*key, *units))
                .collect::<Vec<_>>()
        };
        assert_eq!(nonzero(&balances), nonzero(&model.balances), "seed {seed}");
        for asset in balances.keys().map(|(asset, _)| *asset).collect::<BTreeSet<_>>() {
            let sum: i128 = balances.iter().filter(|((of, _), _)| *of == asset).map(|(_, units)| units).sum();
            assert_eq!(sum, 0, "seed {seed}: money was made or lost");
        }
        for key in (1..=6).map(|key| [key; 32]) {
            assert_eq!(reader.payment(&key).unwrap().as_ref(), model.payments.get(&key), "seed {seed}");
        }
        for key in (1..=4).map(|key| [key; 32]) {
            assert_eq!(reader.idempotent(&key).unwrap().as_ref(), model.idempotent.get(&key), "seed {seed}");
        }
        for id in (1..=255).map(|id| [id; 16]) {
            assert_eq!(reader.facts(&id).unwrap().as_ref(), model.facts.get(&id), "seed {seed}");
            assert_eq!(reader.entry_of(&id).unwrap().is_some(), model.ids.contains(&id), "seed {seed}");
        }
        assert_eq!(reader.keys().unwrap(), model.keys.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(
            reader.revoked().unwrap(),
            model.revoked.clone().into_iter().collect::<Vec<_>>(),
            "seed {seed}"
        );
        let settings: Vec<_> = reader.accounts().unwrap().into_iter().map(|(id, row)| (id.0, row)).collect();
        assert_eq!(settings, model.settings.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
        let open: Vec<_> = model.open_calls.clone().into_iter().collect();
        assert_eq!(reader.open_calls().unwrap(), open, "seed {seed}");
        let channels: Vec<_> = model.channels.clone().into_iter().collect();
        assert_eq!(reader.channels().unwrap(), channels, "seed {seed}");
        assert_eq!(
            reader.payouts().unwrap(),
            model.payouts.clone().into_iter().collect::<Vec<_>>(),
            "seed {seed}"
        );
        assert_eq!(
            reader.free_calls().unwrap(),
            model.free.clone().into_iter().collect::<Vec<_>>(),
            "seed {seed}"
        );
        let open = model.payouts.values().filter(|payout| payout.state == PayoutState::Open).count();
        assert_eq!(reader.open_payouts().unwrap().len(), open, "seed {seed}");
        for id in (1..=3).map(|id| [id; 16]) {
            let lots = model.lots.get(&id).cloned().unwrap_or_default();
            assert_eq!(reader.lots(AccountId(id)).unwrap(), lots, "seed {seed}");
        }
        assert_eq!(self.store().at_risk(), Amount::ZERO);
    }
}

fn refusal<T>(answer: Result<T, StoreError>) -> Result<(), Refusal> {
    match answer {
        Ok(_) => Ok(()),
        Err(StoreError::Conflict) => Err(Refusal::Conflict),
        Err(StoreError::Entry(_)) => Err(Refusal::Entry),
        Err(StoreError::Range) => Err(Refusal::Range),
        Err(error @ (StoreError::DiskFull | StoreError::Full | StoreError::Unavailable(_))) => {
            unreachable!("the medium works: {error}")
        }
    }
}

/// LED-16, LED-23, LED-39, LED-40.
#[test]
fn random_sequences_agree_with_a_naive_model() {
    let cases = Dice::from_env("FARTHING_CASES", 300);
    let next = Mutex::new(0..cases);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                while let Some(seed) = { next.lock().unwrap().next() } {
                    Case::run(seed, &runtime);
                }
            });
        }
    });
    println!("store model: cases={cases}");
}
