//! `farthing curl`: one request, paid if it asks for it.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use client::{
    CallError, Choice, Client, Folder, IdentityKey, IdentityKeyError, Key, Lightning, LightningFile,
    LightningFileError, Paid, Policy, Quote, Request, Response, Scheme, Signer, Step, Target, Wallet,
    WalletError,
};
use http::{Method, StatusCode, header};
use money::{Amount, Asset};
use rails::dial::Dialer;
use serde_json::{Value, json};

mod steps;

use steps::Talk;

/// `farthing curl`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 the other end reports an error, 2 wrong use, 4 payment refused, \
    5 over the cap or the budget or not approved, 6 network, 7 receipt refused, 8 insufficient funds, 9 outcome unknown \
    (run the same command again: it will not pay twice)."
)]
pub(crate) struct CurlArgs {
    /// Where to: https://..., or http:// on this machine
    url: String,
    /// The most this call may cost
    #[arg(long, value_name = "AMOUNT", default_value = "0.05usd", value_parser = client::parse_cap)]
    max: Amount,
    /// Request method [default: GET, or POST with data]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// A header, 'Name: value'
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Body: text, @file, or - for standard input
    #[arg(short = 'd', long, value_name = "DATA", allow_hyphen_values = true)]
    data: Vec<String>,
    /// Body that is JSON: text, @file, or - for standard input
    #[arg(long, value_name = "DATA", allow_hyphen_values = true, conflicts_with = "data")]
    json: Option<String>,
    /// Print the head of the answer too
    #[arg(short = 'i', long)]
    include: bool,
    /// Do not buffer: always so, for curl's sake
    #[arg(short = 'N', long)]
    no_buffer: bool,
    /// Nothing on standard error but errors
    #[arg(short = 's', long)]
    silent: bool,
    /// Tell each step on standard error
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Write the body there
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Credit key; better in FARTHING_KEY or a file, because other users see arguments
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<SecretText>,
    /// File with a credit key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Do not keep a credit key that comes with the answer
    #[arg(long)]
    no_save_key: bool,
    /// Wallet file [default: ~/.config/farthing/wallet.json]
    #[arg(long, value_name = "FILE")]
    wallet: Option<PathBuf>,
    /// Key pair that requests are signed with, for keys that are bound to it [default: ~/.config/farthing/identity.json]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Sign every request as the agent whose key directory is at this origin, written like `https://agent.example`
    #[arg(long, value_name = "ORIGIN")]
    agent: Option<String>,
    /// Pay on this network only, such as eip155:8453 or lightning:mainnet; may be repeated
    #[arg(long = "network", value_name = "CAIP2")]
    networks: Vec<String>,
    /// Pay this way only: exact, upto, batch-settlement, permit2, l402; may be repeated, the most liked first
    #[arg(long = "scheme", value_name = "SCHEME")]
    schemes: Vec<Scheme>,
    /// Open a payment channel where one is offered, and put at most so much into it at once [default: at most --max]
    #[arg(long, value_name = "AMOUNT", value_parser = client::parse_cap)]
    deposit: Option<Amount>,
    /// Ask this Solana node for a blockhash where an offer names none
    #[arg(long, value_name = "URL")]
    solana_node: Option<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Only ask for the price
    #[arg(long)]
    dry_run: bool,
    /// Approve a price above 1 USD, if it is within --max
    #[arg(long)]
    yes: bool,
}

/// Keeps a key out of `Debug`.
#[derive(Clone)]
struct SecretText(String);

impl std::str::FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What experience.md section 2 says.
mod code {
    pub(super) const REMOTE: u8 = 1;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const OVER_CAP: u8 = 5;
    pub(super) const NETWORK: u8 = 6;
    pub(super) const BAD_RECEIPT: u8 = 7;
    pub(super) const NO_FUNDS: u8 = 8;
    pub(super) const UNKNOWN: u8 = 9;
}

/// Largest body read from a file or standard input.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CONNECT_MAX: Duration = Duration::from_secs(15);

pub(crate) fn run(args: &CurlArgs) -> ExitCode {
    let ready = request(args).and_then(|request| Ok((client(args)?, request)));
    let (client, request) = match ready {
        Ok(ready) => ready,
        Err(text) => return crate::complain(&text),
    };
    let code = crate::block_on(async {
        if args.dry_run { quote(&client, &request, args).await } else { call(&client, &request, args).await }
    });
    ExitCode::from(code)
}

