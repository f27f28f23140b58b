//! The journal entries of orders, codes and refunds. Each asset sums to zero by itself (FIN-64, FIN-80).

use ledger::{AccountId, Chart, Draft, Kind, LegDraft};
use money::Asset;
use store::{Paid, TopUp, TopUpRefund};

use crate::clock::Now;

/// Ledger units of a hundredth of a currency with nine decimals, which every currency that is sold for has.
const PER_MINOR: i64 = 10_000_000;

/// A payment was credited, with what is given with it. None: out of range, or of an asset that is not known here.
pub(super) fn credited(key: &[u8; 32], order: &TopUp, paid: &Paid, now: Now) -> Option<Draft> {
    let account = AccountId(order.account);
    let units = order.credit.checked_add(order.bonus)?;
    let asset = Asset::from_code(order.asset)?;
    let mut legs = vec![
        (order.asset, Chart::Fx(asset).id(), -order.credit),
        (order.asset, Chart::Promo.id(), -order.bonus),
        (order.asset, account, units),
    ];
    legs.extend(received(paid, 1, Chart::Fx(Asset::from_code(paid.currency)?))?);
    Some(Draft { key: *key, ..draft(Kind::Deposit, first_half(key), paid.reference.clone(), &legs, now) })
}

/// A payment is in suspense.
pub(super) fn parked(key: &[u8; 32], paid: &Paid, now: Now) -> Option<Draft> {
    let legs = received(paid, 1, Chart::Suspense)?;
    Some(draft(Kind::Adjust, first_half(key), paid.reference.clone(), &legs, now))
}

/// A code was called up.
pub(super) fn called_up(hash: &[u8; 32], asset: u8, account: AccountId, units: i64, now: Now) -> Draft {
    let legs = [(asset, Chart::Promo.id(), -units), (asset, account, units)];
    draft(Kind::Deposit, first_half(hash), "code".to_owned(), &legs, now)
}

/// Takes what goes back from its holder, until it is known whether it has.
pub(super) fn set_aside(id: &[u8; 16], refund: &TopUpRefund, now: Now) -> Draft {
    let (account, held) = (AccountId(refund.account), refund.held());
    let legs = [(refund.asset, account, -held), (refund.asset, Chart::RefundPayable.id(), held)];
    draft(Kind::Refund, TopUpRefund::begin_id(id), refund.paid.reference.clone(), &legs, now)
}

/// The money went back, at the rate that it came at (FIN-34); the bonus is revoked.
pub(super) fn moved(id: &[u8; 16], refund: &TopUpRefund, now: Now) -> Option<Draft> {
    let mut legs = vec![
        (refund.asset, Chart::RefundPayable.id(), -refund.held()),
        (refund.asset, Chart::Fx(Asset::from_code(refund.asset)?).id(), refund.credit),
        (refund.asset, Chart::Promo.id(), refund.bonus),
    ];
    let back = Paid { minor: refund.minor, ..refund.paid.clone() };
    legs.extend(received(&back, -1, Chart::Fx(Asset::from_code(back.currency)?))?);
    Some(draft(Kind::Refund, TopUpRefund::end_id(id), refund.paid.reference.clone(), &legs, now))
}

/// Nothing went back: the holder has all of it again, by an entry that names the one that took it (LED-39).
pub(crate) fn given_back(id: &[u8; 16], refund: &TopUpRefund, now: Now) -> Draft {
    let (account, held) = (AccountId(refund.account), refund.held());
    let legs = [(refund.asset, Chart::RefundPayable.id(), -held), (refund.asset, account, held)];
    let entry = draft(Kind::Refund, TopUpRefund::end_id(id), refund.paid.reference.clone(), &legs, now);
    Draft { corrects: TopUpRefund::begin_id(id), ..entry }
}

/// What a rail has for us, against another account of ours; the sign turns it around.
fn received(paid: &Paid, sign: i64, against: Chart) -> Option<[(u8, AccountId, i64); 2]> {
    let units = i64::try_from(paid.minor).ok()?.checked_mul(PER_MINOR)?.checked_mul(sign)?;
    let rail = Chart::RailClearing(paid.rail.clone());
    Some([(paid.currency, rail.id(), -units), (paid.currency, against.id(), units)])
}

