//! `farthing wallet`: the keys that payments are signed with, and what they have with sellers.

mod lightning;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::{Channel, Client, Folder, Policy, Request, Step, Target, Wallet};
use http::Method;
use money::Amount;
use serde_json::{Value, json};

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
    /// Show payment channels: what is in them, and what a withdrawal on the chain needs to know
    Channels(Which),
    /// Ask a seller for what is left in a payment channel: farthing wallet refund 0xabc...
    Refund(RefundArgs),
    /// Open the balance that this wallet has with a seller, and keep its key: farthing wallet sign-in URL
    SignIn(SignInArgs),
    /// The node that pays L402 invoices: farthing wallet lightning set lnd --url https://...
    Lightning {
        #[command(subcommand)]
        command: lightning::LightningCommand,
    },
}

#[derive(Debug, clap::Args)]
struct RefundArgs {
    /// The channel's name, as `farthing wallet channels` shows it
    channel: String,
    /// What it could pay: its seller's offer is asked for there [default: what it paid last]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Ask with POST and this body, where the seller offers nothing for GET
    #[arg(long, value_name = "DATA")]
    json_body: Option<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct SignInArgs {
    /// Any address of the seller
    url: String,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
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
    let done = match &args.command {
        WalletCommand::New(which) => which.file().and_then(|file| {
            let wallet = Wallet::create(&file).map_err(|error| error.to_string())?;
            addresses(&file, &wallet, which);
            Ok(())
        }),
        WalletCommand::Show(which) => which.file().and_then(|file| {
            let wallet = Wallet::load(&file).map_err(|error| error.to_string())?;
            addresses(&file, &wallet, which);
            Ok(())
        }),
        WalletCommand::Channels(which) => which.folder().and_then(|folder| channels(&folder, which)),
        WalletCommand::Refund(args) => return refund(args),
        WalletCommand::SignIn(args) => return sign_in(args),
        WalletCommand::Lightning { command } => return lightning::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::complain(&error),
    }
}

impl Which {
    fn file(&self) -> Result<PathBuf, String> {
        let default = || Folder::of_user().map(|folder| folder.wallet_file());
        self.file
            .clone()
            .or_else(default)
            .ok_or_else(|| "no home directory: name a file with --file".to_owned())
    }

    fn folder(&self) -> Result<Folder, String> {
        let named = self.file.as_deref().map(Folder::beside).or_else(Folder::of_user);
        named.ok_or_else(|| "no home directory: name a file with --file".to_owned())
    }

    /// A client that may ask and sign in; nothing is paid with it.
    fn client(&self, cacert: Option<&Path>) -> Result<Client, String> {
        let dialer = crate::curl::dialer(cacert)?;
        let wallet = Wallet::load(&self.file()?).map_err(|error| error.to_string())?;
        Ok(Client::new(dialer, Policy::up_to(Amount::ZERO)).with_wallet(wallet).with_folder(self.folder()?))
    }
}

fn addresses(file: &Path, wallet: &Wallet, which: &Which) {
    let (evm, test) = (wallet.evm_address(), wallet.test_address());
    let solana = wallet.solana_address();
    if which.json || !std::io::stdout().is_terminal() {
        let file = file.display().to_string();
        println!("{}", json!({"file": file, "evm": evm.to_string(), "solana": solana, "test": test}));
    } else {
        println!("file   {}", file.display());
        println!("evm    {evm}   (USDC on Base and other EVM networks)");
        if let Some(solana) = solana {
            println!("solana {solana}   (USDC on Solana)");
        }
        println!("test   {test}   (play money, needs no funding)");
    }
}

fn channels(folder: &Folder, which: &Which) -> Result<(), String> {
    let channels = client::channels(folder).map_err(|error| error.to_string())?;
    let rows: Vec<Value> = channels.iter().map(row).collect();
    crate::table::show(&json!({"channels": rows}), which.json);
    Ok(())
}

/// Amounts are atomic units of the token: what the contract counts.
fn row(channel: &Channel) -> Value {
    let state = match (&channel.stopped, channel.is_in_flight()) {
        (Some(why), _) => format!("stopped: {why}"),
        (None, true) => "a call is on its way".to_owned(),
        (None, false) => "open".to_owned(),
    };
    json!({
        "channel": channel.name(), "origin": channel.origin, "network": channel.network,
        "balance": channel.balance.to_string(), "charged": channel.charged.to_string(),
        "free": channel.free().to_string(), "state": state, "config": channel.config,
    })
}

fn refund(args: &RefundArgs) -> ExitCode {
    let ready = args.which.folder().and_then(|folder| {
        let channel = client::find_channel(&folder, &args.channel).map_err(|error| error.to_string())?;
        let channel = channel.ok_or_else(|| format!("no channel {} is kept here", args.channel))?;
        Ok((args.which.client(args.cacert.as_deref())?, refund_request(args, &channel)?))
    });
    let (client, request) = match ready {
        Ok(ready) => ready,
        Err(error) => return crate::complain(&error),
    };
    match crate::block_on(client.refund(&request, &args.channel, &mut see)) {
        Ok(refunded) => {
            let amount = refunded.amount.map(|amount| amount.to_string());
            let document = json!({
                "refunded": amount, "transaction": refunded.transaction, "channel": row(&refunded.channel),
            });
            crate::table::show(&document, args.which.json);
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.to_string()),
    }
}

/// A request that the channel could pay: it is priced, and not made. Sellers are asked with `GET` where they were paid.
fn refund_request(args: &RefundArgs, channel: &Channel) -> Result<Request, String> {
    let url = args.url.as_ref().or(channel.last_url.as_ref()).unwrap_or(&channel.origin);
    let method = if args.json_body.is_some() { Method::POST } else { Method::GET };
    let request = Request::new(method, url).map_err(|error| format!("{url}: {error}"))?;
    let Some(body) = &args.json_body else { return Ok(request) };
    let request = request.header("content-type", "application/json").map_err(|error| error.to_string())?;
    Ok(request.body(body.clone()))
}

fn sign_in(args: &SignInArgs) -> ExitCode {
    let target = Target::parse(&args.url).map_err(|error| format!("{}: {error}", args.url));
    let ready = target.and_then(|target| Ok((args.which.client(args.cacert.as_deref())?, target)));
    let (client, target) = match ready {
        Ok(ready) => ready,
        Err(error) => return crate::complain(&error),
    };
    match crate::block_on(client.sign_in(&target, &mut see)) {
        Ok(signed) => {
            let balance = signed.balance.map(|balance| format!("{} {}", balance.amount, balance.currency));
            crate::table::show(
                &json!({"origin": signed.origin, "balance": balance, "key": "kept"}),
                args.which.json,
            );
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn see(step: Step<'_>) {
    if let Step::Warning(error) = step {
        eprintln!("farthing: {error}");
    }
}

/// The other end says no, or nothing.
fn failed(text: &str) -> ExitCode {
    eprintln!("farthing: {text}");
    ExitCode::from(crate::FINDINGS)
}
