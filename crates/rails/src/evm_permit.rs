//! Transfers by Permit2 that we send to the chain ourselves (mpp `evm/charge`): what has to be true of a payer before, the
//! transactions that we write for him, and what became of them.
//!
//! A permit moves money once, whoever sends it how often: so writing another transaction for it is always safe, and what is
//! never safe is to say that it moved nothing. That is said where the chain says it, and nowhere else.

use std::fmt;

use proof::evm_transaction::Transaction;
use proof::mpp::permit::PermitCharge;
use proof::secp::SecretKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::hex;
use wire::x402::{Address, Permit, contracts};

use crate::evm_node::quantity;
use crate::{Confirmation, Evidence, EvmNode, Mined, Sent, Sought};

/// `balanceOf(address)`.
const BALANCE_OF: &str = "0x70a08231";
/// `allowance(address,address)`.
const ALLOWANCE: &str = "0xdd62ed3e";
/// Most transactions that are written for one permit.
const WRITTEN_MAX: usize = 16;

/// Who sends permits to a chain.
pub struct Submitter {
    /// The chain.
    pub node: EvmNode,
    /// EIP-155.
    pub chain_id: u64,
    /// Pays for the transactions, and is who permits are signed for.
    pub key: SecretKey,
    /// Most that is paid per unit of gas, in the chain's smallest unit.
    pub fee_per_gas_max: u128,
}

/// A transfer that is to be made, and what was written for it. It holds the payer's signature: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitOrder {
    token: Address,
    from: Address,
    to: Address,
    /// Atomic units, decimal.
    value: String,
    /// `0x` and 32 bytes.
    nonce: String,
    /// Unix seconds.
    deadline: u64,
    /// What Permit2 is called with.
    call: String,
    /// Oldest first; the chain takes at most one of them.
    written: Vec<Written>,
}

/// A transaction of ours. It holds the payer's signature: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    hash: String,
    raw: String,
    nonce: u64,
    fee_per_gas: u64,
}

/// What a payer has for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whether his permit's nonce was used before.
    pub is_used: bool,
    /// Whether he has what it is to move.
    pub has_funds: bool,
    /// Whether the token lets Permit2 move that.
    pub is_allowed: bool,
}

/// Why no transaction was written. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// It would fail, as the node says.
    WouldFail(String),
    /// The node does not say what it needs, or says that we cannot pay for it.
    Unready,
    /// More than the operator pays per unit of gas is asked for now.
    Dear,
    /// The sender has too little of the chain's own coin.
    Poor,
}

/// What became of a transfer, as far as the chain tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was made, by this transaction.
    Moved(String),
    /// This transaction of ours succeeded and has not moved what it should: the token is none.
    Amiss(String),
    /// Nothing moved and nothing will: all that was sent has failed on the chain, or the permit is over and unused.
    Never,
    /// It may be made yet. Whether the newest transaction's place was taken by another of ours.
    Open {
        /// Then it never comes in as it is.
        is_outrun: bool,
    },
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Submitter({:?}, chain {}, key hidden)", self.node, self.chain_id)
    }
}

impl fmt::Debug for PermitOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PermitOrder(from {}, {} written, permit hidden)", self.from, self.written.len())
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({}, place {}, bytes hidden)", self.hash, self.nonce)
    }
}

impl PermitOrder {
    /// The transfer of a genuine permit; nothing was written for it yet.
    #[must_use]
    pub fn of(charge: &PermitCharge) -> Self {
        let Permit { token, from, to, nonce, deadline, .. } = charge.permit;
        Self {
            token,
            from,
            to,
            value: charge.amount.to_string(),
            nonce: hex::encode_0x(&nonce),
            deadline,
            call: hex::encode_0x(&charge.call()),
            written: Vec::new(),
        }
    }

    /// With one more transaction.
    #[must_use]
    pub fn and(mut self, written: Written) -> Self {
        self.written.push(written);
        self
    }

    /// Whether another transaction may be written for it.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.written.len() < WRITTEN_MAX
    }

    fn sought(&self) -> Option<Sought> {
        let permit = Permit {
            from: self.from,
            token: self.token,
            amount: 0,
            spender: Address::ZERO,
            nonce: hex::decode_0x_array(&self.nonce).ok()?,
            deadline: self.deadline,
            to: self.to,
            facilitator: None,
            valid_after: 0,
        };
        Some(Sought::by_permit(&permit, self.value.parse().ok()?))
    }
}

