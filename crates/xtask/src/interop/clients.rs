//! The foreign clients, and what each has to show.

use super::install::Environment;

/// What a client's script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Runtime {
    Node,
    Python(Environment),
    /// Rust: a test target of the rails, which wants somebody else's program around it.
    Cargo(&'static str),
}

/// One foreign client, its script, and every scenario it must report on.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) runtime: Runtime,
    pub(super) script: &'static str,
    pub(super) scenarios: &'static [&'static str],
    /// What it pays on or with.
    pub(super) on: &'static [Ground],
    /// Needs the mock upstream and a gateway, which takes this.
    pub(super) before: Option<Takes>,
}

/// What a client pays on or with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// anvil, with our contracts, and a facilitator.
    Evm,
    /// That, and a machine that runs the programs of Solana: it is written in Python.
    Solana,
    /// A wallet that pays the invoices of the `test` node.
    Wallet,
    /// LNbits, with play money of its own.
    LnBits,
    /// Wallets behind a Nostr relay, as Alby's service speaks for them.
    Nwc,
    /// A Cashu mint, of play money.
    Cashu,
    /// The chain of Tempo, with our channel reserve.
    Tempo,
    /// Alipay's SDK, as a gateway that judges by it.
    Alipay,
}

/// What a gateway offers first: stock clients take the first offer that they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Takes {
    /// `exact`, by EIP-3009.
    Exact,
    /// `exact`, by Permit2.
    Permit,
    /// `upto`.
    Upto,
    /// `batch-settlement`.
    Channels,
    /// By `exact`, with every extension.
    Extensions,
    /// `exact`, on Solana.
    Solana,
    /// L402 and nothing else, with invoices of the `test` node.
    Lightning,
    /// That, with a line in the old name before the other.
    Lsat,
    /// L402, and `exact` by EIP-3009.
    LightningAndChain,
    /// L402 and nothing else, with invoices of LNbits.
    LnBits,
    /// Ecash and nothing else.
    Cashu,
    /// L402 and keys, for gRPC and WebSockets of a peer that the script plays itself.
    Streams,
    /// L402 and nothing else, with invoices of a wallet behind a relay.
    Nwc,
    /// The Payment scheme, L402, `exact` by EIP-3009, and permits that it sends itself: everything at once.
    Payment,
    /// The Payment scheme by `exact`, and keys, of agents that sign.
    Agents,
    /// The Payment scheme by vouchers on a channel of Tempo.
    Sessions,
    /// The Payment scheme over Lightning, with a wallet behind a relay that pays back what is left.
    LightningSessions,
    /// The Payment scheme by tokens of Stripe, whose place a script takes.
    Stripe,
}

const OPENAI: &[&str] = &[
    "chat",
    "chat-stream",
    "chat-stream-usage",
    "responses",
    "responses-stream",
    "empty-balance",
    "lost-answer",
    "stream-outlives-balance",
];
const ANTHROPIC: &[&str] = &["messages", "messages-stream", "empty-balance", "lost-answer"];
const PERMIT: &[&str] = &["permit-without-allowance-is-412", "permit-pays-and-streams"];

