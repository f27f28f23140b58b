//! One paid call before a facilitator: a gateway, what stands behind it, and a payer with one signed payment.

use serde_json::{Value, json};

use crate::facilitator::{Conduct, Facilitator};
use crate::gateway::{Gateway, wait_for};
use crate::http::{self, Answer};
use crate::payer::{BASE_SEPOLIA, Payment, Wallet, challenge, decode};
use crate::refused::assert_refused;
use crate::upstream::{FRIENDLY_COST, Upstream};

/// What is called.
pub const CHAT: &str = "/v1/chat/completions";

/// A body for it.
pub fn ask() -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]})
}

/// What the payer signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// EIP-3009.
    Transfer,
    /// Permit2.
    Permit,
    /// Permit2 for up to a ceiling, settled after the call.
    Ceiling,
}

impl Signs {
    /// Those that are settled before the call.
    pub const ALL: [Self; 2] = [Self::Transfer, Self::Permit];

    /// Keys of `rails.x402` under which the gateway offers this and nothing else on the chain.
    pub fn keys(self) -> &'static str {
        match self {
            Self::Transfer => ", schemes: [exact]",
            Self::Permit => ", schemes: [permit2]",
            Self::Ceiling => ", schemes: [upto]",
        }
    }

    /// A payment for the usual call.
    pub fn payment(self, gateway: &Gateway, wallet: u8) -> Payment {
        let is_ours = |offer: &Value| {
            let by_permit = offer["extra"]["assetTransferMethod"] == "permit2";
            let scheme = if self == Self::Ceiling { "upto" } else { "exact" };
            offer["network"] == BASE_SEPOLIA
                && offer["scheme"] == scheme
                && by_permit == (self != Self::Transfer)
        };
        // What a facilitator calls itself is asked in the background.
        let answer = wait_for("the offer", || {
            let answer = http::post(gateway.address, CHAT, &[], &ask());
            assert_refused(&answer, 402, "payment_required", "nothing_taken");
            let offered = challenge(&answer)["accepts"].as_array().unwrap().iter().any(is_ours);
            offered.then_some(answer)
        });
        let wallet = Wallet::new(wallet);
        match self {
            Self::Transfer => wallet.pay(&answer, BASE_SEPOLIA),
            Self::Permit | Self::Ceiling => wallet.permit(&answer, is_ours),
        }
    }
}

/// A gateway, what stands behind it, and a payer with one signed payment.
pub struct Scene {
    /// Friendly.
    pub upstream: Upstream,
    /// Scripted.
    pub facilitator: Facilitator,
    /// In test mode, with one facilitator.
    pub gateway: Gateway,
    /// Not presented yet.
    pub payment: Payment,
}

impl Scene {
    /// With a transfer by EIP-3009, and a facilitator that does this.
    pub fn of(plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::signing(Signs::Transfer, plan)
    }

    /// With a payment of a kind.
    pub fn signing(signs: Signs, plan: impl IntoIterator<Item = Conduct>) -> Self {
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start(plan);
        let rails = Facilitator::rails_with(&[facilitator.address], signs.keys());
        Self::before(upstream, facilitator, &rails, signs)
    }

    /// The same where the gateway has a node of the chain.
    pub fn with_node(signs: Signs, plan: impl IntoIterator<Item = Conduct>) -> Self {
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start(plan);
        let rails = Facilitator::rails_with(&[facilitator.address], signs.keys());
        let rails = facilitator.with_node(&rails);
        Self::before(upstream, facilitator, &rails, signs)
    }

    fn before(upstream: Upstream, facilitator: Facilitator, rails: &str, signs: Signs) -> Self {
        let gateway = Gateway::start(upstream.address, rails);
        let payment = signs.payment(&gateway, 1);
        Self { upstream, facilitator, gateway, payment }
    }

    /// Presents the payment with the request that it is for.
    pub fn pay(&self) -> Answer {
        pay(&self.gateway, &self.payment)
    }

    /// The account of the payer, who came without a key.
    pub fn account(&self) -> String {
        Wallet::new(1).account(&self.payment)
    }

    /// Served, once, from one transfer and one deposit.
    #[track_caller]
    pub fn assert_served_once(&self, answer: &Answer, what: &str) {
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let settled = decode(answer.must("payment-response"));
        assert_eq!(settled["success"], true, "{what}");
        assert_eq!(settled["transaction"], self.payment.transaction(), "{what}");
        assert_eq!(self.upstream.hits(), 1, "{what}");
        assert_eq!(self.facilitator.transfers(), 1, "{what}");
        let books = self.gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1), "{what}");
        let paid = self.payment.nano();
        assert_eq!(i64::try_from(self.facilitator.moved()).unwrap() * 1000, paid, "{what}");
        assert_eq!(books.balance(&self.account()), paid - FRIENDLY_COST, "{what}");
    }

    /// Presents the payment until it is served. Whoever shows a proof for the second time gets no key: by then
    /// the chain may have shown it to everybody.
    pub fn pay_until_served(&self) -> Answer {
        let served = wait_for("the payment to be served", || {
            let answer = self.pay();
            let waits = ["in_progress", "settlement_unknown"].contains(&answer.refusal().as_str());
            (!waits).then_some(answer)
        });
        assert_eq!(served.header("farthing-key"), None);
        served
    }

    /// What the facilitator was asked to settle was the same bytes, so many times.
    #[track_caller]
    pub fn assert_asked(&self, times: usize, what: &str) {
        assert_eq!(self.facilitator.settles().len(), times, "{what}");
        self.assert_same_bytes(what);
    }

    /// As [`Scene::assert_asked`], more than once.
    #[track_caller]
    pub fn assert_asked_again(&self, what: &str) {
        assert!(self.facilitator.settles().len() > 1, "{what}");
        self.assert_same_bytes(what);
    }

    #[track_caller]
    fn assert_same_bytes(&self, what: &str) {
        let settles = self.facilitator.settles();
        assert!(settles.iter().all(|body| *body == settles[0]), "{what}: X402-15, the identical body");
    }
}

/// Presents a payment with the usual request.
pub fn pay(gateway: &Gateway, payment: &Payment) -> Answer {
    http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask())
}

/// The outcome is not known: the same request again, and no new payment.
#[track_caller]
pub fn assert_unknown(answer: &Answer) {
    assert_refused(answer, 503, "settlement_unknown", "unknown");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("farthing-key"), None);
}
