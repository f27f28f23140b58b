//! Where a Solana account keeps a token: an address that is derived, so that nobody has its key.

use wire::x402::base58;

use crate::solana::address;

/// The program that derives them.
pub const ASSOCIATED_TOKEN: &str = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";

/// The programs that move tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProgram {
    /// SPL Token.
    Token,
    /// Its successor.
    Token2022,
}

impl TokenProgram {
    /// In the order of [`TokenProgram`]'s variants.
    pub const ALL: [Self; 2] = [Self::Token, Self::Token2022];

    /// Base58.
    #[must_use]
    pub const fn address(self) -> &'static str {
        match self {
            Self::Token => "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
            Self::Token2022 => "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
        }
    }

    pub(super) fn find(address: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.address() == address)
    }
}

/// The account in which `owner` keeps `mint`. `None` if no bump leads off the curve, which nobody has seen.
#[must_use]
pub fn derive(owner: &[u8; 32], program: TokenProgram, mint: &[u8; 32]) -> Option<[u8; 32]> {
    let key = |text| base58::decode_array::<32>(text).ok();
    let (program, derives) = (key(program.address())?, key(ASSOCIATED_TOKEN)?);
    address::derive(&[owner, &program, mint], &derives)
}
