//! An EVM node of the operator's own choice: whether a transfer that a facilitator speaks of stands on the chain, and what
//! became of one that it does not speak of (X402-45).
//!
//! A node is asked, never told: nothing here writes to a chain.

use std::fmt;

use serde_json::{Value, json};
use wire::hex;
use wire::x402::exact::decimal;
use wire::x402::facilitator::SettleRequest;
use wire::x402::payload::{PayloadKind, kind};
use wire::x402::{Address, ExactPayload, Permit, Permit2Payload, contracts};

use crate::dial::{Dialer, Origin};
use crate::json_rpc::{self, NoResult};

/// Blocks that are looked through for an authorization's use: longer than one may be valid, on any chain we know.
const BLOCKS_BACK: u64 = 2_000;

/// `Transfer(address,address,uint256)`.
const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
/// `AuthorizationUsed(address,bytes32)`.
const AUTHORIZATION_USED: &str = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
/// `authorizationState(address,bytes32)`.
const AUTHORIZATION_STATE: &str = "0xe94a0102";
/// `nonceBitmap(address,uint256)`.
const NONCE_BITMAP: &str = "0x4fe02b44";

/// A node that speaks JSON-RPC.
#[derive(Clone)]
pub struct EvmNode {
    /// Where it listens.
    pub origin: Origin,
    /// Path, with a leading slash. It may hold a key: it is never logged.
    pub path: String,
    /// Opens connections.
    pub dialer: Dialer,
}

/// The transfer that a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    token: Address,
    from: Address,
    to: Address,
    value: u128,
    nonce: Nonce,
}

/// Which nonce a transfer uses up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nonce {
    /// The token keeps it, and tells of its use.
    Token([u8; 32]),
    /// Permit2 keeps it, and does not.
    Permit2([u8; 32]),
}

/// What the chain says about a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It stands there, in this transaction.
    Moved {
        /// Its hash.
        transaction: String,
    },
    /// It does not, and never will: its nonce is unused and its time is over, by the chain's own clock.
    Never,
    /// Nothing that decides: not yet there, or the node does not say.
    Nothing,
}

/// Whether one transaction is the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// It succeeded, and its log has it.
    Yes,
    /// It failed, or is about something else.
    No,
    /// The chain does not have it, or the node does not say.
    NotYet,
}

impl fmt::Debug for EvmNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EvmNode({}, path hidden)", self.origin.authority())
    }
}

impl Sought {
    /// The transfer that a permit is to make.
    #[must_use]
    pub const fn by_permit(permit: &Permit, value: u128) -> Self {
        let Permit { token, from, to, nonce, .. } = *permit;
        Self { token, from, to, value, nonce: Nonce::Permit2(nonce) }
    }

    /// The transfer that a settlement makes. `None` for what is none from a payer to us: channels, other chains.
    #[must_use]
    pub fn of(request: &SettleRequest) -> Option<Self> {
        let payload = request.payment_payload.get("payload")?;
        let required = &request.payment_requirements;
        match kind(payload)? {
            PayloadKind::Transfer => {
                let transfer = ExactPayload::from_value(payload)?.evm()?;
                Some(Self {
                    token: required.get("asset")?.as_str()?.parse().ok()?,
                    from: transfer.from,
                    to: transfer.to,
                    value: transfer.value,
                    nonce: Nonce::Token(transfer.nonce),
                })
            }
            PayloadKind::Permit2 => {
                let permit = Permit2Payload::from_value(payload)?.permit()?;
                Some(Self {
                    token: permit.token,
                    from: permit.from,
                    to: permit.to,
                    value: decimal(required.get("amount")?.as_str()?)?,
                    nonce: Nonce::Permit2(permit.nonce),
                })
            }
            PayloadKind::Channel | PayloadKind::Transaction => None,
        }
    }

    /// Whether a receipt has this transfer, by this authorization where the token tells that.
    fn is_in(&self, receipt: &Value) -> bool {
        let logs = receipt.get("logs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut logs = logs.iter().filter(|log| {
            let address = log.get("address").and_then(Value::as_str);
            address.and_then(|text| text.parse().ok()) == Some(self.token)
        });
        let (from, to, value) = (word(&self.from.0), word(&self.to.0), word(&self.value.to_be_bytes()));
        let is_transfer =
            |log: &Value| has_topics(log, &[TRANSFER, &from, &to]) && is_word(log.get("data"), &value);
        let has_transfer = logs.clone().any(is_transfer);
        match self.nonce {
            Nonce::Token(nonce) => {
                let used = [AUTHORIZATION_USED, &from, &word(&nonce)];
                has_transfer && logs.any(|log| has_topics(log, &used))
            }
            Nonce::Permit2(_) => has_transfer,
        }
    }
}

