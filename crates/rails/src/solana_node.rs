//! A Solana node of the operator's own choice: channels as their program keeps them, and transactions to it: those that
//! payers have signed, and our own.
//!
//! What is asked for is confirmed: two thirds of the chain's stake have voted for it.

use std::fmt;

use serde_json::{Value, json};
use wire::mpp::solana::ChannelAccount;
use wire::x402::base58;

use crate::dial::{Dialer, Origin};
use crate::json_rpc::{self, NoResult};
use crate::{Mined, Sent};

const COMMITMENT: &str = "confirmed";
/// Characters of base64 of the largest account that is read.
const ACCOUNT_CHARS_MAX: usize = 4096;
/// Who owns an account that holds SOL alone.
const SYSTEM: &str = "11111111111111111111111111111111";
/// Bytes of a token account, and where its state stands in them.
const TOKENS_BYTES: usize = 165;
const TOKENS_STATE: usize = 108;
/// Neither unopened nor frozen.
const TOKENS_OPEN: u8 = 1;

/// A node that speaks JSON-RPC.
#[derive(Clone)]
pub struct SolanaNode {
    /// Where it listens.
    pub origin: Origin,
    /// Path, with a leading slash. It may hold a key: it is never logged.
    pub path: String,
    /// Opens connections.
    pub dialer: Dialer,
}

/// What there is at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtAddress {
    /// A channel of the program.
    Channel(Box<ChannelAccount>),
    /// Nothing: never opened, or ended and cleared away.
    Nothing,
    /// Something else.
    Other,
}

/// Whether tokens can be sent to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensAt {
    /// Nothing is there: an account can be created, if the address is its owner's for it.
    Nothing,
    /// A token account that takes them, whoever owns it by now.
    Taken,
    /// Something that takes none: an account that is frozen, or another thing.
    Refused,
}

/// What a transaction is signed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// It counts for as long as the chain remembers this.
    pub blockhash: [u8; 32],
    /// The last block that may hold it.
    pub last_height: u64,
    /// Where the chain stood.
    pub slot: u64,
}

impl fmt::Debug for SolanaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SolanaNode({}, path hidden)", self.origin.authority())
    }
}

impl SolanaNode {
    /// What is at an address. `None`: the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn channel(&self, program: &[u8; 32], id: &[u8; 32]) -> Option<AtAddress> {
        at_address(&base58::encode(program), &self.account(id).await?)
    }

    /// Whether tokens of a program (base58) can be sent to an address. `None`: the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn tokens(&self, program: &str, at: &[u8; 32]) -> Option<TokensAt> {
        tokens_at(program, &self.account(at).await?)
    }

    async fn account(&self, at: &[u8; 32]) -> Option<Value> {
        let how = json!({"encoding": "base64", "commitment": COMMITMENT});
        self.question("getAccountInfo", json!([base58::encode(at), how])).await.ok()
    }

    /// Hands a signed transaction over, in base64. The same one again does nothing twice.
    ///
    /// # Cancel safety
    /// Dropped midway, it may have been sent.
    pub async fn send(&self, raw: &str) -> Sent {
        let how = json!({"encoding": "base64", "preflightCommitment": COMMITMENT});
        match self.question("sendTransaction", json!([raw, how])).await {
            Ok(Value::String(id)) => Sent::Taken(id),
            Ok(_) | Err(NoResult::NoAnswer) => Sent::Unknown,
            Err(NoResult::Error(message)) => Sent::Refused(message),
        }
    }

    /// What became of a transaction, by its first signature.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn mined(&self, id: &str) -> Mined {
        let how = json!({"searchTransactionHistory": true});
        let result = self.question("getSignatureStatuses", json!([[id], how])).await;
        result.map_or(Mined::NotYet, |result| mined(&result))
    }

    /// What the next transaction is signed over. `None`: the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn recent(&self) -> Option<Recent> {
        let how = json!([{"commitment": COMMITMENT}]);
        recent(&self.question("getLatestBlockhash", how).await.ok()?)
    }

    /// How many blocks the chain has. `None`: the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn height(&self) -> Option<u64> {
        self.question("getBlockHeight", json!([{"commitment": COMMITMENT}])).await.ok()?.as_u64()
    }

    async fn question(&self, method: &str, params: Value) -> Result<Value, NoResult> {
        json_rpc::question((&self.origin, &self.path, &self.dialer), method, params).await
    }
}

fn at_address(program: &str, result: &Value) -> Option<AtAddress> {
    Some(match account(result)? {
        None => AtAddress::Nothing,
        // Of somebody else whatever it says is nothing to us; an empty account may hold money that was sent to it.
        Some((owner, _)) if owner != program => AtAddress::Other,
        Some((_, text)) => ChannelAccount::parse(&bytes(text)?)
            .map_or(AtAddress::Other, |channel| AtAddress::Channel(Box::new(channel))),
    })
}

fn tokens_at(program: &str, result: &Value) -> Option<TokensAt> {
    let Some((owner, text)) = account(result)? else { return Some(TokensAt::Nothing) };
    if owner == SYSTEM {
        return Some(TokensAt::Nothing);
    }
    if owner != program {
        return Some(TokensAt::Refused);
    }
    let data = bytes(text)?;
    let is_open = data.len() == TOKENS_BYTES && data.get(TOKENS_STATE) == Some(&TOKENS_OPEN);
    Some(if is_open { TokensAt::Taken } else { TokensAt::Refused })
}

