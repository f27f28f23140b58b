//! A payer with a session over Lightning: opens it, draws on it, fills it up, ends it.

use rails::lightning::test_node;
use serde_json::{Value, json};
use wire::mpp::lightning::{ChargeRequest, SessionRequest};
use wire::mpp::{Challenge, payload};

use crate::gateway::Gateway;
use crate::http::{self, Answer};
use crate::mpp::{challenges, credential};
use crate::paying_node::return_invoice;
use crate::scene::CHAT;

/// A day, as the wallets of most payers have it.
const DAY_S: u64 = 24 * 3600;

/// A session that is paid for.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name: the payment hash.
    pub id: String,
    /// What opens it, in hexadecimal.
    pub preimage: String,
    /// Satoshis that were paid in.
    pub deposit_sats: u64,
    /// Where the rest goes.
    pub return_invoice: String,
    /// The challenge that it was opened by.
    pub challenge: Challenge,
    /// The credit key to its account, once it is open.
    pub key: String,
}

/// The challenge of an answer for this intent.
#[track_caller]
pub fn challenge(answer: &Answer, intent: &str) -> Challenge {
    let wanted = |challenge: &Challenge| challenge.method == "lightning" && challenge.intent == intent;
    let found = challenges(answer).into_iter().find(wanted);
    found.unwrap_or_else(|| panic!("no lightning/{intent} in {} {:?}", answer.status, answer.headers))
}

/// What a challenge of a session asks for.
pub fn asked(challenge: &Challenge) -> SessionRequest {
    payload::read(&challenge.request_object().unwrap()).unwrap()
}

/// What one of a charge does.
pub fn charge_asked(challenge: &Challenge) -> ChargeRequest {
    payload::read(&challenge.request_object().unwrap()).unwrap()
}

/// What paying an invoice of the gateway's node gives, in hexadecimal.
pub fn paid(invoice: &str) -> String {
    wire::hex::encode(test_node::preimage_of(invoice).unwrap().as_bytes())
}

/// A session challenge for this request.
pub fn offered(gateway: &Gateway, body: &Value) -> Challenge {
    challenge(&http::post(gateway.address, CHAT, &[], body), "session")
}

/// The value of `Authorization` for an action.
pub fn authorization(challenge: &Challenge, payload: Value) -> String {
    credential(challenge.clone(), None, payload).to_value()
}

impl Session {
    /// Pays the deposit of a challenge for `body`; nobody is shown that yet.
    pub fn pay(gateway: &Gateway, body: &Value) -> Self {
        let challenge = offered(gateway, body);
        let request = asked(&challenge);
        Self {
            preimage: paid(&request.deposit_invoice.unwrap()),
            id: request.payment_hash,
            deposit_sats: request.deposit_amount.unwrap().parse().unwrap(),
            return_invoice: return_invoice(DAY_S),
            challenge,
            key: String::new(),
        }
    }

    /// Opens it, as `Authorization` has it.
    pub fn open(&self) -> String {
        let payload =
            json!({"action": "open", "preimage": self.preimage, "returnInvoice": self.return_invoice});
        authorization(&self.challenge, payload)
    }

    /// Draws on it.
    pub fn bearer(&self) -> String {
        let payload = json!({"action": "bearer", "sessionId": self.id, "preimage": self.preimage});
        authorization(&self.challenge, payload)
    }

    /// Ends it.
    pub fn close(&self) -> String {
        let payload = json!({"action": "close", "sessionId": self.id, "preimage": self.preimage});
        authorization(&self.challenge, payload)
    }

    /// Pays a further deposit, and shows that. How many satoshis it was, and the answer.
    pub fn top_up(&self, gateway: &Gateway, body: &Value) -> (u64, Answer) {
        let challenge = offered(gateway, body);
        (asked(&challenge).deposit_amount.unwrap().parse().unwrap(), self.show(gateway, &challenge, body))
    }

    /// Shows the payment of a challenge as a further deposit.
    pub fn show(&self, gateway: &Gateway, challenge: &Challenge, body: &Value) -> Answer {
        let preimage = paid(&asked(challenge).deposit_invoice.unwrap());
        let payload = json!({"action": "topUp", "sessionId": self.id, "topUpPreimage": preimage});
        call(gateway, &authorization(challenge, payload), body)
    }
}

/// Sends the request with a credential.
pub fn call(gateway: &Gateway, authorization: &str, body: &Value) -> Answer {
    http::post(gateway.address, CHAT, &[("authorization", authorization)], body)
}