fn draft(kind: Kind, id: [u8; 16], reference: String, legs: &[(u8, AccountId, i64)], now: Now) -> Draft {
    let moves = legs.iter().filter(|(_, _, units)| *units != 0);
    let legs = moves.map(|(asset, account, units)| LegDraft::of((*asset).into(), *account, *units));
    Draft { reference, ..Draft::of(kind, id, now.millis(), legs.collect()) }
}

fn first_half(key: &[u8; 32]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    id
}

#[cfg(test)]
mod tests {
    use ledger::{AccountId, Chart, Draft};
    use money::Asset;
    use store::{Asking, Paid, RefundPolicy, RefundState, TopUp, TopUpRefund, TopUpState};

    use super::{credited, given_back, moved, parked, set_aside};
    use crate::clock::Now;

    const HOLDER: AccountId = AccountId([7; 16]);
    const KEY: [u8; 32] = [5; 32];
    const ID: [u8; 16] = [6; 16];

    fn paid() -> Paid {
        Paid { rail: "alipay".into(), reference: "2026".into(), order: [3; 16], currency: 4, minor: 3600 }
    }

    fn legs(entry: &Draft) -> Vec<(u16, AccountId, i64)> {
        let entry = entry.clone().checked().unwrap();
        let mut legs: Vec<_> =
            entry.legs.iter().map(|leg| (leg.asset, leg.account, leg.amount.units())).collect();
        legs.sort_unstable();
        legs
    }

    #[track_caller]
    fn assert_legs(entry: &Draft, expected: &[(u16, AccountId, i64)]) {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(legs(entry), expected);
    }

    /// finance.md section 9.1: 36 yuan for 5.004 dollars and 5 % given with them, half of which goes back.
    #[test]
    fn entries_of_each_step() {
        let order = TopUp {
            state: TopUpState::Open,
            account: HOLDER.0,
            asset: 1,
            credit: 5_004,
            bonus: 250,
            rail: "alipay".into(),
            currency: 4,
            minor: 3600,
            policy: RefundPolicy::default(),
            qr: String::new(),
            created_ms: 0,
            expires_ms: 0,
            asking: Asking::default(),
            key: None,
        };
        let refund = TopUpRefund {
            state: RefundState::Requested,
            account: HOLDER.0,
            asset: 1,
            key: KEY,
            paid: paid(),
            credit: 2_502,
            bonus: 250,
            minor: 1800,
            created_ms: 0,
            asking: Asking::default(),
            reason: String::new(),
        };
        let now = Now::of_millis(5000);
        let (rail, yuan, dollar) = (
            Chart::RailClearing("alipay".into()).id(),
            Chart::Fx(Asset::Cny).id(),
            Chart::Fx(Asset::Usd).id(),
        );
        let (promo, payable) = (Chart::Promo.id(), Chart::RefundPayable.id());
        let sum = 36_000_000_000;
        let entry = credited(&KEY, &order, &paid(), now).unwrap();
        assert_legs(
            &entry,
            &[(1, dollar, -5_004), (1, promo, -250), (1, HOLDER, 5_254), (4, rail, -sum), (4, yuan, sum)],
        );
        assert_eq!((entry.key, entry.id), (KEY, [5; 16]));
        let entry = parked(&KEY, &paid(), now).unwrap();
        assert_legs(&entry, &[(4, rail, -sum), (4, Chart::Suspense.id(), sum)]);
        assert_legs(&set_aside(&ID, &refund, now), &[(1, HOLDER, -2_752), (1, payable, 2_752)]);
        let half = sum / 2;
        assert_legs(
            &moved(&ID, &refund, now).unwrap(),
            &[(1, payable, -2_752), (1, dollar, 2_502), (1, promo, 250), (4, rail, half), (4, yuan, -half)],
        );
        let back = given_back(&ID, &refund, now);
        assert_legs(&back, &[(1, payable, -2_752), (1, HOLDER, 2_752)]);
        assert_eq!(back.corrects, TopUpRefund::begin_id(&ID));
        let too_much = Paid { minor: u64::MAX, ..paid() };
        assert!(credited(&KEY, &order, &too_much, now).is_none());
    }
}
