//! `rails.l402`: payments over Lightning (l402.md).

use std::num::NonZeroU32;
use std::time::Duration;

use money::Amount;
use proof::caveat::UnknownCaveats;
use rails::lightning::Network;

use super::Mode;
use super::l402_refunds::{self, LightningRefunds};
use super::lightning_node::{self, LightningNode};
use super::section::{Context, Keys, Section};
use super::url::BaseUrl;
use super::value;
use super::yaml::Node;

/// L402: an invoice and a token in the challenge; the preimage and the token as credential.
#[derive(Clone, Debug)]
pub struct L402 {
    /// Who makes the invoices.
    pub node: LightningNode,
    /// The network they are paid on: mainnet in mode live, regtest in mode test unless written.
    pub network: Network,
    /// The node's key, where an invoice of any other is refused from the start; else what the node says.
    pub node_key: Option<[u8; 33]>,
    /// What a bitcoin costs.
    pub price: BitcoinPrice,
    /// What an invoice asks for at least; the call's ceiling when absent.
    pub deposit: Option<Amount>,
    /// The most one invoice asks for, default 1 USD.
    pub ceiling_max: Amount,
    /// How long an invoice can be paid, default 5 minutes (L402-63).
    pub expiry: Duration,
    /// What a token of a route with a fixed price is good for, default one call.
    pub fixed_price: FixedPrice,
    /// When invoices are made, and how many.
    pub mint: Minting,
    /// Whether a line in the old name goes out too, default no.
    pub lsat: bool,
    /// Name of the service that tokens are sold for, default `farthing`.
    pub service: String,
    /// What becomes of tokens with caveats that we cannot judge, default that they are refused (L402-53).
    pub unknown_caveats: UnknownCaveats,
    /// Whether a token must name its services, default that it must (L402-54).
    pub require_scope: bool,
    /// How long after its sale a payment may be shown first, default 30 days (L402-45).
    pub claim_window: Duration,
    /// Raised after a restore: unknown payments of older epochs are refused (L402-46).
    pub first_claim_epoch_min: u16,
    /// Whether a payment counts only once the node has said that it arrived, default no (L402-50).
    pub strict: bool,
    /// What of a balance may go back over Lightning; nothing when absent.
    pub refunds: Option<LightningRefunds>,
    /// How long the node has for an answer, default 2 s (L402-61).
    pub time_max: Duration,
}

/// What a bitcoin costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BitcoinPrice {
    /// The operator's own price.
    Fixed(money::BitcoinPrice),
    /// Read again and again.
    Read {
        /// A JSON document ...
        url: BaseUrl,
        /// ... by this query, with its question mark ...
        query: String,
        /// ... and the place in it (RFC 6901).
        pointer: String,
        /// Whether the number is satoshis for a dollar, not dollars for a bitcoin.
        in_sats: bool,
        /// How often, default 60 s.
        every: Duration,
        /// Older than this it is no price at all, default 10 min (FIN-61).
        max_age: Duration,
    },
}

/// What a token is good for where every call costs the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedPrice {
    /// One call (reference item 5).
    Single,
    /// Calls until nothing is left of its payment, as on metered routes.
    Draw,
}

/// How many invoices are made, and for whom (L402-61).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minting {
    /// When.
    pub when: MintWhen,
    /// For everybody together, default 50.
    pub per_second: NonZeroU32,
    /// At once, default 200.
    pub burst: NonZeroU32,
    /// For one source, default 1.
    pub per_source_per_second: NonZeroU32,
    /// For one source at once, default 10.
    pub per_source_burst: NonZeroU32,
    /// That can still be paid, at most, default 5000.
    pub open_max: usize,
}

/// When a challenge has an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintWhen {
    /// Always, within the budget: stock clients do not ask for one.
    Always,
    /// When the client asks for Lightning: `Accept-Payment`, `?pay=`, or a credential of L402.
    Asked,
    /// Never: a route that is not sold over Lightning.
    Never,
}

/// What a route says of itself to tokens, and they of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteL402 {
    /// Its service, if it is not the usual one.
    pub service: Option<String>,
    /// What tier a token must have at least.
    pub tier: u8,
    /// What capability a token must have that lists any.
    pub capability: Option<String>,
    /// When its challenges have an invoice, if not as usual.
    pub mint: Option<MintWhen>,
}

