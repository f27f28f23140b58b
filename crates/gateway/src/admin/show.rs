//! The newest entries and the balances, as people and scripts read them.

use std::collections::HashMap;

use ledger::{AccountId, Chart, Entry, Kind, asset_of_code};
use money::{Amount, Asset};
use serde_json::{Value, json};

use super::office::{Office, OfficeError, account_id};
use crate::facts;

impl Office<'_> {
    pub(super) fn show(&self, account: Option<&str>, limit: usize) -> Result<Value, OfficeError> {
        let account = account.map(account_id).transpose()?;
        let reader = self.store().reader();
        let (newest, balances) = reader.overview(account, limit.clamp(1, 10_000))?;
        let names: HashMap<AccountId, String> = reader.names()?.into_iter().collect();
        let mut entries = Vec::new();
        for entry in newest {
            let facts = reader.facts(&entry.draft.id)?;
            entries.push(entry_json(&entry, &names, model_of(facts.as_deref()).as_deref()));
        }
        let balances = balances.into_iter().filter(|row| account.is_none_or(|id| id == row.account));
        let balances: Vec<Value> = balances
            .filter_map(|row| {
                let (asset, memo) = asset_of_code(row.asset)?;
                Some(json!({"account": row.account.to_string(), "memo": memo,
                            "balance": facts::amount(row.amount, asset)}))
            })
            .collect();
        let unsettled: Vec<Value> = reader
            .unsettled()?
            .into_iter()
            .filter(|(_, payment)| account.is_none_or(|id| id.0 == payment.account))
            .filter_map(|(key, payment)| {
                let asset = Asset::from_code(payment.asset)?;
                let transaction = payment.attempt.map(|attempt| attempt.transaction);
                Some(json!({"deposit_key": wire::hex::encode(&key), "state": payment.state,
                            "account": wire::hex::encode(&payment.account), "rail": payment.rail,
                            "payer": payment.payer, "created_ms": payment.created_ms,
                            "transaction": transaction.filter(|text| !text.is_empty()),
                            "valid_before_s": payment.valid_before_s,
                            "amount": facts::amount(Amount::from_units(payment.amount), asset)}))
            })
            .collect();
        Ok(json!({"entries": entries, "balances": balances, "unsettled": unsettled}))
    }
}

fn model_of(facts: Option<&[u8]>) -> Option<String> {
    let facts: Value = serde_json::from_slice(facts?).ok()?;
    facts["model"].as_str().map(str::to_owned)
}

/// The operator's side of an entry has names; a payer's account has only its id. For entries of before the
/// store kept the names.
fn name_of(id: AccountId, entry: &Entry, model: Option<&str>) -> Option<String> {
    let mut ours = vec![Chart::UsageClearing, Chart::OverrunLoss, Chart::RefundPayable, Chart::Memo];
    ours.extend(model.map(|model| Chart::Usage(model.to_owned())));
    ours.extend(["test", "operator"].map(|rail| Chart::RailClearing(rail.to_owned())));
    let networks = wire::x402::network::NETWORKS.iter().map(|network| format!("x402:{}", network.caip2));
    if entry.draft.kind == Kind::Deposit {
        ours.extend(networks.map(Chart::RailClearing));
    }
    ours.into_iter().find(|chart| chart.id() == id).map(|chart| chart.name())
}

/// An entry as people and scripts read it.
fn entry_json(entry: &Entry, names: &HashMap<AccountId, String>, model: Option<&str>) -> Value {
    let legs: Vec<Value> = entry
        .legs
        .iter()
        .filter_map(|leg| {
            let (asset, memo) = asset_of_code(leg.asset)?;
            Some(json!({"account": leg.account.to_string(), "memo": memo,
                        "name": names.get(&leg.account).cloned().or_else(|| name_of(leg.account, entry, model)),
                        "amount": facts::amount(leg.amount, asset),
                        "balance_after": facts::amount(leg.balance_after, asset)}))
        })
        .collect();
    json!({"lsn": entry.lsn, "kind": entry.draft.kind.name(), "time_ms": entry.draft.time_ms,
           "id": wire::hex::encode(&entry.draft.id), "reference": entry.draft.reference,
           "estimated": entry.draft.flags.estimated, "cost_femto_usd": entry.draft.cost_femto.to_string(),
           "legs": legs})
}
