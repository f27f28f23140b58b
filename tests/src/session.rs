//! A payer by sessions of Tempo: opens a channel, signs vouchers, fills and closes it.

use std::net::SocketAddr;

use proof::eip712::keccak256;
use proof::evm_transaction::Transaction;
use proof::secp::SecretKey;
use proof::voucher::evm::{Descriptor, Escrow, Protocol};
use serde_json::{Value, json};
use wire::hex;
use wire::mpp::tempo::SessionRequest;
use wire::mpp::{Challenge, Credential, payload};
use wire::x402::Address;

use crate::gateway::Gateway;
use crate::http::{self, Answer};
use crate::mpp::credential;
use crate::reserve::{CHAIN, Reserve, escrow};

/// The key that settles, in the environment of the gateway, and its address.
pub const PAYEE_KEY: (&str, &str) =
    ("TEMPO_KEY", "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
/// Who is paid.
pub const PAYEE: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const TOKEN: &str = "0x20c0000000000000000000000000000000000001";

/// The `rails` section of a gateway that takes sessions on this chain; `own` is added to the terms of channels.
pub fn rails(reserve: &Reserve, own: &str, sessions: &str) -> String {
    format!(
        "rails: {{ test: {{}}, mpp: {{ sessions: {{ {sessions} }}, tempo: {{ token: \"{TOKEN}\", pay_to: \"{PAYEE}\", \
         rpc: \"http://{}/\", key: \"${{env:TEMPO_KEY}}\"{own} }} }} }}\n",
        reserve.address
    )
}

/// A gateway that takes sessions on this chain.
pub fn gateway(upstream: SocketAddr, reserve: &Reserve, own: &str, more: &str) -> Gateway {
    let text = format!("{}{more}", rails(reserve, own, "grace: 5s"));
    Gateway::start_in(upstream, &text, &[PAYEE_KEY])
}

/// A channel as its payer knows it.
pub struct Payer {
    key: SecretKey,
    escrow: Escrow,
    salt: [u8; 32],
    nonce: u64,
    /// What it is made of, once it is open.
    pub channel: Option<Descriptor>,
}

/// What a challenge asks for by vouchers.
pub fn asked(challenge: &Challenge) -> SessionRequest {
    payload::read(&challenge.request_object().unwrap()).unwrap()
}

impl Payer {
    /// With a key of his own; the same number is the same payer.
    pub fn new(number: u8, salt: u8) -> Self {
        let key = SecretKey::from_bytes(&[number; 32]).unwrap();
        Self { key, escrow: escrow(), salt: [salt; 32], nonce: 0, channel: None }
    }

    /// One of as many payers as a test wants.
    pub fn numbered(number: usize) -> Self {
        let mut bytes = [0x51; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let key = SecretKey::from_bytes(&bytes).unwrap();
        Self { key, escrow: escrow(), salt: [1; 32], nonce: 0, channel: None }
    }

    /// One whose channels another contract keeps.
    pub fn at(number: u8, escrow: Escrow) -> Self {
        Self { escrow, ..Self::new(number, 1) }
    }

    /// The same payer with another channel.
    pub fn again(before: Self, salt: u8) -> Self {
        Self { salt: [salt; 32], channel: None, ..before }
    }

    /// His address.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// The id of his channel.
    pub fn id(&self) -> [u8; 32] {
        self.escrow.channel_id(self.channel.as_ref().unwrap())
    }

    /// The account that the gateway has for it.
    pub fn account(&self) -> String {
        hex::encode(&self.id()[..16])
    }

    fn transaction(&mut self, data: Vec<u8>) -> String {
        let nonce = self.nonce;
        self.nonce += 1;
        let to = *self.escrow.contract();
        let transaction =
            Transaction { chain_id: CHAIN, nonce, tip_per_gas: 1, fee_per_gas: 1, gas: 100_000, to, data };
        transaction.sign(&self.key).unwrap().raw
    }

    /// Opens a channel with so much in it, and vouches for `sum`.
    pub fn open(&mut self, challenge: &Challenge, deposit: u128, sum: u128) -> Credential {
        let request = asked(challenge);
        let payee: Address = request.recipient.parse().unwrap();
        let token: Address = request.currency.parse().unwrap();
        let operator = request.method_details.operator.map_or(Address::ZERO, |text| text.parse().unwrap());
        let is_v1 = self.escrow.protocol() == Protocol::TempoV1;
        let (payee_word, token_word) = (address(&payee), address(&token));
        let data = if is_v1 {
            let words = [payee_word, token_word, word(deposit), self.salt, [0; 32]];
            called(b"open(address,address,uint128,bytes32,address)", &words)
        } else {
            let words = [payee_word, address(&operator), token_word, word(deposit), self.salt, [0; 32]];
            called(b"open(address,address,address,uint96,bytes32,address)", &words)
        };
        let raw = self.transaction(data);
        let bytes = hex::decode(raw.strip_prefix("0x").unwrap()).unwrap();
        let opened_by = keccak256(&[&bytes, self.address().as_bytes().as_slice()].concat());
        self.channel = Some(Descriptor {
            payer: self.address(),
            payee,
            operator,
            token,
            salt: self.salt,
            authorized_signer: Address::ZERO,
            expiring_nonce_hash: if is_v1 { [0; 32] } else { opened_by },
        });
        let mut payload = self.vouched("open", sum);
        payload["type"] = json!("transaction");
        payload["transaction"] = json!(raw);
        credential(challenge.clone(), None, payload)
    }

    /// Puts more into the channel.
    pub fn top_up(&mut self, challenge: &Challenge, more: u128) -> Credential {
        let channel = self.channel.unwrap();
        let words = [
            address(&channel.payer),
            address(&channel.payee),
            address(&channel.operator),
            address(&channel.token),
            channel.salt,
            address(&channel.authorized_signer),
            channel.expiring_nonce_hash,
            word(more),
        ];
        let data = match self.escrow.protocol() {
            Protocol::TempoV1 | Protocol::Evm => called(b"topUp(bytes32,uint256)", &[self.id(), word(more)]),
            Protocol::TempoV2 => {
                called(b"topUp((address,address,address,address,bytes32,address,bytes32),uint96)", &words)
            }
        };
        let raw = self.transaction(data);
        let mut payload = json!({
            "action": "topUp", "type": "transaction", "channelId": hex::encode_0x(&self.id()),
            "transaction": raw, "additionalDeposit": more.to_string(),
        });
        self.describe(&mut payload);
        credential(challenge.clone(), None, payload)
    }

    /// Vouches for a sum.
    pub fn voucher(&self, challenge: &Challenge, sum: u128) -> Credential {
        credential(challenge.clone(), None, self.vouched("voucher", sum))
    }

    /// Ends the channel by a voucher of this sum.
    pub fn close(&self, challenge: &Challenge, sum: u128) -> Credential {
        credential(challenge.clone(), None, self.vouched("close", sum))
    }

    /// A payload with a voucher.
    pub fn vouched(&self, action: &str, sum: u128) -> Value {
        let mut payload = json!({
            "action": action, "channelId": hex::encode_0x(&self.id()),
            "cumulativeAmount": sum.to_string(), "signature": hex::encode_0x(&self.signature(sum)),
        });
        self.describe(&mut payload);
        payload
    }

    /// Payloads of version 2 say what the channel is made of.
    fn describe(&self, payload: &mut Value) {
        if self.escrow.protocol() == Protocol::TempoV2 {
            payload["descriptor"] = self.descriptor();
        }
    }

    /// His signature under a sum.
    pub fn signature(&self, sum: u128) -> [u8; 65] {
        *self.key.sign(&self.escrow.digest(&self.id(), sum)).unwrap().as_bytes()
    }

    fn descriptor(&self) -> Value {
        let channel = self.channel.unwrap();
        json!({
            "payer": channel.payer, "payee": channel.payee, "operator": channel.operator, "token": channel.token,
            "salt": hex::encode_0x(&channel.salt), "authorizedSigner": channel.authorized_signer,
            "expiringNonceHash": hex::encode_0x(&channel.expiring_nonce_hash),
        })
    }
}

/// Sends a credential alone, as clients do where nothing is to be bought.
pub fn manage(gateway: SocketAddr, path: &str, credential: &Credential) -> Answer {
    let header = credential.to_value();
    http::request(gateway, "POST", path, &[("authorization", &header)], b"")
}

fn called(name: &[u8], words: &[[u8; 32]]) -> Vec<u8> {
    [&keccak256(name)[..4], words.as_flattened()].concat()
}

fn word(number: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&number.to_be_bytes());
    word
}

fn address(address: &Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(address.as_bytes());
    word
}