const KEYS: Keys = Keys::secret(
    &[
        "test",
        "lnd",
        "cln",
        "phoenixd",
        "lnbits",
        "nwc",
        "network",
        "node_key",
        "price",
        "deposit",
        "ceiling_max",
        "expiry",
        "fixed_price",
        "mint",
        "lsat",
        "service",
        "unknown_caveats",
        "require_scope",
        "claim_window",
        "first_claim_epoch_min",
        "strict",
        "refunds",
        "timeout",
    ],
    &["mode", "hold_invoices", "btcpay"],
);
const PRICE_KEYS: Keys = Keys::new(&["usd_per_btc", "url", "pointer", "unit", "every", "max_age"], &[]);
const MINT_KEYS: Keys =
    Keys::new(&["when", "per_second", "burst", "per_source_per_second", "per_source_burst", "open_max"], &[]);
const ROUTE_KEYS: Keys = Keys::new(&["service", "tier", "capability", "mint"], &[]);

/// One dollar.
const USD_1: Amount = Amount::from_units(1_000_000_000);
const EXPIRY: Duration = Duration::from_secs(300);
const CLAIM_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
const TIME_MAX: Duration = Duration::from_secs(2);

pub(super) fn read(rails: &Section<'_>) -> Option<L402> {
    let section = rails.section("l402", KEYS)?;
    let node = lightning_node::read(&section);
    let price = read_price(&section);
    let network = section.value("network", network).unwrap_or(match section.context.mode {
        Mode::Live => Network::Mainnet,
        Mode::Test => Network::Regtest,
    });
    if section.context.mode == Mode::Live && network != Network::Mainnet {
        section.complain("network", "rails.l402.network: test networks exist in mode test only");
    }
    if section.context.mode == Mode::Test && network == Network::Mainnet {
        section.complain("network", "rails.l402.network: real money needs mode live");
    }
    let deposit = section.value("deposit", value::some_usd);
    let ceiling_max = section.value("ceiling_max", value::some_usd).unwrap_or(USD_1);
    if deposit.is_some_and(|deposit| deposit > ceiling_max) {
        section.complain("deposit", "rails.l402.deposit is more than ceiling_max");
    }
    let strict = section.value("strict", value::flag).unwrap_or(false);
    if strict && matches!(node, Some(LightningNode::Test)) {
        section.complain("strict", "rails.l402.strict: the test node cannot tell what was paid");
    }
    let (key, refunds) = (section.value("node_key", node_key), l402_refunds::read(&section));
    if key.is_none() && refunds.is_some() && matches!(node, Some(LightningNode::LnBits { .. })) {
        section.complain(
            "refunds",
            "rails.l402.refunds: LNbits does not say who its node is; write node_key, or our own invoices could be paid",
        );
    }
    Some(L402 {
        network,
        node_key: key,
        deposit,
        ceiling_max,
        expiry: section.value("expiry", expiry).unwrap_or(EXPIRY),
        fixed_price: section.value("fixed_price", fixed_price).unwrap_or(FixedPrice::Single),
        mint: read_mint(&section),
        lsat: section.value("lsat", value::flag).unwrap_or(false),
        service: section.value("service", service).unwrap_or_else(|| "farthing".to_owned()),
        unknown_caveats: section.value("unknown_caveats", unknown).unwrap_or(UnknownCaveats::Reject),
        require_scope: section.value("require_scope", value::flag).unwrap_or(true),
        claim_window: section.value("claim_window", value::duration).unwrap_or(CLAIM_WINDOW),
        first_claim_epoch_min: section.value("first_claim_epoch_min", epoch).unwrap_or(0),
        strict,
        refunds,
        time_max: section.value("timeout", value::duration).unwrap_or(TIME_MAX),
        node: node?,
        price: price?,
    })
}

