//! Commands of the operator: the same work whether a gateway runs or the store is opened alone.

use std::collections::HashMap;
use std::sync::Arc;

use ledger::{AccountId, Chart, Draft, Entry, Flags, Kind, LegDraft, asset_of_code, leg_asset};
use money::{Amount, Asset, parse_money};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{KeyRecord, Op, Options, Store, StoreError};
use wire::credit_key::CreditKey;

use crate::clock::Now;
use crate::facts;
use crate::gate::Gate;
use crate::keys::Keys;
use crate::payer::usual_asset;
use crate::random;

/// What can be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// A new credit key, on a new account unless one is named.
    KeyNew {
        /// Hex id of an existing account.
        #[serde(default)]
        account: Option<String>,
        /// Money to put into it, `5 USD`.
        #[serde(default)]
        credit: Option<String>,
        /// What the operator calls it.
        #[serde(default)]
        label: String,
        /// Caveats to write into it.
        #[serde(default)]
        caveats: Vec<String>,
        /// Makes the command safe to repeat with `credit`.
        #[serde(default)]
        id: Option<String>,
    },
    /// Keys that were handed out.
    KeyList,
    /// Revokes a key, and every key derived from it.
    KeyRevoke {
        /// Hex key id, or the key itself.
        key: String,
    },
    /// Puts money into an account.
    Credit {
        /// Hex id of the account.
        account: String,
        /// `5 USD`.
        amount: String,
        /// Makes the command safe to repeat.
        #[serde(default)]
        id: Option<String>,
    },
    /// The newest entries, and the balances.
    LedgerShow {
        /// Hex id of one account.
        #[serde(default)]
        account: Option<String>,
        /// At most so many entries.
        #[serde(default)]
        limit: Option<usize>,
    },
    /// Reads the configuration again. Only a running gateway can.
    Reload,
    /// Stops taking calls and ends when those in flight have. Only a running gateway can.
    Drain,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfficeError {
    /// The command's own text is wrong.
    #[error("{0}")]
    Usage(String),
    /// The store refused.
    #[error("nothing was written: {0}")]
    Store(#[from] StoreError),
    /// It needs a running gateway.
    #[error("only a running gateway can do this")]
    NotRunning,
}

fn usage(text: impl Into<String>) -> OfficeError {
    OfficeError::Usage(text.into())
}

/// Where commands are carried out.
pub(crate) enum Office<'o> {
    /// In a running gateway: memory follows the store.
    Running(&'o Gate),
    /// On the store alone.
    Alone {
        /// Its keys.
        keys: &'o Keys,
        /// Its store.
        store: &'o Store,
    },
}

impl Office<'_> {
    fn store(&self) -> &Store {
        match self {
            Self::Running(gate) => &gate.store,
            Self::Alone { store, .. } => store,
        }
    }

    fn keys(&self) -> &Keys {
        match self {
            Self::Running(gate) => &gate.keys,
            Self::Alone { keys, .. } => keys,
        }
    }

    /// Carries a command out. Reload and drain are the caller's.
    ///
    /// # Errors
    /// [`OfficeError`]; nothing was written then.
    pub(crate) async fn run(&self, command: Command) -> Result<Value, OfficeError> {
        match command {
            Command::KeyNew { account, credit, label, caveats, id } => {
                self.new_key(account, credit, label, &caveats, id).await
            }
            Command::KeyList => self.list_keys(),
            Command::KeyRevoke { key } => self.revoke(&key).await,
            Command::Credit { account, amount, id } => {
                let account = account_id(&account)?;
                self.credit(account, &amount, id.as_deref()).await
            }
            Command::LedgerShow { account, limit } => {
                // Charges are written just behind the answers: whoever has seen an answer sees its charge.
                self.store().commit(Op::Flush).await?;
                self.show(account.as_deref(), limit.unwrap_or(20))
            }
            Command::Reload | Command::Drain => Err(OfficeError::NotRunning),
        }
    }

    async fn new_key(
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
        let text = proof::credit_key::mint(&keys.masters, keys.mode, account.0, key_id, caveats)
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

    fn list_keys(&self) -> Result<Value, OfficeError> {
        let revoked: Vec<[u8; 16]> = self.store().reader().revoked()?.into_iter().map(|(id, _)| id).collect();
        let keys = self.store().reader().keys()?.into_iter().map(|(id, record)| {
            json!({"key_id": wire::hex::encode(&id), "account": wire::hex::encode(&record.account),
                   "label": record.label, "created_ms": record.created_ms, "expires_s": record.expires_s,
                   "revoked": revoked.contains(&id)})
        });
        Ok(json!({"keys": keys.collect::<Vec<_>>()}))
    }

    async fn revoke(&self, key: &str) -> Result<Value, OfficeError> {
        let id = if key.starts_with("fk_") {
            CreditKey::parse(key).map_err(|error| usage(error.to_string()))?.id().key_id
        } else {
            AccountId::from_hex(key).ok_or_else(|| usage("a key id is 32 hex digits"))?.0
        };
        self.store().commit(Op::Revoke { id, time_ms: Now::read().millis() }).await?;
        if let Self::Running(gate) = self {
            gate.revoke(id);
        }
        Ok(json!({"revoked": wire::hex::encode(&id)}))
    }

    async fn credit(&self, account: AccountId, text: &str, id: Option<&str>) -> Result<Value, OfficeError> {
        let (amount, asset) =
            parse_money(text).map_err(|error| usage(format!("amount \"{text}\": {error}")))?;
        if amount <= Amount::ZERO {
            return Err(usage("the amount must be above zero"));
        }
        self.check_asset(account, asset)?;
        let id = match id {
            Some(id) => credit_id(account, id),
            None => random::bytes(),
        };
        let leg = |account, amount| LegDraft { asset: leg_asset(asset), account, amount };
        let taken = amount.negated().map_err(|_| usage("the amount is out of range"))?;
        let rail = Chart::RailClearing("operator".to_owned());
        let entry = Draft {
            kind: Kind::Deposit,
            flags: Flags::default(),
            time_ms: Now::read().millis(),
            id,
            key: [0; 32],
            reference: "operator".to_owned(),
            corrects: [0; 16],
            price_version: 0,
            cost_femto: 0,
            legs: vec![leg(rail.id(), taken), leg(account, amount)],
        };
        let (done, lsn) = match self.store().commit(Op::Post { entry, names: vec![rail] }).await {
            Ok(committed) => {
                if let Self::Running(gate) = self {
                    gate.book.deposit(account, asset, amount);
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

    fn show(&self, account: Option<&str>, limit: usize) -> Result<Value, OfficeError> {
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
                Some(json!({"deposit_key": wire::hex::encode(&key), "state": payment.state,
                            "account": wire::hex::encode(&payment.account), "rail": payment.rail,
                            "payer": payment.payer, "created_ms": payment.created_ms,
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
    let mut ours = vec![Chart::UsageClearing, Chart::OverrunLoss, Chart::Memo];
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

fn account_id(text: &str) -> Result<AccountId, OfficeError> {
    AccountId::from_hex(text).ok_or_else(|| usage("an account is 32 hex digits"))
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

/// Opens the store of a configuration for commands, when no gateway runs.
///
/// # Errors
/// What stands in the way, for a person.
pub async fn run_alone(config: &crate::config::Config, command: Command) -> Result<Value, String> {
    let keys = Keys::load(config).map_err(|error| error.to_string())?;
    let store =
        Store::open(&config.store.path, Options::new(random::bytes())).map_err(|error| error.to_string())?;
    let office = Office::Alone { keys: &keys, store: &store };
    office.run(command).await.map_err(|error| error.to_string())
}

/// Shared by the socket and tests.
pub(crate) type SharedGate = Arc<Gate>;
