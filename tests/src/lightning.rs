//! A payer over Lightning: reads the line of a challenge, pays its invoice at the test node, and shows token and preimage.

use std::net::SocketAddr;

use rails::lightning::bolt11::{self, Decoded};
use rails::lightning::test_node;
use serde_json::Value;
use wire::l402::{Credential, Preimage, Terms, Token};

use crate::http::{self, Answer};

/// `rails.l402` with the test node, at 100,000 USD for a bitcoin: a nano-dollar is a hundredth of a millisatoshi.
pub const TEST_NODE: &str = "rails: { l402: { test: {}, price: { usd_per_btc: 100000 }, mint: { per_source_per_second: 1000, per_source_burst: 1000 } } }\n";

/// What a challenge offers.
#[derive(Clone, Debug)]
pub struct Offered {
    /// As it stands in the line.
    pub token: String,
    /// BOLT11.
    pub invoice: String,
}

impl Offered {
    /// The offer of an answer, if it has one.
    pub fn find(answer: &Answer) -> Option<Self> {
        let line = answer.header("www-authenticate").filter(|line| line.starts_with("L402 "))?;
        let value = |name: &str| {
            let rest = line.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        Some(Self { token: value("macaroon")?, invoice: value("invoice")? })
    }

    /// The offer of a challenge that has one.
    pub fn of(answer: &Answer) -> Self {
        Self::find(answer).unwrap_or_else(|| panic!("no L402 line in {} {}", answer.status, answer.text()))
    }

    /// The invoice, decoded.
    pub fn decoded(&self) -> Decoded {
        bolt11::decode(&self.invoice).unwrap()
    }

    /// What paying gives.
    pub fn preimage(&self) -> Preimage {
        test_node::preimage_of(&self.invoice).unwrap()
    }

    /// The token, decoded.
    pub fn decoded_token(&self) -> Token {
        Token::from_base64(&self.token).unwrap()
    }

    /// What the token says was sold.
    pub fn terms(&self) -> Terms {
        Terms::decode(&self.decoded_token().identifier().token_id).unwrap()
    }

    /// Token and preimage.
    pub fn credential(&self) -> Credential {
        Credential::new(self.decoded_token(), self.preimage())
    }

    /// The value of `Authorization` of whoever has paid.
    pub fn paid(&self) -> String {
        self.credential().to_authorization()
    }

    /// The same with these caveats added, offline.
    pub fn narrowed(&self, caveats: &[&str]) -> String {
        let mut token = self.decoded_token();
        for caveat in caveats {
            token.add_caveat(caveat.as_bytes()).unwrap();
        }
        Credential::new(token, self.preimage()).to_authorization()
    }
}

/// An offer for a request that pays nothing.
pub fn offered(address: SocketAddr, path: &str, body: &Value) -> Offered {
    let answer = http::post(address, path, &[], body);
    assert_eq!(answer.status, 402, "{}", answer.text());
    Offered::of(&answer)
}

/// Sends a request with a credential.
pub fn call(address: SocketAddr, path: &str, credential: &str, body: &Value) -> Answer {
    http::post(address, path, &[("authorization", credential)], body)
}

/// A route whose calls cost a cent each.
pub const TOOL: &str = "/tool/x";
/// That route, beside the usual ones, and the test node.
pub fn with_tool(more: &str) -> String {
    format!(
        "routes: [{{ name: tool, match: {{ method: POST, path: \"/tool/**\" }}, upstream: openai, price: {{ per_call: 0.01 USD }} }}, \
         {{ name: chat, match: {{ method: POST, path: /v1/chat/completions }}, upstream: openai, price: by_model }}]\n\
         rails: {{ l402: {{ test: {{}}, price: {{ usd_per_btc: 100000 }}, mint: {{ per_source_per_second: 1000, per_source_burst: 1000 }}{more} }} }}\n"
    )
}
