//! Money that an operator puts into an account by hand.

use ledger::{AccountId, Chart, Draft, Entry, Kind, LegDraft, asset_of_code, leg_asset};
use money::{Amount, Asset, parse_money};
use serde_json::{Value, json};
use store::{Op, StoreError};

use super::office::{Office, OfficeError, usage};
use crate::clock::Now;
use crate::facts;
use crate::payer::usual_asset;
use crate::random;

impl Office<'_> {
    pub(super) async fn credit(
        &self,
        account: AccountId,
        text: &str,
        id: Option<&str>,
    ) -> Result<Value, OfficeError> {
        let (amount, asset) =
            parse_money(text).map_err(|error| usage(format!("amount \"{text}\": {error}")))?;
        if amount <= Amount::ZERO {
            return Err(usage("the amount must be above zero"));
        }
        // What was paid in just now may say in what.
        self.store().commit(Op::Flush).await?;
        self.check_asset(account, asset)?;
        let id = match id {
            Some(id) => credit_id(account, id),
            None => random::bytes(),
        };
        let taken = amount.negated().map_err(|_| usage("the amount is out of range"))?;
        let rail = Chart::RailClearing("operator".to_owned());
        let leg = |account, amount: Amount| LegDraft::of(leg_asset(asset), account, amount.units());
        let legs = vec![leg(rail.id(), taken), leg(account, amount)];
        let entry = Draft {
            reference: "operator".to_owned(),
            ..Draft::of(Kind::Deposit, id, Now::read().millis(), legs)
        };
        let (done, lsn) = match self.store().commit(Op::Post { entry, names: vec![rail] }).await {
            Ok(committed) => {
                if let Self::Running(gate) = self {
                    gate.deposit(account, asset, amount);
                }
                ("credited", committed.lsn)
            }
            // The same id again: it stands as it was written the first time.
            Err(StoreError::Conflict) => {
                let first = self.store().reader().entry_of(&id)?;
                let same = |entry: &Entry| {
                    let leg = entry.legs.iter().find(|leg| leg.account == account);
                    leg.is_some_and(|leg| leg.amount == amount && leg.asset == leg_asset(asset))
                };
                match first.filter(|(entry, _)| same(entry)) {
                    Some((entry, _)) => ("already credited", entry.lsn),
                    None => return Err(usage("this id was used for another credit")),
                }
            }
            Err(error) => return Err(error.into()),
        };
        Ok(json!({"account": account.to_string(), "amount": facts::amount(amount, asset), "done": done,
                  "lsn": lsn, "id": wire::hex::encode(&id)}))
    }

    /// One account holds one asset (LED-4), and a mode its own money (reference item 41).
    fn check_asset(&self, account: AccountId, asset: Asset) -> Result<(), OfficeError> {
        let usual = usual_asset(self.keys().mode);
        if (asset == Asset::Test) != (usual == Asset::Test) {
            return Err(usage(format!("a gateway in this mode holds {usual}, not {asset}")));
        }
        for row in self.store().reader().balances()? {
            if let Some((held, false)) = asset_of_code(row.asset)
                && row.account == account
                && held != asset
            {
                return Err(usage(format!("this account holds {held}, not {asset}")));
            }
        }
        Ok(())
    }
}

/// The entry id of an operator's credit: the same id for the same account is the same credit.
fn credit_id(account: AccountId, id: &str) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let hash =
        Sha256::new_with_prefix(b"farthing/credit/1").chain_update(account.0).chain_update(id).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}