async fn call(client: &Client, request: &Request, args: &CurlArgs) -> u8 {
    let talk = Talk { silent: args.silent, verbose: args.verbose };
    let say = |text: &str| talk.say(text);
    let mut see = |step: Step<'_>| talk.step(&step);
    let mut response = match client.call(request, &mut see).await {
        Ok(response) => response,
        Err(error) => {
            eprintln!("farthing: {error}");
            return code_of(&error);
        }
    };
    let delivered = deliver(&mut response, args).await;
    client.finish(&mut response, &mut see);
    let mut receipt = report(client, &response, &say).await;
    if let Some(attested) = &response.attested {
        match client.check_attested(request, attested).await {
            Ok(()) => say("the seller's signed offer or receipt stands, and is kept"),
            Err(error) => {
                eprintln!("farthing: {error}");
                receipt = if error.is_refused() { code::BAD_RECEIPT } else { receipt };
            }
        }
    }
    if let Err((code, text)) = delivered {
        eprintln!("farthing: {text}");
        return code;
    }
    if receipt != 0 {
        return receipt;
    }
    if response.status.is_success() { 0 } else { failed(&response, &say) }
}

/// Hands the body on, chunk by chunk.
async fn deliver(response: &mut Response, args: &CurlArgs) -> Result<(), (u8, String)> {
    let unwritable =
        |error: io::Error| (crate::COULD_NOT_RUN, format!("the answer cannot be written: {error}"));
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(unwritable)?),
        None => Box::new(io::stdout().lock()),
    };
    if args.include {
        out.write_all(head(response).as_bytes()).map_err(unwritable)?;
    }
    loop {
        let chunk = response.body.chunk().await.map_err(|error| (code::NETWORK, error.to_string()))?;
        let Some(chunk) = chunk else { return Ok(()) };
        out.write_all(&chunk).and_then(|()| out.flush()).map_err(unwritable)?;
    }
}

fn head(response: &Response) -> String {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status);
    for (name, value) in &response.headers {
        text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text + "\r\n"
}

/// Says what happened to the money; the exit code if its proof does not stand.
async fn report(client: &Client, response: &Response, say: &dyn Fn(&str)) -> u8 {
    let Some(reference) = &response.receipt else {
        match &response.paid {
            Paid::Taken { what, transaction } if transaction.is_empty() => {
                say(&format!("paid {what} · no receipt"))
            }
            Paid::Taken { what, transaction } => {
                say(&format!("paid {what} · transaction {transaction} · no receipt"))
            }
            Paid::Promised { what } => {
                say(&format!("paid {what}: the seller does not say how much of it · no receipt"));
            }
            Paid::Nothing | Paid::Kept { .. } => {}
        }
        return 0;
    };
    match client.receipt(reference, &mut |_| {}).await {
        Ok(receipt) => {
            say(&receipt.line());
            0
        }
        Err(error) if error.is_refused() => {
            eprintln!("farthing: {error}");
            code::BAD_RECEIPT
        }
        Err(error) => {
            if let Paid::Taken { what, .. } | Paid::Promised { what } = &response.paid {
                say(&format!("paid {what}"));
            }
            say(&error.to_string());
            0
        }
    }
}

fn failed(response: &Response, say: &dyn Fn(&str)) -> u8 {
    if let Paid::Kept { what, .. } = &response.paid {
        say(&format!(
            "the payment of {what} was not taken; until it expires the same command sends the same one"
        ));
    }
    if response.status.is_redirection() {
        let location = response.headers.get(header::LOCATION);
        let location =
            location.map(|value| String::from_utf8_lossy(value.as_bytes()).escape_debug().to_string());
        say(&format!("{}: not followed: {}", response.status, location.unwrap_or_default()));
    } else {
        say(&format!("the other end answered {}", response.status));
    }
    if response.status == StatusCode::PAYMENT_REQUIRED { code::REFUSED } else { code::REMOTE }
}

async fn quote(client: &Client, request: &Request, args: &CurlArgs) -> u8 {
    let quote = match client.quote(request, &mut |_| {}).await {
        Ok(quote) => quote,
        Err(error) => {
            eprintln!("farthing: {error}");
            return code_of(&error);
        }
    };
    let choice = quote.challenge.as_ref().map(|challenge| client.choose(request, challenge));
    let offers = offers(&quote, choice.as_ref().and_then(|choice| choice.as_ref().ok()));
    let problem = choice.as_ref().and_then(|choice| choice.as_ref().err());
    if io::stdout().is_terminal() {
        print_table(&quote, &offers, problem);
    } else {
        let document = json!({
            "url": args.url, "status": quote.status.as_u16(), "offers": offers,
            "max": args.max.decimal(Asset::Usd), "key_first": quote.has_key, "token_first": quote.has_token,
            "pending": quote.pending,
            "refused": problem.map(ToString::to_string),
        });
        println!("{document}");
    }
    // A key may pay where no offer does.
    match problem {
        Some(problem) if !quote.has_key && !quote.has_token => code_of(problem),
        Some(_) | None => 0,
    }
}

