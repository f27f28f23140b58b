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

/// An account of the operator's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Money a rail says it has moved to us: `x402:eip155:84532`, `test`, `credit` (operator's grants).
    RailClearing(String),
    /// Income from calls to one model.
    Usage(String),
    /// Used by a payer who could not pay it.
    OverrunLoss,
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
            Self::OverrunLoss => "overrun_loss".to_owned(),
            Self::Memo => "memo".to_owned(),
        }
    }

    /// The account id: derived from the name, so that it needs no registry.
    #[must_use]
    pub fn id(&self) -> AccountId {
        let digest = Sha256::new_with_prefix(b"farthing/internal/1").chain_update(self.name()).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        AccountId(id)
    }
}

#[cfg(test)]
mod tests {
    use money::Asset;

    use super::{Chart, asset_of_code, leg_asset, memo_asset};

    #[test]
    fn codes_tell_money_from_memo() {
        assert_eq!(asset_of_code(leg_asset(Asset::Usd)), Some((Asset::Usd, false)));
        assert_eq!(asset_of_code(memo_asset(Asset::Test)), Some((Asset::Test, true)));
        assert_eq!(asset_of_code(0x0100), None);
    }

    #[test]
    fn names_make_distinct_accounts() {
        assert_ne!(Chart::Usage("memo".into()).id(), Chart::Memo.id());
        assert_eq!(Chart::Memo.id(), Chart::Memo.id());
    }
}
