//! `rails`: the ways money may arrive.

use std::time::Duration;

use money::Amount;

use super::Mode;
use super::alipay::{self, Alipay};
use super::batch::{self, Batch};
use super::cashu::{self, Cashu};
use super::extensions::{self, Extensions};
use super::l402::{self, L402};
use super::mpp::{self, Mpp};
use super::network::{self, Chain, Token};
use super::section::{Context, Keys, Section, joined, scalar, suggestion};
use super::svm;
use super::url::BaseUrl;
use super::value;
use super::yaml::{Key, Kind, Node};

/// The rails that are switched on. None is fine: credit keys work without any.
#[derive(Clone, Debug, Default)]
pub struct Rails {
    /// Play money, in mode test only.
    pub test: Option<TestRail>,
    /// Stablecoins over x402.
    pub x402: Option<X402>,
    /// Lightning over L402.
    pub l402: Option<L402>,
    /// Ecash of Cashu mints.
    pub cashu: Option<Cashu>,
    /// The `Payment` scheme, over what else is there.
    pub mpp: Option<Mpp>,
    /// Top-ups by Alipay's QR codes.
    pub alipay: Option<Alipay>,
}

/// The `test` rail: real signatures, play money (reference item 42).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRail {
    /// Amount offered as a deposit; the call's ceiling when absent.
    pub deposit: Option<Amount>,
}

/// Payments on a chain, settled by facilitators.
#[derive(Clone, Debug)]
pub struct X402 {
    /// How they may be made, at least one way, in the order of the offers; default `exact`.
    pub schemes: Vec<X402Scheme>,
    /// Chains and tokens that we take, at least one, in the order of the offers.
    pub networks: Vec<Network>,
    /// Facilitators in the order they are tried, at least one. Only these are ever called (SEC-40).
    pub facilitators: Vec<BaseUrl>,
    /// Whether a call waits for its payment, default that it does. Under `upto` it never can.
    pub settle: Settle,
    /// The most that may be open of one payer whose calls did not wait for their payments, default 1 USD (X402-21); of
    /// all of them together a hundred times as much.
    pub optimistic_max: Amount,
    /// For a settlement, default 30 s (X402-40).
    pub settle_timeout: Duration,
    /// Settlements that one facilitator is asked for at the same time, default 32 (X402-46): one with a single
    /// signing key takes few at once.
    pub settle_at_once: usize,
    /// Amount offered as a deposit; the call's ceiling, rounded up, when absent.
    pub deposit: Option<Amount>,
    /// The most one offer asks for, default 1 USD: stock clients refuse more (X402-47).
    pub ceiling_max: Amount,
    /// Payment channels, where `batch-settlement` is one of the schemes.
    pub batch: Option<Batch>,
    /// What a challenge offers beside payments.
    pub extensions: Extensions,
}

/// When a payment by `exact` is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Before its call.
    First,
    /// While its call runs, as long as little enough is open of its payer.
    After,
}

/// One way to pay on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X402Scheme {
    /// `exact`: by EIP-3009 on EVM chains, by a signed transaction on Solana.
    Exact,
    /// `exact` by Permit2, for tokens and wallets without EIP-3009.
    Permit2,
    /// `upto`: a signed ceiling, of which the metered amount is taken after the call.
    Upto,
    /// `batch-settlement`: a payment channel on EVM chains, and vouchers.
    Batch,
}

/// A chain that we are paid on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// `eip155:<chain id>`.
    Evm(EvmNetwork),
    /// `solana:<genesis hash>`.
    Svm(SvmNetwork),
}

/// One token on one EVM chain and who is paid there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvmNetwork {
    /// CAIP-2 name, `eip155:8453`.
    pub network: String,
    /// Chain id of the EIP-712 domain.
    pub chain_id: u64,
    /// Contract, `name` and `version` of the EIP-712 domain, decimals, and what it counts as.
    pub token: Token,
    /// Our address.
    pub pay_to: [u8; 20],
    /// A node of the operator's: what it does not show is not believed (X402-45).
    pub rpc: Option<BaseUrl>,
}