pub(super) const CLIENTS: &[Client] = &[
    Client {
        name: "openai-python",
        runtime: Runtime::Python(Environment::Sdks),
        script: "openai_sdk.py",
        scenarios: OPENAI,
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "openai-node",
        runtime: Runtime::Node,
        script: "openai.mjs",
        scenarios: OPENAI,
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "anthropic-python",
        runtime: Runtime::Python(Environment::Sdks),
        script: "anthropic_sdk.py",
        scenarios: ANTHROPIC,
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "anthropic-node",
        runtime: Runtime::Node,
        script: "anthropic.mjs",
        scenarios: ANTHROPIC,
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "chain",
        runtime: Runtime::Node,
        script: "chain_check.mjs",
        scenarios: &[
            "token-moves-once",
            "token-refuses",
            "token-received-by-its-payee-only",
            "facilitator-offers",
        ],
        on: &[Ground::Evm],
        before: None,
    },
    Client {
        name: "chain-permit",
        runtime: Runtime::Node,
        script: "permit_check.mjs",
        scenarios: &["permit-moves-once", "permit-refuses", "upto-moves-what-was-used", "upto-refuses"],
        on: &[Ground::Evm],
        before: None,
    },
    Client {
        name: "chain-channels",
        runtime: Runtime::Node,
        script: "channels_check.mjs",
        scenarios: &[
            "channel-deposit-claim-settle-refund",
            "channel-deposit-refuses",
            "channel-claim-refuses",
            "channel-refund-refuses",
            "channel-withdraw-takes-its-time",
        ],
        on: &[Ground::Evm],
        before: None,
    },
    Client {
        name: "chain-tempo",
        runtime: Runtime::Node,
        script: "tempo_check.mjs",
        scenarios: &["reserve-serves-both-sides-of-mppx", "reserve-settles-and-closes", "reserve-refuses"],
        on: &[Ground::Tempo],
        before: None,
    },
    Client {
        name: "x402-fetch",
        runtime: Runtime::Node,
        script: "x402_fetch.mjs",
        scenarios: &[
            "pays-and-streams",
            "pays-as-version-1",
            "key-spends-change",
            "disconnect-is-charged",
            "one-payment-64-times",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-axios",
        runtime: Runtime::Node,
        script: "x402_axios.mjs",
        scenarios: &["pays", "pays-and-streams"],
        on: &[Ground::Evm],
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-python",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_exact.py",
        scenarios: &["pays", "pays-and-streams"],
        on: &[Ground::Evm],
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-fetch-permit",
        runtime: Runtime::Node,
        script: "x402_fetch_permit.mjs",
        scenarios: PERMIT,
        on: &[Ground::Evm],
        before: Some(Takes::Permit),
    },
    Client {
        name: "x402-python-permit",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_permit.py",
        scenarios: PERMIT,
        on: &[Ground::Evm],
        before: Some(Takes::Permit),
    },
    Client {
        name: "x402-fetch-upto",
        runtime: Runtime::Node,
        script: "x402_fetch_upto.mjs",
        scenarios: &["upto-without-allowance-is-412", "upto-takes-what-was-used", "upto-streams"],
        on: &[Ground::Evm],
        before: Some(Takes::Upto),
    },
    Client {
        name: "x402-python-upto",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_upto.py",
        scenarios: &["upto-takes-what-was-used", "upto-streams"],
        on: &[Ground::Evm],
        before: Some(Takes::Upto),
    },
    Client {
        name: "x402-fetch-channels",
        runtime: Runtime::Node,
        script: "x402_fetch_channels.mjs",
        scenarios: &[
            "channel-opens-and-streams",
            "vouchers-ask-nobody",
            "cold-client-is-put-right",
            "channel-is-claimed-and-settled",
            "refund-gives-the-rest-back",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Channels),
    },
    Client {
        name: "x402-python-channels",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_channels.py",
        scenarios: &[
            "channel-opens-and-streams",
            "vouchers-ask-nobody",
            "cold-client-is-put-right",
            "refund-gives-the-rest-back",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Channels),
    },
    Client {
        name: "x402-extensions",
        runtime: Runtime::Node,
        script: "x402_extensions.mjs",
        scenarios: &[
            "named-payment",
            "sign-in",
            "sign-in-once",
            "key-without-a-call",
            "offers-and-receipts",
            "discovery",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Extensions),
    },
    Client {
        name: "x402-fetch-svm",
        runtime: Runtime::Node,
        script: "x402_fetch_svm.mjs",
        scenarios: &["solana-pays", "solana-pays-and-streams"],
        on: &[Ground::Solana],
        before: Some(Takes::Solana),
    },
    Client {
        name: "l402-alby",
        runtime: Runtime::Node,
        script: "l402_alby.mjs",
        scenarios: &[
            "l402-pays",
            "l402-draws-without-paying",
            "l402-streams",
            "l402-pays-and-streams",
            "l402-exhausted-is-told",
            "l402-fixed-price-once",
            "l402-below-a-satoshi",
            "fetch402-pays",
            "fetch402-draws-without-paying",
            "fetch402-pays-and-streams",
            "fetch402-exhausted-is-told",
            "fetch402-fixed-price-once",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "l402-lsat-js",
        runtime: Runtime::Node,
        script: "l402_lsat_js.mjs",
        scenarios: &[
            "l402-pays",
            "l402-draws-without-paying",
            "l402-expiration-in-ms",
            "l402-exhausted",
            "l402-fixed-price-once",
            "l402-below-a-satoshi",
            "two-clients-two-hashes",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "l402-requests",
        runtime: Runtime::Python(Environment::L402),
        script: "l402_requests_sdk.py",
        scenarios: &[
            "l402-pays",
            "l402-draws-without-paying",
            "l402-exhausted-pays-again",
            "l402-fixed-price-once",
            "l402-budget-stops-it",
            "l402-below-a-satoshi",
            "l402-own-lnd-wallet-misreads",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "l402-sdk",
        runtime: Runtime::Python(Environment::L402),
        script: "l402_sdk.py",
        scenarios: &[
            "l402-pays",
            "l402-draws-without-paying",
            "l402-exhausted-pays-again",
            "l402-fixed-price-once",
            "l402-budget-stops-it",
            "l402-below-a-satoshi",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "lsat-alby",
        runtime: Runtime::Node,
        script: "l402_alby.mjs",
        scenarios: &["l402-pays", "l402-draws-without-paying", "fetch402-pays"],
        on: &[Ground::Wallet],
        before: Some(Takes::Lsat),
    },
    Client {
        name: "lsat-lsat-js",
        runtime: Runtime::Node,
        script: "l402_lsat_js.mjs",
        scenarios: &["l402-pays", "l402-draws-without-paying"],
        on: &[Ground::Wallet],
        before: Some(Takes::Lsat),
    },
    Client {
        name: "lsat-requests",
        runtime: Runtime::Python(Environment::L402),
        script: "l402_requests_sdk.py",
        scenarios: &["l402-pays", "l402-draws-without-paying"],
        on: &[Ground::Wallet],
        before: Some(Takes::Lsat),
    },
    Client {
        name: "lsat-sdk",
        runtime: Runtime::Python(Environment::L402),
        script: "l402_sdk.py",
        scenarios: &["l402-pays", "l402-draws-without-paying"],
        on: &[Ground::Wallet],
        before: Some(Takes::Lsat),
    },
    Client {
        name: "l402-openai-python",
        runtime: Runtime::Python(Environment::L402),
        script: "l402_openai.py",
        scenarios: &["wrapped-token-as-api-key", "wrapped-token-is-spent"],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "l402-openai-node",
        runtime: Runtime::Node,
        script: "l402_openai.mjs",
        scenarios: &["wrapped-token-as-api-key", "wrapped-token-as-anthropic-key", "wrapped-token-is-spent"],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "l402-macaroon",
        runtime: Runtime::Node,
        script: "l402_macaroon.mjs",
        scenarios: &[
            "macaroon-reads-our-token",
            "macaroon-narrows-offline",
            "macaroon-caveat-forbids",
            "macaroon-widened-is-refused",
            "macaroon-tampered-is-refused",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "l402-second-opinions",
        runtime: Runtime::Python(Environment::L402),
        script: "l402_second_opinions.py",
        scenarios: &[
            "bolt11-reads-our-invoice",
            "pymacaroons-reads-our-token",
            "pymacaroons-narrows-offline",
            "pymacaroons-caveat-forbids",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Lightning),
    },
    Client {
        name: "key-macaroon",
        runtime: Runtime::Node,
        script: "key_macaroon.mjs",
        scenarios: &[
            "macaroon-narrows-our-key",
            "macaroon-narrows-what-we-narrowed",
            "we-narrow-what-macaroon-narrowed",
            "macaroon-spends-the-budget-above",
            "macaroon-cannot-widen-or-forge",
        ],
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "key-second-opinion",
        runtime: Runtime::Python(Environment::L402),
        script: "key_second_opinion.py",
        scenarios: &[
            "pymacaroons-narrows-our-key",
            "pymacaroons-narrows-what-we-narrowed",
            "we-narrow-what-pymacaroons-narrowed",
            "pymacaroons-signs-the-same-chain",
        ],
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "holder-second-opinion",
        runtime: Runtime::Python(Environment::L402),
        script: "holder_second_opinion.py",
        scenarios: &[
            "pyca-judges-our-vectors-alike",
            "pyca-signs-for-a-bound-key",
            "a-bound-key-opens-nothing-else",
        ],
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "l402-and-x402",
        runtime: Runtime::Node,
        script: "l402_and_x402.mjs",
        scenarios: &[
            "lightning-stands-first",
            "fetch402-pays-over-lightning",
            "x402-fetch-pays-on-the-chain",
        ],
        on: &[Ground::Evm, Ground::Wallet],
        before: Some(Takes::LightningAndChain),
    },
    Client {
        name: "mppx-charge",
        runtime: Runtime::Node,
        script: "mpp_charge.mjs",
        scenarios: &[
            "charge-pays",
            "charge-pays-and-streams",
            "charge-beside-a-foreign-key",
            "charge-of-a-failed-call-is-free",
            "charge-sent-64-times",
            "charge-altered-is-refused",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Payment),
    },
    Client {
        name: "viem-permit",
        runtime: Runtime::Node,
        script: "mpp_permit.mjs",
        scenarios: &[
            "permit-charge-pays-and-streams",
            "permit-charge-in-the-spelling-of-the-draft",
            "permit-charge-of-no-use-costs-nothing",
            "permit-charge-sent-64-times",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Payment),
    },
    Client {
        name: "mppx-discovery",
        runtime: Runtime::Node,
        script: "mpp_discovery.mjs",
        scenarios: &["validator-accepts-our-document", "offers-are-those-of-the-402"],
        on: &[Ground::Evm],
        before: Some(Takes::Payment),
    },
    Client {
        name: "pympp-charge",
        runtime: Runtime::Python(Environment::Mpp),
        script: "mpp_charge.py",
        scenarios: &[
            "charge-pays",
            "charge-pays-and-streams",
            "charge-beside-a-foreign-key",
            "charge-limit-stops-it",
            "charge-sent-64-times",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Payment),
    },
    Client {
        name: "mppx-custom",
        runtime: Runtime::Node,
        script: "mpp_custom.mjs",
        scenarios: &[
            "credit-method-spends-a-key",
            "credit-method-streams",
            "credit-method-of-no-use-is-refused",
            "accept-payment-decides",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Payment),
    },
    Client {
        name: "mppx-lightning",
        runtime: Runtime::Node,
        script: "mpp_lightning.mjs",
        scenarios: &[
            "lightning-is-offered-to-whoever-wants-it",
            "lightning-charge-pays-and-draws",
            "lightning-charge-streams",
            "lightning-charge-of-a-fixed-price-once",
            "lightning-preimage-has-to-open-it",
            "lightning-one-invoice-two-doors",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Payment),
    },
    Client {
        name: "mppx-lightning-session",
        runtime: Runtime::Node,
        script: "mpp_lightning_session.mjs",
        scenarios: &["lightning-session-from-open-to-close"],
        on: &[Ground::Nwc],
        before: Some(Takes::LightningSessions),
    },
    Client {
        name: "mppx-session",
        runtime: Runtime::Node,
        script: "mpp_session.mjs",
        scenarios: &[
            "session-pays-and-closes",
            "session-streams-with-vouchers",
            "session-fills-up",
            "session-fills-up-mid-stream",
            "session-as-a-method",
            "session-left-half-read",
            "session-recovers-a-forgotten-channel",
            "session-closes-after-a-stale-amount",
            "session-goes-on-after-a-lost-answer",
        ],
        on: &[Ground::Tempo],
        before: Some(Takes::Sessions),
    },
    Client {
        name: "pympp-session",
        runtime: Runtime::Python(Environment::Mpp),
        script: "mpp_session.py",
        scenarios: &["session-pays-and-closes", "session-streams-with-vouchers", "session-refuses"],
        on: &[Ground::Tempo],
        before: Some(Takes::Sessions),
    },
    Client {
        name: "agent-client",
        runtime: Runtime::Node,
        script: "agent_client.mjs",
        scenarios: &["mppx-knows-the-agent", "key-pair-is-a-private-jwk", "directory-is-signed-by-its-key"],
        on: &[],
        before: Some(Takes::Exact),
    },
    Client {
        name: "mppx-stripe",
        runtime: Runtime::Node,
        script: "mpp_stripe.mjs",
        scenarios: &["stripe-pays-once", "stripe-declined-is-told"],
        on: &[],
        before: Some(Takes::Stripe),
    },
    Client {
        name: "mppx-agents",
        runtime: Runtime::Node,
        script: "agents.mjs",
        scenarios: &[
            "web-bot-auth-lets-in",
            "web-bot-auth-keeps-out",
            "tap-signs-and-pays",
            "tap-has-to-mean-payment",
            "our-client-is-judged-by-mppx",
        ],
        on: &[Ground::Evm],
        before: Some(Takes::Agents),
    },
    Client {
        name: "composition-node",
        runtime: Runtime::Node,
        script: "composition.mjs",
        scenarios: &[
            "one-402-for-all",
            "mppx-pays",
            "x402-fetch-pays",
            "fetch402-pays",
            "openai-spends-credit",
            "two-payments-are-400",
        ],
        on: &[Ground::Evm, Ground::Wallet],
        before: Some(Takes::Payment),
    },
    Client {
        name: "composition-pympp",
        runtime: Runtime::Python(Environment::Mpp),
        script: "composition_pympp.py",
        scenarios: &["pympp-pays"],
        on: &[Ground::Evm],
        before: Some(Takes::Payment),
    },
    Client {
        name: "composition-l402",
        runtime: Runtime::Python(Environment::L402),
        script: "composition_l402.py",
        scenarios: &["l402sdk-pays", "openai-spends-credit"],
        on: &[Ground::Wallet],
        before: Some(Takes::Payment),
    },
    Client {
        name: "lnbits-adapter",
        runtime: Runtime::Cargo("lnbits"),
        script: "lnbits.rs",
        scenarios: &[
            "makes-an-invoice-in-whole-satoshis",
            "is-paid-once-and-tells-it",
            "pays-once",
            "invoice-key-cannot-pay",
        ],
        on: &[Ground::LnBits],
        before: None,
    },
    Client {
        name: "alipay-adapter",
        runtime: Runtime::Cargo("alipay"),
        script: "alipay.rs",
        scenarios: &[
            "the-sdk-takes-our-calls",
            "what-the-sdk-refuses-is-no-verdict",
            "notices-are-judged-as-the-sdk-does",
        ],
        on: &[Ground::Alipay],
        before: None,
    },
    Client {
        name: "nwc-adapter",
        runtime: Runtime::Cargo("nwc"),
        script: "nwc.rs",
        scenarios: &[
            "makes-an-invoice-in-whole-satoshis",
            "is-paid-once-and-tells-it",
            "what-a-wallet-does-not-offer-is-not-asked",
        ],
        on: &[Ground::Nwc],
        before: None,
    },
    Client {
        name: "l402-nwc",
        runtime: Runtime::Node,
        script: "l402_nwc.mjs",
        scenarios: &["nwc-invoice-is-paid-by-albys-client", "nwc-preimage-without-payment-opens-nothing"],
        on: &[Ground::Nwc],
        before: Some(Takes::Nwc),
    },
    Client {
        name: "l402-lnbits",
        runtime: Runtime::Python(Environment::LnBits),
        script: "l402_lnbits.py",
        scenarios: &[
            "lnbits-invoice-is-what-was-offered",
            "lnbits-payment-opens-calls",
            "lnbits-leaked-preimage-opens-nothing",
            "lnbits-payment-is-for-one-token",
            "lnbits-refund-to-itself-is-refused",
        ],
        on: &[Ground::LnBits],
        before: Some(Takes::LnBits),
    },
    Client {
        name: "cashu-nutshell",
        runtime: Runtime::Python(Environment::Cashu),
        script: "cashu_wallet.py",
        scenarios: &[
            "pays",
            "pays-with-evidence",
            "pays-with-an-old-token",
            "key-spends-change",
            "replay-is-refused",
            "double-spend-is-refused",
            "spent-at-the-gateway-is-spent",
            "too-little-is-400",
            "lost-answer-is-restored",
            "held-ecash-is-taken-out",
        ],
        on: &[Ground::Cashu],
        before: Some(Takes::Cashu),
    },
    Client {
        name: "grpc-python",
        runtime: Runtime::Python(Environment::Grpc),
        script: "grpc_io.py",
        scenarios: &[
            "unary-is-paid",
            "streams-are-paid",
            "two-way-stream-does-not-wait",
            "compressed-messages-pass",
            "fixed-price-once",
            "failures-before-a-message-are-free",
            "deadline-reaches-the-server",
            "refused-in-grpcs-words",
            "pays-by-l402",
        ],
        on: &[Ground::Wallet],
        before: Some(Takes::Streams),
    },
    Client {
        name: "grpc-node",
        runtime: Runtime::Node,
        script: "grpc_js.mjs",
        scenarios: &[
            "unary-is-paid",
            "streams-are-paid",
            "two-way-stream-does-not-wait",
            "refusals-and-failures-are-free",
        ],
        on: &[],
        before: Some(Takes::Streams),
    },
    Client {
        name: "websocket-node",
        runtime: Runtime::Node,
        script: "ws.mjs",
        scenarios: &["conversation-is-paid", "each-end-is-told", "ends-with-the-balance", "unpaid-is-402"],
        on: &[],
        before: Some(Takes::Streams),
    },
];

#[cfg(test)]
impl Runtime {
    /// Where its scripts are, from the root of the repository.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Runtime::Node => "tests/interop/node",
            Runtime::Python(_) => "tests/interop/python",
            Runtime::Cargo(_) => "crates/rails/tests",
        }
    }
}

impl Ground {
    /// What it runs on: a facilitator is always a program of Node.
    fn runtimes(self) -> &'static [Runtime] {
        match self {
            Ground::Evm | Ground::Wallet | Ground::Nwc | Ground::Tempo | Ground::Alipay => &[Runtime::Node],
            Ground::Solana => &[Runtime::Node, Runtime::Python(Environment::Sdks)],
            Ground::LnBits => &[Runtime::Python(Environment::LnBits)],
            Ground::Cashu => &[Runtime::Python(Environment::Cashu)],
        }
    }

    /// Whether it needs anvil.
    fn has_chain(self) -> bool {
        match self {
            Ground::Evm | Ground::Solana | Ground::Tempo => true,
            Ground::Wallet | Ground::LnBits | Ground::Nwc | Ground::Cashu | Ground::Alipay => false,
        }
    }
}

impl Client {
    /// What its script, and what stands around it, run on.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = Runtime> + use<> {
        let around = self.on.iter().flat_map(|ground| ground.runtimes().iter().copied());
        std::iter::once(self.runtime).chain(around)
    }

    /// Whether it needs anvil.
    pub(super) fn has_chain(&self) -> bool {
        self.on.iter().any(|ground| ground.has_chain())
    }
}

#[cfg(test)]
mod tests {
    use super::CLIENTS;
    use crate::interop::Places;

    /// The table and the scripts must agree, or a scenario would be lost without a word.
    #[test]
    fn every_scenario_is_in_its_script() {
        let places = Places::find();
        for client in CLIENTS {
            let path = places.root.join(client.runtime.folder()).join(client.script);
            let text = std::fs::read_to_string(path).unwrap();
            for scenario in client.scenarios {
                let python = format!("def {}(", scenario.replace('-', "_"));
                let quoted = format!("\"{scenario}\"");
                let method = format!("async {scenario}()");
                let rust = format!("fn {}(", scenario.replace('-', "_"));
                let there = [python, rust, quoted, method].iter().any(|name| text.contains(name));
                assert!(there, "{} has no scenario {scenario}", client.script);
            }
        }
    }
}