fn offers(quote: &Quote, chosen: Option<&Choice<'_>>) -> Vec<Value> {
    let Some(challenge) = &quote.challenge else { return vec![] };
    let row = |offer: &client::Offer| {
        let terms = offer.terms.as_ref();
        let chosen = chosen.filter(|choice| choice.offer == offer);
        json!({
            "network": offer.network(), "scheme": offer.scheme(), "pay_to": offer.pay_to(),
            "amount": terms.map(|terms| terms.price.decimal(terms.asset)).ok(),
            "asset": terms.map(|terms| terms.asset.name()).ok(),
            "chosen": chosen.is_some(),
            "deposit": chosen.map(|choice| choice.deposit.decimal(choice.terms.asset)),
            "unpayable": terms.err().map(ToString::to_string),
        })
    };
    challenge.offers.iter().map(row).collect()
}

fn print_table(quote: &Quote, offers: &[Value], problem: Option<&CallError>) {
    if offers.is_empty() {
        println!("{}: nothing to pay", quote.status);
    }
    for offer in offers {
        let text = |name: &str| offer[name].as_str().unwrap_or("?").escape_debug().to_string();
        let mark = if offer["chosen"] == true { "->" } else { "  " };
        let price = format!("{} {}", text("amount"), text("asset"));
        let note =
            if offer["unpayable"].is_string() { text("unpayable") } else { format!("to {}", text("pay_to")) };
        println!("{mark} {price:<20} {:<16} {:<16} {note}", text("network"), text("scheme"));
    }
    if let Some(paid) = &quote.pending {
        println!("an earlier payment of {paid} would be sent again first");
    }
    if quote.has_key {
        println!("a credit key would be used first");
    } else if quote.has_token {
        println!("a token that was paid for would be tried first");
    }
    if let Some(problem) = problem {
        println!("{problem}");
    }
}

/// The exit code of a call without an answer.
fn code_of(error: &CallError) -> u8 {
    let no_funds = |code: &str| {
        matches!(
            code,
            "insufficient_balance" | "insufficient_funds" | "over_key_budget" | "over_token_budget"
        ) || code.ends_with("_insufficient_balance")
    };
    match error {
        CallError::KeyRefused { said, .. } if said.limit_source == "per_call" => code::OVER_CAP,
        CallError::KeyRefused { said, .. }
        | CallError::Refused { said, .. }
        | CallError::VoucherRefused { said, .. }
        | CallError::TokenRefused { said, .. }
            if no_funds(&said.code) || no_funds(&said.reason) =>
        {
            code::NO_FUNDS
        }
        CallError::KeyRefused { .. }
        | CallError::Refused { .. }
        | CallError::VoucherRefused { .. }
        | CallError::TokenRefused { .. }
        | CallError::NotPaid { .. }
        | CallError::Allowance(_) => code::REFUSED,
        CallError::NoWallet { .. } | CallError::NoLightning => code::NO_FUNDS,
        CallError::Policy(_)
        | CallError::Budget(_)
        | CallError::ClearText(_)
        | CallError::KeyOfAnotherOrigin { .. }
        | CallError::NotHolder(_) => code::OVER_CAP,
        CallError::Network(_) => code::NETWORK,
        CallError::Challenge { .. } => code::REMOTE,
        CallError::Unknown { .. } | CallError::WalletLied { .. } => code::UNKNOWN,
        CallError::File(_)
        | CallError::NoFolder
        | CallError::Randomness
        | CallError::ChannelTaken
        | CallError::Payment(_) => crate::COULD_NOT_RUN,
    }
}

