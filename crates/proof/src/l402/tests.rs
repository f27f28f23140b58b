//! Tokens of ours, and the vectors of `specs/vectors/l402`.

mod minting;
mod permits;
mod vectors;
mod verifying;

use money::{Amount, Asset};
use wire::l402::{Credential, Preimage, Token};

use super::{L402Error, Sale, Verified, mint};
use crate::caveat::{Context, UnknownCaveats};
use crate::{EpochState, MasterKey, MasterKeys};

const NOW: u64 = 1_790_000_000;
const SALE: Sale = Sale {
    asset: Asset::Btc,
    credit: Amount::from_units(10_000),
    amount_msat: 10_000,
    issued_at_s: 1_790_000_000,
    random: [1, 2, 3, 4, 5, 6, 7, 8],
};
const CONTEXT: Context<'static> = Context {
    now_unix_s: NOW,
    service: "inference",
    tier: 0,
    capability: Some("chat"),
    route: "chat",
    model: Some("deepseek-chat"),
    preimage: None,
    holder: None,
    unknown: UnknownCaveats::Reject,
    require_scope: true,
};

fn keys() -> MasterKeys {
    keys_of([(7, EpochState::Mint)])
}

fn keys_of<const N: usize>(epochs: [(u16, EpochState); N]) -> MasterKeys {
    MasterKeys::new(epochs.map(|(epoch, state)| MasterKey { epoch, state, secret: [0x42; 32].into() }))
        .unwrap()
}

fn preimage() -> Preimage {
    Preimage::new([5; 32])
}

/// A token of ours for one service, narrowed by its holder.
fn token(appended: &[&str]) -> Token {
    let scope = "services=inference:1".to_owned();
    let mut token = mint(&keys(), preimage().payment_hash(), &SALE, &[scope]).unwrap();
    for caveat in appended {
        token.add_caveat(caveat.as_bytes()).unwrap();
    }
    token
}

fn verify(token: Token) -> Result<Verified, L402Error> {
    super::verify(&keys(), &Credential::new(token, preimage()))
}

/// What comes of a token with these caveats appended, nothing revoked.
fn outcome(appended: &[&str], context: &Context<'_>) -> Result<(), L402Error> {
    super::permits(&verify(token(appended))?, context, |_| false).map(|_| ())
}

/// A list of tokens over one payment.
fn list(tokens: &[Token]) -> Credential {
    let texts: Vec<_> = tokens.iter().map(Token::to_base64).collect();
    let preimage = wire::hex::encode(preimage().as_bytes());
    Credential::parse(&format!("L402 {}:{preimage}", texts.join(","))).unwrap().unwrap()
}
