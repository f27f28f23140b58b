//! `farthing receipts`: what was paid, and whether the sellers' books say so too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::{Checked, Client, Folder, KeptReceipt, Key, Policy, Progress, ReceiptError, Trust};
use money::Amount;
use serde_json::{Value, json};

/// A receipt, a proof or a head does not stand (experience.md section 2).
const REFUSED: u8 = 7;

/// `farthing receipts`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all stand, 1 one could not be checked, 2 could not run, 7 one is refused."
)]
pub(crate) struct ReceiptsArgs {
    #[command(subcommand)]
    command: ReceiptsCommand,
    /// Wallet file beside which the receipts are [default: the user's own folders]
    #[arg(long, value_name = "FILE", global = true)]
    wallet: Option<PathBuf>,
    /// Answer with JSON, as into a pipe
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum ReceiptsCommand {
    /// List them, oldest first
    List,
    /// Show one as it was signed, with its proof
    Show {
        /// Id of the call: req_...
        id: String,
    },
    /// Check signatures, and that the sellers' journals have the charges
    Verify {
        /// Ids, or files that somebody handed you; all by default
        receipts: Vec<String>,
        /// Ask nobody: check what is kept
        #[arg(long)]
        offline: bool,
        /// Trust this public key only, 64 hex digits or base64url, instead of the remembered ones
        #[arg(long, value_name = "PUBLIC", allow_hyphen_values = true)]
        key: Option<String>,
        /// File with the credit key that opens the account [default: FARTHING_KEY, or the one its seller gave]
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Trust the certificates in this PEM file too
        #[arg(long, value_name = "FILE")]
        cacert: Option<PathBuf>,
    },
}

pub(crate) fn run(args: &ReceiptsArgs) -> ExitCode {
    let Some(folder) = args.wallet.as_deref().map(Folder::beside).or_else(Folder::of_user) else {
        return crate::complain("no home directory: name a wallet file with --wallet");
    };
    let done = match &args.command {
        ReceiptsCommand::List => list(&folder).map(|rows| (rows, 0)),
        ReceiptsCommand::Show { id } => show(&folder, id).map(|row| (row, 0)),
        ReceiptsCommand::Verify { receipts, offline, key, key_file, cacert } => {
            let means = Means { folder: &folder, offline: *offline, key: key.as_deref() };
            client(&folder, key_file.as_deref(), cacert.as_deref())
                .and_then(|client| verify(&means, &client, receipts))
        }
    };
    match done {
        Ok((value, code)) => {
            crate::table::show(&value, args.json);
            ExitCode::from(code)
        }
        Err(error) => crate::complain(&error),
    }
}

fn client(folder: &Folder, key_file: Option<&Path>, cacert: Option<&Path>) -> Result<Client, String> {
    let client = Client::new(crate::curl::dialer(cacert)?, Policy::up_to(Amount::ZERO));
    let client = client.with_folder(folder.clone());
    let Some(text) = crate::curl::key_from(key_file)? else { return Ok(client) };
    let key = Key::given(&text).map_err(|error| format!("the credit key cannot be used: {error}"))?;
    Ok(client.with_key(key))
}

fn list(folder: &Folder) -> Result<Value, String> {
    let receipts = folder.receipts_folder();
    let ids = KeptReceipt::ids(&receipts).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for id in ids {
        let Some(kept) = KeptReceipt::find(&receipts, &id).map_err(|error| error.to_string())? else {
            continue;
        };
        let payload = kept.unverified();
        rows.push(json!({
            "id": kept.id, "origin": kept.origin, "charged": payload["charged"], "lsn": payload["lsn"],
            "proven": kept.proof.is_some(),
        }));
    }
    Ok(json!({ "receipts": rows }))
}

fn show(folder: &Folder, id: &str) -> Result<Value, String> {
    let kept = find(folder, id)?;
    Ok(
        json!({"id": kept.id, "origin": kept.origin, "says": kept.unverified(), "proof": kept.proof, "jws": kept.receipt}),
    )
}

fn find(folder: &Folder, id: &str) -> Result<KeptReceipt, String> {
    let found = KeptReceipt::find(&folder.receipts_folder(), id).map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("no receipt {id} is kept here"))
}

