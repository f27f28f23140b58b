//! What an account's balance was bought with, lot by lot, and what is left of each (finance.md section 4).
//!
//! A call knows one balance (FIN-31). What calls have used is taken from the lots afterwards, whenever somebody wants to
//! know or money comes or goes: purchases first and bonuses last, the oldest first (FIN-32). So nobody spends a bonus
//! and has the purchase back that it came with: while anything is left of a purchase, its bonus is whole. Between the two
//! is all that never goes back this way and so needs no lot: what an operator has credited, what came by other rails.
//!
//! Pure: rows in, rows out. Deposits over Lightning have lots of their own ([`crate::Lot`]): they go back to whoever
//! makes an invoice, at the rate of each, and have no policy.

use serde::{Deserialize, Serialize};

/// Lots of one account beyond which those go that are used up.
const LOTS_MAX: usize = 64;

/// What a lot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LotKind {
    /// Paid for.
    Purchased,
    /// Given with a purchase or for a code: never refunded, and revoked with the purchase (FIN-33).
    Bonus,
}

/// What was paid for a lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// Family of the rail, `alipay`.
    pub rail: String,
    /// What the rail calls the payment.
    pub reference: String,
    /// Id of the order.
    pub order: [u8; 16],
    /// Asset code of the currency.
    pub currency: u8,
    /// In its minor unit: fen of a yuan.
    pub minor: u64,
}

/// When a purchase may go back. Stamped on the lot, whatever the operator decides later (FIN-30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundPolicy {
    /// Seconds after the purchase, the last one included; 0 for never.
    pub window_s: u64,
    /// Whether nothing of it may have been used. Otherwise the unused part goes back.
    pub unused_only: bool,
}

/// One sum that came into an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditLot {
    /// Deposit key of the payment, or hash of the code. A bonus has that of the purchase it came with.
    pub key: [u8; 32],
    /// What it is.
    pub kind: LotKind,
    /// What was credited, ledger units of the account's asset.
    pub granted: i64,
    /// What was neither used nor taken back, as of the last time that anybody looked.
    pub left: i64,
    /// What was paid for it; none for what was given.
    pub paid: Option<Paid>,
    /// When it may go back.
    pub policy: RefundPolicy,
    /// Unix milliseconds.
    pub since_ms: u64,
    /// Refunds that were asked for.
    pub refunds: u32,
    /// The one of them that is not decided.
    pub refund: Option<[u8; 16]>,
}

/// All lots of an account, oldest first. Invariant: they and the other money come to the balance of when it was
/// last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotBook {
    /// The lots.
    pub lots: Vec<CreditLot>,
    /// What came in by ways that have no lots; below zero for what is owed on a credit line.
    pub other: i64,
}

/// What a refund of a lot comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refundable {
    /// What it takes from the balance: all that is left of the purchase.
    pub credit: i64,
    /// What else it takes: what is left of the bonus that came with it.
    pub bonus: i64,
    /// What goes back to the payer, in the minor unit of what he paid.
    pub minor: u64,
}

/// Why a lot does not go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRefundable {
    /// There is no such lot.
    #[error("there is no such purchase")]
    Unknown,
    /// It was a present.
    #[error("it was given, not bought")]
    Given,
    /// A refund of it is not decided yet.
    #[error("a refund of it is under way")]
    UnderWay([u8; 16]),
    /// Its policy has no window, or that is over.
    #[error("its refund window is over")]
    Window,
    /// Some of it was used, and its policy allows none.
    #[error("some of it was used")]
    Used,
    /// Less is left than the smallest unit of what was paid.
    #[error("nothing is left of it")]
    NothingLeft,
}

impl LotBook {
    /// Of an account that has a balance and no lots yet.
    #[must_use]
    pub const fn of(balance: i64) -> Self {
        Self { lots: Vec::new(), other: balance }
    }

