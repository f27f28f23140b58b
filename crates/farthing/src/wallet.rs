//! `farthing wallet`: the keys that payments are signed with.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use client::{Folder, Wallet};
use serde_json::json;

/// `farthing wallet`
#[derive(Debug, clap::Args)]
pub(crate) struct WalletArgs {
    #[command(subcommand)]
    command: WalletCommand,
}

#[derive(Debug, clap::Subcommand)]
enum WalletCommand {
    /// Make new keys: farthing wallet new
    New(Which),
    /// Show the addresses to send money to, never the keys: farthing wallet show
    Show(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Wallet file [default: ~/.config/farthing/wallet.json]
    #[arg(long, value_name = "FILE", visible_alias = "wallet")]
    file: Option<PathBuf>,
    /// Answer with JSON, as into a pipe.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &WalletArgs) -> ExitCode {
    let (WalletCommand::New(which) | WalletCommand::Show(which)) = &args.command;
    let default = || Folder::of_user().map(|folder| folder.wallet_file());
    let Some(file) = which.file.clone().or_else(default) else {
        return crate::complain("no home directory: name a file with --file");
    };
    let wallet = match &args.command {
        WalletCommand::New(_) => Wallet::create(&file),
        WalletCommand::Show(_) => Wallet::load(&file),
    };
    let wallet = match wallet {
        Ok(wallet) => wallet,
        Err(error) => return crate::complain(&error.to_string()),
    };
    let (evm, test) = (wallet.evm_address(), wallet.test_address());
    if which.json || !std::io::stdout().is_terminal() {
        let file = file.display().to_string();
        println!("{}", json!({"file": file, "evm": evm.to_string(), "test": test}));
    } else {
        println!("file   {}", file.display());
        println!("evm    {evm}   (USDC on Base and other EVM networks)");
        println!("test   {test}   (play money, needs no funding)");
    }
    ExitCode::SUCCESS
}