/// One token on Solana and who is paid there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvmNetwork {
    /// CAIP-2 name, `solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp`.
    pub network: String,
    /// The token.
    pub mint: [u8; 32],
    /// Decimal places of its atomic unit.
    pub decimals: u32,
    /// What a deposit in it counts as.
    pub asset: money::Asset,
    /// The owner of the accounts we are paid into.
    pub pay_to: [u8; 32],
}

const KEYS: Keys = Keys::secret(
    &["test", "x402", "l402", "cashu", "mpp", "alipay"],
    &["alipay_a2m", "stripe", "wechat", "antom", "paypal", "airwallex", "codes", "epay", "order"],
);
const TEST_KEYS: Keys = Keys::new(&["deposit"], &[]);
const X402_KEYS: Keys = Keys::secret(
    &joined::<14>(
        &[
            "schemes",
            "networks",
            "facilitators",
            "settle",
            "settle_timeout",
            "settle_at_once",
            "optimistic_max",
            "deposit",
            "ceiling_max",
            "batch",
        ],
        &extensions::NAMES,
    ),
    &["circuit"],
);
const NETWORK_KEYS: Keys = Keys::new(&["asset", "pay_to", "rpc"], &["facilitator"]);
const TOKEN_KEYS: Keys = Keys::new(&["address", "name", "version", "decimals", "symbol"], &[]);

/// One dollar.
const USD_1: Amount = Amount::from_units(1_000_000_000);

pub(super) fn read(top: &Section<'_>) -> Rails {
    let Some(section) = top.section("rails", KEYS) else { return Rails::default() };
    let mut rails = Rails {
        test: read_test(&section),
        x402: read_x402(&section),
        l402: l402::read(&section),
        cashu: cashu::read(&section),
        mpp: None,
        alipay: alipay::read(&section),
    };
    rails.mpp = mpp::read(&section, &rails);
    rails
}

fn read_test(rails: &Section<'_>) -> Option<TestRail> {
    let node = rails.node("test")?;
    if rails.context.mode == Mode::Live {
        rails.complain("test", "rails.test: play money exists in mode test only");
    }
    let section = Section::open(rails.context, "rails.test", node, TEST_KEYS)?;
    Some(TestRail { deposit: section.value("deposit", value::some_usd) })
}

fn read_x402(rails: &Section<'_>) -> Option<X402> {
    let section = rails.section("x402", X402_KEYS)?;
    let ceiling_max = section.value("ceiling_max", value::some_usd).unwrap_or(USD_1);
    let deposit = section.value("deposit", value::some_usd);
    if deposit.is_some_and(|deposit| deposit > ceiling_max) {
        section.complain(
            "deposit",
            "rails.x402.deposit is more than ceiling_max; stock clients refuse above 1 USD",
        );
    }
    let (schemes, networks) = (read_schemes(&section), read_networks(&section));
    // Deployed Python clients that pay by Permit2 fail on a challenge with any extension, unless they have more installed.
    let declares = !schemes.iter().any(|scheme| matches!(scheme, X402Scheme::Permit2 | X402Scheme::Upto));
    let batch = batch::read(&section);
    batch::fits(&section, batch.as_ref(), &schemes, &networks);
    Some(X402 {
        schemes,
        networks,
        batch,
        facilitators: read_facilitators(&section),
        settle: section.value("settle", settle).unwrap_or(Settle::First),
        optimistic_max: section.value("optimistic_max", value::some_usd).unwrap_or(USD_1),
        settle_timeout: section.value("settle_timeout", value::duration).unwrap_or(Duration::from_secs(30)),
        settle_at_once: read_at_once(&section),
        deposit,
        ceiling_max,
        extensions: extensions::read(&section, declares),
    })
}

