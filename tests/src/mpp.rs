//! A payer by the `Payment` scheme: reads the lines of a 402, signs for one of them, shows what was signed.

use proof::eip712::{self, ChargeSpelling};
use proof::mpp::ChallengeKey;
use proof::x402_exact::EvmToken;
use serde_json::{Value, json};
use wire::mpp::evm::{ChargeRequest, challenge_hash};
use wire::mpp::{Challenge, Credential, Opaque, Receipt, credential::Field, payload};
use wire::x402::{Address, Permit, Transfer, uint256};

use crate::gateway::Gateway;
use crate::http::{self, Answer};
use crate::payer::{Wallet, fresh_nonce, now_s};

/// The `rails` section of a gateway that speaks the scheme over what else is there.
pub fn with_mpp(rails: &str) -> String {
    with_rules(rails, "{}")
}

/// The same by these rules.
pub fn with_rules(rails: &str, rules: &str) -> String {
    assert!(rails.contains("rails: { "), "{rails}");
    rails.replacen("rails: { ", &format!("rails: {{ mpp: {rules}, "), 1)
}

/// The lines of a challenge, as they came.
pub fn lines(answer: &Answer) -> Vec<&str> {
    let lines = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
    lines.map(|(_, value)| value.as_str()).collect()
}

/// The challenges of this scheme.
pub fn challenges(answer: &Answer) -> Vec<Challenge> {
    wire::mpp::challenges(lines(answer).into_iter().map(str::as_bytes))
}

/// The first challenge of a method.
#[track_caller]
pub fn challenge(answer: &Answer, method: &str) -> Challenge {
    let all = challenges(answer);
    let found = all.into_iter().find(|challenge| challenge.method == method);
    found.unwrap_or_else(|| panic!("no {method} in {} {:?}", answer.status, answer.headers))
}

/// What a challenge asks for by `evm`.
pub fn asked(challenge: &Challenge) -> ChargeRequest {
    payload::read(&challenge.request_object().unwrap()).unwrap()
}

/// An answer to a challenge.
pub fn credential(challenge: Challenge, source: Option<String>, payload: Value) -> Credential {
    let Value::Object(payload) = payload else { panic!("{payload}") };
    Credential { challenge, source, payload, field: Field::Authorization }
}

/// The receipt of an answer, if it has one.
pub fn receipt(answer: &Answer) -> Option<Receipt> {
    Receipt::decode(answer.header("payment-receipt")?).ok()
}

/// Sends a request with a credential.
pub fn call(gateway: &Gateway, path: &str, credential: &Credential, body: &Value) -> Answer {
    http::post(gateway.address, path, &[("authorization", &credential.to_value())], body)
}

impl Wallet {
    /// Signs for an `evm` challenge, as it asks.
    pub fn charge(&self, challenge: &Challenge) -> Credential {
        self.charge_with(challenge, |_| {})
    }

    /// The same after `change`.
    pub fn charge_with(
        &self,
        challenge: &Challenge,
        change: impl FnOnce(&mut Transfer<Address>),
    ) -> Credential {
        let request = asked(challenge);
        let network = format!("eip155:{}", request.method_details.chain_id);
        let token = EvmToken::new(&network, request.currency.parse().unwrap(), "USDC", "2").unwrap();
        let mut transfer = Transfer {
            from: self.address(),
            to: request.recipient.parse().unwrap(),
            value: request.amount.parse().unwrap(),
            valid_after: 0,
            valid_before: challenge.expires_at_s().unwrap_or(now_s() + 200),
            nonce: challenge_hash(challenge),
        };
        change(&mut transfer);
        let digest = token.separator().digest(&eip712::transfer_with_authorization(&transfer));
        let signature = self.sign(&digest);
        let source = format!("did:pkh:{network}:{}", transfer.from);
        let payload = json!({
            "type": "authorization",
            "from": transfer.from.to_string(),
            "to": transfer.to.to_string(),
            "value": transfer.value.to_string(),
            "validAfter": transfer.valid_after.to_string(),
            "validBefore": transfer.valid_before.to_string(),
            "nonce": wire::hex::encode_0x(&transfer.nonce),
            "signature": signature,
        });
        credential(challenge.clone(), Some(source), payload)
    }
}

