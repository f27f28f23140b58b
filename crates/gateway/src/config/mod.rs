//! The configuration: YAML in, a checked [`Config`] or every finding out.
//!
//! Invariant: a [`Config`] that exists is one the gateway can run: names resolve, amounts are exact,
//! secrets are read, and nothing of test mode is mixed with real money. A key that is unknown, or
//! that would do nothing in this version, is refused: each section's `Keys` lists what it reads and
//! what is planned and "not supported yet".

mod admin;
mod alipay;
mod batch;
mod cashu;
mod channel_terms;
mod directories;
mod example;
mod exchange;
mod extensions;
mod finding;
mod freebies;
mod glob;
mod identity;
mod l402;
mod l402_refunds;
mod lightning_node;
mod limits;
pub(crate) mod metadata;
mod metering;
mod mpp;
mod net;
mod network;
mod policy;
mod price;
mod processor;
mod rail;
mod route;
mod secret;
mod section;
mod server;
mod solana;
mod store;
mod submitter;
mod svm;
mod tempo;
#[cfg(test)]
mod tests;
mod top_up;
mod unit_price;
mod upstream;
mod url;
mod usual;
mod value;
mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use admin::{Admin, Discovery, LogFormat, Observe};
pub use alipay::Alipay;
pub use batch::Batch;
pub use cashu::Cashu;
pub use channel_terms::ChannelTerms;
pub use directories::Directories;
pub use example::{ExampleUpstream, example};
pub use extensions::{Extensions, OfferReceipt, PaymentIdentifier, RouteDiscovery, Service};
pub use finding::{ConfigErrors, Finding, Span};
pub use freebies::Freebies;
pub use glob::Glob;
pub use identity::{Identity, KnownAgent, Profiles, RouteIdentity};
pub use l402::{BitcoinPrice, FixedPrice, L402, MintWhen, Minting, RouteL402};
pub use l402_refunds::LightningRefunds;
pub use lightning_node::LightningNode;
pub use limits::RateLimits;
pub use meter::Provider;
pub use metering::{Dedupe, HoldInput, Metering};
pub use mpp::{Mpp, MppMethod, MppSessions};
pub use net::Net;
pub use network::Token;
pub use policy::{Charged, MissingUsage, Policy};
pub use price::{Apply, Format, Markup, Place, PriceSource, Prices, UnknownModel};
pub use processor::{Card, Processing, Stripe};
pub use rail::{EvmNetwork, Network, Rails, Settle, SvmNetwork, TestRail, X402, X402Scheme};
pub use route::{PathPattern, Route, RoutePrice, RouteUpstream};
pub use secret::{KeySource, Secret, Secret32};
pub use server::{Limits, Server, Timeouts, Tls};
pub use solana::{Solana, SolanaNetwork};
pub use store::{CrashCharge, MasterKey, Store, Tokens};
pub use submitter::Submitter;
pub use tempo::Tempo;
pub use top_up::TopUpRules;
pub use unit_price::UnitPrice;
pub(crate) use unit_price::dialect as unit_dialect;
pub use upstream::{Auth, Protocol, Upstream};
pub use url::{BaseUrl, Scheme};
pub use wire::credit_key::Mode;

use finding::Report;
use section::{Context, Keys, Section};
use yaml::{Kind, Node};

/// Play money, unless the file says otherwise (reference item 41).
const MODE: Mode = Mode::Test;

/// A configuration that has been checked as a whole. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// Real money or play money.
    pub mode: Mode,
    /// The public side.
    pub server: Server,
    /// What lasts.
    pub store: Store,
    /// Keys of macaroons.
    pub tokens: Tokens,
    /// Ed25519 key that signs receipts.
    pub receipt_key: KeySource,
    /// APIs behind us, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// What is proxied, first match wins.
    pub routes: Vec<Arc<Route>>,
    /// What models cost.
    pub prices: Prices,
    /// Holds and disconnects.
    pub metering: Metering,
    /// How money arrives.
    pub rails: Rails,
    /// How balance is sold by order; it is not when absent.
    pub top_up: Option<TopUpRules>,
    /// Signatures of agents; none is looked at when absent.
    pub identity: Option<Identity>,
    /// Rates.
    pub limits: RateLimits,
    /// The operator's side.
    pub admin: Admin,
    /// Logs.
    pub observe: Observe,
    /// Public pages.
    pub discovery: Discovery,
}

/// A file that a reference names.
pub struct FileBytes {
    /// Its content, wiped on drop.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Permission bits.
    pub mode: u32,
}

