//! An agent that pays: reads the offers of a 402 and signs, exactly or with the mistake a test wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use proof::SigningKey;
use proof::eip712;
use proof::secp::SecretKey;
use proof::test_rail;
use proof::x402_exact::EvmToken;
use serde_json::{Value, json};
use wire::base64;
use wire::x402::{Address, ExactPayload, Permit, Permit2Payload, Transfer, contracts, network, uint256};

use crate::http::Answer;

/// Where the `test` rail lives.
pub const TEST: &str = "farthing:test";
/// The EVM test network of the scenarios.
pub const BASE_SEPOLIA: &str = "eip155:84532";

/// Keys of one agent, for every rail.
pub struct Wallet {
    ed25519: SigningKey,
    evm: SecretKey,
}

/// A signed payment, before it is put into the header of a protocol version.
#[derive(Clone, Debug)]
pub struct Payment {
    /// `{signature, authorization}`.
    pub payload: Value,
    /// The offer it is for, as it came.
    pub accepted: Value,
    /// What the challenge says is paid for.
    pub resource: Value,
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A nonce nobody has used in this process.
pub fn fresh_nonce() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [0x4e; 32];
    nonce[24..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    nonce
}

/// The decoded `PAYMENT-REQUIRED` of a 402.
pub fn challenge(answer: &Answer) -> Value {
    let header =
        answer.header("payment-required").unwrap_or_else(|| panic!("no challenge: {}", answer.text()));
    decode(header)
}

/// The JSON in a base64 header value.
pub fn decode(header: &str) -> Value {
    serde_json::from_slice(&base64::decode_any(header, 64 * 1024).unwrap()).unwrap()
}

/// A header value of JSON.
pub fn encode(value: &Value) -> String {
    base64::encode_std(value.to_string().as_bytes())
}

/// The offer of a challenge on a network.
pub fn offer(challenge: &Value, network: &str) -> Value {
    let offers = challenge["accepts"].as_array().unwrap();
    offers.iter().find(|offer| offer["network"] == network).cloned().unwrap_or_else(|| panic!("{challenge}"))
}

impl Wallet {
    /// The wallet of this number.
    pub fn new(number: u8) -> Self {
        let secret = [number; 32];
        Self { ed25519: SigningKey::from_bytes(&secret), evm: SecretKey::from_bytes(&secret).unwrap() }
    }

    /// Its EVM address.
    pub fn address(&self) -> Address {
        self.evm.address()
    }

    /// Its signature, as wallets write it.
    pub fn sign(&self, digest: &[u8; 32]) -> String {
        wire::hex::encode_0x(self.evm.sign(digest).unwrap().as_bytes())
    }

    /// The account that a payment of this wallet on an EVM network goes to, when it comes without a key.
    pub fn account(&self, payment: &Payment) -> String {
        let token = payment.accepted["asset"].as_str().unwrap().parse().unwrap();
        let network = payment.accepted["network"].as_str().unwrap();
        wire::hex::encode(&proof::account_id::evm(network, &self.address(), &token))
    }

    /// Pays a 402 on a network, exactly what is asked.
    pub fn pay(&self, answer: &Answer, network: &str) -> Payment {
        let challenge = challenge(answer);
        let accepted = offer(&challenge, network);
        let payload = match network {
            TEST => self.test_payload(&accepted, |_| {}),
            _ => self.evm_payload(&accepted, |_| {}),
        };
        Payment { payload, accepted, resource: challenge["resource"].clone() }
    }

    /// Answers the terms of a sign-in, as they came or as a test has changed them.
    pub fn sign_in(&self, terms: &Value, network: &str) -> Value {
        let info = serde_json::from_value(terms["info"].clone()).unwrap();
        json!(proof::siwx::answer(&self.evm, info, network).unwrap())
    }

    /// Pays the offer of a 402 that `picks` picks by Permit2: all of it, or a ceiling.
    pub fn permit(&self, answer: &Answer, picks: impl Fn(&Value) -> bool) -> Payment {
        let challenge = challenge(answer);
        let offers = challenge["accepts"].as_array().unwrap();
        let accepted = offers.iter().find(|offer| picks(offer)).unwrap_or_else(|| panic!("{challenge}"));
        let payload = self.permit_payload(accepted, |_| {});
        Payment { payload, accepted: accepted.clone(), resource: challenge["resource"].clone() }
    }