fn client(args: &CurlArgs) -> Result<Client, String> {
    let dialer = dialer(args.cacert.as_deref())?;
    let mut policy = Policy::up_to(args.max);
    policy.approved = args.yes;
    policy.networks = (!args.networks.is_empty()).then(|| args.networks.clone());
    policy.schemes = (!args.schemes.is_empty()).then(|| args.schemes.clone());
    policy.deposit_max = args.deposit;
    let mut client = Client::new(dialer.clone(), policy);
    let mut has_lightning = false;
    let folder = args.wallet.as_deref().map(Folder::beside).or_else(Folder::of_user);
    let file = args.wallet.clone().or_else(|| folder.as_ref().map(Folder::wallet_file));
    if let Some(folder) = &folder {
        let path = folder.lightning_file();
        let problem = |error: LightningFileError| format!("{}: {error}", path.display());
        if let Some(lightning) = LightningFile::load(&path).map_err(problem)? {
            let wallet = Lightning::open(&lightning, &dialer).map_err(problem)?;
            client = client.with_lightning(wallet);
            has_lightning = true;
        }
        client = client.with_folder(folder.clone());
    }
    if let Some(signer) = signer(args, folder.as_ref())? {
        client = client.with_signer(signer);
    }
    match file.map(|file| Wallet::load(&file)) {
        Some(Ok(wallet)) => client = client.with_wallet(wallet),
        // Without a wallet a key or a Lightning wallet may still pay; one that was named must be there otherwise.
        Some(Err(WalletError::Missing(_))) if args.wallet.is_none() || has_lightning => {}
        Some(Err(error)) => return Err(error.to_string()),
        None => {}
    }
    if let Some(url) = &args.solana_node {
        client = client.with_solana_node(Target::parse(url).map_err(|error| format!("{url}: {error}"))?);
    }
    if args.no_save_key {
        client = client.without_saving_keys();
    }
    if let Some(text) = key_text(args)? {
        let key = Key::given(&text).map_err(|error| format!("the credit key cannot be used: {error}"))?;
        client = client.with_key(key);
    }
    Ok(client)
}

/// Who signs: the key pair that was named, else the usual one if there is one.
fn signer(args: &CurlArgs, folder: Option<&Folder>) -> Result<Option<Signer>, String> {
    let file = args.identity.clone().or_else(|| folder.map(Folder::identity_file));
    let key = match file.map(|file| IdentityKey::load(&file)) {
        Some(Ok(key)) => key,
        Some(Err(IdentityKeyError::Missing(_))) | None if args.identity.is_none() && args.agent.is_none() => {
            return Ok(None);
        }
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("no home directory: name a key pair with --identity".to_owned()),
    };
    let signer = Signer::new(key);
    let Some(agent) = &args.agent else { return Ok(Some(signer)) };
    let as_agent = signer.as_agent(agent);
    as_agent
        .map(Some)
        .ok_or_else(|| format!("{agent}: an agent's origin is written like https://agent.example"))
}

fn key_text(args: &CurlArgs) -> Result<Option<String>, String> {
    if let Some(SecretText(text)) = &args.key {
        return Ok(Some(text.clone()));
    }
    key_from(args.key_file.as_deref())
}

/// The credit key in a file, else in the environment.
pub(crate) fn key_from(file: Option<&Path>) -> Result<Option<String>, String> {
    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(Some(text));
    }
    Ok(std::env::var("FARTHING_KEY").ok().filter(|text| !text.is_empty()))
}

/// Trusts the usual certificates, and those of `--cacert`.
pub(crate) fn dialer(cacert: Option<&Path>) -> Result<Dialer, String> {
    let roots = match cacert {
        Some(path) => fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|pem| Ok(client::roots_from_pem(&pem)?))
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => vec![],
    };
    Dialer::new(&roots, CONNECT_MAX).map_err(|error| error.to_string())
}

fn request(args: &CurlArgs) -> Result<Request, String> {
    let body = match &args.json {
        Some(data) => Some(read_data(data)?),
        None if args.data.is_empty() => None,
        None => {
            let parts: Result<Vec<_>, _> = args.data.iter().map(|data| read_data(data)).collect();
            Some(parts?.join(&b'&'))
        }
    };
    let method = args.method.clone().unwrap_or(if body.is_some() { Method::POST } else { Method::GET });
    let mut request = Request::new(method, &args.url).map_err(|error| format!("{}: {error}", args.url))?;
    for line in &args.headers {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line}: not 'Name: value'"))?;
        request = request.header(name.trim(), value.trim()).map_err(|error| format!("{name}: {error}"))?;
    }
    let usual = match (&args.json, &body) {
        (Some(_), _) => {
            vec![(header::CONTENT_TYPE, "application/json"), (header::ACCEPT, "application/json")]
        }
        (None, Some(_)) => vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded")],
        (None, None) => vec![],
    };
    for (name, value) in usual {
        if !request.has_header(&name) {
            request = request.header(name.as_str(), value).map_err(|error| error.to_string())?;
        }
    }
    Ok(request.body(body.unwrap_or_default()))
}