impl EvmNode {
    /// Whether this transaction is the transfer.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn confirms(&self, transaction: &str, sought: &Sought) -> Confirmation {
        let Some(receipt) = self.ask("eth_getTransactionReceipt", json!([transaction])).await else {
            return Confirmation::NotYet;
        };
        if !receipt.is_object() {
            return Confirmation::NotYet;
        }
        let succeeded = receipt.get("status").and_then(Value::as_str) == Some("0x1");
        if !succeeded || !sought.is_in(&receipt) {
            return Confirmation::No;
        }
        // A log of Permit2 does not name the permit: an earlier transfer of the same sum looks alike.
        match (&sought.nonce, self.is_used(sought).await) {
            (Nonce::Token(_), _) | (Nonce::Permit2(_), Some(true)) => Confirmation::Yes,
            (Nonce::Permit2(_), Some(false)) => Confirmation::No,
            (Nonce::Permit2(_), None) => Confirmation::NotYet,
        }
    }

    /// What became of a payment that nobody tells about: `transaction` is one that somebody has named, or empty.
    /// `over_s` is the Unix second after which it cannot move any more.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn look_for(&self, sought: &Sought, transaction: &str, over_s: u64) -> Evidence {
        if !transaction.is_empty() && self.confirms(transaction, sought).await == Confirmation::Yes {
            return Evidence::Moved { transaction: transaction.to_owned() };
        }
        // The clock first: a nonce that is unused after the end stays unused.
        let now_s = self.time_s().await;
        match (self.is_used(sought).await, now_s) {
            (Some(false), Some(now_s)) if now_s > over_s => Evidence::Never,
            (Some(true), _) => self.find(sought).await,
            (Some(false) | None, _) => Evidence::Nothing,
        }
    }

    /// Whether the nonce of a payment is used; none where the node does not say.
    pub async fn is_used(&self, sought: &Sought) -> Option<bool> {
        let (contract, call) = match &sought.nonce {
            Nonce::Token(nonce) => {
                (sought.token, format!("{AUTHORIZATION_STATE}{}{}", bare(&sought.from.0), hex::encode(nonce)))
            }
            Nonce::Permit2(nonce) => {
                let (place, _) = bit_of(nonce);
                (contracts::PERMIT2, format!("{NONCE_BITMAP}{}{}", bare(&sought.from.0), hex::encode(&place)))
            }
        };
        let params = json!([{"to": contract.to_string(), "data": call}, "latest"]);
        let answer: [u8; 32] = hex::decode_0x_array(self.ask("eth_call", params).await?.as_str()?).ok()?;
        Some(match &sought.nonce {
            Nonce::Token(_) => answer != [0; 32],
            Nonce::Permit2(nonce) => {
                let (_, bit) = bit_of(nonce);
                answer[31 - usize::from(bit / 8)] >> (bit % 8) & 1 == 1
            }
        })
    }

    /// The transaction in which an authorization was used. Permit2 does not tell.
    async fn find(&self, sought: &Sought) -> Evidence {
        let found = self.find_transaction(sought).await;
        match found {
            Some(transaction) if self.confirms(&transaction, sought).await == Confirmation::Yes => {
                Evidence::Moved { transaction }
            }
            Some(_) | None => Evidence::Nothing,
        }
    }

    async fn find_transaction(&self, sought: &Sought) -> Option<String> {
        let Nonce::Token(nonce) = &sought.nonce else { return None };
        let height = quantity(&self.ask("eth_blockNumber", json!([])).await?)?;
        let filter = json!({
            "address": sought.token.to_string(),
            "topics": [AUTHORIZATION_USED, word(&sought.from.0), word(nonce)],
            "fromBlock": format!("{:#x}", height.saturating_sub(BLOCKS_BACK)),
        });
        let logs = self.ask("eth_getLogs", json!([filter])).await?;
        Some(logs.get(0)?.get("transactionHash")?.as_str()?.to_owned())
    }

    /// The chain's clock.
    async fn time_s(&self) -> Option<u64> {
        let block = self.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        quantity(block.get("timestamp")?)
    }

    /// The result of a question; none where there is no good one.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Option<Value> {
        self.question(method, params).await.ok()
    }

    /// The result of a question, or what the node says instead.
    pub(crate) async fn question(&self, method: &str, params: Value) -> Result<Value, NoResult> {
        json_rpc::question((&self.origin, &self.path, &self.dialer), method, params).await
    }
}

/// 32 bytes with the value at their end, without `0x`.
fn bare(bytes: &[u8]) -> String {
    let mut word = [0; 32];
    let start = 32_usize.saturating_sub(bytes.len());
    if let Some(end) = word.get_mut(start..)
        && end.len() == bytes.len()
    {
        end.copy_from_slice(bytes);
    }
    hex::encode(&word)
}

