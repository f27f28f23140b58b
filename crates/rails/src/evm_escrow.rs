//! Channels of sessions as their contract keeps them (mpp `tempo/session`), and transactions to it: those that payers
//! have signed, and our own.

use proof::voucher::evm::{Escrow, Protocol};
use serde_json::{Value, json};
use wire::hex;
use wire::x402::Address;

use crate::EvmNode;
use crate::evm_node::quantity;
use crate::json_rpc::NoResult;

/// A channel on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOnChain {
    /// Put in and not given back, in atomic units; what was taken is part of it.
    pub deposit: u128,
    /// Taken in all.
    pub settled: u128,
    /// Unix seconds of the payer's wish to end it; 0: none.
    pub close_requested_at: u64,
    /// Whether it has ended.
    pub finalized: bool,
    /// Who is in it. A contract of version 2 does not say: there the id does.
    pub parties: Option<Parties>,
}

/// Who is in a channel, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Who filled it.
    pub payer: Address,
    /// Who takes from it.
    pub payee: Address,
    /// What it holds.
    pub token: Address,
    /// Who signs its vouchers; zero: the payer.
    pub authorized_signer: Address,
}

/// What became of handing a transaction to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It has it, under this hash.
    Taken(String),
    /// It does not take it, and says why; an earlier copy of it may be on the chain all the same.
    Refused(String),
    /// It did not say.
    Unknown,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mined {
    /// It stands on the chain, and did what it says.
    Done,
    /// It stands on the chain, and did nothing.
    Reverted,
    /// The chain does not have it, or the node does not say.
    NotYet,
}

/// What a transaction of ours needs to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// How many the sender has sent before.
    pub nonce: u64,
    /// What it would use, with room.
    pub gas: u64,
    /// Most that is paid per unit of gas.
    pub fee_per_gas: u128,
}

impl EvmNode {
    /// A channel by its id; nothing deposited: there is none. `None`: the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn session(&self, escrow: &Escrow, id: &[u8; 32]) -> Option<SessionOnChain> {
        let call =
            json!({"to": escrow.contract().to_string(), "data": hex::encode_0x(&escrow.state_call(id))});
        let result = self.ask("eth_call", json!([call, "latest"])).await?;
        state(escrow.protocol(), result.as_str()?)
    }

    /// Hands a signed transaction over. The same one again does nothing twice.
    ///
    /// # Cancel safety
    /// Dropped midway, it may have been sent.
    pub async fn send(&self, raw: &str) -> Sent {
        match self.question("eth_sendRawTransaction", json!([raw])).await {
            Ok(Value::String(hash)) => Sent::Taken(hash),
            Ok(_) | Err(NoResult::NoAnswer) => Sent::Unknown,
            Err(NoResult::Error(message)) => Sent::Refused(message),
        }
    }

    /// What became of a transaction.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn mined(&self, hash: &str) -> Mined {
        let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await;
        let status = receipt.as_ref().and_then(|receipt| receipt.get("status")).and_then(Value::as_str);
        match status {
            Some("0x1") => Mined::Done,
            Some(_) => Mined::Reverted,
            None => Mined::NotYet,
        }
    }

    /// What a call by `from` needs. `Err` with what the node says if the call would fail; none where it does not say.
    ///
    /// # Errors
    /// The call would fail now.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn fees(&self, from: &Address, to: &Address, data: &[u8]) -> Result<Option<Fees>, String> {
        let call = json!({"from": from.to_string(), "to": to.to_string(), "data": hex::encode_0x(data)});
        let gas = match self.question("eth_estimateGas", json!([call])).await {
            Ok(gas) => gas,
            Err(NoResult::Error(message)) => return Err(message),
            Err(NoResult::NoAnswer) => return Ok(None),
        };
        let nonce = self.ask("eth_getTransactionCount", json!([from.to_string(), "pending"])).await;
        let price = self.ask("eth_gasPrice", json!([])).await;
        let read = |gas: &Value, nonce: Option<Value>, price: Option<Value>| {
            let (gas, price) = (quantity(gas)?, quantity(&price?)?);
            Some(Fees {
                nonce: quantity(&nonce?)?,
                // The chain may stand elsewhere by the time it comes in.
                gas: gas.saturating_add(gas / 4),
                fee_per_gas: u128::from(price).saturating_mul(2),
            })
        };
        Ok(read(&gas, nonce, price))
    }

    /// How many transactions of a sender the chain has; none where the node does not say.
    pub async fn count(&self, from: &Address) -> Option<u64> {
        quantity(&self.ask("eth_getTransactionCount", json!([from.to_string(), "latest"])).await?)
    }
}