/// How receipts are checked.
struct Means<'m> {
    folder: &'m Folder,
    offline: bool,
    key: Option<&'m str>,
}

/// Checks them all, whatever becomes of one. The worst decides the exit code.
fn verify(means: &Means<'_>, client: &Client, receipts: &[String]) -> Result<(Value, u8), String> {
    let all;
    let wanted = if receipts.is_empty() {
        all = KeptReceipt::ids(&means.folder.receipts_folder()).map_err(|error| error.to_string())?;
        all.as_slice()
    } else {
        receipts
    };
    let public = means.key.map(crate::audit::public_key).transpose()?;
    let (mut rows, mut code) = (Vec::new(), 0);
    for name in wanted {
        let kept = read(means.folder, name)?;
        let (kept, unasked) = match kept {
            Kept::Ours(kept) if !means.offline => crate::block_on(renewed(means.folder, client, kept))?,
            Kept::Ours(kept) | Kept::Foreign(kept) => (kept, None),
        };
        let (trust_file, heads_file) = (means.folder.trust_file(), means.folder.heads_file());
        let trust = match &public {
            Some(public) => Trust::Key(public),
            None => Trust::Remembered { keys: &trust_file, heads: &heads_file },
        };
        let outcome = kept.verify(trust);
        code = code.max(match (&outcome, &unasked) {
            (Ok(checked), None) if checked.booked.is_some() || checked.receipt.payload["lsn"].is_null() => 0,
            (Err(error), _) if error.is_refused() => REFUSED,
            (Ok(_) | Err(_), _) => 1,
        });
        rows.push(row(&kept, &outcome, unasked.as_ref()));
    }
    Ok((json!({ "receipts": rows }), code))
}

/// Where a receipt came from.
enum Kept {
    /// Our own folder: its seller may be asked with our key.
    Ours(KeptReceipt),
    /// A file: whoever wrote it must not choose where our key goes.
    Foreign(KeptReceipt),
}

fn read(folder: &Folder, name: &str) -> Result<Kept, String> {
    if !name.contains(['/', '.']) {
        return find(folder, name).map(Kept::Ours);
    }
    let bytes = std::fs::read(name).map_err(|error| format!("{name}: {error}"))?;
    let kept = KeptReceipt::parse(&bytes).map_err(|_| format!("{name}: not a receipt as we keep them"))?;
    Ok(Kept::Foreign(kept))
}

/// With a proof of today, if the seller gives one; else with what we have, and why.
async fn renewed(
    folder: &Folder,
    client: &Client,
    kept: KeptReceipt,
) -> Result<(KeptReceipt, Option<ReceiptError>), String> {
    if kept.unverified()["lsn"].is_null() {
        return Ok((kept, None));
    }
    match client.fetch_proof(&kept).await {
        Ok(renewed) => {
            // A proof that does not stand must not take the place of one that does.
            if renewed.proof_stands() {
                renewed.save(&folder.receipts_folder()).map_err(|error| error.to_string())?;
            }
            Ok((renewed, None))
        }
        Err(error) => Ok((kept, Some(error))),
    }
}

fn row(kept: &KeptReceipt, outcome: &Result<Checked, ReceiptError>, unasked: Option<&ReceiptError>) -> Value {
    let mut row = json!({"id": kept.id, "origin": kept.origin});
    match outcome {
        Ok(checked) => {
            row["charged"] = checked.receipt.payload["charged"].clone();
            row["signature"] = "stands".into();
            row["journal"] = match &checked.booked {
                Some(booked) => {
                    row["lsn"] = booked.lsn.into();
                    row["head_size"] = booked.size.into();
                    if let Some(Progress::Restored { from, to }) = booked.progress {
                        row["warning"] = format!(
                            "the gateway was restored from a backup (epoch {from} to {to}): later entries may be gone"
                        )
                        .into();
                    }
                    "has it".into()
                }
                None if checked.receipt.payload["lsn"].is_null() => "nothing was charged".into(),
                None => "not proven".into(),
            };
        }
        Err(error) => {
            row["error"] = error.to_string().into();
            if let ReceiptError::Alarm(alarm) = error {
                row["evidence"] = json!({"known": alarm.known, "shown": alarm.shown});
            }
        }
    }
    if let Some(error) = unasked {
        row["not_renewed"] = error.to_string().into();
    }
    row
}
