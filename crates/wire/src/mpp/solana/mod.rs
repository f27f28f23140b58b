//! Method `solana/session`: Ed25519 vouchers on channels of one program. Amounts are base units, decimal; keys, ids and
//! signatures base58.

mod account;

pub use account::{ACCOUNT_BYTES, AccountError, ChannelAccount, Status};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The method's name.
pub const METHOD: &str = "solana";
/// The program that keeps the channels, as it is deployed on the main network.
pub const PROGRAM: &str = "CHNLxYvVA28MJP9PrFuDXccuoGXAx7jBacfLEkahyGsX";
/// Whom that deployment pays what no share can be paid of.
pub const TREASURY: &str = "Cs2zdfUNonRdRGsiZUQQLdTxzxVvJZmgiX2mpLYKuEqP";
/// The longest time without a request after which a payee may say that he closes, in seconds: 30 days.
pub const IDLE_TIMEOUT_MAX_S: u64 = 2_592_000;
/// What a voucher is signed by.
pub const ED25519: &str = "ed25519";

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
    /// What it has to deposit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_deposit: Option<String>,
    /// The mint.
    pub currency: String,
    /// Who is paid.
    pub recipient: String,
    /// Where channels are kept.
    pub method_details: SessionDetails,
}

/// Where channels are kept, and under which terms one is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDetails {
    /// `mainnet`, `devnet` or `localnet`.
    pub network: String,
    /// The program.
    pub channel_program: String,
    /// A channel to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// For the transaction that opens one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_blockhash: Option<String>,
    /// Where the chain stood then; a channel is opened at a slot that is no later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_slot: Option<String>,
    /// Of the mint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u32>,
    /// The program that keeps the mint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_program: Option<String>,
    /// Whether the server pays for transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_payer: Option<bool>,
    /// `client` where it is absent, or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_signer: Option<String>,
    /// The smallest step of a voucher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_voucher_delta: Option<String>,
    /// What a payer waits for his money when he closes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<u32>,
}

/// The payload of a session, by its action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SessionPayload {
    /// The channel is to be opened.
    Open(Box<Open>),
    /// More of the deposit is promised.
    Voucher {
        /// The channel.
        channel_id: String,
        /// All that is promised.
        voucher: SignedVoucher,
    },
    /// A request on a channel whose vouchers the operator signs.
    Use {
        /// The channel.
        channel_id: String,
    },
    /// The channel is to hold more.
    TopUp {
        /// The channel.
        channel_id: String,
        /// What it adds.
        additional_amount: String,
        /// base64 of the signed transaction that deposits.
        transaction: String,
    },
    /// The channel is to be closed.
    Close {
        /// The channel.
        channel_id: String,
        /// The last voucher; absent where the operator signs them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voucher: Option<SignedVoucher>,
    },
}

/// What a channel is made of, and the transaction that opens it. The first voucher comes with the next request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// The channel's address, which is made of the six members that name it.
    pub channel_id: String,
    /// Who deposits.
    pub payer: String,
    /// Who is paid.
    pub payee: String,
    /// What is deposited.
    pub mint: String,
    /// Who signs the vouchers.
    pub authorized_signer: String,
    /// Tells channels of the same parties apart.
    pub salt: String,
    /// What it holds at first.
    pub deposit_amount: String,
    /// As the challenge says.
    pub grace_period_seconds: u32,
    /// Where the chain stood for its payer.
    pub open_slot: String,
    /// Who gets parts of what the payee is paid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribution_splits: Vec<Value>,
    /// base64 of the signed transaction.
    pub transaction: String,
    /// Must not be there: the chain finds it by itself, and a wrong one would go unnoticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bump: Option<Value>,
}

/// A voucher with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedVoucher {
    /// What is signed, as 50 bytes made of these fields.
    pub voucher: Voucher,
    /// Its key.
    pub signer: String,
    /// 64 bytes.
    pub signature: String,
    /// [`ED25519`]
    pub signature_type: String,
}

/// All that is promised so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voucher {
    /// The channel.
    pub channel_id: String,
    /// Base units, decimal.
    pub cumulative_amount: String,
    /// Unix seconds; 0 or absent: it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}
