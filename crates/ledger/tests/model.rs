//! Random sequences of everything that can happen to accounts, budgets, windows and holds, against a
//! model that a reader can check by eye: plain numbers, one thread, no atomics.
//!
//! `FARTHING_CASES` sets how many sequences (5,000 unless told).
#![cfg(not(any(feature = "loom", feature = "shuttle")))]
#![expect(clippy::disallowed_methods, reason = "the number of cases comes from the environment")]
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::cell::Cell;
use std::collections::BTreeMap;

use ledger::{
    AccountId, AccountRef, AccountState, Book, Budget, Ended, Hold, HoldEnd, NotEmpty, Reserve, ReserveError,
};
use money::{Amount, Asset};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const PAYERS: usize = 2;
const WINDOW_S: u64 = 10;
const WINDOW_UNITS: i64 = 45;
/// Limits of the keys: two of the first payer, one inside the other, and one of the second.
const KEYS: [(usize, u8, i64); 3] = [(0, 100, 90), (0, 101, 35), (1, 102, 60)];

#[derive(Clone, Copy, Debug)]
enum Step {
    Deposit {
        payer: usize,
        units: i64,
    },
    /// `keys` and `window` say which limits the call is under.
    Reserve {
        payer: usize,
        units: i64,
        keys: usize,
        window: bool,
        /// How far below its floor the account may be taken.
        beyond: i64,
    },
    Extend {
        hold: usize,
        units: i64,
    },
    Finish {
        hold: usize,
        units: i64,
    },
    Expire {
        hold: usize,
        units: i64,
    },
    Drop {
        hold: usize,
    },
    State {
        payer: usize,
        state: AccountState,
    },
    Overdraft {
        payer: usize,
        units: i64,
    },
    /// Time passes.
    Wait {
        seconds: u64,
    },
    Forget {
        ago_s: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let payer = 0..PAYERS;
    let (hold, units) = (0usize..8, -2i64..50);
    let state = prop_oneof![
        4 => Just(AccountState::Open),
        1 => Just(AccountState::Frozen),
        2 => Just(AccountState::Closed)
    ];
    let step = prop_oneof![
        4 => (payer.clone(), 0i64..60).prop_map(|(payer, units)| Step::Deposit { payer, units }),
        8 => (payer.clone(), units.clone(), 0usize..3, any::<bool>(), prop_oneof![2 => Just(0i64), 1 => -5i64..40])
            .prop_map(|(payer, units, keys, window, beyond)| {
                Step::Reserve { payer, units, keys, window, beyond }
            }),
        6 => (hold.clone(), units.clone()).prop_map(|(hold, units)| Step::Extend { hold, units }),
        5 => (hold.clone(), units.clone()).prop_map(|(hold, units)| Step::Finish { hold, units }),
        2 => (hold.clone(), units).prop_map(|(hold, units)| Step::Expire { hold, units }),
        1 => hold.prop_map(|hold| Step::Drop { hold }),
        2 => (payer.clone(), state).prop_map(|(payer, state)| Step::State { payer, state }),
        1 => (payer, -5i64..30).prop_map(|(payer, units)| Step::Overdraft { payer, units }),
        2 => (0u64..8).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0u64..12).prop_map(|ago_s| Step::Forget { ago_s }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A payer as plain numbers.
#[derive(Clone, Debug)]
struct Purse {
    free: i64,
    overdraft: i64,
    state: AccountState,
    deposited: i64,
    captured: i64,
}

/// A limit: a key by its number, or a window by payer and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    Key(u8),
    Window(usize, u64),
}

#[derive(Clone, Debug)]
struct Held {
    payer: usize,
    limits: Vec<Limit>,
    amount: i64,
    beyond: i64,
    ended: bool,
}

struct Model {
    now_s: u64,
    forgotten_s: u64,
    purses: Vec<Purse>,
    /// What is left of each limit that was ever drawn on.
    left: BTreeMap<Limit, i64>,
    holds: Vec<Held>,
}

impl Model {
    fn new() -> Self {
        let purse = Purse { free: 0, overdraft: 0, state: AccountState::Open, deposited: 0, captured: 0 };
        Self {
            now_s: 0,
            forgotten_s: 0,
            purses: vec![purse; PAYERS],
            left: BTreeMap::new(),
            holds: Vec::new(),
        }
    }

    fn limits(&self, payer: usize, keys: usize, window: bool) -> Vec<Limit> {
        let keys = KEYS.iter().filter(|key| key.0 == payer).take(keys).map(|key| Limit::Key(key.1));
        keys.chain(window.then_some(Limit::Window(payer, self.now_s - self.now_s % WINDOW_S))).collect()
    }

    fn limit_left(&mut self, limit: Limit) -> &mut i64 {
        let full = match limit {
            Limit::Key(number) => KEYS.iter().find(|key| key.1 == number).unwrap().2,
            Limit::Window(..) => WINDOW_UNITS,
        };
        self.left.entry(limit).or_insert(full)
    }

    fn is_over(&self, limit: Limit) -> bool {
        matches!(limit, Limit::Window(_, start_s) if start_s + WINDOW_S <= self.forgotten_s)
    }

    fn refused_by(&self, payer: usize, units: i64, beyond: i64) -> Option<ReserveError> {
        let purse = &self.purses[payer];
        match purse.state {
            AccountState::Open if purse.free - units >= -purse.overdraft - beyond => None,
            AccountState::Open => Some(ReserveError::Balance { available: Amount::from_units(purse.free) }),
            AccountState::Frozen => Some(ReserveError::Frozen),
            AccountState::Closed => Some(ReserveError::Closed),
        }
    }

    /// Takes from the payer and every limit, or says who refuses.
    fn take(&mut self, payer: usize, limits: &[Limit], units: i64, beyond: i64) -> Result<(), ReserveError> {
        if let Some(refused) = self.refused_by(payer, units, beyond) {
            return Err(refused);
        }
        for limit in limits {
            let available = *self.limit_left(*limit);
            if available < units {
                return Err(ReserveError::Budget { available: Amount::from_units(available) });
            }
        }
        self.purses[payer].free -= units;
        for limit in limits {
            *self.limit_left(*limit) -= units;
        }
        Ok(())
    }

    fn reserve(
        &mut self,
        payer: usize,
        limits: Vec<Limit>,
        units: i64,
        beyond: i64,
    ) -> Result<(), ReserveError> {
        if units < 0 {
            return Err(ReserveError::Negative);
        }
        let beyond = beyond.max(0);
        if self.refused_by(payer, units, beyond).is_none() && limits.iter().any(|limit| self.is_over(*limit))
        {
            // A key's limit before it may refuse first.
            let before: Vec<Limit> =
                limits.iter().copied().take_while(|limit| !self.is_over(*limit)).collect();
            self.take(payer, &before, units, beyond)?;
            self.give(payer, &before, units);
            return Err(ReserveError::WindowOver);
        }
        self.take(payer, &limits, units, beyond)?;
        self.holds.push(Held { payer, limits, amount: units, beyond, ended: false });
        Ok(())
    }

    fn give(&mut self, payer: usize, limits: &[Limit], units: i64) {
        self.purses[payer].free += units;
        for limit in limits {
            *self.limit_left(*limit) += units;
        }
    }

    fn extend(&mut self, place: usize, units: i64) -> Result<(), ReserveError> {
        let Held { payer, limits, beyond, ended, .. } = self.holds[place].clone();
        if units < 0 {
            return Err(ReserveError::Negative);
        }
        self.take(payer, &limits, units, beyond)?;
        if ended {
            self.give(payer, &limits, units);
            return Err(ReserveError::Ended);
        }
        self.holds[place].amount += units;
        Ok(())
    }

    fn end(&mut self, place: usize, used: i64, expired: bool) -> Option<Ended> {
        let Held { payer, limits, amount, beyond, ended } = self.holds[place].clone();
        if ended {
            return None;
        }
        let used = used.max(0);
        let purse = &self.purses[payer];
        let mut more = (used - amount).max(0).min((purse.free + purse.overdraft + beyond).max(0));
        for limit in &limits {
            more = more.min(*self.limit_left(*limit));
        }
        let captured = used.min(amount + more);
        self.give(payer, &limits, amount - captured);
        self.purses[payer].captured += captured;
        self.holds[place].ended = true;
        let end = match (expired, used) {
            (true, _) => HoldEnd::Expired,
            (false, 0) => HoldEnd::Voided,
            (false, _) => HoldEnd::Captured,
        };
        Some(Ended {
            end,
            captured: Amount::from_units(captured),
            overrun: Amount::from_units(used - captured),
            available: Amount::from_units(self.purses[payer].free),
        })
    }

    fn held(&self, payer: usize) -> i64 {
        self.holds.iter().filter(|hold| hold.payer == payer && !hold.ended).map(|hold| hold.amount).sum()
    }

    fn set_state(&mut self, payer: usize, state: AccountState) -> Result<(), NotEmpty> {
        let held = self.held(payer);
        let purse = &mut self.purses[payer];
        if state == AccountState::Closed && (purse.free, held, purse.overdraft) != (0, 0, 0) {
            let [available, held, overdraft] = [purse.free, held, purse.overdraft].map(Amount::from_units);
            return Err(NotEmpty { available, held, overdraft });
        }
        purse.state = state;
        Ok(())
    }
}

/// The real thing, beside the model.
struct Real {
    book: Book,
    payers: Vec<AccountRef>,
    /// None once dropped.
    holds: Vec<Option<Hold>>,
}

fn payer_id(payer: usize) -> AccountId {
    AccountId([u8::try_from(payer).unwrap(); 16])
}

fn budget(limit: Limit) -> Budget {
    match limit {
        Limit::Key(number) => {
            let limit = KEYS.iter().find(|key| key.1 == number).unwrap().2;
            Budget { link: AccountId([number; 16]), limit: Amount::from_units(limit), ends_s: None }
        }
        Limit::Window(payer, start_s) => {
            Budget::window(payer_id(payer), "w", WINDOW_S, start_s, Amount::from_units(WINDOW_UNITS))
        }
    }
}

impl Real {
    fn new() -> Self {
        let book = Book::default();
        let payers = (0..PAYERS).map(|payer| book.account(payer_id(payer), Asset::Usd)).collect();
        Self { book, payers, holds: Vec::new() }
    }

    fn reserve(
        &mut self,
        payer: usize,
        limits: &[Limit],
        units: i64,
        beyond: i64,
    ) -> Result<(), ReserveError> {
        let budgets: Vec<Budget> = limits.iter().map(|limit| budget(*limit)).collect();
        let (account, amount) = (&self.payers[payer], Amount::from_units(units));
        let beyond = Amount::from_units(beyond);
        let hold = self.book.reserve(Reserve { account, budgets: &budgets, amount, beyond })?;
        self.holds.push(Some(hold));
        Ok(())
    }
}

/// Does one step on both sides and compares what they say.
fn step(model: &mut Model, real: &mut Real, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Deposit { payer, units } => {
            real.book.deposit(payer_id(payer), Asset::Usd, Amount::from_units(units));
            model.purses[payer].free += units;
            model.purses[payer].deposited += units;
        }
        Step::Reserve { payer, units, keys, window, beyond } => {
            let limits = model.limits(payer, keys, window);
            let ours = real.reserve(payer, &limits, units, beyond);
            prop_assert_eq!(ours, model.reserve(payer, limits, units, beyond));
        }
        Step::Extend { hold, units } => {
            if let Some(Some(open)) = real.holds.get(hold) {
                prop_assert_eq!(open.extend(Amount::from_units(units)), model.extend(hold, units));
            }
        }
        Step::Finish { hold, units } => {
            if let Some(Some(open)) = real.holds.get(hold) {
                prop_assert_eq!(open.finish(Amount::from_units(units)), model.end(hold, units, false));
            }
        }
        Step::Expire { hold, units } => {
            if let Some(Some(open)) = real.holds.get(hold) {
                prop_assert_eq!(open.expire(Amount::from_units(units)), model.end(hold, units, true));
            }
        }
        Step::Drop { hold } => {
            if let Some(Some(_)) = real.holds.get_mut(hold).map(Option::take) {
                model.end(hold, 0, false);
            }
        }
        Step::State { payer, state } => {
            prop_assert_eq!(real.payers[payer].set_state(state), model.set_state(payer, state));
        }
        Step::Overdraft { payer, units } => {
            real.payers[payer].set_overdraft(Amount::from_units(units));
            model.purses[payer].overdraft = units.max(0);
        }
        Step::Wait { seconds } => model.now_s += seconds,
        Step::Forget { ago_s } => {
            let before_s = model.now_s.saturating_sub(ago_s);
            real.book.forget_windows(before_s);
            model.forgotten_s = model.forgotten_s.max(before_s);
        }
    }
    Ok(())
}

/// Every number is the model's; nothing came from nowhere; nobody was taken below the floor.
fn check(model: &mut Model, real: &Real, before: &[Purse]) -> Result<(), TestCaseError> {
    for (payer, before) in before.iter().enumerate() {
        let (account, purse) = (&real.payers[payer], &model.purses[payer]);
        let held = model.held(payer);
        prop_assert_eq!((account.available().units(), account.held().units()), (purse.free, held));
        prop_assert_eq!((account.overdraft().units(), account.state()), (purse.overdraft, purse.state));
        prop_assert_eq!(purse.free + held + purse.captured, purse.deposited);
        let ours = model.holds.iter().filter(|hold| hold.payer == payer);
        let floor = -purse.overdraft - ours.map(|hold| hold.beyond).max().unwrap_or(0);
        prop_assert!(purse.free >= floor || purse.free >= before.free);
    }
    for limit in model.left.keys().copied().collect::<Vec<_>>() {
        if !model.is_over(limit) {
            let left = *model.limit_left(limit);
            prop_assert_eq!(real.book.budget_left(budget(limit), Asset::Usd).units(), left);
            prop_assert!(left >= 0);
        }
    }
    for (open, held) in real.holds.iter().zip(&model.holds) {
        if let Some(open) = open {
            prop_assert_eq!((open.amount().units(), open.ended().is_some()), (held.amount, held.ended));
            prop_assert_eq!(open.chain().count(), 1 + held.limits.len());
        }
    }
    Ok(())
}

fn cases() -> u32 {
    std::env::var("FARTHING_CASES").map_or(5_000, |text| text.parse().unwrap())
}

/// LED-5, LED-7, LED-8, LED-11, LED-13, LED-14.
#[test]
fn random_sequences_agree_with_a_naive_model() {
    let (cases, taken) = (cases(), Cell::new(0));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&steps(), |steps| {
        let (mut model, mut real) = (Model::new(), Real::new());
        taken.set(taken.get() + steps.len());
        for one in steps {
            let before = model.purses.clone();
            step(&mut model, &mut real, one)?;
            check(&mut model, &real, &before)?;
        }
        // Whatever is still open goes back when it is dropped.
        real.holds.clear();
        for hold in 0..model.holds.len() {
            model.end(hold, 0, false);
        }
        let before = model.purses.clone();
        check(&mut model, &real, &before)
    });
    outcome.unwrap();
    println!("ledger model: {cases} random sequences, {} steps, every number as in the model", taken.get());
}
