//! Commands of the operator: the same work whether a gateway runs or the store is opened alone.

use std::sync::Arc;

use ledger::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{AccountMode, Op, Options, Store, StoreError};

use super::{intents, payouts, top_ups};
use crate::gate::Gate;
use crate::keys::Keys;
use crate::random;
use crate::server::told;

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
    /// Payments that no rail has decided yet.
    LedgerIntents,
    /// Payment channels.
    LedgerChannels,
    /// Ecash that is held, and what of it was taken out.
    CashuShow,
    /// Takes ecash out.
    CashuExport {
        /// Of this mint.
        #[serde(default)]
        mint: Option<String>,
        /// Hex id of a taking that is to be shown once more.
        #[serde(default)]
        again: Option<String>,
    },
    /// Refunds over Lightning.
    LedgerPayouts,
    /// Orders for balance, and payments that none of them asked for like this.
    TopUpList,
    /// Refunds of orders.
    TopUpRefunds,
    /// The operator's word about a refund.
    TopUpDecide {
        /// Its id, hex.
        refund: String,
        /// Whether it is to go back.
        approve: bool,
    },
    /// Codes for balance: their texts are in the answer and nowhere else.
    CodeNew {
        /// What each is good for, `5 USD`.
        credit: String,
        /// How many.
        count: u32,
        /// What the operator calls them.
        #[serde(default)]
        label: String,
        /// Unix seconds after which they are good for nothing.
        #[serde(default)]
        expires_s: Option<u64>,
    },
    /// Codes that were made, and who has called them up.
    CodeList,
    /// What the operator knows of a payment that no rail can decide: its transaction, or that there is none. The same of a
    /// refund over Lightning.
    LedgerResolve {
        /// Hex deposit key, or payment hash of the refund.
        key: String,
        /// The transaction that moved the money, or the preimage.
        #[serde(default)]
        settled: Option<String>,
        /// Nothing moved, and nothing will.
        #[serde(default)]
        refused: bool,
    },
    /// Moves entries into a file, and out of the store.
    LedgerRoll {
        /// The last of them, about.
        through_lsn: u64,
        /// Absolute path of the folder of segments.
        folder: String,
    },
    /// Why a call cost what it did.
    Explain {
        /// Its id.
        call: String,
    },
    /// A signed head over the whole journal, for somebody else to keep.
    LedgerHead,
    /// What was decided about an account, and what it has.
    AccountShow {
        /// Hex id.
        account: String,
    },
    /// Decides about an account.
    AccountSet {
        /// Hex id.
        account: String,
        /// What is to be different.
        change: AccountChange,
    },
    /// Writes a consistent copy of the store.
    Backup {
        /// Absolute path of a file that is not there yet.
        to: String,
    },
    /// The prices that wait to be looked at, and what they change. Only a running gateway has any.
    PricesPending,
    /// Sells at them from now on.
    PricesApply {
        /// How the version begins that was looked at: another one is not applied.
        version: Option<String>,
    },
    /// Reads the configuration again. Only a running gateway can.
    Reload,
    /// Stops taking calls and ends when those in flight have. Only a running gateway can.
    Drain,
}

/// What is to be different about an account. Amounts are `5 USD`, or `none` as for the group; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountChange {
    /// How far below zero it may be drawn.
    pub overdraft: Option<String>,
    /// Most one call may cost.
    pub per_call: Option<String>,
    /// Most that may be spent in a day (UTC).
    pub per_day: Option<String>,
    /// The group whose prices it has.
    pub group: Option<String>,
    /// Open, frozen or closed.
    pub state: Option<AccountMode>,
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

pub(super) fn usage(text: impl Into<String>) -> OfficeError {
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
    pub(super) fn store(&self) -> &Store {
        match self {
            Self::Running(gate) => &gate.store,
            Self::Alone { store, .. } => store,
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        match self {
            Self::Running(gate) => &gate.keys,
            Self::Alone { keys, .. } => keys,
        }
    }

    fn pending_prices(&self) -> Result<Value, OfficeError> {
        let Self::Running(gate) = self else { return Err(OfficeError::NotRunning) };
        let snapshot = gate.snapshot.load();
        let Some(pending) = gate.pending.load_full() else {
            return Ok(told(&snapshot.prices, &snapshot.prices, &[], false));
        };
        let changes = snapshot.prices.changes(&pending);
        Ok(told(&snapshot.prices, &pending, &changes, true))
    }

    /// Carries a command out. What is the server's is the caller's to hand over.
    ///
    /// # Errors
    /// [`OfficeError`]; nothing was written then.
    pub(crate) async fn run(&self, command: Command) -> Result<Value, OfficeError> {
        match command {
            Command::KeyNew { account, credit, label, caveats, id } => {
                self.new_key(account, credit, label, &caveats, id).await
            }
            Command::KeyList => self.list_keys().await,
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
            Command::LedgerChannels => self.channels().await,
            Command::CashuShow => self.cashu().await,
            Command::CashuExport { mint, again } => {
                self.export_cashu(mint.as_deref(), again.as_deref()).await
            }
            Command::LedgerIntents => intents::list(self.store()).await,
            Command::LedgerPayouts => payouts::list(self),
            Command::TopUpList => top_ups::list(self).await,
            Command::TopUpRefunds => top_ups::refunds(self).await,
            Command::TopUpDecide { refund, approve } => top_ups::decide(self, &refund, approve).await,
            Command::CodeNew { credit, count, label, expires_s } => {
                top_ups::new_codes(self, &credit, count, &label, expires_s).await
            }
            Command::CodeList => top_ups::list_codes(self),
            Command::LedgerResolve { key, settled, refused } => {
                intents::decide(self, &key, settled, refused).await
            }
            Command::Explain { call } => self.explain(&call).await,
            Command::LedgerRoll { through_lsn, folder } => self.roll(through_lsn, &folder).await,
            Command::LedgerHead => self.signed_head().await,
            Command::AccountShow { account } => self.show_account(&account).await,
            Command::AccountSet { account, change } => self.set_account(&account, &change).await,
            Command::Backup { to } => self.backup(&to).await,
            Command::PricesPending => self.pending_prices(),
            Command::PricesApply { .. } | Command::Reload | Command::Drain => Err(OfficeError::NotRunning),
        }
    }
}

pub(super) fn account_id(text: &str) -> Result<AccountId, OfficeError> {
    AccountId::from_hex(text).ok_or_else(|| usage("an account is 32 hex digits"))
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
