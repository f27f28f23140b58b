//! The configurations of the gateways under test, of their recipes and of what stands around them.

use std::path::Path;

use super::clients::Takes;
use super::lightning::LnBitsUrls;
use super::recipe::Recipe;

/// Where the seller is paid: a public test account, worth nothing.
pub(super) const PAY_TO: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";
/// Where it is paid on Solana: of the seed 08, 32 times.
const SOLANA_PAY_TO: &str = "2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1";

/// What stands around a gateway, for those that need it.
#[derive(Default)]
pub(super) struct Around {
    pub(super) chain: Option<ChainUrls>,
    pub(super) lnbits: Option<LnBitsUrls>,
    /// Where a Cashu mint is.
    pub(super) mint: Option<String>,
    /// How the seller's wallet behind the relay is reached.
    pub(super) nwc_uri: Option<String>,
    /// How the wallet is that pays as well.
    pub(super) nwc_shop_uri: Option<String>,
    /// Where the chain of Tempo is.
    pub(super) tempo: Option<String>,
}

/// What a gateway asks about the chain.
pub(super) struct ChainUrls {
    pub(super) facilitator: String,
    pub(super) rpc: String,
}

/// Where one gateway listens, and what it stands before.
pub(super) struct Ports {
    pub(super) gateway: u16,
    pub(super) admin: u16,
    pub(super) upstream: u16,
    /// Where a script serves what the gateway stands before, if it does.
    pub(super) peer: u16,
}

/// The configuration under test. Prices are those that the scripts count with. What takes something that does not stand
/// around it takes nothing.
pub(super) fn text(takes: Takes, ports: &Ports, store: &Path, around: &Around) -> String {
    let recipe = takes.recipe();
    let mode = if recipe.is_live { "live" } else { "test" };
    let rails = [
        l402(&recipe, around.lnbits.as_ref()),
        cashu(&recipe, around.mint.as_deref()),
        if recipe.has_test_rail { "  test: {}\n".to_owned() } else { String::new() },
        x402(&recipe, around.chain.as_ref()),
        mpp(&recipe, around, ports.peer),
    ]
    .concat();
    let Ports { gateway, admin, upstream, peer } = ports;
    let peers = recipe.peers.replace("@PEER", &peer.to_string());
    let Recipe { routes, identity, .. } = recipe;
    let store = store.display();
    format!(
        r#"mode: {mode}
server: {{ listen: ["127.0.0.1:{gateway}"], public_url: "http://127.0.0.1:{gateway}" }}
store: {{ path: "{store}" }}
upstreams:
  mock: {{ url: "http://127.0.0.1:{upstream}", dialect: openai }}
  claude: {{ url: "http://127.0.0.1:{upstream}", dialect: anthropic }}
{peers}prices:
  models:
    "gpt-*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }}
    "claude-*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }}
    "fine-*": {{ input: 0.1 USD/Mtok, output: 0.4 USD/Mtok }}
    "dear-*": {{ input: 1 USD/Mtok, output: 400 USD/Mtok }}
# A stock client asks for the price before each payment; all of them are one address here.
limits: {{ unpaid: {{ per_ip: 6000/min }} }}
metering: {{ hold: {{ step: 4, default_output: 4, min_output: 1 }} }}
{routes}{identity}rails:
{rails}admin: {{ listen: "127.0.0.1:{admin}" }}
"#
    )
}

/// A bitcoin costs what makes a satoshi a tenth of a cent; an invoice is for two of them at least, since some clients count
/// in whole ones.
fn l402(recipe: &Recipe, lnbits: Option<&LnBitsUrls>) -> String {
    if recipe.lightning.is_empty() {
        return String::new();
    }
    let (url, key) = lnbits.map_or(("", ""), |lnbits| (lnbits.url.as_str(), lnbits.node_key.as_str()));
    let node = recipe.lightning.replace("@LNBITS", url).replace("@NODE_KEY", key);
    format!(
        "  l402:
    {node}
    price: {{ usd_per_btc: 100000 }}
    deposit: 0.002 USD
    # All clients are one source here.
    mint: {{ per_second: 1000, burst: 1000, per_source_per_second: 1000, per_source_burst: 1000 }}
"
    )
}