/// Reads and checks a file, with this process's environment and file system.
///
/// # Errors
/// [`ConfigErrors`] holds every finding of the file, or the one reason why it could not be read.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &file, &|name| std::env::var(name).ok(), &read_file),
        Err(error) => {
            let report = Report::default();
            report.add(
                Span::default(),
                format!("cannot read the configuration: {}", secret::why_unread(&error)),
            );
            Err(report.into_errors(&file, ""))
        }
    }
}

fn read_file(path: &Path) -> io::Result<FileBytes> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    /// A secret or a certificate chain; more is a mistake.
    const FILE_BYTES_MAX: u64 = 1 << 20;
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(FileBytes { bytes, mode })
}

const KEYS: Keys = Keys::new(
    &[
        "mode",
        "server",
        "store",
        "tokens",
        "receipts",
        "upstreams",
        "routes",
        "prices",
        "metering",
        "rails",
        "top_up",
        "refunds",
        "identity",
        "limits",
        "admin",
        "observe",
        "discovery",
    ],
    &["include", "money", "risk", "export"],
);

/// A name for a group of accounts, as it may stand in `prices`.
///
/// # Errors
/// Why the text is none.
pub(crate) fn group_name(text: &str) -> Result<String, String> {
    value::name(text)
}

/// Checks a text. `file` names it in findings, and relative paths start at its folder; `env` and
/// `read` answer the references in it.
///
/// # Errors
/// [`ConfigErrors`] holds every finding.
pub fn parse(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<FileBytes>,
) -> Result<Config, ConfigErrors> {
    let report = Report::default();
    let Some(root) = yaml::read(text, &report) else { return Err(report.into_errors(file, text)) };
    let context = Context {
        report,
        mode: MODE,
        folder: Path::new(file).parent().unwrap_or(Path::new("")).to_owned(),
        upstreams: names_under(&root, "upstreams"),
        env,
        read,
    };
    let (context, config) = read_all(context, &root);
    match config {
        Some(config) if context.report.is_empty() => Ok(config),
        Some(_) | None => Err(context.report.into_errors(file, text)),
    }
}

/// Reads every section, in the order in which they need each other.
fn read_all<'a>(mut context: Context<'a>, root: &Node) -> (Context<'a>, Option<Config>) {
    context.mode = read_mode(&context, root);
    let config = Section::open(&context, "", root, KEYS).map(|top| {
        let server = server::read(&top);
        let store = store::read(&top);
        let upstreams = upstream::read(&top, &server.timeouts);
        let prices = price::read(&top);
        let metering = metering::read(&top);
        let usual = route::Usual { body_bytes: server.limits.body_bytes, policy: metering.policy };
        let routes = route::read(&top, &upstreams, usual);
        if prices.is_empty() && top.get("prices").is_none() && routes.iter().any(is_metered) {
            top.missing("the file needs \"prices\": no model has one, so nothing could be sold");
        }
        let rails = rail::read(&top);
        extensions::check(&top, &rails, &routes);
        let top_up = top_up::read(&top, &rails, &server);
        let identity = identity::read(&top);
        identity::check(&top, identity.as_ref(), &routes);
        Config {
            mode: context.mode,
            tokens: store::read_tokens(&top, &store),
            receipt_key: store::read_receipt_key(&top, &store),
            metering,
            rails,
            top_up,
            identity,
            limits: limits::read(&top),
            admin: admin::read(&top, &server, &store),
            observe: admin::read_observe(&top),
            discovery: admin::read_discovery(&top),
            server,
            store,
            upstreams,
            routes: routes.into_iter().map(Arc::new).collect(),
            prices,
        }
    });
    (context, config)
}

fn is_metered(route: &Route) -> bool {
    route.price == RoutePrice::ByModel
}

/// The mode decides what other sections may hold, so it is read first.
fn read_mode(context: &Context<'_>, root: &Node) -> Mode {
    let Kind::Map(entries) = &root.kind else { return MODE };
    let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "mode") else { return MODE };
    let mode = section::scalar(context, "mode", node, |text| match text {
        "live" => Ok(Mode::Live),
        "test" => Ok(Mode::Test),
        _ => Err(format!("\"{text}\" is neither live nor test")),
    });
    mode.unwrap_or(MODE)
}

fn names_under(root: &Node, section: &str) -> Vec<String> {
    let child = |node: &Node| match &node.kind {
        Kind::Map(entries) => entries.iter().map(|(key, _)| key.text.clone()).collect(),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => Vec::new(),
    };
    match &root.kind {
        Kind::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.text == section)
            .map(|(_, node)| child(node))
            .unwrap_or_default(),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => Vec::new(),
    }
}