    /// What it all comes to.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.lots.iter().fold(self.other, |sum, lot| sum.saturating_add(lot.left))
    }

    /// Takes from the lots what calls have used since.
    #[must_use]
    pub fn settled(mut self, balance: i64) -> Self {
        let used = self.total().saturating_sub(balance);
        if used > 0 {
            self.use_up(used);
        } else {
            self.other = self.other.saturating_sub(used);
        }
        self
    }

    /// Another lot. What was owed is paid by it.
    pub fn add(&mut self, lot: CreditLot) {
        self.lots.push(lot);
        self.cover();
        while self.lots.len() > LOTS_MAX {
            let is_over = |lot: &CreditLot| lot.left == 0 && lot.refund.is_none();
            let Some(at) = self.lots.iter().position(is_over) else { break };
            self.lots.remove(at);
        }
    }

    /// Money came or went that is no lot's.
    pub fn other_came(&mut self, units: i64) {
        self.other = self.other.saturating_add(units);
        self.cover();
    }

    /// What goes back of the purchase with this key now.
    ///
    /// # Errors
    /// Why nothing does.
    pub fn refundable(&self, key: &[u8; 32], now_ms: u64) -> Result<Refundable, NotRefundable> {
        use NotRefundable as No;
        let mut of_key = self.lots.iter().filter(|lot| lot.key == *key).peekable();
        of_key.peek().ok_or(No::Unknown)?;
        let lot = of_key.find(|lot| lot.kind == LotKind::Purchased).ok_or(No::Given)?;
        let paid = lot.paid.as_ref().ok_or(No::Given)?;
        if let Some(refund) = lot.refund {
            return Err(No::UnderWay(refund));
        }
        let age_ms = now_ms.saturating_sub(lot.since_ms);
        if lot.policy.window_s == 0 || age_ms > lot.policy.window_s.saturating_mul(1000) {
            return Err(No::Window);
        }
        if lot.policy.unused_only && lot.left < lot.granted {
            return Err(No::Used);
        }
        let share = u128::from(paid.minor) * u128::from(lot.left.unsigned_abs());
        let minor = share / u128::from(lot.granted.unsigned_abs().max(1));
        let minor = u64::try_from(minor).ok().filter(|minor| *minor > 0).ok_or(No::NothingLeft)?;
        let bonus = self.bonus_of(key).map_or(0, |bonus| bonus.left);
        Ok(Refundable { credit: lot.left, bonus, minor })
    }

    /// Takes what goes back out of its lots. None: it is not what a refund of it comes to by now.
    pub(crate) fn take(
        &mut self,
        key: &[u8; 32],
        refund: [u8; 16],
        what: &Refundable,
        now_ms: u64,
    ) -> Option<()> {
        self.refundable(key, now_ms).ok().filter(|now| now == what)?;
        for lot in self.lots.iter_mut().filter(|lot| lot.key == *key) {
            match lot.kind {
                LotKind::Purchased => {
                    (lot.left, lot.refund) = (0, Some(refund));
                    lot.refunds = lot.refunds.saturating_add(1);
                }
                LotKind::Bonus => lot.left = 0,
            }
        }
        Some(())
    }

    /// A refund has ended: moved, or given back.
    pub(crate) fn end(&mut self, key: &[u8; 32], credit: i64, bonus: i64) {
        for lot in self.lots.iter_mut().filter(|lot| lot.key == *key) {
            match lot.kind {
                LotKind::Purchased => (lot.left, lot.refund) = (credit, None),
                LotKind::Bonus => lot.left = lot.left.saturating_add(bonus),
            }
        }
        self.cover();
    }

    pub(crate) fn is_in_order(&self) -> bool {
        self.lots.iter().all(|lot| (0..=lot.granted).contains(&lot.left) && lot.granted > 0)
    }

    fn bonus_of(&self, key: &[u8; 32]) -> Option<&CreditLot> {
        self.lots.iter().find(|lot| lot.key == *key && lot.kind == LotKind::Bonus)
    }

    /// What is owed is paid by what there is.
    fn cover(&mut self) {
        let owed = self.other.min(0).saturating_neg();
        self.other = self.other.saturating_add(owed);
        self.use_up(owed);
    }

    fn use_up(&mut self, units: i64) {
        let mut units = self.use_kind(LotKind::Purchased, units);
        let own = units.min(self.other.max(0));
        self.other -= own;
        units -= own;
        // What is left then is a credit line.
        self.other = self.other.saturating_sub(self.use_kind(LotKind::Bonus, units));
    }

    /// What lots of this kind did not have.
    fn use_kind(&mut self, kind: LotKind, mut units: i64) -> i64 {
        for lot in self.lots.iter_mut().filter(|lot| lot.kind == kind) {
            let part = units.min(lot.left);
            lot.left -= part;
            units -= part;
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{CreditLot, LotBook, LotKind, NotRefundable as No, Paid, RefundPolicy, Refundable};

    const ANY: RefundPolicy = RefundPolicy { window_s: 1000, unused_only: false };

    fn lot(key: u8, kind: LotKind, granted: i64, minor: u64) -> CreditLot {
        let paid =
            Paid { rail: "alipay".into(), reference: key.to_string(), order: [key; 16], currency: 4, minor };
        CreditLot {
            key: [key; 32],
            kind,
            granted,
            left: granted,
            paid: (kind == LotKind::Purchased).then_some(paid),
            policy: ANY,
            since_ms: 0,
            refunds: 0,
            refund: None,
        }
    }

    fn book(lots: Vec<CreditLot>, other: i64) -> LotBook {
        LotBook { lots, other }
    }

    fn left(book: &LotBook) -> (Vec<i64>, i64) {
        (book.lots.iter().map(|lot| lot.left).collect(), book.other)
    }

    /// FIN-32: purchases, then what came otherwise, bonuses last; the oldest first.
    #[test]
    fn used_up_in_order() {
        use LotKind::{Bonus, Purchased};
        let lots = || {
            vec![lot(1, Bonus, 5, 0), lot(2, Purchased, 10, 1), lot(3, Bonus, 7, 0), lot(4, Purchased, 20, 1)]
        };
        for (balance, expected) in [
            (45, (vec![5, 10, 7, 20], 3)),
            (41, (vec![5, 6, 7, 20], 3)),
            (30, (vec![5, 0, 7, 15], 3)),
            (14, (vec![5, 0, 7, 0], 2)),
            (12, (vec![5, 0, 7, 0], 0)),
            (6, (vec![0, 0, 6, 0], 0)),
            (0, (vec![0, 0, 0, 0], 0)),
            (-4, (vec![0, 0, 0, 0], -4)),
            // Nobody looked when it came.
            (50, (vec![5, 10, 7, 20], 8)),
        ] {
            assert_eq!(left(&book(lots(), 3).settled(balance)), expected, "balance {balance}");
        }
    }

    #[test]
    fn a_debt_is_paid_by_what_comes() {
        let mut owing = book(vec![], 0).settled(-4);
        owing.add(lot(1, LotKind::Purchased, 10, 1));
        assert_eq!(left(&owing), (vec![6], 0));
        owing.other_came(-8);
        assert_eq!(left(&owing), (vec![0], -2), "what went otherwise is taken from lots too");
    }

    /// FIN-30: the five published cases, and what they leave open.
    #[test]
    fn published_policies() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs/vectors/rails/refund_policies.json");
        let vectors: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let at_ms = |text: &Value| wire_time(text.as_str().unwrap()) * 1000;
        let mut cases = 0;
        for case in vectors["cases"].as_array().unwrap() {
            let presets = vectors["presets"].as_array().unwrap();
            let preset = presets.iter().find(|preset| preset["name"] == case["policy"]).unwrap();
            let window_s = preset["window_days"].as_u64().unwrap() * 86_400;
            let policy = RefundPolicy { window_s, unused_only: true };
            let bought = CreditLot {
                policy,
                since_ms: at_ms(&case["purchased_at"]),
                ..lot(1, LotKind::Purchased, 5_000_000_000, 3600)
            };
            let spent = if case["spent"] == "0" { 0 } else { 1000 };
            let book = book(vec![bought], 0).settled(5_000_000_000 - spent);
            let is_refundable = book.refundable(&[1; 32], at_ms(&case["now"])).is_ok();
            assert_eq!(is_refundable, case["refundable"].as_bool().unwrap(), "{case}");
            cases += 1;
        }
        assert_eq!(cases, 5);
    }

    /// `2026-11-01T00:00:00Z` of November 2026, as seconds from its beginning.
    fn wire_time(text: &str) -> u64 {
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
        assert!(text.starts_with("2026-11-") && text.ends_with('Z'));
        ((number(8..10) * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)
    }

    /// What is left, in proportion, rounded down; the bonus goes with it.
    #[test]
    fn refundable_table() {
        let with_bonus = || vec![lot(1, LotKind::Purchased, 1000, 3600), lot(1, LotKind::Bonus, 100, 0)];
        let comes_to = |credit, bonus, minor| Ok(Refundable { credit, bonus, minor });
        for (what, balance, now_ms, expected) in [
            ("whole", 1100, 0, comes_to(1000, 100, 3600)),
            ("half", 600, 0, comes_to(500, 100, 1800)),
            ("a third, rounded down", 433, 0, comes_to(333, 100, 1198)),
            ("less than a fen", 100, 0, Err(No::NothingLeft)),
            ("the last moment", 1100, 1_000_000, comes_to(1000, 100, 3600)),
            ("too late", 1100, 1_000_001, Err(No::Window)),
        ] {
            assert_eq!(
                book(with_bonus(), 0).settled(balance).refundable(&[1; 32], now_ms),
                expected,
                "{what}"
            );
        }
        let book = book(vec![lot(2, LotKind::Bonus, 9, 0)], 0);
        assert_eq!(book.refundable(&[2; 32], 0), Err(No::Given));
        assert_eq!(book.refundable(&[4; 32], 0), Err(No::Unknown));
    }

    #[test]
    fn one_refund_at_a_time_and_it_is_given_back_whole() {
        let mut book = book(vec![lot(1, LotKind::Purchased, 1000, 3600), lot(1, LotKind::Bonus, 100, 0)], 5);
        let what = book.refundable(&[1; 32], 0).unwrap();
        assert!(book.take(&[1; 32], [7; 16], &Refundable { minor: 1, ..what }, 0).is_none(), "another sum");
        assert!(book.take(&[1; 32], [7; 16], &what, 0).is_some());
        assert_eq!((left(&book), book.total()), ((vec![0, 0], 5), 5));
        assert_eq!(book.refundable(&[1; 32], 0), Err(No::UnderWay([7; 16])));
        let mut failed = book.clone();
        failed.end(&[1; 32], what.credit, what.bonus);
        assert_eq!((left(&failed), failed.refundable(&[1; 32], 0)), ((vec![1000, 100], 5), Ok(what)));
        book.end(&[1; 32], 0, 0);
        assert_eq!(book.refundable(&[1; 32], 0), Err(No::NothingLeft));
    }

    #[test]
    fn what_is_used_up_goes_first() {
        let mut book = LotBook::of(0);
        for _ in 0..70 {
            book.add(lot(1, LotKind::Bonus, 1, 0));
        }
        assert_eq!(book.lots.len(), 70, "money is never forgotten");
        book = book.settled(60);
        book.add(lot(2, LotKind::Bonus, 1, 0));
        assert_eq!((book.lots.len(), book.total()), (64, 61));
    }

    proptest! {
        /// Whatever comes and is used in whatever order: the lots come to the balance, no more goes back than was
        /// paid, and while anything of a purchase is left, its bonus is whole.
        #[test]
        fn lots_come_to_the_balance(steps in proptest::collection::vec((0u8..5, 1i64..1000), 1..40)) {
            let (mut book, mut balance, mut paid, mut back) = (LotBook::of(0), 0i64, 0u64, 0u64);
            for (number, (step, units)) in (1u8..).zip(steps) {
                match step {
                    0 => {
                        book = book.settled(balance);
                        book.add(lot(number, LotKind::Purchased, units, 50));
                        book.add(lot(number, LotKind::Bonus, 10, 0));
                        (balance, paid) = (balance + units + 10, paid + 50);
                    }
                    1 => {
                        book = book.settled(balance);
                        book.other_came(units);
                        balance += units;
                    }
                    2 => {
                        book = book.settled(balance);
                        let keys: Vec<[u8; 32]> = book.lots.iter().map(|lot| lot.key).collect();
                        if let Some((key, what)) = keys.iter().find_map(|key| Some((*key, book.refundable(key, 0).ok()?))) {
                            book.take(&key, [1; 16], &what, 0).unwrap();
                            book.end(&key, 0, 0);
                            (balance, back) = (balance - what.credit - what.bonus, back + what.minor);
                        }
                    }
                    _ => balance -= units.min(balance.max(0)),
                }
                let now = book.clone().settled(balance);
                prop_assert!(now.total() == balance && now.is_in_order());
                for lot in now.lots.iter().filter(|lot| lot.kind == LotKind::Purchased && lot.left > 0) {
                    prop_assert!(now.bonus_of(&lot.key).is_some_and(|bonus| bonus.left == bonus.granted));
                }
            }
            prop_assert!(back <= paid);
        }
    }
}
