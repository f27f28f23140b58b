//! `credit`, `account`, `ledger`, `reload`, `drain`, and what of `key` is not offline: asked of the running gateway over its socket, or
//! carried out on the store itself when none runs (reference item 44).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gateway::admin::{self, AccountChange, AccountMode, AskError, Command};
use serde_json::Value;

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
pub(crate) fn spaced(text: &str) -> String {
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) if at > 0 && !text.contains(' ') => {
            format!("{} {}", &text[..at], text[at..].to_ascii_uppercase())
        }
        Some(_) | None => text.to_owned(),
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
