//! Payment channels: the operator's list.

use std::collections::HashMap;

use ledger::{AccountId, asset_of_code};
use money::{Amount, Asset};
use serde_json::{Value, json};
use store::{Channel, Op, StoreError};
use wire::x402::base58;

use super::office::{Office, OfficeError};
use crate::channels::account_of;
use crate::facts;

impl Office<'_> {
    /// Every channel, the last used first: what was charged, what of it is still the payer's, what the chain has.
    pub(super) async fn channels(&self) -> Result<Value, OfficeError> {
        // Charges are written just behind the answers.
        self.store().commit(Op::Flush).await?;
        let reader = self.store().reader();
        let mut balances = HashMap::new();
        for row in reader.balances()? {
            if let Some((_, false)) = asset_of_code(row.asset) {
                balances.insert(row.account, row.amount);
            }
        }
        let mut channels = reader.channels()?;
        channels.sort_by_key(|(_, channel)| std::cmp::Reverse(channel.used_ms));
        let rows = channels.iter().map(|(id, channel)| {
            let carry = balances.get(&account_of(id)).copied().unwrap_or_default();
            row(id, channel, carry)
        });
        let rows: Result<Vec<Value>, StoreError> = rows.collect();
        Ok(json!({ "channels": rows? }))
    }
}

fn row(id: &[u8; 32], channel: &Channel, carry: Amount) -> Result<Value, StoreError> {
    let unknown = || StoreError::Unavailable("a channel is in an unknown asset".into());
    let asset = Asset::from_code(channel.asset).ok_or_else(unknown)?;
    let told = |atomic: u128| {
        let worth = money::ledger_from_atomic_down(atomic, asset.exponent(), channel.decimals);
        worth.ok().map(|amount| facts::amount(amount, asset))
    };
    let mirror = &channel.mirror;
    let AccountId(account) = account_of(id);
    let is_on_solana = channel.network.starts_with("solana:");
    let name = if is_on_solana { base58::encode(id) } else { wire::hex::encode_0x(id) };
    Ok(json!({
        "channel": name, "kind": channel.kind, "account": wire::hex::encode(&account), "network": channel.network,
        "payer": channel.config["payer"], "charged": told(channel.charged),
        "unused": facts::amount(carry, asset), "on_chain": told(mirror.balance), "claimed": told(mirror.total_claimed),
        "withdraw_requested_at": Some(mirror.withdraw_requested_at).filter(|at| *at > 0),
        "seen_s": mirror.synced_at_s, "used_ms": channel.used_ms, "refund_open": channel.refunding.is_some(),
        "closing": channel.closing.is_some(),
    }))
}