fn state(protocol: Protocol, result: &str) -> Option<SessionOnChain> {
    let bytes = hex::decode(result.strip_prefix("0x")?).ok()?;
    let (words, []) = bytes.as_chunks::<32>() else { return None };
    match (protocol, words) {
        (
            Protocol::TempoV1 | Protocol::Evm,
            [finalized, asked, payer, payee, token, signer, deposit, settled],
        ) => Some(SessionOnChain {
            deposit: number(deposit)?,
            settled: number(settled)?,
            close_requested_at: u64::try_from(number(asked)?).ok()?,
            finalized: number(finalized)? != 0,
            parties: Some(Parties {
                payer: address(payer)?,
                payee: address(payee)?,
                token: address(token)?,
                authorized_signer: address(signer)?,
            }),
        }),
        (Protocol::TempoV2, [settled, deposit, asked]) => Some(SessionOnChain {
            deposit: number(deposit)?,
            settled: number(settled)?,
            close_requested_at: u64::try_from(number(asked)?).ok()?,
            finalized: false,
            parties: None,
        }),
        (Protocol::TempoV1 | Protocol::Evm | Protocol::TempoV2, _) => None,
    }
}

fn number(word: &[u8; 32]) -> Option<u128> {
    let (high, low) = word.split_at(16);
    let is_ours = high.iter().all(|byte| *byte == 0);
    is_ours.then(|| low.try_into().ok().map(u128::from_be_bytes)).flatten()
}

fn address(word: &[u8; 32]) -> Option<Address> {
    let (zeros, rest) = word.split_at(12);
    let is_address = zeros.iter().all(|byte| *byte == 0);
    is_address.then(|| rest.try_into().ok().map(Address)).flatten()
}

#[cfg(test)]
mod tests {
    use proof::voucher::evm::Protocol;
    use wire::x402::Address;

    use super::{Parties, SessionOnChain, state};

    fn words(words: &[&str]) -> String {
        let padded = words.iter().map(|word| format!("{}{word}", "0".repeat(64 - word.len())));
        format!("0x{}", padded.collect::<String>())
    }

    #[test]
    fn a_channel_is_read_as_its_contract_writes_it() {
        let v2 = SessionOnChain {
            deposit: 500,
            settled: 30,
            close_requested_at: 7,
            finalized: false,
            parties: None,
        };
        assert_eq!(state(Protocol::TempoV2, &words(&["1e", "1f4", "7"])), Some(v2));
        let one = |byte: u8| format!("{byte:02x}").repeat(20);
        let v1 = words(&["1", "7", &one(1), &one(2), &one(3), "0", "1f4", "1e"]);
        let parties = Parties {
            payer: Address([1; 20]),
            payee: Address([2; 20]),
            token: Address([3; 20]),
            authorized_signer: Address::ZERO,
        };
        let expected = SessionOnChain { finalized: true, parties: Some(parties), ..v2 };
        assert_eq!(state(Protocol::TempoV1, &v1), Some(expected));
        let wide = "1".repeat(33);
        for bad in [words(&["1e", "1f4"]), words(&["1e", &wide, "7"]), "0x".into(), "1e".into(), v1] {
            assert_eq!(state(Protocol::TempoV2, &bad), None, "{bad}");
        }
    }
}
