//! What an operator decides about single accounts: credit line, spend limits, frozen or closed.

use ledger::{AccountId, AccountState};
use money::{Amount, Asset, parse_money};
use serde_json::{Value, json};
use store::{AccountMode, AccountSettings, Op, StoreError};

use super::office::{AccountChange, Office, OfficeError, account_id, usage};
use crate::facts;
use crate::payer::usual_asset;

impl Office<'_> {
    /// Settings, balance and state of an account. One that nobody has paid into is empty, not unknown.
    pub(super) async fn show_account(&self, account: &str) -> Result<Value, OfficeError> {
        let id = account_id(account)?;
        // Whoever has seen an answer sees its charge.
        self.store().commit(Op::Flush).await?;
        self.account_json(id, self.settings_of(id)?)
    }

    /// Changes what is named and leaves the rest. Durable before it counts, and counts before it answers.
    pub(super) async fn set_account(
        &self,
        account: &str,
        change: &AccountChange,
    ) -> Result<Value, OfficeError> {
        let id = account_id(account)?;
        self.store().commit(Op::Flush).await?;
        let asset = self.asset_of(id)?;
        let mut settings = self.settings_of(id)?;
        if let Some(text) = &change.overdraft {
            settings.overdraft = amount_or_none(text, asset)?.unwrap_or(0);
        }
        if let Some(text) = &change.per_call {
            settings.per_call = amount_or_none(text, asset)?;
        }
        if let Some(text) = &change.per_day {
            settings.per_day = amount_or_none(text, asset)?;
        }
        if let Some(group) = &change.group {
            settings.group = group_or_none(group)?;
        }
        if let Some(state) = change.state {
            settings.state = state;
        }
        self.write(id, settings.clone()).await?;
        self.account_json(id, settings)
    }

    async fn write(&self, id: AccountId, settings: AccountSettings) -> Result<(), OfficeError> {
        let before = match self {
            Self::Running(gate) if settings.state == AccountMode::Closed => {
                let account = gate.book.find_any(id);
                // First in memory, where calls in flight are known; nothing can be drawn any more then.
                let closed = account.as_ref().map(|account| (account, account.state()));
                if let Some((account, _)) = closed {
                    account.set_overdraft(Amount::from_units(settings.overdraft));
                    account.set_state(AccountState::Closed).map_err(|left| {
                        usage(format!(
                            "the account is not empty: {} available, {} held, credit line {}",
                            left.available.short(account.asset()),
                            left.held.short(account.asset()),
                            left.overdraft.short(account.asset()),
                        ))
                    })?;
                }
                closed.map(|(account, state)| (account.clone(), state))
            }
            Self::Running(_) | Self::Alone { .. } => None,
        };
        let written = self.store().commit(Op::Account { id, settings: settings.clone() }).await;
        if let (Err(_), Some((account, state))) = (&written, before) {
            // It was not closed after all; opening and freezing cannot fail.
            let _ = account.set_state(state);
        }
        match written {
            Ok(_) => {}
            Err(StoreError::Conflict) => return Err(usage("the account has a balance: it cannot be closed")),
            Err(error) => return Err(error.into()),
        }
        if let Self::Running(gate) = self {
            gate.apply(id, settings);
        }
        Ok(())
    }

    fn settings_of(&self, id: AccountId) -> Result<AccountSettings, OfficeError> {
        let all = self.store().reader().accounts()?;
        Ok(all.into_iter().find(|(known, _)| *known == id).map(|(_, settings)| settings).unwrap_or_default())
    }

    /// What the account holds; what it would hold, while there is nothing in it.
    fn asset_of(&self, id: AccountId) -> Result<Asset, OfficeError> {
        Ok(self.balance_of(id)?.map_or_else(|| usual_asset(self.keys().mode), |(_, asset)| asset))
    }

    fn balance_of(&self, id: AccountId) -> Result<Option<(Amount, Asset)>, OfficeError> {
        let rows = self.store().reader().balances()?;
        Ok(rows.into_iter().find_map(|row| match ledger::asset_of_code(row.asset) {
            Some((asset, false)) if row.account == id => Some((row.amount, asset)),
            Some(_) | None => None,
        }))
    }

    fn account_json(&self, id: AccountId, settings: AccountSettings) -> Result<Value, OfficeError> {
        let asset = self.asset_of(id)?;
        let balance = self.balance_of(id)?.map_or(Amount::ZERO, |(amount, _)| amount);
        let held = match self {
            Self::Running(gate) => gate.book.find_any(id).map_or(Amount::ZERO, |account| account.held()),
            Self::Alone { .. } => Amount::ZERO,
        };
        let units = |units: i64| facts::amount(Amount::from_units(units), asset);
        Ok(json!({
            "account": id.to_string(), "state": settings.state, "balance": facts::amount(balance, asset),
            "held": facts::amount(held, asset), "overdraft": units(settings.overdraft),
            "per_call": settings.per_call.map(units), "per_day": settings.per_day.map(units), "group": settings.group,
        }))
    }
}

/// A group's name as `prices` may have it, or `none`.
fn group_or_none(text: &str) -> Result<Option<String>, OfficeError> {
    if text == "none" {
        return Ok(None);
    }
    crate::config::group_name(text).map(Some).map_err(usage)
}

/// `5 USD` in the account's own asset, or `none`. A dollar is a dollar where the account holds one of its like.
fn amount_or_none(text: &str, asset: Asset) -> Result<Option<i64>, OfficeError> {
    if text == "none" {
        return Ok(None);
    }
    let (amount, said) = parse_money(text).map_err(|error| usage(format!("amount \"{text}\": {error}")))?;
    let fits = said == asset || (said == Asset::Usd && asset.is_dollar_parity());
    if !fits {
        return Err(usage(format!("this account holds {asset}, not {said}")));
    }
    Ok(Some(amount.units()))
}
