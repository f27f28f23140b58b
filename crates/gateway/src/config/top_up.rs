//! `top_up` and `refunds`: what balance costs that is bought by order, and when it may go back (finance.md sections 2 and 4).

use std::time::Duration;

use money::{Amount, Asset};
use store::RefundPolicy;

use super::Server;
use super::rail::Rails;
use super::section::{Keys, Section};
use super::value;

/// How balance is sold by order.
#[derive(Clone, Debug)]
pub struct TopUpRules {
    /// What one unit of a currency is as credit: rounded down, exact until then (FIN-4).
    pub exchange: Vec<(Asset, Amount)>,
    /// The least credit of one order, default 5 USD (FIN-11).
    pub min: Amount,
    /// The most, default 1000 USD.
    pub max: Amount,
    /// What is given with each, in basis points of its credit.
    pub bonus_bp: u32,
    /// How long an order can be paid, default 30 minutes (FIN-13).
    pub order_ttl: Duration,
    /// When its rail is first asked about an order that nobody was told of, and how often at most; default a minute (RAIL-12).
    pub reconcile_every: Duration,
    /// When what was bought may go back; stamped on it (FIN-30).
    pub policy: RefundPolicy,
}

const KEYS: Keys =
    Keys::new(&["exchange", "min", "max", "bonus", "order_ttl", "reconcile_every"], &["reconcile"]);
const REFUND_KEYS: Keys = Keys::new(&["window", "unused_only"], &["auto_below", "to", "fee"]);

/// Of one unit of a currency.
const MINOR: u32 = 100;
const MIN: Amount = Amount::from_units(5_000_000_000);
const MAX: Amount = Amount::from_units(1_000_000_000_000);
const ORDER_TTL: Duration = Duration::from_secs(30 * 60);
/// No rail keeps a code for longer.
const ORDER_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
const RECONCILE_EVERY: Duration = Duration::from_secs(60);

impl TopUpRules {
    /// What so many hundredths of a currency are as credit. None: it is not taken, or comes to more than a balance holds.
    #[must_use]
    pub fn credit(&self, currency: Asset, minor: u64) -> Option<Amount> {
        let (_, rate) = self.exchange.iter().find(|(known, _)| *known == currency)?;
        let whole = u128::from(minor).checked_mul(u128::try_from(rate.units()).ok()?)?;
        Amount::from_wide(whole / u128::from(MINOR)).ok()
    }

    /// What is given with a credit.
    #[must_use]
    pub fn bonus(&self, credit: Amount) -> Amount {
        let share = i128::from(credit.units()) * i128::from(self.bonus_bp) / 10_000;
        Amount::from_units(i64::try_from(share).unwrap_or(0))
    }
}

/// Reads both sections. None: nothing is sold by order.
pub(super) fn read(top: &Section<'_>, rails: &Rails, server: &Server) -> Option<TopUpRules> {
    let policy = read_refunds(top);
    check_notices(top, rails, server);
    let Some(section) = top.section("top_up", KEYS) else {
        if rails.alipay.is_some() {
            top.missing(
                "rails.alipay needs \"top_up\": what is a yuan as credit? top_up: { exchange: { CNY: 0.139 USD } }",
            );
        }
        if top.get("refunds").is_some() {
            top.complain("refunds", "refunds: nothing is sold that could go back; top_up has what is");
        }
        return None;
    };
    if rails.alipay.is_none() {
        top.complain("top_up", "top_up: no rail sells balance by order; rails.alipay would");
    }
    let exchange = read_exchange(&section);
    let (min, max) = (section.value("min", value::some_usd), section.value("max", value::some_usd));
    let (min, max) = (min.unwrap_or(MIN), max.unwrap_or(MAX));
    if min > max {
        section.complain("min", "top_up.min is more than max");
    }
    let bonus_bp = section.value("bonus", value::percent).unwrap_or(0);
    if bonus_bp > 10_000 {
        section.complain("bonus", "top_up.bonus is more than what is bought");
    }
    let order_ttl = section.value("order_ttl", value::duration).unwrap_or(ORDER_TTL);
    if order_ttl > ORDER_TTL_MAX {
        section.complain("order_ttl", "top_up.order_ttl is more than a day");
    }
    let reconcile_every = section.value("reconcile_every", value::duration).unwrap_or(RECONCILE_EVERY);
    Some(TopUpRules { exchange, min, max, bonus_bp, order_ttl, reconcile_every, policy })
}

/// What the wall turns away is never read.
fn check_notices(top: &Section<'_>, rails: &Rails, server: &Server) {
    let base = rails.alipay.as_ref().and_then(|alipay| alipay.notify_base.as_ref());
    if let Some(base) = base.filter(|base| !server.allows_host(&base.host)) {
        let host = &base.host;
        top.complain(
            "rails",
            format!("rails.alipay.notify_base: notices to {host} are turned away; name it in server.hosts"),
        );
    }
}

fn read_exchange(top_up: &Section<'_>) -> Vec<(Asset, Amount)> {
    let Some(section) = top_up.section("exchange", Keys::new(&["CNY"], &["HKD", "EUR", "JPY"])) else {
        top_up.missing(
            "top_up needs \"exchange\": what is one unit of a currency as credit? { CNY: 0.139 USD }",
        );
        return Vec::new();
    };
    let rate = section.required("CNY", value::some_usd);
    rate.map(|rate| (Asset::Cny, rate)).into_iter().collect()
}

/// Nothing goes back unless that is said.
fn read_refunds(top: &Section<'_>) -> RefundPolicy {
    let Some(section) = top.section("refunds", REFUND_KEYS) else { return RefundPolicy::default() };
    let window = section.required("window", value::duration).unwrap_or_default();
    RefundPolicy {
        window_s: window.as_secs(),
        unused_only: section.value("unused_only", value::flag).unwrap_or(true),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use money::{Amount, Asset};
    use store::RefundPolicy;

    use super::TopUpRules;

    /// FIN-4: exact, then rounded down once.
    #[test]
    fn credit_table() {
        let rules = |rate, bonus_bp| TopUpRules {
            exchange: vec![(Asset::Cny, Amount::from_units(rate))],
            min: Amount::ZERO,
            max: Amount::MAX,
            bonus_bp,
            order_ttl: Duration::ZERO,
            reconcile_every: Duration::ZERO,
            policy: RefundPolicy::default(),
        };
        for (rate, minor, bonus_bp, credit, bonus) in [
            (139_000_000, 3600, 0, 5_004_000_000, 0),
            (139_000_000, 3600, 500, 5_004_000_000, 250_200_000),
            (139_000_001, 1, 0, 1_390_000, 0),
            (99, 1, 0, 0, 0),
            (139_000_000, 1, 1, 1_390_000, 139),
        ] {
            let rules = rules(rate, bonus_bp);
            let found = rules.credit(Asset::Cny, minor).unwrap();
            assert_eq!((found.units(), rules.bonus(found).units()), (credit, bonus), "{minor} at {rate}");
        }
        assert_eq!(rules(139_000_000, 0).credit(Asset::Eur, 1), None);
        assert_eq!(rules(i64::MAX, 0).credit(Asset::Cny, u64::MAX), None);
    }
}