/// What a bitcoin costs, of `rails.l402` or of another rail that counts in satoshi.
pub(super) fn read_price(l402: &Section<'_>) -> Option<BitcoinPrice> {
    let Some(section) = l402.section("price", PRICE_KEYS) else {
        if l402.get("price").is_none() {
            l402.missing("rails.l402 needs \"price\": what does a bitcoin cost? { usd_per_btc: .. } or { url, pointer }");
        }
        return None;
    };
    if section.get("url").is_none() {
        let fixed = section.required("usd_per_btc", |text| {
            money::BitcoinPrice::from_usd_per_btc(text)
                .map_err(|_| format!("\"{text}\" is no price; write it like 95000 or 95000.50"))
        });
        return fixed.map(BitcoinPrice::Fixed);
    }
    if section.get("usd_per_btc").is_some() {
        section.complain("usd_per_btc", format!("{}: either usd_per_btc or url", section.path));
    }
    let url = section.required("url", |text| {
        let (base, query) = text.split_once('?').map_or((text, ""), |(base, _)| (base, &text[base.len()..]));
        if !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err("the query has characters that no URL has".to_owned());
        }
        super::rail::encrypted(base, "a source of prices").map(|url| (url, query.to_owned()))
    });
    let pointer = section.required("pointer", |text| {
        if text.starts_with('/') {
            Ok(text.to_owned())
        } else {
            Err(format!("\"{text}\" is no place; write it like /data/amount"))
        }
    });
    let in_sats = section.value("unit", |text| match text {
        "usd_per_btc" => Ok(false),
        "sats_per_usd" => Ok(true),
        _ => Err(format!("\"{text}\" is neither usd_per_btc nor sats_per_usd")),
    });
    let every = section.value("every", value::duration).unwrap_or(Duration::from_secs(60));
    let max_age = section.value("max_age", value::duration).unwrap_or(Duration::from_secs(600));
    if max_age < every {
        section.complain(
            "max_age",
            format!("{}: a price is read less often than it has to be new", section.path),
        );
    }
    let (url, query) = url?;
    Some(BitcoinPrice::Read {
        url,
        query,
        pointer: pointer?,
        in_sats: in_sats.unwrap_or(false),
        every,
        max_age,
    })
}

fn read_mint(l402: &Section<'_>) -> Minting {
    let section = l402.section("mint", MINT_KEYS);
    let number = |key: &str, usual: u32| {
        let written = section.as_ref().and_then(|section| section.value(key, value::quota));
        written.unwrap_or(NonZeroU32::MIN.saturating_add(usual - 1))
    };
    Minting {
        when: section.as_ref().and_then(|section| section.value("when", when)).unwrap_or(MintWhen::Always),
        per_second: number("per_second", 50),
        burst: number("burst", 200),
        per_source_per_second: number("per_source_per_second", 1),
        per_source_burst: number("per_source_burst", 10),
        open_max: usize::try_from(number("open_max", 5000).get()).unwrap_or(usize::MAX),
    }
}

/// What a route says of itself.
pub(super) fn read_route<'a>(context: &'a Context<'a>, path: &str, node: &'a Node) -> RouteL402 {
    let Some(section) = Section::open(context, path, node, ROUTE_KEYS) else { return RouteL402::default() };
    RouteL402 {
        service: section.value("service", service),
        tier: section.value("tier", tier).unwrap_or(0),
        capability: section.value("capability", service),
        mint: section.value("mint", when),
    }
}

fn when(text: &str) -> Result<MintWhen, String> {
    match text {
        "always" => Ok(MintWhen::Always),
        "asked" => Ok(MintWhen::Asked),
        "never" => Ok(MintWhen::Never),
        _ => Err(format!("\"{text}\" is none of always, asked, never")),
    }
}

fn fixed_price(text: &str) -> Result<FixedPrice, String> {
    match text {
        "single" => Ok(FixedPrice::Single),
        "draw" => Ok(FixedPrice::Draw),
        _ => Err(format!("\"{text}\" is neither single nor draw")),
    }
}

fn unknown(text: &str) -> Result<UnknownCaveats, String> {
    match text {
        "refuse" => Ok(UnknownCaveats::Reject),
        "skip" => Ok(UnknownCaveats::Skip),
        _ => Err(format!("\"{text}\" is neither refuse nor skip")),
    }
}

fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|_| format!("\"{text}\" is none of mainnet, testnet, signet, regtest"))
}

fn node_key(text: &str) -> Result<[u8; 33], String> {
    let wrong = || "a node's key is 66 hex digits that begin with 02 or 03".to_owned();
    let key = wire::hex::decode_array::<33>(text).map_err(|_| wrong())?;
    if matches!(key, [2 | 3, ..]) { Ok(key) } else { Err(wrong()) }
}

fn expiry(text: &str) -> Result<Duration, String> {
    let expiry = value::duration(text)?;
    if (60..=600).contains(&expiry.as_secs()) {
        Ok(expiry)
    } else {
        Err("is between 60 s and 10 minutes".to_owned())
    }
}

fn epoch(text: &str) -> Result<u16, String> {
    u16::try_from(value::count(text)?).map_err(|_| format!("\"{text}\" is more than 65535"))
}

fn tier(text: &str) -> Result<u8, String> {
    u8::try_from(value::count(text)?).map_err(|_| format!("\"{text}\" is more than 255"))
}

/// A name as it may stand in a caveat, short enough that a token stays one that every client can read (L402-25).
fn service(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(fits) {
        return Err(format!(
            "\"{text}\" is no name of a service: small letters, digits, _ and at most 32 of them"
        ));
    }
    Ok(text.to_owned())
}