fn settle(text: &str) -> Result<Settle, String> {
    match text {
        "first" => Ok(Settle::First),
        "after" => Ok(Settle::After),
        _ => Err(format!("\"{text}\" is neither first nor after")),
    }
}

fn read_schemes(x402: &Section<'_>) -> Vec<X402Scheme> {
    let scheme = |text: &str| match text {
        "exact" => Ok(X402Scheme::Exact),
        "permit2" => Ok(X402Scheme::Permit2),
        "upto" => Ok(X402Scheme::Upto),
        "batch-settlement" => Ok(X402Scheme::Batch),
        _ => Err(format!(
            "\"{text}\" is no x402 scheme that we know; this version has exact, permit2, upto, batch-settlement"
        )),
    };
    let Some(written) = x402.values("schemes", scheme) else { return vec![X402Scheme::Exact] };
    let mut schemes = Vec::new();
    for (span, scheme) in written {
        if schemes.contains(&scheme) {
            x402.context.report.add(span, "rails.x402.schemes: a scheme stands twice".to_owned());
        }
        schemes.push(scheme);
    }
    if schemes.is_empty() {
        x402.complain("schemes", "rails.x402.schemes: needs at least one");
    }
    schemes
}

fn read_at_once(x402: &Section<'_>) -> usize {
    let number = x402.value("settle_at_once", value::quota).map(std::num::NonZeroU32::get);
    usize::try_from(number.unwrap_or(32)).unwrap_or(usize::MAX)
}

fn read_facilitators(x402: &Section<'_>) -> Vec<BaseUrl> {
    let url = |text: &str| encrypted(text, "a facilitator");
    let written = x402.values("facilitators", url);
    if written.as_ref().is_none_or(Vec::is_empty) {
        if written.is_none()
            || matches!(x402.get("facilitators").map(|n| &n.kind), Some(Kind::List(l)) if l.is_empty())
        {
            x402.missing("rails.x402 needs \"facilitators\": who settles the payments?");
        }
        return Vec::new();
    }
    let mut urls: Vec<BaseUrl> = Vec::new();
    for (span, url) in written.unwrap_or_default() {
        if urls.contains(&url) {
            x402.context.report.add(span, format!("rails.x402.facilitators: {url} stands twice"));
        }
        urls.push(url);
    }
    urls
}

/// A service that is told about payments: encrypted, or on this machine.
pub(super) fn encrypted(text: &str, what: &str) -> Result<BaseUrl, String> {
    let url = BaseUrl::parse(text)?;
    match url.scheme {
        super::Scheme::Https => Ok(url),
        super::Scheme::Http if url.is_loopback() => Ok(url),
        super::Scheme::Http => Err(format!("{what} is reached by https")),
    }
}

fn read_networks(x402: &Section<'_>) -> Vec<Network> {
    let path = x402.path_of("networks");
    let Some(node) = x402.get("networks") else {
        x402.missing("rails.x402 needs \"networks\": on which chain, and to whom?");
        return Vec::new();
    };
    let Some(section) = Section::open_any(x402.context, &path, node) else { return Vec::new() };
    if section.entries().next().is_none() {
        x402.complain("networks", "rails.x402.networks: needs at least one");
    }
    section.entries().flat_map(|(key, node)| read_network(&section, key, node)).collect()
}

