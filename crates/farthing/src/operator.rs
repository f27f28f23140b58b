//! `key`, `credit`, `ledger`, `reload`, `drain`: asked of the running gateway over its socket, or
//! carried out on the store itself when none runs (reference item 44).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::admin::{self, AccountChange, AccountMode, AskError, Command};
use serde_json::{Value, json};

use crate::source::{NoSource, configuration};

/// Where the gateway's configuration is, and how to print.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Configuration file of the gateway.
    #[arg(long, short, default_value = "farthing.yaml", global = true)]
    config: PathBuf,
    /// One JSON document even on a terminal.
    #[arg(long, global = true)]
    json: bool,
}

impl Common {
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) const fn json(&self) -> bool {
        self.json
    }
}

/// `farthing key ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a credit key: farthing key new --credit "5 USD" --label agent-7
    New {
        /// Account it draws on; a new one by default.
        #[arg(long)]
        account: Option<String>,
        /// Money to put into the account.
        #[arg(long)]
        credit: Option<String>,
        /// What you call it.
        #[arg(long, default_value = "")]
        label: String,
        /// End of its life: 30s, 10m, 12h, 7d.
        #[arg(long)]
        expires: Option<String>,
        /// Most it may ever spend: 0.50 USD.
        #[arg(long)]
        budget: Option<String>,
        /// Most one call may cost: 0.02 USD.
        #[arg(long)]
        max_call: Option<String>,
        /// Models it may use: deepseek-*,gpt-6
        #[arg(long)]
        models: Option<String>,
        /// Routes it may use, by name.
        #[arg(long)]
        routes: Option<String>,
        /// Makes the command safe to repeat.
        #[arg(long)]
        id: Option<String>,
    },
    /// List the keys that were handed out. The keys themselves are not stored.
    List,
    /// Revoke a key and all keys derived from it: farthing key revoke KEY-ID
    Revoke {
        /// Key id, or the key itself.
        key: String,
    },
    /// Show what is written in a key, without any secret: farthing key inspect fk_test_...
    Inspect {
        /// The key; `-` reads it from standard input.
        key: String,
    },
}

/// `farthing credit`
#[derive(Debug, clap::Args)]
pub(crate) struct CreditArgs {
    /// Account, 32 hex digits.
    account: String,
    /// Amount with its asset: "5 USD".
    amount: String,
    /// Makes the command safe to repeat.
    #[arg(long)]
    id: Option<String>,
}

/// `farthing ledger ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LedgerCommand {
    /// Show the newest entries and the balances.
    Show {
        /// Of one account only.
        #[arg(long)]
        account: Option<String>,
        /// At most so many entries.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Sign the journal as it is now, for somebody else to keep: farthing ledger head >> heads.jsonl
    Head,
    /// Move old entries into compressed files beside the store. Balances, proofs of payment and the tree stay;
    /// receipts and proofs of the moved calls can no longer be asked for.
    Roll {
        /// Up to this entry, about.
        #[arg(long, value_name = "LSN", required_unless_present = "keep_days")]
        through: Option<u64>,
        /// All but the last so many days.
        #[arg(long, value_name = "DAYS", conflicts_with = "through")]
        keep_days: Option<u64>,
    },
    /// Show the payments that no rail has decided yet: age, attempts, next poll.
    Intents,
    /// Show the payment channels: what was charged, what of it is unused, what the chain has.
    Channels,
    /// Show the refunds over Lightning, those that are not decided first.
    Payouts,
    /// Decide a payment that no rail can: farthing ledger resolve DEPOSIT-KEY --settled 0xTRANSACTION
    Resolve {
        /// Deposit key, as `ledger intents` shows it, or payment hash, as `ledger payouts` does.
        key: String,
        /// Its transaction, which you have seen: the money becomes balance of the payer. Of a refund its preimage.
        #[arg(
            long,
            value_name = "TRANSACTION",
            conflicts_with = "refused",
            required_unless_present = "refused"
        )]
        settled: Option<String>,
        /// Nothing moved, and the proof's time is over; of a refund, that your node has not paid and will not.
        #[arg(long)]
        refused: bool,
    },
}

