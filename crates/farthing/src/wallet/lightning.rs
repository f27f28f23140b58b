//! `farthing wallet lightning`: the node that pays L402 invoices. Its key comes from a file, standard input or the
//! environment, never from the command line, and is never shown.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use client::{FeeMax, Lightning, LightningFile, NodeSettings, PriceSettings};
use money::Decimal;
use rails::lightning::Network;
use serde_json::{Value, json};

use super::Which;

/// Longest key or certificate that is read.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Where a key may stand besides.
const KEY_VARIABLE: &str = "FARTHING_LIGHTNING_KEY";

#[derive(Debug, clap::Subcommand)]
pub(super) enum LightningCommand {
    /// Name the node that pays, or change price and fee: farthing wallet lightning set lnd --url https://...
    Set(Box<SetArgs>),
    /// Show the settings, never the key
    Show(Which),
    /// Ask the node who it is, and what a bitcoin costs
    Check(CheckArgs),
    /// Forget the node and its key; tokens that were paid for stay
    Remove(Which),
}

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// What the node is; without it the node stays as it is
    #[arg(requires_ifs = [("lnd", "url"), ("cln", "url"), ("phoenixd", "url"), ("lnbits", "url")])]
    kind: Option<Kind>,
    /// Where it listens: https://..., or http:// on this machine
    #[arg(long, value_name = "URL", requires = "kind")]
    url: Option<String>,
    /// File with its key, - for standard input [default: FARTHING_LIGHTNING_KEY]. LND: a macaroon that may pay; CLN: a
    /// rune; phoenixd: the full password; LNbits: a wallet's admin key; NWC: the connection string
    #[arg(long, value_name = "FILE", requires = "kind")]
    key_file: Option<PathBuf>,
    /// Certificate of LND or CLN, in PEM: then no other is trusted
    #[arg(long, value_name = "FILE", requires = "kind")]
    cert: Option<PathBuf>,
    /// mainnet, testnet, signet or regtest [default: mainnet; test: regtest]
    #[arg(long, value_name = "NETWORK", requires = "kind")]
    network: Option<Network>,
    /// What a bitcoin costs: caps and budgets are in dollars
    #[arg(long, value_name = "NUMBER", conflicts_with = "price_url")]
    usd_per_btc: Option<String>,
    /// A JSON document that says what a bitcoin costs in dollars, read when an invoice is offered
    #[arg(long, value_name = "URL", requires = "price_pointer")]
    price_url: Option<String>,
    /// Where in it the number stands, such as /data/amount
    #[arg(long, value_name = "POINTER", requires = "price_url")]
    price_pointer: Option<String>,
    /// Most that the way of a payment may cost, as a part of the amount [default: 1] ...
    #[arg(long, value_name = "PERCENT")]
    fee_percent: Option<String>,
    /// ... or in satoshi, whichever is more [default: 10]
    #[arg(long, value_name = "SAT")]
    fee_sat: Option<u64>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Play money, for gateways in test mode: no node at all
    Test,
    /// Its REST interface
    Lnd,
    /// Core Lightning's CLNRest
    Cln,
    /// ACINQ's node
    Phoenixd,
    /// A wallet of an LNbits server
    Lnbits,
    /// Nostr Wallet Connect: the connection string is the key
    Nwc,
}