fn read_network(networks: &Section<'_>, key: &Key, node: &Node) -> Vec<Network> {
    if key.text.starts_with("solana:") {
        return svm::read(networks, key, node).map(Network::Svm).into_iter().collect();
    }
    let context = networks.context;
    let path = networks.path_of(&key.text);
    let chain = match Chain::parse(&key.text).and_then(|chain| chain.allowed_in(context.mode).map(|()| chain))
    {
        Ok(chain) => chain,
        Err(why) => {
            context.report.add(key.span, format!("{}: {why}", networks.path));
            return Vec::new();
        }
    };
    let Some(section) = Section::open(context, &path, node, NETWORK_KEYS) else { return Vec::new() };
    let tokens = read_tokens(&section, chain);
    let pay_to = section.required("pay_to", |text| {
        let address = network::address(text)?;
        if context.mode == Mode::Live && wire::x402::test_keys::is_public(&wire::x402::Address(address)) {
            return Err("anyone holds the key of this test address; money sent there is lost".to_owned());
        }
        Ok(address)
    });
    let Some(pay_to) = pay_to else { return Vec::new() };
    if tokens.iter().any(|token| token.address == pay_to) {
        section.complain(
            "pay_to",
            format!("{path}.pay_to: this is the token's contract; money sent there is lost"),
        );
    }
    let (network, chain_id) = (&key.text, chain.id);
    let rpc = section.value("rpc", |text| encrypted(text, "a node"));
    let evm = |token| {
        Network::Evm(EvmNetwork { network: network.clone(), chain_id, token, pay_to, rpc: rpc.clone() })
    };
    tokens.into_iter().map(evm).collect()
}

/// One token or a list of them, each by its symbol or written out; the usual one where none is named.
fn read_tokens(section: &Section<'_>, chain: Chain) -> Vec<Token> {
    let path = section.path_of("asset");
    let Some(node) = section.get("asset") else {
        let known = chain.tokens().next();
        if known.is_none() {
            let message = format!("{} needs \"asset\": {{ address, name, version, decimals }}", section.path);
            section.missing(message);
        }
        return known.into_iter().collect();
    };
    let nodes = match &node.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Null | Kind::Scalar(_) | Kind::Map(_) => std::slice::from_ref(node),
    };
    let mut tokens: Vec<Token> = Vec::new();
    for node in nodes {
        let Some(token) = read_token(section.context, &path, node, chain) else { continue };
        if tokens.iter().any(|known| known.address == token.address) {
            section.context.report.add(node.span, format!("{path}: a token stands twice"));
        }
        tokens.push(token);
    }
    if nodes.is_empty() {
        section.complain("asset", format!("{path}: needs at least one token"));
    }
    tokens
}

fn read_token<'a>(context: &'a Context<'a>, path: &str, node: &'a Node, chain: Chain) -> Option<Token> {
    if let Kind::Map(_) = &node.kind {
        return read_own_token(context, path, node, chain);
    }
    scalar(context, path, node, |text| {
        let found = chain.tokens().find(|token| token.symbol() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = chain.tokens().map(|token| token.symbol()).collect();
            let hint = suggestion(text, names.iter().copied());
            let hint = if hint.is_empty() { "; write { address, name, version, decimals }" } else { &hint };
            format!("token \"{text}\" is not known on eip155:{}{hint}", chain.id)
        })
    })
}

fn read_own_token<'a>(context: &'a Context<'a>, path: &str, node: &'a Node, chain: Chain) -> Option<Token> {
    let section = Section::open(context, path, node, TOKEN_KEYS)?;
    let address = section.required("address", network::address);
    let name = section.required("name", value::some_text);
    let version = section.required("version", value::some_text);
    let decimals = section.required("decimals", |text| match value::count(text)? {
        decimals @ 1..=18 => Ok(decimals),
        _ => Err(format!("\"{text}\" is more than 18")),
    });
    let asset = section.value("symbol", network::symbol).unwrap_or(money::Asset::Usdc);
    let token = Token { address: address?, name: name?, version: version?, decimals: decimals?, asset };
    // A wrong domain gives an unrelated signer, not an error: catch it here (x402.md 3.3).
    if let Some(known) = chain.tokens().find(|known| known.address == token.address)
        && known != token
    {
        let Token { name, version, decimals, .. } = &known;
        let message =
            format!("{path}: this token is name \"{name}\", version \"{version}\", decimals {decimals}");
        context.report.add(node.span, message);
    }
    Some(token)
}
