//! The one binary: server, operator's tool and paying client.

mod audit;
mod books;
mod budget;
mod cashu;
mod copies;
mod curl;
mod demo;
mod explain;
mod export;
mod init;
mod key;
mod operator;
mod price;
mod receipts;
mod serve;
mod source;
mod table;
mod top_up;
mod upstream;
mod wallet;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway::admin::Command as Ask;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Findings, or an error at the other end (experience.md section 2).
pub(crate) const FINDINGS: u8 = 1;
/// Wrong use, or it could not run.
pub(crate) const COULD_NOT_RUN: u8 = 2;
/// The configuration is invalid.
pub(crate) const CONFIG_INVALID: u8 = 3;

/// Charge agents for AI calls: x402 payments and prepaid credit keys, metered exactly.
///
/// Try it:  farthing demo
#[derive(Debug, Parser)]
#[command(name = "farthing", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole exchange on this machine, offline, with play money
    Demo(demo::Args),
    /// Write a configuration: farthing init && farthing serve
    Init(init::InitArgs),
    /// Run the gateway: farthing serve --config farthing.yaml
    Serve(serve::Args),
    /// Validate a configuration and ask its upstreams
    Check(init::CheckArgs),
    /// Make, narrow, list, revoke and inspect credit keys
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Put money into an account: farthing credit ACCOUNT "5 USD"
    Credit {
        #[command(flatten)]
        args: operator::CreditArgs,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Credit line, spend limits and state of an account
    Account {
        #[command(subcommand)]
        command: operator::AccountCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Orders for balance, and what of them goes back: farthing topup list
    Topup {
        #[command(subcommand)]
        command: top_up::TopUpCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Codes for balance: farthing code new 5usd --count 20
    Code {
        #[command(subcommand)]
        command: top_up::CodeCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Look at the books
    Ledger {
        #[command(subcommand)]
        command: operator::LedgerCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Ecash that the gateway holds: look at it, take it out
    Cashu {
        #[command(subcommand)]
        command: cashu::CashuCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Why a call cost what it did: farthing explain req_...
    Explain {
        #[command(flatten)]
        args: explain::ExplainArgs,
        #[command(flatten)]
        common: operator::Common,
    },
    /// What a call would cost, and why: farthing price gpt-6 --in 1200 --out 300
    Price(price::PriceArgs),
    /// Prices that a reload has left to be looked at
    Prices {
        #[command(subcommand)]
        command: operator::PricesCommand,
        #[command(flatten)]
        common: operator::Common,
    },
    /// Write the journal for other tools: farthing export --format hledger
    Export(export::ExportArgs),
    /// Is a store in order? farthing fsck --store backup.redb
    Fsck(audit::FsckArgs),
    /// Is the journal what the gateway signed? farthing verify --key PUBLIC
    Verify(audit::VerifyArgs),
    /// Copy the store while it is used: farthing backup --to FILE
    Backup(copies::BackupArgs),
    /// Make a store from a backup, with a new epoch: farthing restore --from FILE
    Restore(copies::RestoreArgs),
    /// Make the running gateway read its configuration again
    Reload {
        #[command(flatten)]
        common: operator::Common,
    },
    /// Make the running gateway finish its calls and stop
    Drain {
        #[command(flatten)]
        common: operator::Common,
    },
    /// Call a URL and pay its 402: farthing curl --max 0.05usd URL
    Curl(Box<curl::CurlArgs>),
    /// Caps for what this machine pays: farthing budget set 1usd/day
    Budget(budget::BudgetArgs),
    /// Keys this machine pays with
    Wallet(wallet::WalletArgs),
    /// Receipts this machine was given: farthing receipts verify
    Receipts(receipts::ReceiptsArgs),
    /// A pretend AI API for trying things out
    #[command(hide = true)]
    Upstream(upstream::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::init(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => init::check(&args),
        Command::Key { command, common } => key::run(command, &common),
        Command::Credit { args, common } => operator::credit(args, &common),
        Command::Account { command, common } => operator::account(command, &common),
        Command::Topup { command, common } => top_up::top_up(command, &common),
        Command::Code { command, common } => top_up::code(command, &common),
        Command::Ledger { command, common } => operator::ledger(command, &common),
        Command::Cashu { command, common } => cashu::cashu(command, &common),
        Command::Explain { args, common } => explain::run(args, &common),
        Command::Price(args) => price::run(args),
        Command::Prices { command, common } => operator::prices(&command, &common),
        Command::Export(args) => export::run(&args),
        Command::Fsck(args) => audit::fsck(&args),
        Command::Verify(args) => audit::verify(&args),
        Command::Backup(args) => copies::backup(&args),
        Command::Restore(args) => copies::restore(&args),
        Command::Reload { common } => operator::order(&Ask::Reload, &common),
        Command::Drain { common } => operator::order(&Ask::Drain, &common),
        Command::Curl(args) => curl::run(&args),
        Command::Budget(args) => budget::run(&args),
        Command::Wallet(args) => wallet::run(&args),
        Command::Receipts(args) => receipts::run(&args),
        Command::Upstream(args) => upstream::run(&args),
    }
}

/// Runs a command's asynchronous part on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("farthing: no runtime: {error}");
            std::process::exit(i32::from(COULD_NOT_RUN));
        }
    }
}

/// Says what went wrong, for a person, and that nothing ran.
pub(crate) fn complain(text: &str) -> ExitCode {
    eprintln!("farthing: {text}");
    ExitCode::from(COULD_NOT_RUN)
}