    /// Signs a permit for an offer of `exact` or `upto`, after `change`.
    pub fn permit_payload(&self, accepted: &Value, change: impl FnOnce(&mut Permit)) -> Value {
        let is_upto = accepted["scheme"] == "upto";
        let facilitator = accepted["extra"]["facilitatorAddress"].as_str();
        let mut permit = Permit {
            from: self.evm.address(),
            token: accepted["asset"].as_str().unwrap().parse().unwrap(),
            amount: accepted["amount"].as_str().unwrap().parse().unwrap(),
            spender: if is_upto { contracts::UPTO_PROXY } else { contracts::EXACT_PROXY },
            nonce: fresh_nonce(),
            deadline: now_s() + accepted["maxTimeoutSeconds"].as_u64().unwrap(),
            to: accepted["payTo"].as_str().unwrap().parse().unwrap(),
            facilitator: facilitator.map(|address| address.parse().unwrap()),
            valid_after: 0,
        };
        change(&mut permit);
        let digest = token(accepted).permit2_separator().digest(&eip712::permit_payment(&permit));
        json!(Permit2Payload::from_permit(&permit, self.evm.sign(&digest).unwrap().as_bytes()))
    }

    /// Signs a transfer of play money for an offer, after `change`.
    pub fn test_payload(&self, accepted: &Value, change: impl FnOnce(&mut test_rail::Transfer)) -> Value {
        let to = accepted["payTo"].as_str().unwrap();
        let mut transfer = test_rail::Transfer {
            from: self.ed25519.verifying_key().to_bytes(),
            to: wire::hex::decode_array(to).unwrap(),
            value: accepted["amount"].as_str().unwrap().parse().unwrap(),
            valid_after: 0,
            valid_before: now_s() + accepted["maxTimeoutSeconds"].as_u64().unwrap(),
            nonce: fresh_nonce(),
        };
        change(&mut transfer);
        json!(ExactPayload::from_test(&transfer.to_wire(), &transfer.sign(&self.ed25519)))
    }

    /// Signs an EIP-3009 authorization for an offer, after `change`.
    pub fn evm_payload(&self, accepted: &Value, change: impl FnOnce(&mut Transfer<Address>)) -> Value {
        let mut transfer = Transfer {
            from: self.evm.address(),
            to: accepted["payTo"].as_str().unwrap().parse().unwrap(),
            value: accepted["amount"].as_str().unwrap().parse().unwrap(),
            valid_after: 0,
            valid_before: now_s() + accepted["maxTimeoutSeconds"].as_u64().unwrap(),
            nonce: fresh_nonce(),
        };
        change(&mut transfer);
        let digest = token(accepted).separator().digest(&eip712::transfer_with_authorization(&transfer));
        json!(ExactPayload::from_evm(&transfer, self.evm.sign(&digest).unwrap().as_bytes()))
    }
}

/// What an offer is paid in.
pub fn token(accepted: &Value) -> EvmToken {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let extra = &accepted["extra"];
    let contract = text(&accepted["asset"]).parse().unwrap();
    EvmToken::new(&text(&accepted["network"]), contract, &text(&extra["name"]), &text(&extra["version"]))
        .unwrap()
}

impl Payment {
    /// What the fake facilitator calls its transfer: it is made from the nonce.
    pub fn transaction(&self) -> String {
        let permit = &self.payload["permit2Authorization"]["nonce"];
        match permit.as_str() {
            Some(nonce) => wire::hex::encode_0x(&uint256::parse(nonce).unwrap()),
            None => self.payload["authorization"]["nonce"].as_str().unwrap().to_owned(),
        }
    }

    /// Value of `PAYMENT-SIGNATURE`.
    pub fn v2(&self) -> String {
        encode(
            &json!({"x402Version": 2, "resource": self.resource, "accepted": self.accepted, "payload": self.payload}),
        )
    }

    /// Value of `PAYMENT-SIGNATURE` with what it brings back of the extensions.
    pub fn v2_with(&self, extensions: &Value) -> String {
        let mut payment = decode(&self.v2());
        payment["extensions"] = extensions.clone();
        encode(&payment)
    }

    /// Value of `X-PAYMENT`.
    pub fn v1(&self) -> String {
        let named = self.accepted["network"].as_str().unwrap();
        let named = network::v1_from_caip2(named).unwrap();
        encode(&json!({"x402Version": 1, "scheme": "exact", "network": named, "payload": self.payload}))
    }

    /// What was paid, in nano units: 9 places on the test rail, 6 on a chain.
    pub fn nano(&self) -> i64 {
        let amount: i64 = self.accepted["amount"].as_str().unwrap().parse().unwrap();
        if self.accepted["network"] == TEST { amount } else { amount * 1000 }
    }
}