/// Who owns an account, and its data in base64; then none: there is no account.
fn account(result: &Value) -> Option<Option<(&str, &str)>> {
    let value = result.get("value")?;
    if value.is_null() {
        return Some(None);
    }
    let [text, encoding] = value.get("data")?.as_array()?.as_slice() else { return None };
    (encoding.as_str()? == "base64").then_some(())?;
    Some(Some((value.get("owner")?.as_str()?, text.as_str()?)))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    wire::base64::decode_any(text, ACCOUNT_CHARS_MAX).ok()
}

fn mined(result: &Value) -> Mined {
    let Some(status) = result.get("value").and_then(|value| value.get(0)) else { return Mined::NotYet };
    match status.get("confirmationStatus").and_then(Value::as_str) {
        Some("confirmed" | "finalized") if status.get("err").is_some_and(Value::is_null) => Mined::Done,
        Some("confirmed" | "finalized") => Mined::Reverted,
        Some(_) | None => Mined::NotYet,
    }
}

fn recent(result: &Value) -> Option<Recent> {
    let value = result.get("value")?;
    Some(Recent {
        blockhash: base58::decode_array(value.get("blockhash")?.as_str()?).ok()?,
        last_height: value.get("lastValidBlockHeight")?.as_u64()?,
        slot: result.get("context")?.get("slot")?.as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wire::mpp::solana::{ChannelAccount, Status};
    use wire::x402::base58;

    use super::{AtAddress, Recent, SYSTEM, TOKENS_STATE, TokensAt, at_address, mined, recent, tokens_at};
    use crate::Mined;

    fn channel() -> ChannelAccount {
        ChannelAccount {
            status: Status::Open,
            salt: 1,
            deposit: 500,
            settled: 30,
            paid_out: 0,
            closing_since: 0,
            grace_s: 900,
            shares_hash: [1; 32],
            payer: [2; 32],
            payee: [3; 32],
            authorized_signer: [4; 32],
            mint: [5; 32],
            rent_payer: [6; 32],
            open_slot: 7,
        }
    }

    #[test]
    fn accounts_as_a_node_tells_of_them() {
        let text = wire::base64::encode_std(&channel().to_bytes());
        let told =
            |owner: &str, data| json!({"context": {"slot": 9}, "value": {"owner": owner, "data": data}});
        for (what, result, expected) in [
            ("a channel", told("p", json!([text, "base64"])), Some(AtAddress::Channel(Box::new(channel())))),
            ("somebody else's", told("q", json!([text, "base64"])), Some(AtAddress::Other)),
            ("no channel", told("p", json!(["AQ==", "base64"])), Some(AtAddress::Other)),
            ("money alone", told("1", json!(["", "base64"])), Some(AtAddress::Other)),
            ("nothing", json!({"value": null}), Some(AtAddress::Nothing)),
            ("another encoding", told("p", json!([text, "base58"])), None),
            ("an endless account", told("p", json!(["A".repeat(5000), "base64"])), None),
            ("no value", json!({}), None),
        ] {
            assert_eq!(at_address("p", &result), expected, "{what}");
        }
    }

    #[test]
    fn token_accounts_as_a_node_tells_of_them() {
        let account = |state: u8, length: usize| {
            let mut data = vec![0; length];
            data[TOKENS_STATE] = state;
            wire::base64::encode_std(&data)
        };
        let told = |owner: &str, data: &str| json!({"value": {"owner": owner, "data": [data, "base64"]}});
        for (what, result, expected) in [
            ("nothing", json!({"value": null}), Some(TokensAt::Nothing)),
            ("SOL alone", told(SYSTEM, ""), Some(TokensAt::Nothing)),
            ("an account", told("t", &account(1, 165)), Some(TokensAt::Taken)),
            ("a frozen one", told("t", &account(2, 165)), Some(TokensAt::Refused)),
            ("one that was never opened", told("t", &account(0, 165)), Some(TokensAt::Refused)),
            ("a group of signers", told("t", &account(1, 355)), Some(TokensAt::Refused)),
            ("another program's", told("u", &account(1, 165)), Some(TokensAt::Refused)),
            ("another encoding", json!({"value": {"owner": "t", "data": ["", "base58"]}}), None),
            ("no value", json!({}), None),
        ] {
            assert_eq!(tokens_at("t", &result), expected, "{what}");
        }
    }

    #[test]
    fn transactions_as_a_node_tells_of_them() {
        let status = |status: &str, err| json!({"value": [{"confirmationStatus": status, "err": err}]});
        for (result, expected) in [
            (status("confirmed", json!(null)), Mined::Done),
            (status("finalized", json!(null)), Mined::Done),
            (status("finalized", json!({"InstructionError": [1, {"Custom": 1}]})), Mined::Reverted),
            (status("processed", json!(null)), Mined::NotYet),
            (json!({"value": [null]}), Mined::NotYet),
            (json!({"value": []}), Mined::NotYet),
            (json!({"value": [{"confirmationStatus": "finalized"}]}), Mined::Reverted),
        ] {
            assert_eq!(mined(&result), expected, "{result}");
        }
    }

    #[test]
    fn what_a_transaction_is_signed_over() {
        let told = json!({"context": {"slot": 9},
            "value": {"blockhash": base58::encode(&[8; 32]), "lastValidBlockHeight": 150}});
        assert_eq!(recent(&told), Some(Recent { blockhash: [8; 32], last_height: 150, slot: 9 }));
        assert_eq!(recent(&json!({"value": told["value"]})), None);
    }
}