fn read_data(data: &str) -> Result<Vec<u8>, String> {
    let source = match data {
        "-" | "@-" => None,
        _ => match data.strip_prefix('@') {
            Some(path) => Some(path),
            None => return Ok(data.as_bytes().to_vec()),
        },
    };
    let named = source.unwrap_or("standard input");
    let failed = |error: io::Error| format!("{named}: {error}");
    let reader: Box<dyn Read> = match source {
        Some(path) => Box::new(File::open(path).map_err(failed)?),
        None => Box::new(io::stdin().lock()),
    };
    let mut bytes = Vec::new();
    reader.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(format!("{named}: longer than {BODY_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use client::{BudgetError, CallError, PolicyError, Said};
    use http::StatusCode;
    use money::Amount;

    use super::{CurlArgs, code_of, request};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: CurlArgs,
    }

    fn parse(args: &[&str]) -> CurlArgs {
        Cli::parse_from([&["curl"], args].concat()).args
    }

    /// The table of experience.md section 2.
    #[test]
    fn exit_codes() {
        let said = |code: &str, reason: &str, limit: &str| {
            let (code, reason, limit_source) = (code.to_owned(), reason.to_owned(), limit.to_owned());
            Box::new(Said { code, reason, limit_source, ..Said::default() })
        };
        let status = StatusCode::PAYMENT_REQUIRED;
        let refused = |said| CallError::Refused { status, said, paid: String::new(), seconds: 0 };
        let key = |said| CallError::KeyRefused { status, said };
        let price = Amount::from_units(2);
        for (error, expected) in [
            (refused(said("quote_expired", "", "")), 4),
            (key(said("key_expired", "", "")), 4),
            (key(said("key_forbidden", "", "per_call")), 5),
            (CallError::Policy(PolicyError::OverCap { price, max: Amount::ZERO }), 5),
            (CallError::Policy(PolicyError::NotApproved { price, threshold: Amount::ZERO }), 5),
            (CallError::Budget(BudgetError::NotAllowed("a.example".parse().unwrap())), 5),
            (CallError::ClearText(String::new()), 5),
            (CallError::Network(String::new()), 6),
            (CallError::NoWallet { price: None }, 8),
            (key(said("over_token_budget", "", "token_budget")), 8),
            (refused(said("settlement_failed", "invalid_exact_evm_insufficient_balance", "")), 8),
            (CallError::Unknown { paid: String::new(), why: String::new(), path: "p".into() }, 9),
            (CallError::WalletLied { paid: String::new(), path: "p".into() }, 9),
            (CallError::NotPaid { what: String::new(), reason: String::new() }, 4),
            (
                CallError::TokenRefused {
                    status,
                    said: said("payment_required", "", ""),
                    paid: String::new(),
                    seconds: 0,
                },
                4,
            ),
            (CallError::NoLightning, 8),
            (CallError::NoFolder, 2),
        ] {
            assert_eq!(code_of(&error), expected, "{error}");
        }
    }

    #[test]
    fn arguments_read_like_curls() {
        let url = "http://127.0.0.1:1/v1";
        let shown = |args: &[&str]| format!("{:?}", request(&parse(&[&[url], args].concat())).unwrap());
        for (args, expected) in [
            (vec![], "Request(GET http://127.0.0.1:1/v1, headers [], 0 bytes)"),
            (
                vec!["-d", "a=1", "-d", "b=2"],
                r#"Request(POST http://127.0.0.1:1/v1, headers ["content-type"], 7 bytes)"#,
            ),
            (
                vec!["--json", "{}"],
                r#"Request(POST http://127.0.0.1:1/v1, headers ["content-type", "accept"], 2 bytes)"#,
            ),
            (
                vec!["-XPUT", "-H", "X-A: b:c"],
                r#"Request(PUT http://127.0.0.1:1/v1, headers ["x-a"], 0 bytes)"#,
            ),
        ] {
            assert_eq!(shown(&args), expected, "{args:?}");
        }
        assert!(request(&parse(&[url, "-H", "Host: evil.example"])).is_err());
        assert!(request(&parse(&[url, "-d", "@/nonexistent"])).is_err());
    }

    #[test]
    fn a_key_is_not_shown() {
        assert!(!format!("{:?}", parse(&["http://x/", "--key", "fk_test_secret"])).contains("secret"));
    }
}