fn word(bytes: &[u8]) -> String {
    format!("0x{}", bare(bytes))
}

fn is_word(value: Option<&Value>, word: &str) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(word))
}

fn has_topics(log: &Value, wanted: &[&str]) -> bool {
    let topics = log.get("topics").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    topics.len() == wanted.len()
        && topics.iter().zip(wanted).all(|(topic, wanted)| is_word(Some(topic), wanted))
}

/// A number as JSON-RPC writes it.
pub(crate) fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// The word of the bitmap that a nonce of Permit2 is in, and its bit there.
const fn bit_of(nonce: &[u8; 32]) -> ([u8; 32], u8) {
    let mut place = [0; 32];
    let mut at = 1;
    while at < 32 {
        place[at] = nonce[at - 1];
        at += 1;
    }
    (place, nonce[31])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wire::x402::Address;

    use super::{
        AUTHORIZATION_STATE, AUTHORIZATION_USED, NONCE_BITMAP, Nonce, Sought, TRANSFER, bit_of, quantity,
        word,
    };

    const FROM: Address = Address([1; 20]);
    const TO: Address = Address([2; 20]);
    const TOKEN: Address = Address([3; 20]);

    fn sought(nonce: Nonce) -> Sought {
        Sought { token: TOKEN, from: FROM, to: TO, value: 10_000, nonce }
    }

    fn transfer(token: Address, from: Address, to: Address, value: u128) -> Value {
        json!({"address": token.to_string(), "topics": [TRANSFER, word(&from.0), word(&to.0)],
               "data": word(&value.to_be_bytes())})
    }

    fn used(nonce: [u8; 32]) -> Value {
        json!({"address": TOKEN.to_string().to_ascii_lowercase(),
               "topics": [AUTHORIZATION_USED, word(&FROM.0), word(&nonce)], "data": "0x"})
    }

    /// A receipt of an earlier transfer of the same sum is no receipt of this one.
    #[test]
    fn x402_45_a_receipt_has_this_very_transfer_or_not() {
        let token = Nonce::Token([9; 32]);
        let permit = Nonce::Permit2([9; 32]);
        let right = transfer(TOKEN, FROM, TO, 10_000);
        for (what, nonce, logs, expected) in [
            ("both logs", token, vec![used([9; 32]), right.clone()], true),
            ("another authorization", token, vec![used([8; 32]), right.clone()], false),
            ("no authorization", token, vec![right.clone()], false),
            ("no transfer", token, vec![used([9; 32])], false),
            ("less", token, vec![used([9; 32]), transfer(TOKEN, FROM, TO, 9_999)], false),
            ("to another", token, vec![used([9; 32]), transfer(TOKEN, FROM, FROM, 10_000)], false),
            ("from another", token, vec![used([9; 32]), transfer(TOKEN, TO, TO, 10_000)], false),
            ("another token", token, vec![used([9; 32]), transfer(TO, FROM, TO, 10_000)], false),
            ("permit", permit, vec![transfer(TO, FROM, TO, 1), right], true),
            ("permit, less", permit, vec![transfer(TOKEN, FROM, TO, 1)], false),
            ("nothing", permit, vec![], false),
        ] {
            assert_eq!(sought(nonce).is_in(&json!({ "logs": logs })), expected, "{what}");
        }
        assert!(!sought(token).is_in(&json!({})));
    }

    /// What the contracts call these.
    #[test]
    fn names_have_their_hashes() {
        use sha3::Digest as _;
        let hash = |name: &str| wire::hex::encode_0x(&sha3::Keccak256::digest(name));
        assert_eq!(hash("Transfer(address,address,uint256)"), TRANSFER);
        assert_eq!(hash("AuthorizationUsed(address,bytes32)"), AUTHORIZATION_USED);
        assert_eq!(hash("authorizationState(address,bytes32)")[..10], *AUTHORIZATION_STATE);
        assert_eq!(hash("nonceBitmap(address,uint256)")[..10], *NONCE_BITMAP);
    }

    #[test]
    fn a_nonce_has_its_bit() {
        let mut nonce = [0; 32];
        (nonce[30], nonce[31]) = (0x12, 0x34);
        let (place, bit) = bit_of(&nonce);
        assert_eq!((place[31], bit), (0x12, 0x34));
        let (place, bit) = bit_of(&[0xff; 32]);
        assert_eq!((place[0], place[1], place[31], bit), (0, 0xff, 0xff, 0xff));
    }

    #[test]
    fn numbers_of_a_node() {
        for (text, expected) in
            [("0x0", Some(0)), ("0x10", Some(16)), ("10", None), ("0x", None), ("0xg", None)]
        {
            assert_eq!(quantity(&json!(text)), expected, "{text}");
        }
        assert_eq!(quantity(&json!(10)), None);
    }
}