/// At the same price of a bitcoin: twenty satoshi at least.
fn cashu(recipe: &Recipe, mint: Option<&str>) -> String {
    let Some(mint) = mint.filter(|_| recipe.has_ecash) else { return String::new() };
    format!(
        "  cashu:
    mints: [\"{mint}\"]
    price: {{ usd_per_btc: 100000 }}
    deposit: 0.02 USD
"
    )
}

/// What the facilitator says is held against the chain.
fn x402(recipe: &Recipe, chain: Option<&ChainUrls>) -> String {
    let Some(ChainUrls { facilitator, rpc }) = chain.filter(|_| !recipe.schemes.is_empty()) else {
        return String::new();
    };
    let solana = format!(
        r#""solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1": {{ asset: USDC, pay_to: "{SOLANA_PAY_TO}" }}, "#
    );
    let solana = if recipe.is_on_solana { solana.as_str() } else { "" };
    let Recipe { schemes, x402, .. } = recipe;
    format!(
        r#"  x402:
    schemes: [{schemes}]
    networks: {{ {solana}"eip155:84532": {{ asset: USDC, pay_to: "{PAY_TO}", rpc: "{rpc}" }} }}
    facilitators: ["{facilitator}"]
    deposit: 0.01 USD
{x402}"#
    )
}

fn mpp(recipe: &Recipe, around: &Around, peer: u16) -> String {
    if recipe.mpp.contains("@TEMPO") && around.tempo.is_none() {
        return String::new();
    }
    let rpc = around.tempo.as_deref().unwrap_or_default();
    // Through the node that stands beside its network in `x402`.
    let submitter = around.chain.as_ref().map_or("", |_| SUBMITTER);
    let text = recipe.mpp.replace("@TEMPO", rpc).replace("@PAY_TO", PAY_TO).replace("@SUBMITTER", submitter);
    text.replace("@PEER", &peer.to_string())
}

/// The account that is paid sends permits too: it has coins of the chain.
const SUBMITTER: &str = r#" evm: { "eip155:84532": { key: "${env:PAYEE_KEY}" } } "#;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Around, ChainUrls, LnBitsUrls, Ports, Takes, text};

    fn config(takes: Takes, around: &Around) -> String {
        text(takes, &Ports { gateway: 1, admin: 2, upstream: 3, peer: 4 }, Path::new("/s"), around)
    }

    #[test]
    fn x402_is_offered_only_with_a_facilitator() {
        let urls = ChainUrls { facilitator: "http://127.0.0.1:9".into(), rpc: "http://127.0.0.1:8".into() };
        let around = Around { chain: Some(urls), ..Around::default() };
        let with = config(Takes::Permit, &around);
        assert!(with.contains("rpc: \"http://127.0.0.1:8\""));
        assert!(with.contains("  x402:\n    schemes: [permit2, exact]\n    networks:"));
        assert!(with.contains("facilitators: [\"http://127.0.0.1:9\"]\n    deposit:"));
        assert!(!with.contains("l402"));
        assert!(!config(Takes::Lightning, &around).contains("x402"));
        let without = config(Takes::Permit, &Around::default());
        assert!(!without.contains("x402") && without.contains("rails:\n  test: {}\nadmin:"));
    }

    #[test]
    fn permits_are_sent_where_there_is_a_chain() {
        let urls = ChainUrls { facilitator: "http://127.0.0.1:9".into(), rpc: "http://127.0.0.1:8".into() };
        let around = Around { chain: Some(urls), ..Around::default() };
        let with = config(Takes::Payment, &around);
        assert!(with.contains(r#"mpp: { evm: { "eip155:84532": { key: "${env:PAYEE_KEY}" } } }"#), "{with}");
        assert!(config(Takes::Payment, &Around::default()).contains("  mpp: {}\n"));
    }

    #[test]
    fn ecash_is_of_the_mint_that_stands_there() {
        let around = Around { mint: Some("http://127.0.0.1:7".into()), ..Around::default() };
        let text = config(Takes::Cashu, &around);
        assert!(text.contains("rails:\n  cashu:\n    mints: [\"http://127.0.0.1:7\"]\n"));
        assert!(!config(Takes::Exact, &around).contains("cashu"));
    }

    #[test]
    fn lnbits_is_asked_with_a_key_that_is_not_written() {
        let lnbits =
            LnBitsUrls { url: "http://127.0.0.1:7".into(), key: "a secret".into(), node_key: "02".into() };
        let text = config(Takes::LnBits, &Around { lnbits: Some(lnbits), ..Around::default() });
        assert!(text.starts_with("mode: live\n") && !text.contains("a secret"));
        assert!(text.contains(r#"lnbits: { url: "http://127.0.0.1:7", key: "${env:LNBITS_KEY}" }"#));
    }
}
