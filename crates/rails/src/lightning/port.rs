//! What is asked of a node, and what it may answer.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use wire::l402::Preimage;

/// How long an invoice may be open for payment, seconds (L402-63).
pub const EXPIRY_S: RangeInclusive<u32> = 60..=600;
/// How long a question for settlements waits for one.
pub(super) const WAIT: Duration = Duration::from_secs(25);

/// An invoice that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// What it asks for, millisatoshi, above zero. A node that knows only whole satoshi is asked for the next one.
    pub amount_msat: u64,
    /// What the payer's wallet shows: at most [`DESCRIPTION_BYTES_MAX`](super::bolt11::DESCRIPTION_BYTES_MAX) bytes
    /// without control characters. phoenixd takes 128 characters.
    pub description: &'a str,
    /// How long it can be paid, seconds: within [`EXPIRY_S`].
    pub expiry_s: u32,
    /// What the operator's node calls it: no other invoice may have it.
    pub label: &'a str,
}

/// An invoice that is what was asked for. Only the check of L402-60 makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invoice {
    /// For the payer.
    pub bolt11: String,
    /// Names the payment.
    pub payment_hash: [u8; 32],
    /// What the payer pays, millisatoshi: what was asked, or that rounded up to whole satoshi.
    pub amount_msat: u64,
    /// Unix seconds.
    pub expires_at_s: u64,
}

/// A chain with Lightning, by the prefix of its invoices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// `lnbc`.
    Mainnet,
    /// `lntb`.
    Testnet,
    /// `lntbs`.
    Signet,
    /// `lnbcrt`.
    Regtest,
}

/// Not the name of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Lightning network is mainnet, testnet, signet or regtest")]
pub struct UnknownNetwork;

/// What became of an invoice of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceState {
    /// Not paid, or not yet for good.
    Unpaid,
    /// The node has the money.
    Settled {
        /// Unix seconds, where the node says when.
        at_s: Option<u64>,
        /// What it got, millisatoshi: may be more than was asked.
        msat: u64,
    },
    /// It cannot be paid any more.
    Cancelled,
}

/// How a payment by our node ended.
#[derive(Clone, Debug)]
pub enum Sent {
    /// It arrived. The preimage opens the invoice's hash: that has been checked.
    Paid {
        /// Proof of payment.
        preimage: Preimage,
        /// What the way cost, millisatoshi.
        fee_msat: u64,
    },
    /// This order paid nothing, and never will. An earlier one of the same invoice whose end was unknown is unknown
    /// still. The reason is printable, and may be the node's.
    Failed(String),
    /// Nobody told. Ask [`LightningNode::outgoing`](super::LightningNode::outgoing); pay nothing else in its place.
    Unknown,
}

/// What the node knows of a payment that it was asked to make.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// It arrived.
    Paid {
        /// Proof of payment.
        preimage: Preimage,
        /// What the way cost, millisatoshi.
        fee_msat: u64,
    },
    /// It ended, and nothing was paid.
    Failed(String),
    /// It may still arrive.
    UnderWay,
    /// The node knows nothing of it. An order that is still on its way may arrive until the invoice expires.
    Absent,
}

/// A payment that the node got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Names the payment.
    pub payment_hash: [u8; 32],
    /// What came, millisatoshi.
    pub msat: u64,
    /// Where to go on: the next question has the greatest of these.
    pub cursor: u64,
}

/// What a node says of itself; none where it does not say, or our key to it may not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Signs its invoices.
    pub node_key: Option<[u8; 33]>,
    /// Its chain.
    pub network: Option<Network>,
    /// What may still come in, millisatoshi.
    pub can_receive_msat: Option<u64>,
}

/// What every invoice has to have, by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Its chain.
    pub network: Network,
    /// Who signs it. None: whoever the node says it is, where it says so.
    pub node_key: Option<[u8; 33]>,
}

/// Why a node gave no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Nothing was sent: it cannot be reached, or has failed too often of late.
    #[error("not asked")]
    NotAsked,
    /// It says no; its reason, printable and short.
    #[error("refused: {0}")]
    Refused(String),
    /// Asked, and no whole answer came.
    #[error("no whole answer")]
    Lost,
    /// It answered something else than was asked (L402-60): an alarm. The field that differs.
    #[error("answered with a wrong {0}")]
    Lied(&'static str),
}

impl Network {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Self, UnknownNetwork> {
        [Self::Mainnet, Self::Testnet, Self::Signet, Self::Regtest]
            .into_iter()
            .find(|network| network.as_str() == text)
            .ok_or(UnknownNetwork)
    }
}
