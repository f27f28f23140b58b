//! Ecash: which coins of payers were given for which coins of ours, and where ours are (specs/cashu.md).
//!
//! Coins are money to whoever reads them: the file of the store is its owner's alone, and so is every copy of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Payment;

/// A payment by ecash: what is asked of its mint, and what came of it. Kept for good, so that no coin of a payer is
/// taken for a payment a second time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CashuSwap {
    /// URL of the mint.
    pub mint: String,
    /// What its coins are counted in.
    pub unit: String,
    /// Deposit keys of the payer's coins.
    pub spent: Vec<[u8; 32]>,
    /// Our coins, of which the mint is asked for signatures, or has given them.
    pub coins: Vec<CashuCoin>,
    /// Where they are.
    pub state: CashuState,
}

impl CashuSwap {
    /// What our coins are worth, in units.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.coins.iter().fold(0, |sum, coin| sum.saturating_add(coin.amount))
    }

    /// Whether our coins are money.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        match self.state {
            CashuState::Asked => false,
            CashuState::Held | CashuState::Taken { .. } => true,
        }
    }
}

/// Where the coins of a swap are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CashuState {
    /// Nowhere yet: the mint is asked to sign them.
    Asked,
    /// Here.
    Held,
    /// The operator has taken them out. They stay here to be shown once more.
    Taken {
        /// Names the taking.
        export: [u8; 16],
        /// Unix milliseconds.
        at_ms: u64,
    },
}

/// A coin of ours.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CashuCoin {
    /// Its keyset, hexadecimal.
    pub keyset: String,
    /// In units.
    pub amount: u64,
    /// What is signed.
    pub secret: String,
    /// What hides it from the mint until it is spent, hexadecimal.
    pub blinding: String,
    /// The mint's signature, hexadecimal, with its evidence; none before it is given.
    pub signature: Option<CashuSignature>,
}

/// A mint's signature of one coin, all hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CashuSignature {
    /// A point.
    pub point: String,
    /// Challenge of the evidence.
    pub e: String,
    /// Its response.
    pub s: String,
}

impl fmt::Debug for CashuCoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CashuCoin({} of {}, secret hidden)", self.amount, self.keyset)
    }
}

/// What is written of ecash.
#[expect(clippy::large_enum_variant, reason = "it is boxed as a whole where it is queued")]
#[derive(Clone, Debug)]
pub enum CashuWrite {
    /// A mint is about to be asked. Refused where any of the payer's coins is known.
    Ask {
        /// Names the payment: the deposit key of one of its coins.
        key: [u8; 32],
        /// As it is to be settled; its state is set by the store.
        payment: Payment,
        /// What is asked for; its state is set by the store.
        swap: CashuSwap,
    },
    /// The mint has signed.
    Hold {
        /// Names the payment.
        key: [u8; 32],
        /// The coins that were asked for, with their signatures.
        coins: Vec<CashuCoin>,
    },
    /// The operator takes coins out. Refused whole where any is not here.
    Take {
        /// Names the taking.
        export: [u8; 16],
        /// The payments whose coins they are.
        keys: Vec<[u8; 32]>,
        /// Unix milliseconds.
        at_ms: u64,
    },
}
