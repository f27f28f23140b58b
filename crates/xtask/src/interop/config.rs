//! The configurations of the gateways under test: what each takes, and what stands first among its offers.

use std::path::Path;

use super::clients::Takes;
use super::lightning::LnBitsUrls;

/// Where the seller is paid: a public test account, worth nothing.
pub(super) const PAY_TO: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";
/// The first dollar of the chain of Tempo.
const TEMPO_TOKEN: &str = "0x20c0000000000000000000000000000000000000";
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

impl Takes {
    /// What its logs and its folder are called by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Takes::Exact => "exact",
            Takes::Permit => "permit",
            Takes::Upto => "upto",
            Takes::Channels => "channels",
            Takes::Extensions => "extensions",
            Takes::Solana => "solana",
            Takes::Lightning => "lightning",
            Takes::Lsat => "lsat",
            Takes::LightningAndChain => "lightning-and-chain",
            Takes::LnBits => "lnbits",
            Takes::Cashu => "cashu",
            Takes::Streams => "streams",
            Takes::Nwc => "nwc",
            Takes::Payment => "payment",
            Takes::Agents => "agents",
            Takes::Sessions => "sessions",
            Takes::LightningSessions => "lightning-sessions",
        }
    }

    /// Real money, or none: LNbits makes invoices of the main network only.
    fn mode(self) -> &'static str {
        match self {
            Takes::LnBits => "live",
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Channels
            | Takes::Extensions
            | Takes::Solana
            | Takes::Lightning
            | Takes::Lsat
            | Takes::LightningAndChain
            | Takes::Cashu
            | Takes::Streams
            | Takes::Nwc
            | Takes::Payment
            | Takes::Agents
            | Takes::Sessions
            | Takes::LightningSessions => "test",
        }
    }

    /// The currency of its balances.
    pub(super) fn currency(self) -> &'static str {
        if self.mode() == "live" { "USD" } else { "TEST" }
    }

    /// The ways to pay in the order of the offers: whoever knows the first one takes it. None: it takes no x402.
    fn schemes(self) -> &'static str {
        match self {
            Takes::Exact | Takes::LightningAndChain => "exact, permit2",
            Takes::Permit => "permit2, exact",
            Takes::Upto => "upto, exact",
            Takes::Channels => "batch-settlement, exact",
            Takes::Extensions | Takes::Solana | Takes::Payment | Takes::Agents => "exact",
            Takes::Lightning
            | Takes::Lsat
            | Takes::LnBits
            | Takes::Cashu
            | Takes::Streams
            | Takes::Nwc
            | Takes::Sessions
            | Takes::LightningSessions => "",
        }
    }

    /// What payment channels and extensions need besides. What the scripts use of one before they look for a claim is worth less than
    /// what is claimed.
    fn more(self) -> &'static str {
        match self {
            Takes::Channels => {
                r#"    batch:
      { authorizer_key: "${env:AUTHORIZER_KEY}", withdraw_delay: 15m, min_deposit: 0.005 USD, claim_above: 0.0005 USD }
"#
            }
            Takes::Extensions => {
                "    extensions: [payment-identifier, sign-in-with-x, offer-receipt, bazaar]\n"
            }
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Solana
            | Takes::Lightning
            | Takes::Lsat
            | Takes::LightningAndChain
            | Takes::LnBits
            | Takes::Cashu
            | Takes::Streams
            | Takes::Nwc
            | Takes::Payment
            | Takes::Agents
            | Takes::Sessions
            | Takes::LightningSessions => "",
        }
    }

    /// The rail of play money, which is one more offer.
    fn test(self) -> &'static str {
        match self {
            // A challenge with every extension would be longer than some let through.
            Takes::Extensions
            | Takes::Lightning
            | Takes::Lsat
            | Takes::LnBits
            | Takes::Cashu
            | Takes::Streams
            | Takes::Nwc
            | Takes::Payment
            | Takes::Agents
            | Takes::Sessions
            | Takes::LightningSessions => "",
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Channels
            | Takes::Solana
            | Takes::LightningAndChain => "  test: {}\n",
        }
    }

    /// Where the routes are not those that the upstreams have of themselves.
    fn routes(self) -> &'static str {
        match self {
            Takes::Extensions => {
                r#"routes:
  - match: { method: POST, path: /v1/chat/completions }
    upstream: mock
    price: by_model
    discovery: { body: '{"model": "gpt-play", "messages": [{"role": "user", "content": "hi"}]}', output: '{"choices": []}' }
"#
            }
            Takes::Lightning | Takes::Lsat | Takes::LightningAndChain | Takes::LnBits | Takes::Nwc => {
                r#"routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: mock, price: by_model }
  - { match: { method: POST, path: /v1/messages }, upstream: claude, price: by_model }
  - { name: once, match: { method: POST, path: /v1/responses }, upstream: mock, price: { per_call: 0.003 USD } }
  - { name: cheap, match: { method: POST, path: /api/generate }, upstream: mock, price: { per_call: 0.0001 USD } }
"#
            }
            Takes::Payment => {
                r#"routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: mock, price: by_model }
  - { name: once, match: { method: POST, path: /v1/responses }, upstream: mock, price: { per_call: 0.003 USD } }
  - { name: fragile, match: { method: POST, path: /fragile }, upstream: fragile, price: { per_call: 0.003 USD } }
"#
            }
            Takes::Agents => {
                r#"routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: mock, price: by_model, identity: require }
  - { name: once, match: { method: POST, path: /v1/responses }, upstream: mock, price: { per_call: 0.003 USD }, identity: { require: payer } }
"#
            }
            Takes::Streams => {
                r#"routes:
  - { match: { path: /metered.M/** }, upstream: grpc, price: { per_byte_out: 1 USD/MB, hold: 1kB } }
  - { match: { path: /fixed.F/** }, upstream: grpc, price: { per_call: 0.001 USD } }
  - { match: { path: /talk }, upstream: socket, websocket: true, price: { per_call: 0.001 USD } }
  - { match: { path: /flow }, upstream: socket, websocket: true, price: { per_byte_out: 0.01 USD/MB, hold: 1kB } }
"#
            }
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Channels
            | Takes::Solana
            | Takes::Cashu
            | Takes::Sessions
            | Takes::LightningSessions => "",
        }
    }

    /// The upstreams that a script plays itself, at the port that it is told.
    fn peers(self, port: u16) -> String {
        match self {
            Takes::Streams => format!(
                r#"  grpc: {{ url: "http://127.0.0.1:{port}", protocol: grpc, metadata: [x-session] }}
  socket: {{ url: "http://127.0.0.1:{port}", dialect: raw }}
"#
            ),
            Takes::Payment => {
                format!("  fragile: {{ url: \"http://127.0.0.1:{port}\", dialect: raw }}\n")
            }
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Channels
            | Takes::Extensions
            | Takes::Solana
            | Takes::Lightning
            | Takes::Lsat
            | Takes::LightningAndChain
            | Takes::LnBits
            | Takes::Cashu
            | Takes::Nwc
            | Takes::Agents
            | Takes::Sessions
            | Takes::LightningSessions => String::new(),
        }
    }

    /// The agents that are known, by public test keys: of the seeds 0a and 0b, 32 times.
    fn identity(self) -> &'static str {
        if self != Takes::Agents {
            return "";
        }
        r#"identity:
  keyring:
    - { name: bot, x: Q6cucUQBdi32a2jCbfvfJoKq7J8kdOykYT5CSg-6_Tw, origin: "https://agent.example", profiles: [web-bot-auth] }
    - { name: agent, x: Zr5-Myx6RTMyvZ0Kf32wVfXF7xoGraZtmLOftoEMRzo, keyid: agent-2026-11, profiles: [visa-tap] }
"#
    }

    /// The Payment scheme, over the other rails.
    fn mpp(self, tempo: Option<&str>) -> String {
        match (self, tempo) {
            (Takes::Payment | Takes::Agents, _) => "  mpp: {}\n".to_owned(),
            (Takes::LightningSessions, _) => "  mpp: { sessions: { grace: 5s } }\n".to_owned(),
            // What clients are told to put into a channel is enough for a few calls.
            (Takes::Sessions, Some(rpc)) => format!(
                r#"  mpp:
    sessions: {{ grace: 5s }}
    tempo:
      token: "{TEMPO_TOKEN}"
      pay_to: "{PAY_TO}"
      key: "${{env:PAYEE_KEY}}"
      rpc: "{rpc}"
      min_deposit: 0.0001 USD
      suggested_deposit: 0.0004 USD
"#
            ),
            _ => String::new(),
        }
    }

    /// The rail of Lightning, if it has one. A bitcoin costs what makes a satoshi a tenth of a cent; an invoice is for two of them
    /// at least, since some clients count in whole ones.
    fn l402(self, lnbits: Option<&LnBitsUrls>) -> String {
        let node = match self {
            Takes::Lightning | Takes::LightningAndChain | Takes::Streams | Takes::Payment => {
                "test: {}".to_owned()
            }
            Takes::Lsat => "test: {}\n    lsat: true".to_owned(),
            Takes::LnBits => lnbits.map_or_else(String::new, |LnBitsUrls { url, node_key, .. }| {
                // It tells preimages before they are paid for, so its word is asked for.
                format!(
                    r#"lnbits: {{ url: "{url}", key: "${{env:LNBITS_KEY}}" }}
    node_key: {node_key}
    strict: true
    timeout: 10s
    refunds: {{ max: 1 USD, per_day: 10 USD }}"#
                )
            }),
            // Whoever has an invoice of that wallet can work out its preimage, so its word is asked for.
            Takes::Nwc => "nwc: { uri: \"${env:NWC_URI}\" }\n    strict: true\n    timeout: 10s".to_owned(),
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Channels
            | Takes::Extensions
            | Takes::Solana
            | Takes::Cashu
            | Takes::Agents
            | Takes::Sessions => return String::new(),
            // What is left of a session goes back, and such a wallet may take ten satoshi for it.
            Takes::LightningSessions => "nwc: { uri: \"${env:NWC_SHOP_URI}\" }\n    strict: true\n    timeout: 10s\n    refunds: { max: 1 USD, per_day: 10 USD, fee_max: 100% }".to_owned(),
        };
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

    /// The rail of ecash, if it has one, at the same price of a bitcoin: twenty satoshi at least.
    fn cashu(self, mint: Option<&str>) -> String {
        let Some(mint) = mint.filter(|_| self == Takes::Cashu) else { return String::new() };
        format!(
            "  cashu:
    mints: [\"{mint}\"]
    price: {{ usd_per_btc: 100000 }}
    deposit: 0.02 USD
"
        )
    }

    /// Where it is paid, in the order of the offers. What the facilitator says is held against the chain.
    fn networks(self, rpc_url: &str) -> String {
        let evm = format!(r#""eip155:84532": {{ asset: USDC, pay_to: "{PAY_TO}", rpc: "{rpc_url}" }}"#);
        let solana = format!(
            r#""solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1": {{ asset: USDC, pay_to: "{SOLANA_PAY_TO}" }}"#
        );
        match self {
            Takes::Exact
            | Takes::Permit
            | Takes::Upto
            | Takes::Channels
            | Takes::Extensions
            | Takes::Lightning
            | Takes::Lsat
            | Takes::LightningAndChain
            | Takes::LnBits
            | Takes::Cashu
            | Takes::Streams
            | Takes::Nwc
            | Takes::Payment
            | Takes::Agents
            | Takes::Sessions
            | Takes::LightningSessions => evm,
            Takes::Solana => format!("{solana}, {evm}"),
        }
    }
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

/// The configuration under test. Prices are those that the scripts count with.
pub(super) fn text(takes: Takes, ports: &Ports, store: &Path, around: &Around) -> String {
    let (mode, schemes, more) = (takes.mode(), takes.schemes(), takes.more());
    let (routes, test, l402) = (takes.routes(), takes.test(), takes.l402(around.lnbits.as_ref()));
    let (cashu, mpp) = (takes.cashu(around.mint.as_deref()), takes.mpp(around.tempo.as_deref()));
    let identity = takes.identity();
    let chain = around.chain.as_ref().filter(|_| !schemes.is_empty());
    let x402 = chain.map_or_else(String::new, |ChainUrls { facilitator, rpc }| {
        let networks = takes.networks(rpc);
        format!(
            r#"  x402:
    schemes: [{schemes}]
    networks: {{ {networks} }}
    facilitators: ["{facilitator}"]
    deposit: 0.01 USD
{more}"#
        )
    });
    let Ports { gateway, admin, upstream, peer } = ports;
    let peers = takes.peers(*peer);
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
{l402}{cashu}{test}{x402}{mpp}admin: {{ listen: "127.0.0.1:{admin}" }}
"#
    )
}

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
