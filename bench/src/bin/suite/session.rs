//! The payer's part of a session by the `Payment` scheme: a channel on a stand-in for its chain, and a voucher for each call.

use bytes::Bytes;
use proof::eip712::keccak256;
use proof::evm_transaction::Transaction;
use proof::secp::SecretKey;
use proof::voucher::evm::{Descriptor, Escrow, Protocol};
use serde_json::{Value, json};
use wire::hex;
use wire::mpp::credential::Field;
use wire::mpp::tempo::SessionRequest;
use wire::mpp::{Challenge, Credential, challenges, payload};
use wire::x402::Address;

use crate::load;
use crate::payments::{Call, fresh_bytes};

/// The chain's id: a test network.
const CHAIN: u64 = 42431;
/// Held by a channel, in units of a millionth: more than all calls of a run cost.
pub(crate) const DEPOSIT: u128 = 1_000_000_000_000;

/// What a node of the chain says to whatever is asked: every transaction is run, every channel holds [`DEPOSIT`].
pub(crate) fn chain(asked: &Value) -> Value {
    let params = asked.get("params").and_then(|params| params.get(0)).cloned().unwrap_or_default();
    let result = match asked.get("method").and_then(Value::as_str) {
        Some("eth_call") => json!(format!("0x{:064x}{DEPOSIT:064x}{:064x}", 0, 0)),
        Some("eth_sendRawTransaction") => {
            let raw = params.as_str().and_then(|raw| raw.strip_prefix("0x")).unwrap_or_default();
            json!(hex::encode_0x(&keccak256(&hex::decode(raw).unwrap_or_default())))
        }
        Some("eth_getTransactionReceipt") => {
            json!({"status": "0x1", "blockNumber": "0x1", "transactionHash": params, "logs": []})
        }
        Some(_) | None => json!("0x1"),
    };
    json!({"jsonrpc": "2.0", "id": asked.get("id"), "result": result})
}

impl Call {
    /// A channel of its own: the call that opens it, and the calls that follow, each with a voucher for what it may cost.
    pub(crate) async fn session(&self, payer: u8, calls: usize) -> Result<(Bytes, Vec<Bytes>), String> {
        let (status, head) = load::ask_once(&self.target, &self.unpaid()).await?;
        let lines = head.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("www-authenticate").then(|| value.trim().as_bytes())
        });
        let challenge = challenges(lines).into_iter().find(|offer| offer.method == "tempo");
        let challenge =
            challenge.ok_or_else(|| format!("status {status} without a session of tempo: {head}"))?;
        let request = challenge.request_object().map_err(|error| error.to_string())?;
        let request: SessionRequest = payload::read(&request).map_err(|error| error.to_string())?;
        let step: u128 = request.amount.parse().map_err(|_| "no amount in the challenge".to_owned())?;
        let key = SecretKey::from_bytes(&[payer; 32]).map_err(|error| error.to_string())?;
        let channel = Channel::new(key, &request)?;
        let shown = |payload: Value| {
            let Value::Object(payload) = payload else { return Err("no payload".to_owned()) };
            let challenge: Challenge = challenge.clone();
            let credential = Credential { challenge, source: None, payload, field: Field::Authorization };
            Ok(self.with(&[("authorization", &credential.to_value())]))
        };
        let opens = shown(channel.opening(step)?)?;
        let follows = (2u128..).take(calls).map(|number| shown(channel.vouched("voucher", step * number)?));
        Ok((opens, follows.collect::<Result<_, _>>()?))
    }
}

/// A channel as its payer knows it.
struct Channel {
    key: SecretKey,
    escrow: Escrow,
    of: Descriptor,
    /// The transaction that opens it.
    transaction: String,
}

impl Channel {
    fn new(key: SecretKey, request: &SessionRequest) -> Result<Self, String> {
        let told = |what: &str| format!("no {what} in the challenge");
        let payee: Address = request.recipient.parse().map_err(|_| told("payee"))?;
        let token: Address = request.currency.parse().map_err(|_| told("token"))?;
        let operator = request.method_details.operator.as_deref().map_or(Ok(Address::ZERO), str::parse);
        let operator = operator.map_err(|_| told("operator"))?;
        let (escrow, salt) = (Escrow::new(Protocol::TempoV2, CHAIN, Escrow::TEMPO_V2), fresh_bytes());
        let words =
            [word(&payee.0), word(&operator.0), word(&token.0), word(&DEPOSIT.to_be_bytes()), salt, [0; 32]];
        let name = b"open(address,address,address,uint96,bytes32,address)";
        let selector = keccak256(name);
        let data = [selector.get(..4).unwrap_or_default(), words.as_flattened()].concat();
        let (nonce, to) = (0, *escrow.contract());
        let transaction =
            Transaction { chain_id: CHAIN, nonce, tip_per_gas: 1, fee_per_gas: 1, gas: 100_000, to, data };
        let raw = transaction.sign(&key).map_err(|error| error.to_string())?.raw;
        let bytes = hex::decode(raw.trim_start_matches("0x")).map_err(|error| error.to_string())?;
        let payer = key.address();
        let of = Descriptor {
            payer,
            payee,
            operator,
            token,
            salt,
            authorized_signer: Address::ZERO,
            expiring_nonce_hash: keccak256(&[&bytes, payer.as_bytes().as_slice()].concat()),
        };
        Ok(Self { key, escrow, of, transaction: raw })
    }

    fn opening(&self, sum: u128) -> Result<Value, String> {
        let mut payload = self.vouched("open", sum)?;
        if let Some(payload) = payload.as_object_mut() {
            payload.insert("type".to_owned(), json!("transaction"));
            payload.insert("transaction".to_owned(), json!(self.transaction));
        }
        Ok(payload)
    }

    fn vouched(&self, action: &str, sum: u128) -> Result<Value, String> {
        let id = self.escrow.channel_id(&self.of);
        let signature = self.key.sign(&self.escrow.digest(&id, sum)).map_err(|error| error.to_string())?;
        Ok(json!({
            "action": action, "channelId": hex::encode_0x(&id), "cumulativeAmount": sum.to_string(),
            "signature": hex::encode_0x(signature.as_bytes()),
            "descriptor": {
                "payer": self.of.payer, "payee": self.of.payee, "operator": self.of.operator, "token": self.of.token,
                "salt": hex::encode_0x(&self.of.salt), "authorizedSigner": self.of.authorized_signer,
                "expiringNonceHash": hex::encode_0x(&self.of.expiring_nonce_hash),
            },
        }))
    }
}

/// A number or an address in its word of 32 bytes.
fn word(bytes: &[u8]) -> [u8; 32] {
    let mut word = [0; 32];
    let from = 32usize.saturating_sub(bytes.len());
    word.iter_mut().skip(from).zip(bytes).for_each(|(to, byte)| *to = *byte);
    word
}
