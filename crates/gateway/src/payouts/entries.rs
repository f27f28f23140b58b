//! The journal entries of a payout: money set aside, and then moved or given back.

use ledger::{AccountId, Chart, Draft, Kind, LegDraft, leg_asset};
use money::Asset;
use store::{Payout, PayoutStep, Taken};

use super::RAIL;
use crate::clock::Now;

/// Takes what a payout needs from its holder, until it is known where it went. None: its asset is not known here.
pub(super) fn begun(hash: &[u8; 32], payout: &Payout, now: Now) -> Option<Draft> {
    let held = payout.held();
    let legs = [(AccountId(payout.account), -held), (Chart::RefundPayable.id(), held)];
    draft(hash, payout, Payout::begin_id(hash), &legs, now)
}

/// The invoice is paid: what that took is gone, and the holder has back what it did not need. The fee is the holder's to
/// bear, up to what was set aside for it; it is an expense of ours that is made good.
pub(crate) fn paid(hash: &[u8; 32], payout: &Payout, fee_msat: u64, now: Now) -> Option<PayoutStep> {
    let moved_msat = payout.amount_msat.saturating_add(fee_msat.min(payout.fee_max_msat));
    let spent = Taken::first(&payout.taken, moved_msat);
    let (held, charged) = (payout.held(), Taken::credit_of(&spent));
    let fee = charged - Taken::credit_of(&Taken::first(&payout.taken, payout.amount_msat));
    let legs = [
        (Chart::RefundPayable.id(), -held),
        (AccountId(payout.account), held - charged),
        (Chart::RailClearing(RAIL.to_owned()).id(), charged),
        (Chart::RailFee(RAIL.to_owned()).id(), -fee),
        (Chart::FeesPassedOn.id(), fee),
    ];
    let entry = draft(hash, payout, Payout::end_id(hash), &legs, now)?;
    Some(PayoutStep::Paid { fee_msat, spent, entry })
}

/// Nothing was moved: the holder has all of it back, by an entry that names the one that took it (LED-39).
pub(crate) fn failed(hash: &[u8; 32], payout: &Payout, reason: String, now: Now) -> Option<PayoutStep> {
    let held = payout.held();
    let legs = [(Chart::RefundPayable.id(), -held), (AccountId(payout.account), held)];
    let entry = draft(hash, payout, Payout::end_id(hash), &legs, now)?;
    let entry = Draft { corrects: Payout::begin_id(hash), ..entry };
    Some(PayoutStep::Failed { reason, entry })
}

fn draft(
    hash: &[u8; 32],
    payout: &Payout,
    id: [u8; 16],
    legs: &[(AccountId, i64)],
    now: Now,
) -> Option<Draft> {
    let asset = leg_asset(Asset::from_code(payout.asset)?);
    let moves = legs.iter().filter(|(_, units)| *units != 0);
    let legs = moves.map(|(account, units)| LegDraft::of(asset, *account, *units)).collect();
    Some(Draft { reference: wire::hex::encode(hash), ..Draft::of(Kind::Refund, id, now.millis(), legs) })
}

#[cfg(test)]
mod tests {
    use ledger::{AccountId, Chart, Draft};
    use store::{Asking, Payout, PayoutState, PayoutStep, Taken};

    use super::{begun, failed, paid};
    use crate::clock::Now;

    const HASH: [u8; 32] = [0xab; 32];
    const HOLDER: AccountId = AccountId([7; 16]);

    /// 10 000 msat for 1000 units, and at most 100 msat to move them.
    fn payout() -> Payout {
        Payout {
            state: PayoutState::Open,
            account: HOLDER.0,
            asset: 255,
            amount_msat: 10_000,
            fee_max_msat: 100,
            fee_msat: 0,
            taken: vec![Taken { key: [1; 32], msat: 10_100, credit: 1010 }],
            charged: 0,
            invoice: String::new(),
            expires_s: 0,
            created_ms: 0,
            node: None,
            asking: Asking::default(),
            reason: String::new(),
        }
    }

    fn legs(entry: &Draft) -> Vec<(AccountId, i64)> {
        assert!(entry.clone().checked().is_ok(), "{entry:?}");
        entry.legs.iter().map(|leg| (leg.account, leg.amount.units())).collect()
    }

    #[test]
    fn entries_of_each_end() {
        let (now, payable) = (Now::of_millis(5000), Chart::RefundPayable.id());
        let begun = begun(&HASH, &payout(), now).unwrap();
        assert_eq!(legs(&begun), [(HOLDER, -1010), (payable, 1010)]);
        let PayoutStep::Failed { entry, .. } = failed(&HASH, &payout(), "no".into(), now).unwrap() else {
            panic!("not failed")
        };
        assert_eq!(legs(&entry), [(payable, -1010), (HOLDER, 1010)]);
        assert_eq!(entry.corrects, begun.id);
        let clearing = Chart::RailClearing("lightning".into()).id();
        let (expense, income) = (Chart::RailFee("lightning".into()).id(), Chart::FeesPassedOn.id());
        for (fee_msat, expected) in [
            (0, vec![(payable, -1010), (HOLDER, 10), (clearing, 1000)]),
            (1, vec![(payable, -1010), (HOLDER, 9), (clearing, 1001), (expense, -1), (income, 1)]),
            (41, vec![(payable, -1010), (HOLDER, 5), (clearing, 1005), (expense, -5), (income, 5)]),
            (100, vec![(payable, -1010), (clearing, 1010), (expense, -10), (income, 10)]),
            // More than our node was told to spend: no more is taken from the holder.
            (900, vec![(payable, -1010), (clearing, 1010), (expense, -10), (income, 10)]),
        ] {
            let PayoutStep::Paid { entry, spent, .. } = paid(&HASH, &payout(), fee_msat, now).unwrap() else {
                panic!("not paid")
            };
            assert_eq!(legs(&entry), expected, "{fee_msat}");
            assert_eq!(spent.iter().map(|part| part.msat).sum::<u64>(), 10_000 + fee_msat.min(100));
            assert_ne!(entry.id, begun.id);
        }
    }
}
