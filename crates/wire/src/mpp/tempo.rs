//! Methods `tempo/charge` (a proof of a wallet, without a payment) and `tempo/session` (vouchers). Amounts are base units,
//! decimal.

use serde::{Deserialize, Serialize};

/// The method's name.
pub const METHOD: &str = "tempo";
/// Chain of the main network; what is meant where a request names none.
pub const CHAIN_ID: u64 = 4217;
/// Chain of the test network.
pub const TEST_CHAIN_ID: u64 = 42431;

/// The request of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeRequest {
    /// `0`: a wallet is to be proven, nothing is paid.
    pub amount: String,
    /// The token's contract.
    pub currency: String,
    /// Who would be paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_details: Option<ChargeDetails>,
}

/// Where a charge is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// EIP-155.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
}

/// The payload of a charge, by its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ChargePayload {
    /// `Proof(address account,string challengeId,string realm)` of the account that `source` names.
    Proof {
        /// `0x` and 65 bytes.
        signature: String,
    },
    /// A signed transaction.
    Transaction {
        /// `0x` and its bytes.
        signature: String,
    },
    /// A transaction that was sent already.
    Hash {
        /// `0x` and 32 bytes.
        hash: String,
    },
}

/// The request of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequest {
    /// Of one unit.
    pub amount: String,
    /// What a unit is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_type: Option<String>,
    /// What a client had best deposit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_deposit: Option<String>,
    /// The token's contract.
    pub currency: String,
    /// Who is paid.
    pub recipient: String,
    /// The channel.
    pub method_details: SessionDetails,
}

/// Where a session's channel is, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDetails {
    /// The contract that holds deposits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow_contract: Option<String>,
    /// EIP-155; [`CHAIN_ID`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
    /// A channel that is open already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// The least a voucher has to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_voucher_delta: Option<String>,
    /// Who may close for the payee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Which vouchers are signed; [`SessionProtocol::V1`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_protocol: Option<SessionProtocol>,
    /// Whether the server pays for gas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_payer: Option<bool>,
    /// Where the channel stands that the request is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_snapshot: Option<SessionSnapshot>,
}

/// Where a channel of version 2 stands at its payee: what a payer goes on from who has lost count of it. Sums are base units,
/// decimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionSnapshot {
    /// `0x` and 32 bytes.
    pub channel_id: String,
    /// What the id is made of ...
    pub descriptor: Descriptor,
    /// ... with the contract ...
    pub escrow: String,
    /// ... and its chain, EIP-155.
    pub chain_id: u64,
    /// What the channel holds on its chain.
    pub deposit: String,
    /// What was taken from it there.
    pub settled: String,
    /// All that was promised and accepted.
    pub accepted_cumulative: String,
    /// What of that was used.
    pub spent: String,
    /// All that has to be promised for what is asked for now.
    pub required_cumulative: String,
}

/// Two generations of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionProtocol {
    /// A contract of its own, amounts of 128 bits.
    V1,
    /// The precompile, amounts of 96 bits.
    V2,
}

/// The payload of a session, by its action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum SessionPayload {
    /// The channel is to be opened.
    Open(Open),
    /// The channel is to hold more.
    TopUp(TopUp),
    /// More of the deposit is promised.
    Voucher(Voucher),
    /// The channel is to be closed.
    Close(Voucher),
}

/// The members of `open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// `transaction`
    #[serde(rename = "type")]
    pub kind: String,
    /// `0x` and 32 bytes.
    pub channel_id: String,
    /// `0x` and the signed transaction that deposits.
    pub transaction: String,
    /// Of the first voucher.
    pub cumulative_amount: String,
    /// Of the first voucher.
    pub signature: String,
    /// Version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Version 1: who signs vouchers, if not the payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized_signer: Option<String>,
    /// Members that some clients add and the channel id depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
}

/// The members of `topUp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopUp {
    /// `transaction`
    #[serde(rename = "type")]
    pub kind: String,
    /// `0x` and 32 bytes.
    pub channel_id: String,
    /// `0x` and the signed transaction that deposits.
    pub transaction: String,
    /// What it adds.
    pub additional_deposit: String,
    /// Version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
}

/// The members of `voucher` and `close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voucher {
    /// `0x` and 32 bytes.
    pub channel_id: String,
    /// All that is promised so far.
    pub cumulative_amount: String,
    /// `0x` and 65 or 64 bytes.
    pub signature: String,
    /// Version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
}

/// What a channel id of version 2 is made of, besides escrow and chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Who deposits.
    pub payer: String,
    /// Who is paid.
    pub payee: String,
    /// Who may close for the payee.
    pub operator: String,
    /// The token's contract.
    pub token: String,
    /// `0x` and 32 bytes.
    pub salt: String,
    /// Who signs vouchers; the zero address for the payer.
    pub authorized_signer: String,
    /// `0x` and 32 bytes.
    pub expiring_nonce_hash: String,
}
