//! The internal accounts of the books (ledger.md 8.1) and the asset codes of journal legs.

use money::Asset;
use sha2::{Digest, Sha256};

use crate::AccountId;

/// Set in a leg's asset code when the leg counts a spend limit, not money (LED-15).
pub const MEMO_FLAG: u16 = 0x8000;

/// The asset code of a money leg.
#[must_use]
pub fn leg_asset(asset: Asset) -> u16 {
    u16::from(asset.code())
}

/// The asset code of a memo leg.
#[must_use]
pub fn memo_asset(asset: Asset) -> u16 {
    MEMO_FLAG | leg_asset(asset)
}

/// The asset of a leg's code, and whether it is a memo leg.
#[must_use]
pub fn asset_of_code(code: u16) -> Option<(Asset, bool)> {
    let asset = Asset::from_code(u8::try_from(code & !MEMO_FLAG).ok()?)?;
    Some((asset, code & MEMO_FLAG != 0))
}

/// The account of a spend limit in one time window (LED-14): the first 16 bytes of SHA-256 over
/// `farthing/window/1`, then the account, the name of the limit and the window's start in Unix seconds,
/// each behind its length as u16 big-endian.
#[must_use]
pub fn window_link(account: AccountId, name: &str, window_start_s: u64) -> AccountId {
    let start = window_start_s.to_be_bytes();
    let mut hash = Sha256::new_with_prefix(b"farthing/window/1");
    for field in [&account.0[..], name.as_bytes(), &start] {
        // The name is the only field of free length, so a length cut off keeps two names apart all the same.
        hash.update(u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(field);
    }
    first_16(hash.finalize().into())
}

fn first_16(digest: [u8; 32]) -> AccountId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    AccountId(id)
}

/// An account of the operator's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Money a rail says it has moved to us: `x402:eip155:84532`, `test`, `credit` (operator's grants).
    RailClearing(String),
    /// Income from calls to one model.
    Usage(String),
    /// What the calls of a batch came to, until the batch's income entry spreads it over the models: so
    /// that no call waits for another one's row. Zero after every batch.
    UsageClearing,
    /// Used by a payer who could not pay it.
    OverrunLoss,
    /// Taken from payers for money that is on its way back to them, until it is known to have moved.
    RefundPayable,
    /// What a rail took for moving money: `lightning`.
    RailFee(String),
    /// Fees of rails that payers made good out of their balances.
    FeesPassedOn,
    /// What was exchanged out of or into an asset, so that each asset sums to zero by itself (FIN-64).
    Fx(Asset),
    /// What was given away: bonuses and codes (FIN-33).
    Promo,
    /// Money that a rail has for us and that no order asked for like this (FIN-10).
    Suspense,
    /// Counterpart of memo legs.
    Memo,
}

impl Chart {
    /// The name in exports and listings.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::RailClearing(rail) => format!("rail_clearing:{rail}"),
            Self::Usage(model) => format!("usage:{model}"),
            Self::UsageClearing => "usage_clearing".to_owned(),
            Self::OverrunLoss => "overrun_loss".to_owned(),
            Self::RefundPayable => "refund_payable".to_owned(),
            Self::RailFee(rail) => format!("rail_fee:{rail}"),
            Self::FeesPassedOn => "fees_passed_on".to_owned(),
            Self::Fx(asset) => format!("fx:{asset}"),
            Self::Promo => "promo".to_owned(),
            Self::Suspense => "suspense_unknown".to_owned(),
            Self::Memo => "memo".to_owned(),
        }
    }

    /// The account id: derived from the name, so that it needs no registry.
    #[must_use]
    pub fn id(&self) -> AccountId {
        match self {
            Self::UsageClearing => USAGE_CLEARING,
            Self::OverrunLoss => OVERRUN_LOSS,
            Self::Memo => MEMO,
            Self::RailClearing(_)
            | Self::Usage(_)
            | Self::RefundPayable
            | Self::RailFee(_)
            | Self::FeesPassedOn
            | Self::Fx(_)
            | Self::Promo
            | Self::Suspense => self.derived(),
        }
    }

    fn derived(&self) -> AccountId {
        let digest = Sha256::new_with_prefix(b"farthing/internal/1").chain_update(self.name()).finalize();
        first_16(digest.into())
    }
}

/// Ids of the accounts that the entry of every call is posted to: what [`Chart::derived`] comes to, so that no call
/// computes it.
const USAGE_CLEARING: AccountId = AccountId(0x4e10_87b9_db54_0783_afda_940e_d34d_7484_u128.to_be_bytes());
const OVERRUN_LOSS: AccountId = AccountId(0xcc8e_35ee_1921_f2f3_15be_c39f_b41f_ceb7_u128.to_be_bytes());
const MEMO: AccountId = AccountId(0xa662_e0e0_84ac_e545_f7a9_7922_340f_859e_u128.to_be_bytes());

#[cfg(test)]
mod tests {
    use money::Asset;

    use super::{Chart, asset_of_code, leg_asset, memo_asset, window_link};
    use crate::AccountId;

    #[test]
    fn codes_tell_money_from_memo() {
        assert_eq!(asset_of_code(leg_asset(Asset::Usd)), Some((Asset::Usd, false)));
        assert_eq!(asset_of_code(memo_asset(Asset::Test)), Some((Asset::Test, true)));
        assert_eq!(asset_of_code(0x0100), None);
    }

    /// Names are in exports and ids in the journal: neither may ever change.
    #[test]
    fn names_and_ids_stay() {
        for (chart, name, id) in [
            (Chart::RailClearing("test".into()), "rail_clearing:test", "4318fe406688bc39fee9608c0ca24ad3"),
            (Chart::Usage("m".into()), "usage:m", "d334750a398e9afa01958beb30c290ce"),
            (Chart::UsageClearing, "usage_clearing", "4e1087b9db540783afda940ed34d7484"),
            (Chart::OverrunLoss, "overrun_loss", "cc8e35ee1921f2f315bec39fb41fceb7"),
            (Chart::RefundPayable, "refund_payable", "47f7f437fefbf6ce8b36d0a09183e4a1"),
            (Chart::RailFee("lightning".into()), "rail_fee:lightning", "c505cb365fc3490525f5f8e4b8fb235c"),
            (Chart::FeesPassedOn, "fees_passed_on", "95f2563d2ea2504a5d0fdad651609829"),
            (Chart::Fx(Asset::Cny), "fx:CNY", "f44a2e6e6120681bdcfd971a4108ec69"),
            (Chart::Promo, "promo", "8fc159825c72bffda2cb1d75021510ee"),
            (Chart::Suspense, "suspense_unknown", "986d051880862ca02a7c8be285ac3882"),
            (Chart::Memo, "memo", "a662e0e084ace545f7a97922340f859e"),
        ] {
            assert_eq!(chart.name(), name);
            assert_eq!(chart.id().to_string(), id);
            assert_eq!(chart.id(), chart.derived());
        }
    }

    /// LED-14: `sha256("farthing/window/1" 0010 account 0003 "day" 0008 start)`.
    #[test]
    fn a_window_is_named_by_account_limit_and_start() {
        let account = AccountId([7; 16]);
        let link = window_link(account, "day", 1_795_046_400);
        assert_eq!(link.to_string(), "6b456dd56d0e830afe44f82137a72940");
        for other in [
            window_link(AccountId([8; 16]), "day", 1_795_046_400),
            window_link(account, "hour", 1_795_046_400),
            window_link(account, "day", 1_795_132_800),
        ] {
            assert_ne!(link, other);
        }
    }
}