pub(super) fn run(command: &LightningCommand) -> ExitCode {
    let done = match command {
        LightningCommand::Set(args) => set(args),
        LightningCommand::Show(which) => file_of(which).and_then(|path| show(&path, which)),
        LightningCommand::Check(args) => return check(args),
        LightningCommand::Remove(which) => file_of(which).and_then(|path| remove(&path, which)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::complain(&error),
    }
}

fn file_of(which: &Which) -> Result<PathBuf, String> {
    Ok(which.folder()?.lightning_file())
}

fn set(args: &SetArgs) -> Result<(), String> {
    let path = file_of(&args.which)?;
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let known = LightningFile::load(&path).map_err(|error| named(&error))?;
    let price = price(args);
    let fee_max = fee_max(args, known.as_ref().map(LightningFile::fee_max).unwrap_or_default())?;
    let file = match (args.kind, known) {
        (Some(kind), known) => {
            let price = price.or_else(|| known.and_then(|known| known.price().cloned()));
            LightningFile::new(node(kind, args)?, args.network, price, fee_max)
        }
        (None, Some(known)) => known.with(price, fee_max),
        (None, None) => {
            return Err("no node is named yet: farthing wallet lightning set lnd --url ...".into());
        }
    };
    let file = file.map_err(|error| error.to_string())?;
    file.save(&path).map_err(|error| error.to_string())?;
    show(&path, &args.which)
}

fn node(kind: Kind, args: &SetArgs) -> Result<NodeSettings, String> {
    if kind == Kind::Test {
        if args.url.is_some() || args.key_file.is_some() || args.cert.is_some() {
            return Err("the test node has no address, no key and no certificate".into());
        }
        return Ok(NodeSettings::Test {});
    }
    if kind == Kind::Nwc && args.url.is_some() {
        return Err("--url: the connection string names the relays".into());
    }
    let url = args.url.clone().unwrap_or_default();
    let key = key(kind, args.key_file.as_deref())?;
    let cert = args.cert.as_deref().map(|path| Ok(text(read(path)?))).transpose();
    let cert: Option<String> = cert.map_err(|error: String| error)?;
    if cert.is_some() && !matches!(kind, Kind::Lnd | Kind::Cln) {
        return Err("--cert is for lnd and cln".into());
    }
    Ok(match kind {
        Kind::Test => NodeSettings::Test {},
        Kind::Lnd => NodeSettings::Lnd { url, macaroon: key, cert },
        Kind::Cln => NodeSettings::Cln { url, rune: key, cert },
        Kind::Phoenixd => NodeSettings::Phoenixd { url, password: key },
        Kind::Lnbits => NodeSettings::LnBits { url, key },
        Kind::Nwc => NodeSettings::Nwc { uri: key },
    })
}

/// The key as the node takes it. LND's own files are bytes: they are sent in hexadecimal.
fn key(kind: Kind, file: Option<&Path>) -> Result<String, String> {
    let bytes = match file {
        Some(path) => read(path)?,
        None => match std::env::var(KEY_VARIABLE) {
            Ok(text) if !text.is_empty() => text.into_bytes(),
            Ok(_) | Err(_) => return Err(format!("the key is missing: --key-file FILE, or {KEY_VARIABLE}")),
        },
    };
    let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if kind == Kind::Lnd && !is_text {
        return Ok(wire::hex::encode(&bytes));
    }
    Ok(text(bytes).trim().to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).map_err(failed)?.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)
    };
    let length = read.map_err(failed)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > SECRET_BYTES_MAX {
        return Err(format!("{}: longer than {SECRET_BYTES_MAX} bytes", path.display()));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

fn price(args: &SetArgs) -> Option<PriceSettings> {
    let fixed = args.usd_per_btc.clone().map(|usd_per_btc| PriceSettings::Fixed { usd_per_btc });
    let read = args.price_url.clone().zip(args.price_pointer.clone());
    fixed.or_else(|| read.map(|(url, pointer)| PriceSettings::Read { url, pointer }))
}

fn fee_max(args: &SetArgs, known: FeeMax) -> Result<FeeMax, String> {
    let ppm = match &args.fee_percent {
        None => known.ppm,
        Some(text) => {
            // Of a percent, four places make a millionth.
            let ppm = Decimal::parse(text).map_err(|error| format!("--fee-percent: {error}"))?.exact(4);
            let ppm = ppm.and_then(|ppm| u32::try_from(ppm).ok());
            ppm.ok_or("--fee-percent: at most four places")?
        }
    };
    Ok(FeeMax { ppm, sat: args.fee_sat.unwrap_or(known.sat) })
}

fn show(path: &Path, which: &Which) -> Result<(), String> {
    let file = LightningFile::load(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let settings = match file {
        Some(file) => file.shown().map_err(|error| error.to_string())?,
        None => Value::Null,
    };
    crate::table::show(&json!({"file": path.display().to_string(), "lightning": settings}), which.json);
    Ok(())
}

fn remove(path: &Path, which: &Which) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Ok(()) => show(path, which),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => show(path, which),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn check(args: &CheckArgs) -> ExitCode {
    let ready = file_of(&args.which).and_then(|path| {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = LightningFile::load(&path).map_err(|error| named(&error))?;
        let file = file.ok_or("no Lightning wallet is set: farthing wallet lightning set")?;
        let dialer = crate::curl::dialer(args.cacert.as_deref())?;
        Lightning::open(&file, &dialer).map_err(|error| named(&error))
    });
    let wallet = match ready {
        Ok(wallet) => wallet,
        Err(error) => return crate::complain(&error),
    };
    match crate::block_on(wallet.check()) {
        Ok(found) => {
            let key = found.node_key.map(|key| wire::hex::encode(&key));
            let price = found.per_1000_sat.map(|price| price.short(money::Asset::Usd));
            let document = json!({
                "node": wallet.name(), "network": found.network.map(|network| network.to_string()),
                "node_key": key, "usd_per_1000_sat": price,
            });
            crate::table::show(&document, args.which.json);
            ExitCode::SUCCESS
        }
        Err(error) => super::failed(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{FeeMax, SetArgs, fee_max, price};
    use client::PriceSettings;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: SetArgs,
    }

    #[test]
    fn fees_and_prices_are_read_as_people_write_them() {
        let parse = |words: &[&str]| Cli::try_parse_from([&["set"], words].concat()).map(|cli| cli.args);
        let usual = FeeMax::default();
        for (words, expected) in [
            (vec![], Ok(usual)),
            (vec!["--fee-percent", "0.5", "--fee-sat", "3"], Ok(FeeMax { ppm: 5_000, sat: 3 })),
            (vec!["--fee-percent", "0"], Ok(FeeMax { ppm: 0, ..usual })),
            (vec!["--fee-percent", "0.00001"], Err(())),
            (vec!["--fee-percent", "all"], Err(())),
        ] {
            assert_eq!(fee_max(&parse(&words).unwrap(), usual).map_err(drop), expected, "{words:?}");
        }
        let read = parse(&["--price-url", "https://a.example/p", "--price-pointer", "/usd"]).unwrap();
        let expected =
            PriceSettings::Read { url: "https://a.example/p".to_owned(), pointer: "/usd".to_owned() };
        assert!(price(&read) == Some(expected));
        for wrong in
            [vec!["--price-url", "https://a.example/"], vec!["--url", "https://a.example"], vec!["lnd"]]
        {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
