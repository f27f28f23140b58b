//! The foreign clients, and what each has to show.

use super::install::Environment;

/// What a client's script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Runtime {
    Node,
    Python(Environment),
}

/// One foreign client, its script, and every scenario it must report on.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) runtime: Runtime,
    pub(super) script: &'static str,
    pub(super) scenarios: &'static [&'static str],
    /// Needs a local chain and a facilitator.
    pub(super) on: Option<Ground>,
    /// Needs the mock upstream and a gateway, which takes this.
    pub(super) before: Option<Takes>,
}

/// What kind of chain a client pays on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// anvil, with our contracts.
    Evm,
    /// That, and a machine that runs the programs of Solana: it is written in Python.
    Solana,
}

/// What a gateway offers first to those who pay on the chain: stock clients take the first offer that they know.
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
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "openai-node",
        runtime: Runtime::Node,
        script: "openai.mjs",
        scenarios: OPENAI,
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "anthropic-python",
        runtime: Runtime::Python(Environment::Sdks),
        script: "anthropic_sdk.py",
        scenarios: ANTHROPIC,
        on: None,
        before: Some(Takes::Exact),
    },
    Client {
        name: "anthropic-node",
        runtime: Runtime::Node,
        script: "anthropic.mjs",
        scenarios: ANTHROPIC,
        on: None,
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
        on: Some(Ground::Evm),
        before: None,
    },
    Client {
        name: "chain-permit",
        runtime: Runtime::Node,
        script: "permit_check.mjs",
        scenarios: &["permit-moves-once", "permit-refuses", "upto-moves-what-was-used", "upto-refuses"],
        on: Some(Ground::Evm),
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
        on: Some(Ground::Evm),
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
        on: Some(Ground::Evm),
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-axios",
        runtime: Runtime::Node,
        script: "x402_axios.mjs",
        scenarios: &["pays", "pays-and-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-python",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_exact.py",
        scenarios: &["pays", "pays-and-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Exact),
    },
    Client {
        name: "x402-fetch-permit",
        runtime: Runtime::Node,
        script: "x402_fetch_permit.mjs",
        scenarios: PERMIT,
        on: Some(Ground::Evm),
        before: Some(Takes::Permit),
    },
    Client {
        name: "x402-python-permit",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_permit.py",
        scenarios: PERMIT,
        on: Some(Ground::Evm),
        before: Some(Takes::Permit),
    },
    Client {
        name: "x402-fetch-upto",
        runtime: Runtime::Node,
        script: "x402_fetch_upto.mjs",
        scenarios: &["upto-without-allowance-is-412", "upto-takes-what-was-used", "upto-streams"],
        on: Some(Ground::Evm),
        before: Some(Takes::Upto),
    },
    Client {
        name: "x402-python-upto",
        runtime: Runtime::Python(Environment::Sdks),
        script: "x402_upto.py",
        scenarios: &["upto-takes-what-was-used", "upto-streams"],
        on: Some(Ground::Evm),
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
        on: Some(Ground::Evm),
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
        on: Some(Ground::Evm),
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
        on: Some(Ground::Evm),
        before: Some(Takes::Extensions),
    },
    Client {
        name: "x402-fetch-svm",
        runtime: Runtime::Node,
        script: "x402_fetch_svm.mjs",
        scenarios: &["solana-pays", "solana-pays-and-streams"],
        on: Some(Ground::Solana),
        before: Some(Takes::Solana),
    },
];

impl Runtime {
    /// Where its scripts are.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Runtime::Node => "node",
            Runtime::Python(_) => "python",
        }
    }
}

impl Client {
    /// What its script, and what stands around it, run on.
    pub(super) fn runtimes(&self) -> Vec<Runtime> {
        let around = match self.on {
            None => None,
            Some(Ground::Evm) => Some(Runtime::Node),
            Some(Ground::Solana) => Some(Runtime::Python(Environment::Sdks)),
        };
        // A facilitator is always a program of Node.
        let facilitator = self.on.map(|_| Runtime::Node);
        [Some(self.runtime), facilitator, around].into_iter().flatten().collect()
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
            let path = places.sources.join(client.runtime.folder()).join(client.script);
            let text = std::fs::read_to_string(path).unwrap();
            for scenario in client.scenarios {
                let python = format!("def {}(", scenario.replace('-', "_"));
                let quoted = format!("\"{scenario}\"");
                let method = format!("async {scenario}()");
                let there = [python, quoted, method].iter().any(|name| text.contains(name));
                assert!(there, "{} has no scenario {scenario}", client.script);
            }
        }
    }
}