impl Submitter {
    /// Who permits are signed for.
    #[must_use]
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// What a payer has for a transfer now; none where the node does not say.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn held(&self, order: &PermitOrder) -> Option<Held> {
        let (of, permit2) = (padded(&order.from), padded(&contracts::PERMIT2));
        let is_used = self.node.is_used(&order.sought()?).await?;
        let balance = self.word(&order.token, format!("{BALANCE_OF}{of}")).await?;
        let allowance = self.word(&order.token, format!("{ALLOWANCE}{of}{permit2}")).await?;
        let mut value = [0; 32];
        value[16..].copy_from_slice(&order.value.parse::<u128>().ok()?.to_be_bytes());
        Some(Held { is_used, has_funds: balance >= value, is_allowed: allowance >= value })
    }

    async fn word(&self, contract: &Address, data: String) -> Option<[u8; 32]> {
        let call = json!({"to": contract.to_string(), "data": data});
        hex::decode_0x_array(self.node.ask("eth_call", json!([call, "latest"])).await?.as_str()?).ok()
    }

    /// Writes a transaction for a transfer, to come after all that the sender has sent. `outbids`: in the place of the
    /// newest one instead, for more. It is not sent: write it down first.
    ///
    /// # Errors
    /// [`NotWritten`]
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn write(&self, order: &PermitOrder, outbids: bool) -> Result<Written, NotWritten> {
        let data = order.call.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
        let data = data.ok_or(NotWritten::Unready)?;
        let fees = match self.node.fees(&self.address(), &contracts::PERMIT2, &data).await {
            Ok(fees) => fees.ok_or(NotWritten::Unready)?,
            // Whatever else a node complains of is no fault of the payer's.
            Err(message) if message.contains("revert") => return Err(NotWritten::WouldFail(message)),
            Err(message) => {
                tracing::error!(message, sender = %self.address(), "a node takes no transaction of ours");
                return Err(NotWritten::Unready);
            }
        };
        let tip = self.node.ask("eth_maxPriorityFeePerGas", json!([])).await;
        let tip = u128::from(tip.as_ref().and_then(quantity).unwrap_or(1));
        let before = order.written.last().filter(|_| outbids);
        // Nodes take another one in the same place for a tenth more.
        let least = before.map_or(0, |before| u128::from(before.fee_per_gas).saturating_mul(9) / 8 + 1);
        // What is asked for now, twice, is the most: half of that has to fit.
        let needed = least.max(fees.fee_per_gas / 2).max(tip);
        if needed > self.fee_per_gas_max {
            return Err(NotWritten::Dear);
        }
        let fee_per_gas = least.max(fees.fee_per_gas).min(self.fee_per_gas_max);
        let coins = self.node.ask("eth_getBalance", json!([self.address().to_string(), "latest"])).await;
        let coins = coins.as_ref().and_then(coins_of).ok_or(NotWritten::Unready)?;
        if coins < u128::from(fees.gas).saturating_mul(fee_per_gas) {
            return Err(NotWritten::Poor);
        }
        let nonce = before.map_or(fees.nonce, |before| before.nonce);
        let transaction = Transaction {
            chain_id: self.chain_id,
            nonce,
            tip_per_gas: if before.is_some() { fee_per_gas.min(least.max(tip)) } else { tip },
            fee_per_gas,
            gas: fees.gas,
            to: contracts::PERMIT2,
            data,
        };
        let signed = transaction.sign(&self.key).map_err(|_| NotWritten::Unready)?;
        let fee_per_gas = u64::try_from(fee_per_gas).unwrap_or(u64::MAX);
        Ok(Written { hash: signed.hash, raw: signed.raw, nonce, fee_per_gas })
    }

    /// Hands the newest transaction over. The same one again does nothing twice. What the node has against it, if it does not
    /// take it; an earlier copy may be on the chain all the same.
    ///
    /// # Cancel safety
    /// Dropped midway, it may have been sent.
    pub async fn send(&self, order: &PermitOrder) -> Option<String> {
        match self.node.send(&order.written.last()?.raw).await {
            Sent::Refused(message) => Some(message),
            Sent::Taken(_) | Sent::Unknown => None,
        }
    }

    /// What became of a transfer.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn fate(&self, order: &PermitOrder) -> Fate {
        let open = Fate::Open { is_outrun: false };
        let Some(sought) = order.sought() else { return open };
        let (mut failed, mut is_outrun) = (0, false);
        for written in &order.written {
            match self.node.mined(&written.hash).await {
                Mined::Done => match self.node.confirms(&written.hash, &sought).await {
                    Confirmation::Yes => return Fate::Moved(written.hash.clone()),
                    Confirmation::No => return Fate::Amiss(written.hash.clone()),
                    Confirmation::NotYet => return open,
                },
                Mined::Reverted => failed += 1,
                Mined::NotYet => {
                    let count = self.node.count(&self.address()).await;
                    is_outrun = count.is_some_and(|count| count > written.nonce);
                }
            }
        }
        // A node that lacks a transaction may be behind. One that has seen all of them fail is not.
        if failed > 0 && failed == order.written.len() {
            return Fate::Never;
        }
        match self.node.look_for(&sought, "", order.deadline).await {
            Evidence::Never => Fate::Never,
            Evidence::Moved { .. } | Evidence::Nothing => Fate::Open { is_outrun },
        }
    }
}

/// Of a number too large to be meant: all there is.
fn coins_of(value: &Value) -> Option<u128> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    if digits.len() > 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(u128::MAX);
    }
    u128::from_str_radix(digits, 16).ok()
}

fn padded(address: &Address) -> String {
    format!("{}{}", "0".repeat(24), hex::encode(address.as_bytes()))
}
