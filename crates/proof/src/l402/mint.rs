//! A new token over a payment hash: nothing is stored (L402-40).

use money::{Amount, Asset};
use wire::caveat::Caveat;
use wire::l402::{Identifier, PaymentHash, Terms, Token};
use wire::macaroon::Macaroon;

use super::verify::understand;
use super::{L402Error, MintError};
use crate::MasterKeys;

/// What Aperture writes, and so what clients have seen (L402-24). Not signed.
pub const LOCATION: &[u8] = b"lsat";
/// Most caveats of a token we make (L402-25).
pub const CAVEATS_MAX: usize = 3;
/// Longest token we make: npm `macaroon` 3.0.4 cannot write a larger one again (L402-25).
pub const TOKEN_BYTES_MAX: usize = 210;

/// What one payment buys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sale {
    /// What the deposit is in.
    pub asset: Asset,
    /// The deposit, in ledger units of `asset`: the exchange rate is fixed with it.
    pub credit: Amount,
    /// What the invoice asks for, in millisatoshi.
    pub amount_msat: u64,
    /// Now, Unix seconds.
    pub issued_at_s: u32,
    /// From the random source.
    pub random: [u8; 8],
}

/// A token that the payment of `payment_hash` opens, under the epoch that mints.
///
/// # Errors
/// [`MintError`]. `caveats` holds `services=` at least; unknown caveats are refused like any that would
/// be refused when the token is shown.
pub fn mint(
    keys: &MasterKeys,
    payment_hash: PaymentHash,
    sale: &Sale,
    caveats: &[String],
) -> Result<Token, MintError> {
    let terms = Terms {
        epoch: keys.mint_epoch(),
        asset: sale.asset,
        credit: sale.credit,
        amount_msat: sale.amount_msat,
        issued_at_s: sale.issued_at_s,
        random: sale.random,
    };
    if !terms.sells_something() {
        return Err(MintError::SellsNothing);
    }
    if caveats.len() > CAVEATS_MAX {
        return Err(MintError::TooManyCaveats(caveats.len()));
    }
    let identifier = Identifier { payment_hash, token_id: terms.encode() }.encode();
    let root = keys.root(terms.epoch, &identifier).ok_or(L402Error::EpochRetired)?;
    let mut macaroon = Macaroon::mint(&root, &identifier, Some(LOCATION));
    for caveat in caveats {
        macaroon.add_caveat(caveat.as_bytes())?;
    }
    understood(&macaroon, &terms)?;
    let length = macaroon.encode().len();
    if length > TOKEN_BYTES_MAX {
        return Err(MintError::TooLong(length));
    }
    Ok(Token::from_macaroon(macaroon).ok_or(L402Error::Unknown)?)
}

fn understood(macaroon: &Macaroon, terms: &Terms) -> Result<(), MintError> {
    let caveats = understand(macaroon, Some(terms.asset))?;
    if let Some(Caveat::Unknown(name)) = caveats.iter().find(|caveat| matches!(caveat, Caveat::Unknown(_))) {
        return Err(L402Error::UnknownCaveat(name.clone()).into());
    }
    if !caveats.iter().any(|caveat| matches!(caveat, Caveat::Services(_))) {
        return Err(MintError::Unscoped);
    }
    Ok(())
}