/// `farthing account ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AccountCommand {
    /// Show balance, credit line, limits and state: farthing account show ACCOUNT
    Show {
        /// Account, 32 hex digits.
        account: String,
    },
    /// Change what is named: farthing account set ACCOUNT --per-day "20 USD"
    Set {
        /// Account, 32 hex digits.
        account: String,
        /// How far below zero it may be drawn; none by default.
        #[arg(long, value_name = "AMOUNT")]
        overdraft: Option<String>,
        /// Most that it may spend in a day (UTC), or `none`.
        #[arg(long, value_name = "AMOUNT")]
        per_day: Option<String>,
        /// Most that one call may cost, or `none`.
        #[arg(long, value_name = "AMOUNT")]
        per_call: Option<String>,
        /// Group whose prices it has, or `none`.
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// No new calls; those in flight end as usual, and deposits come in.
        #[arg(long, group = "state")]
        freeze: bool,
        /// Calls again.
        #[arg(long, group = "state")]
        unfreeze: bool,
        /// For good, once it is empty.
        #[arg(long, group = "state")]
        close: bool,
    },
}

/// `farthing prices ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PricesCommand {
    /// Show what waits, and what it changes.
    Show,
    /// Sell at it from now on: farthing prices apply 3f9c1a
    Apply {
        /// The version that was shown, or how it begins: another one is not applied
        version: Option<String>,
    },
}

pub(crate) fn prices(command: &PricesCommand, common: &Common) -> ExitCode {
    let command = match command {
        PricesCommand::Show => Command::PricesPending,
        PricesCommand::Apply { version } => Command::PricesApply { version: version.clone() },
    };
    carry_out(&command, common)
}

pub(crate) fn account(command: AccountCommand, common: &Common) -> ExitCode {
    let command = match command {
        AccountCommand::Show { account } => Command::AccountShow { account },
        AccountCommand::Set { account, overdraft, per_day, per_call, group, freeze, unfreeze, close } => {
            let state =
                [(freeze, AccountMode::Frozen), (unfreeze, AccountMode::Open), (close, AccountMode::Closed)];
            let state = state.into_iter().find_map(|(asked, state)| asked.then_some(state));
            let [overdraft, per_day, per_call] =
                [overdraft, per_day, per_call].map(|text| text.map(|text| spaced(&text)));
            Command::AccountSet {
                account,
                change: AccountChange { overdraft, per_call, per_day, group, state },
            }
        }
    };
    carry_out(&command, common)
}

/// `5usd` as `5 USD`, the form of configurations.
fn spaced(text: &str) -> String {
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) if at > 0 && !text.contains(' ') => {
            format!("{} {}", &text[..at], text[at..].to_ascii_uppercase())
        }
        Some(_) | None => text.to_owned(),
    }
}

pub(crate) fn key(command: KeyCommand, common: &Common) -> ExitCode {
    match command {
        KeyCommand::New { account, credit, label, expires, budget, max_call, models, routes, id } => {
            let caveats = match caveats(expires, budget, max_call, models, routes) {
                Ok(caveats) => caveats,
                Err(error) => return crate::complain(&error),
            };
            carry_out(&Command::KeyNew { account, credit, label, caveats, id }, common)
        }
        KeyCommand::List => carry_out(&Command::KeyList, common),
        KeyCommand::Revoke { key } => carry_out(&Command::KeyRevoke { key }, common),
        KeyCommand::Inspect { key } => inspect(&key, common),
    }
}

pub(crate) fn credit(args: CreditArgs, common: &Common) -> ExitCode {
    carry_out(&Command::Credit { account: args.account, amount: args.amount, id: args.id }, common)
}

