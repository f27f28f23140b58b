//! What each gateway under test takes, and what stands first among its offers: where its configuration differs from that
//! of the others.

use super::clients::Takes;

/// One gateway's part of a configuration. Words in capitals behind an `@` are put in by whoever writes the file.
pub(super) struct Recipe {
    /// What its logs and its folder are called by.
    pub(super) name: &'static str,
    /// Real money: LNbits makes invoices of the main network only.
    pub(super) is_live: bool,
    /// The schemes of x402 in the order of the offers: whoever knows the first one takes it. Empty: it takes no x402.
    pub(super) schemes: &'static str,
    /// What x402 needs besides.
    pub(super) x402: &'static str,
    /// It is paid on Solana before other chains.
    pub(super) is_on_solana: bool,
    /// Play money is one more offer.
    pub(super) has_test_rail: bool,
    /// The node behind L402. Empty: it takes nothing over Lightning.
    pub(super) lightning: &'static str,
    /// It takes ecash.
    pub(super) has_ecash: bool,
    /// The Payment scheme, over the other rails. Empty: it does not speak it.
    pub(super) mpp: &'static str,
    /// Whose signatures it knows.
    pub(super) identity: &'static str,
    /// Where its routes are not those that the upstreams have of themselves.
    pub(super) routes: &'static str,
    /// Upstreams that a script plays itself, at the port that it is told.
    pub(super) peers: &'static str,
}

const NOTHING: Recipe = Recipe {
    name: "",
    is_live: false,
    schemes: "",
    x402: "",
    is_on_solana: false,
    has_test_rail: false,
    lightning: "",
    has_ecash: false,
    mpp: "",
    identity: "",
    routes: "",
    peers: "",
};

impl Takes {
    /// How its gateway is configured.
    pub(super) fn recipe(self) -> Recipe {
        match self {
            Takes::Exact => {
                Recipe { name: "exact", schemes: "exact, permit2", has_test_rail: true, ..NOTHING }
            }
            Takes::Permit => {
                Recipe { name: "permit", schemes: "permit2, exact", has_test_rail: true, ..NOTHING }
            }
            Takes::Upto => Recipe { name: "upto", schemes: "upto, exact", has_test_rail: true, ..NOTHING },
            Takes::Channels => Recipe {
                name: "channels",
                schemes: "batch-settlement, exact",
                x402: BATCH,
                has_test_rail: true,
                ..NOTHING
            },
            // With play money a challenge with every extension would be longer than some let through.
            Takes::Extensions => Recipe {
                name: "extensions",
                schemes: "exact",
                x402: "    extensions: [payment-identifier, sign-in-with-x, offer-receipt, bazaar]\n",
                routes: DESCRIBED,
                ..NOTHING
            },
            Takes::Solana => Recipe {
                name: "solana",
                schemes: "exact",
                is_on_solana: true,
                has_test_rail: true,
                ..NOTHING
            },
            Takes::Lightning => {
                Recipe { name: "lightning", lightning: "test: {}", routes: PRICED, ..NOTHING }
            }
            Takes::Lsat => {
                Recipe { name: "lsat", lightning: "test: {}\n    lsat: true", routes: PRICED, ..NOTHING }
            }
            Takes::LightningAndChain => Recipe {
                name: "lightning-and-chain",
                schemes: "exact, permit2",
                has_test_rail: true,
                lightning: "test: {}",
                routes: PRICED,
                ..NOTHING
            },
            Takes::LnBits => {
                Recipe { name: "lnbits", is_live: true, lightning: LNBITS, routes: PRICED, ..NOTHING }
            }
            Takes::Cashu => Recipe { name: "cashu", has_ecash: true, ..NOTHING },
            Takes::Streams => Recipe {
                name: "streams",
                lightning: "test: {}",
                routes: STREAMED,
                peers: STREAMING_PEERS,
                ..NOTHING
            },
            Takes::Nwc => Recipe { name: "nwc", lightning: NWC, routes: PRICED, ..NOTHING },
            Takes::Payment => Recipe {
                name: "payment",
                schemes: "exact",
                lightning: "test: {}",
                mpp: "  mpp: {@SUBMITTER}\n",
                routes: PAID,
                peers: "  fragile: { url: \"http://127.0.0.1:@PEER\", dialect: raw }\n",
                ..NOTHING
            },
            Takes::Agents => Recipe {
                name: "agents",
                schemes: "exact",
                mpp: "  mpp: {}\n",
                identity: KNOWN_AGENTS,
                routes: SIGNED,
                ..NOTHING
            },
            Takes::Sessions => Recipe { name: "sessions", mpp: TEMPO, ..NOTHING },
            Takes::LightningSessions => Recipe {
                name: "lightning-sessions",
                lightning: NWC_THAT_PAYS,
                mpp: "  mpp: { sessions: { grace: 5s } }\n",
                ..NOTHING
            },
            Takes::Stripe => Recipe { name: "stripe", mpp: STRIPE, ..NOTHING },
        }
    }