/// A permit for an `evm` challenge before it is signed.
#[derive(Clone, Debug)]
pub struct Permission {
    /// What is signed.
    pub permit: Permit,
    /// How its type is spelt.
    pub spelling: ChargeSpelling,
    /// What it is bound to.
    pub challenge_hash: [u8; 32],
}

impl Wallet {
    /// Signs a permit for an `evm` challenge, as it asks.
    pub fn permit_charge(&self, challenge: &Challenge) -> Credential {
        self.permit_charge_with(challenge, |_| {})
    }

    /// The same after `change`.
    pub fn permit_charge_with(
        &self,
        challenge: &Challenge,
        change: impl FnOnce(&mut Permission),
    ) -> Credential {
        let request = asked(challenge);
        let network = format!("eip155:{}", request.method_details.chain_id);
        let to: Address = request.recipient.parse().unwrap();
        let mut permission = Permission {
            permit: Permit {
                from: self.address(),
                token: request.currency.parse().unwrap(),
                amount: request.amount.parse().unwrap(),
                spender: request.method_details.spender.as_deref().unwrap().parse().unwrap(),
                nonce: fresh_nonce(),
                deadline: challenge.expires_at_s().unwrap_or(now_s() + 200),
                to,
                facilitator: None,
                valid_after: 0,
            },
            spelling: ChargeSpelling::Encoded,
            challenge_hash: challenge_hash(challenge),
        };
        change(&mut permission);
        let Permission { permit, spelling, challenge_hash } = permission;
        let witness = spelling.witness(&challenge_hash, "");
        let separator = eip712::permit2_separator(request.method_details.chain_id);
        let signature = self.sign(&separator.digest(&eip712::permit_charge(&permit, spelling, witness)));
        let payload = json!({
            "type": "permit2",
            "permit": {
                "permitted": [{"token": permit.token.to_string(), "amount": permit.amount.to_string()}],
                "nonce": uint256::to_decimal(&permit.nonce),
                "deadline": permit.deadline.to_string(),
            },
            "transferDetails": [{"to": permit.to.to_string(), "requestedAmount": request.amount}],
            "witness": {"challengeHash": wire::hex::encode_0x(&challenge_hash)},
            "signature": signature,
        });
        let source = format!("did:pkh:{network}:{}", self.address());
        credential(challenge.clone(), Some(source), payload)
    }
}

/// The keys of a gateway, for challenges that it would never make.
pub struct Forge {
    key: ChallengeKey,
}

impl Forge {
    /// Knows what this gateway knows.
    pub fn of(gateway: &Gateway) -> Self {
        let file = gateway.folder().join("store/master-1.key");
        let master = wire::hex::decode_array(std::fs::read_to_string(file).unwrap().trim()).unwrap();
        Self { key: ChallengeKey::new(&hmac_sha256(&master, b"farthing/mpp-master/test/1")) }
    }

    /// A challenge of the gateway, changed and bound again.
    pub fn bound(
        &self,
        challenge: &Challenge,
        change: impl FnOnce(&mut Challenge, &mut Opaque),
    ) -> Challenge {
        assert!(self.key.verify(challenge), "the gateway has other keys");
        let mut challenge = challenge.clone();
        let mut opaque = Opaque::decode(challenge.opaque.as_deref().unwrap()).unwrap();
        change(&mut challenge, &mut opaque);
        challenge.opaque = Some(opaque.encode());
        challenge.id = self.key.id(challenge.parts());
        challenge
    }
}

/// HMAC by its definition, with a key of a block at most.
fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(block, key)| *block ^= key);
        block
    };
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().into()
}

/// The same challenge for another amount.
pub fn for_amount(challenge: &mut Challenge, amount: &str) {
    let mut request = challenge.request_object().unwrap();
    request.insert("amount".to_owned(), amount.into());
    challenge.request = wire::mpp::challenge::encode_object(&request);
}
