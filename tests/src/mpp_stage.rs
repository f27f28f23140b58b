//! One gateway that is paid by `evm` charges of the `Payment` scheme: what stands behind it, who settles, and a payer.

use serde_json::Value;
use wire::mpp::{Challenge, Credential};

use crate::facilitator::{Conduct, Facilitator};
use crate::gateway::{Gateway, wait_for};
use crate::http::{self, Answer};
use crate::mpp::{call, challenges, with_mpp};
use crate::payer::Wallet;
use crate::scene::{CHAT, ask};
use crate::upstream::Upstream;

/// Where a call costs a cent.
pub const TOOL: &str = "/tool/x";
/// That route, one that costs nothing, and the usual one.
const ROUTES: &str = "routes: [{ name: tool, match: { method: [GET, HEAD, POST], path: \"/tool/**\" }, upstream: openai, price: { per_call: 0.01 USD } }, \
     { name: gift, match: { method: GET, path: /gift }, upstream: openai, price: free }, \
     { name: chat, match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model }]\n";

/// A gateway that settles through one facilitator, and a payer.
pub struct Stage {
    /// What is sold.
    pub upstream: Upstream,
    /// Who moves the money.
    pub facilitator: Facilitator,
    /// In test mode.
    pub gateway: Gateway,
    /// Who pays.
    pub wallet: Wallet,
}

impl Stage {
    /// Everybody behaves.
    pub fn new() -> Self {
        Self::of(Upstream::friendly(), [])
    }

    /// The facilitator does this.
    pub fn of(upstream: Upstream, plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::by(upstream, plan, "")
    }

    /// The same with more keys of `rails.x402`, each behind a comma.
    pub fn by(upstream: Upstream, plan: impl IntoIterator<Item = Conduct>, more: &str) -> Self {
        let facilitator = Facilitator::start(plan);
        let rails = with_mpp(&Facilitator::rails_with(&[facilitator.address], more));
        let gateway = Gateway::start(upstream.address, &format!("{ROUTES}{rails}"));
        let stage = Self { upstream, facilitator, gateway, wallet: Wallet::new(1) };
        stage.asked(CHAT, &ask());
        stage
    }

    /// The answer to the usual request with these headers.
    pub fn unpaid(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::post(self.gateway.address, path, headers, &ask())
    }

    /// An `evm` challenge. What a facilitator settles is asked in the background.
    pub fn asked(&self, path: &str, body: &Value) -> Challenge {
        wait_for("the offer", || {
            let answer = http::post(self.gateway.address, path, &[], body);
            assert_eq!(answer.status, 402, "{}", answer.text());
            challenges(&answer).into_iter().find(|challenge| challenge.method == "evm")
        })
    }

    /// A credential for it.
    pub fn signed(&self, path: &str, body: &Value) -> Credential {
        self.wallet.charge(&self.asked(path, body))
    }

    /// Sends a request with a credential.
    pub fn call(&self, path: &str, shown: &Credential, body: &Value) -> Answer {
        call(&self.gateway, path, shown, body)
    }

    /// As often as these: calls upstream, transfers and deposits, charges.
    #[track_caller]
    pub fn assert_counts(&self, calls: usize, deposits: usize, captures: usize) {
        let books = self.gateway.books_after(captures);
        assert_eq!(
            (self.upstream.hits(), books.count("deposit"), books.count("capture")),
            (calls, deposits, captures)
        );
        assert_eq!(self.facilitator.transfers() as usize, deposits);
    }

    /// Nobody was asked for anything, and nothing is stored.
    #[track_caller]
    pub fn assert_nothing_happened(&self) {
        assert_eq!((self.upstream.hits(), self.facilitator.settles().len()), (0, 0));
        assert_eq!(self.gateway.books().entries.len(), 0, "nothing is stored");
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