    /// The currency of its balances.
    pub(super) fn currency(self) -> &'static str {
        if self.recipe().is_live { "USD" } else { "TEST" }
    }
}

/// What the scripts use of a channel before they look for a claim is worth less than what is claimed.
const BATCH: &str = r#"    batch:
      { authorizer_key: "${env:AUTHORIZER_KEY}", withdraw_delay: 15m, min_deposit: 0.005 USD, claim_above: 0.0005 USD }
"#;

const DESCRIBED: &str = r#"routes:
  - match: { method: POST, path: /v1/chat/completions }
    upstream: mock
    price: by_model
    discovery: { body: '{"model": "gpt-play", "messages": [{"role": "user", "content": "hi"}]}', output: '{"choices": []}' }
"#;

const PRICED: &str = r#"routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: mock, price: by_model }
  - { match: { method: POST, path: /v1/messages }, upstream: claude, price: by_model }
  - { name: once, match: { method: POST, path: /v1/responses }, upstream: mock, price: { per_call: 0.003 USD } }
  - { name: cheap, match: { method: POST, path: /api/generate }, upstream: mock, price: { per_call: 0.0001 USD } }
"#;

const PAID: &str = r#"routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: mock, price: by_model }
  - { name: once, match: { method: POST, path: /v1/responses }, upstream: mock, price: { per_call: 0.003 USD } }
  - { name: fragile, match: { method: POST, path: /fragile }, upstream: fragile, price: { per_call: 0.003 USD } }
"#;

const SIGNED: &str = r#"routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: mock, price: by_model, identity: require }
  - { name: once, match: { method: POST, path: /v1/responses }, upstream: mock, price: { per_call: 0.003 USD }, identity: { require: payer } }
"#;

const STREAMED: &str = r#"routes:
  - { match: { path: /metered.M/** }, upstream: grpc, price: { per_byte_out: 1 USD/MB, hold: 1kB } }
  - { match: { path: /fixed.F/** }, upstream: grpc, price: { per_call: 0.001 USD } }
  - { match: { path: /talk }, upstream: socket, websocket: true, price: { per_call: 0.001 USD } }
  - { match: { path: /flow }, upstream: socket, websocket: true, price: { per_byte_out: 0.01 USD/MB, hold: 1kB } }
"#;

const STREAMING_PEERS: &str = r#"  grpc: { url: "http://127.0.0.1:@PEER", protocol: grpc, metadata: [x-session] }
  socket: { url: "http://127.0.0.1:@PEER", dialect: raw }
"#;

/// It tells preimages before they are paid for, so its word is asked for.
const LNBITS: &str = r#"lnbits: { url: "@LNBITS", key: "${env:LNBITS_KEY}" }
    node_key: @NODE_KEY
    strict: true
    timeout: 10s
    refunds: { max: 1 USD, per_day: 10 USD }"#;

/// Whoever has an invoice of that wallet can work out its preimage, so its word is asked for.
const NWC: &str = r#"nwc: { uri: "${env:NWC_URI}" }
    strict: true
    timeout: 10s"#;

/// What is left of a session goes back, and such a wallet may take ten satoshi for it.
const NWC_THAT_PAYS: &str = r#"nwc: { uri: "${env:NWC_SHOP_URI}" }
    strict: true
    timeout: 10s
    refunds: { max: 1 USD, per_day: 10 USD, fee_max: 100% }"#;

/// What clients are told to put into a channel is enough for a few calls. The token is the first dollar of that chain.
const TEMPO: &str = r#"  mpp:
    sessions: { grace: 5s }
    tempo:
      token: "0x20c0000000000000000000000000000000000000"
      pay_to: "@PAY_TO"
      key: "${env:PAYEE_KEY}"
      rpc: "@TEMPO"
      min_deposit: 0.0001 USD
      suggested_deposit: 0.0004 USD
"#;

const STRIPE: &str = r#"  mpp:
    stripe: { url: "http://127.0.0.1:@PEER", key: "${env:STRIPE_KEY}", network_id: profile_interop, timeout: 5s }
"#;

/// By public test keys: of the seeds 0a and 0b, 32 times.
const KNOWN_AGENTS: &str = r#"identity:
  keyring:
    - { name: bot, x: Q6cucUQBdi32a2jCbfvfJoKq7J8kdOykYT5CSg-6_Tw, origin: "https://agent.example", profiles: [web-bot-auth] }
    - { name: agent, x: Zr5-Myx6RTMyvZ0Kf32wVfXF7xoGraZtmLOftoEMRzo, keyid: agent-2026-11, profiles: [visa-tap] }
"#;
