//! `farthing key`: credit keys made and revoked by their issuer, and narrowed by whoever holds one.

mod attenuate;
mod holder;
mod restrictions;

use std::io::Read as _;
use std::process::ExitCode;

use client::Secret;
use gateway::admin::Command;
use proof::credit_key;
use serde_json::json;
use wire::credit_key::{CreditKey, TEXT_BYTES_MAX};

use crate::operator::{Common, carry_out};
use restrictions::Restrictions;
pub(crate) use restrictions::time;

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
        #[command(flatten)]
        restrictions: Restrictions,
        /// Makes the command safe to repeat.
        #[arg(long)]
        id: Option<String>,
    },
    /// Make a weaker key of one you hold, offline: farthing key attenuate --budget 0.50usd --expires 1h < parent.key
    ///
    /// Nobody is asked and nothing is written. Every budget above the new key is charged with what it spends.
    Attenuate(attenuate::AttenuateArgs),
    /// Key pairs that requests are signed with, by holders and by agents: farthing key holder new
    Holder {
        #[command(subcommand)]
        command: holder::HolderCommand,
    },
    /// List the keys that were handed out. The keys themselves are not stored.
    List,
    /// Revoke a key and all keys derived from it: farthing key revoke KEY-ID
    Revoke {
        /// Key id, the link of one point of a chain, an account, a payment hash, or the key itself.
        key: String,
    },
    /// Show what is written in a key, without any secret: farthing key inspect fk_test_...
    Inspect {
        /// The key; `-` reads it from standard input.
        key: String,
    },
}

pub(crate) fn run(command: KeyCommand, common: &Common) -> ExitCode {
    match command {
        KeyCommand::New { account, credit, label, restrictions, id } => match restrictions.caveats() {
            Ok(caveats) => carry_out(&Command::KeyNew { account, credit, label, caveats, id }, common),
            Err(error) => crate::complain(&error),
        },
        KeyCommand::Attenuate(args) => attenuate::run(&args, common.json()),
        KeyCommand::Holder { command } => holder::run(&command, common.json()),
        KeyCommand::List => carry_out(&Command::KeyList, common),
        KeyCommand::Revoke { key } => carry_out(&Command::KeyRevoke { key }, common),
        KeyCommand::Inspect { key } => inspect(&key, common),
    }
}

/// Reads a key offline: anybody who holds it may know what it allows.
fn inspect(key: &str, common: &Common) -> ExitCode {
    let text = match key {
        "-" => match from_stdin() {
            Ok(text) => text,
            Err(error) => return crate::complain(&error),
        },
        key => Secret::new(key.trim().to_owned()),
    };
    match CreditKey::parse(text.expose()) {
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
                    "link": wire::hex::encode(&credit_key::last_link(&key)),
                    "note": "whether the key is genuine only its gateway can tell",
                }),
                common.json(),
            );
            ExitCode::SUCCESS
        }
        Err(error) => crate::complain(&format!("not a credit key: {error}")),
    }
}

/// A key from standard input: no more of it than a key can be long.
fn from_stdin() -> Result<Secret, String> {
    let mut text = String::new();
    let read = std::io::stdin().take(TEXT_BYTES_MAX as u64 + 2).read_to_string(&mut text);
    let text = Secret::new(text);
    read.map_err(|error| format!("standard input: {error}"))?;
    Ok(Secret::new(text.expose().trim().to_owned()))
}
