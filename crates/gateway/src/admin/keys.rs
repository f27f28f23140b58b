//! Credit keys: made, listed, revoked. Their text is shown once and stored nowhere.

use ledger::AccountId;
use serde_json::{Value, json};
use store::{KeyRecord, Op};
use wire::credit_key::CreditKey;
use wire::l402::PaymentHash;

use super::office::{Office, OfficeError, account_id, usage};
use crate::clock::Now;
use crate::random;

impl Office<'_> {
    pub(super) async fn new_key(
        &self,
        account: Option<String>,
        credit: Option<String>,
        label: String,
        caveats: &[String],
        id: Option<String>,
    ) -> Result<Value, OfficeError> {
        let account = match account {
            Some(text) => account_id(&text)?,
            None => AccountId(random::bytes()),
        };
        let key_id = random::bytes();
        let keys = self.keys();
        let text =
            proof::credit_key::mint(&keys.masters.load().credit, keys.mode, account.0, key_id, caveats)
                .map_err(|error| usage(format!("the key would be refused: {error}")))?;
        let credited = match credit {
            Some(amount) => Some(self.credit(account, &amount, id.as_deref()).await?),
            None => None,
        };
        let expires_s = caveats.iter().find_map(|caveat| caveat.strip_prefix("expires=")?.parse().ok());
        let record = KeyRecord { account: account.0, label, created_ms: Now::read().millis(), expires_s };
        self.store().commit(Op::Key { id: key_id, record }).await?;
        let mut answer = json!({
            "key": text, "key_id": wire::hex::encode(&key_id), "account": account.to_string(),
        });
        if let Some(credited) = credited {
            answer["credit"] = credited;
        }
        Ok(answer)
    }

    pub(super) async fn list_keys(&self) -> Result<Value, OfficeError> {
        self.store().commit(Op::Flush).await?;
        let revoked: Vec<[u8; 16]> = self.store().reader().revoked()?.into_iter().map(|(id, _)| id).collect();
        let keys = self.store().reader().keys()?.into_iter().map(|(id, record)| {
            json!({"key_id": wire::hex::encode(&id), "account": wire::hex::encode(&record.account),
                   "label": record.label, "created_ms": record.created_ms, "expires_s": record.expires_s,
                   "revoked": revoked.contains(&id)})
        });
        Ok(json!({"keys": keys.collect::<Vec<_>>()}))
    }

    pub(super) async fn revoke(&self, key: &str) -> Result<Value, OfficeError> {
        let id = if key.starts_with("fk_") {
            CreditKey::parse(key).map_err(|error| usage(error.to_string()))?.id().key_id
        } else if let Ok(payment_hash) = PaymentHash::parse(key) {
            // Every token of that payment, and every credit key for what it has left (L402-44).
            proof::account_id::lightning(&payment_hash)
        } else {
            let unknown = "a key id, an account or a link is 32 hex digits, a payment hash is 64";
            AccountId::from_hex(key).ok_or_else(|| usage(unknown))?.0
        };
        self.store().commit(Op::Revoke { id, time_ms: Now::read().millis() }).await?;
        if let Self::Running(gate) = self {
            gate.revoke(id);
        }
        Ok(json!({"revoked": wire::hex::encode(&id)}))
    }
}