pub(crate) fn ledger(command: LedgerCommand, common: &Common) -> ExitCode {
    let command = match command {
        LedgerCommand::Show { account, limit } => Command::LedgerShow { account, limit: Some(limit) },
        LedgerCommand::Roll { through, keep_days } => {
            match crate::copies::roll(through, keep_days, &common.config) {
                Ok(command) => command,
                Err(problem) => return problem.complain(),
            }
        }
        LedgerCommand::Head => Command::LedgerHead,
        LedgerCommand::Intents => Command::LedgerIntents,
        LedgerCommand::Channels => Command::LedgerChannels,
        LedgerCommand::Payouts => Command::LedgerPayouts,
        LedgerCommand::Resolve { key, settled, refused } => Command::LedgerResolve { key, settled, refused },
    };
    carry_out(&command, common)
}

pub(crate) fn order(command: &Command, common: &Common) -> ExitCode {
    carry_out(command, common)
}

fn caveats(
    expires: Option<String>,
    budget: Option<String>,
    max_call: Option<String>,
    models: Option<String>,
    routes: Option<String>,
) -> Result<Vec<String>, String> {
    let money = |text: &str| {
        let (amount, asset) =
            money::parse_money(text).map_err(|error| format!("amount \"{text}\": {error}"))?;
        Ok::<_, String>(format!("{asset}:{}", amount.units()))
    };
    let mut caveats = Vec::new();
    if let Some(text) = expires {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
        caveats.push(format!("expires={}", now.saturating_add(seconds(&text)?)));
    }
    if let Some(text) = budget {
        let mut id = [0u8; 8];
        getrandom::fill(&mut id).map_err(|error| error.to_string())?;
        caveats.push(format!("budget={}:{}", wire::hex::encode(&id), money(&text)?));
    }
    if let Some(text) = max_call {
        caveats.push(format!("per_call={}", money(&text)?));
    }
    caveats.extend(models.map(|models| format!("models={models}")));
    caveats.extend(routes.map(|routes| format!("routes={routes}")));
    Ok(caveats)
}

fn seconds(text: &str) -> Result<u64, String> {
    let bad = || format!("duration \"{text}\": write 30s, 10m, 12h or 7d");
    let unit = text.chars().last().ok_or_else(bad)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().map_err(|_| bad())?;
    count.checked_mul(factor).ok_or_else(bad)
}

/// Reads a key offline: anybody who holds it may know what it allows.
fn inspect(key: &str, common: &Common) -> ExitCode {
    let mut text = key.to_owned();
    if key == "-" {
        text.clear();
        if let Err(error) = std::io::stdin().read_line(&mut text) {
            return crate::complain(&error.to_string());
        }
    }
    match wire::credit_key::CreditKey::parse(text.trim()) {
        Ok(key) => {
            let id = key.id();
            let caveats: Vec<String> = key
                .macaroon()
                .caveats
                .iter()
                .map(|caveat| String::from_utf8_lossy(caveat).into_owned())
                .collect();
            crate::table::show(
                &json!({
                    "mode": key.mode().prefix().trim_start_matches("fk_").trim_end_matches('_'),
                    "epoch": id.epoch, "account": wire::hex::encode(&id.account),
                    "key_id": wire::hex::encode(&id.key_id), "caveats": caveats,
                    "note": "whether the key is genuine only its gateway can tell",
                }),
                common.json,
            );
            ExitCode::SUCCESS
        }
        Err(error) => crate::complain(&format!("not a credit key: {error}")),
    }
}

pub(crate) fn carry_out(command: &Command, common: &Common) -> ExitCode {
    match ask(command, &common.config) {
        Ok(value) => {
            crate::table::show(&value, common.json);
            ExitCode::SUCCESS
        }
        Err(problem) => problem.complain(),
    }
}

/// The answer of the running gateway of a configuration, or of its store when none runs.
pub(crate) fn ask(command: &Command, config: &Path) -> Result<Value, NoSource> {
    let config = configuration(config)?;
    let outcome = crate::block_on(async {
        match admin::ask(&config.admin.socket, command).await {
            Err(AskError::NotRunning) => admin::run_alone(&config, command.clone()).await,
            answered => answered.map_err(|error| error.to_string()),
        }
    });
    Ok(outcome?)
}
