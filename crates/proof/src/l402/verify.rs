//! Was this paid, did we sell it, and does it cover this request?

use money::{Amount, Asset};
use wire::caveat::{Caveat, CaveatError};
use wire::l402::{Credential, Identifier, PaymentHash, Preimage, Terms, Token};
use wire::macaroon::Macaroon;
use zeroize::Zeroizing;

use super::L402Error;
use crate::caveat::{self, Context};
use crate::credit_key::{Budget, link};
use crate::mac::is_same;
use crate::{MasterKeys, account_id, deposit_key};

/// A paid credential with the tokens that are ours. Holds no secret. May be cached under the whole header
/// value while the same [`MasterKeys`] are in force; [`permits`] is asked for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The payment, whatever tokens were made of it: money follows this (L402-59).
    pub payment_hash: PaymentHash,
    /// The account of that payment.
    pub account: [u8; 16],
    /// At least one, in the order they came.
    pub tokens: Vec<VerifiedToken>,
}

/// One token whose chain stands and whose caveats can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// What was sold.
    pub terms: Terms,
    /// Each must hold for each request.
    pub caveats: Vec<Caveat>,
    /// One name per point of the chain, the token as minted first (L402-43).
    pub links: Vec<[u8; 16]>,
    /// Most that one call may hold, in the deposit's asset.
    pub per_call: Option<Amount>,
    /// Every budget on the chain, in the deposit's asset; each is charged by each call (L402-55).
    pub budgets: Vec<Budget>,
}

/// What is asked when the ledger has never seen a payment hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstClaim {
    /// Unix seconds.
    pub now_unix_s: u64,
    /// How long after the sale a payment may be shown first. The ledger remembers known payments longer.
    pub window_s: u64,
    /// Raised after a restore: what older epochs sold may have been spent in what was lost.
    pub epoch_min: u16,
}

/// Checks the preimage, then the chain of each token, both in constant time, then reads the caveats.
///
/// Tokens that are not ours are left out as long as one is.
///
/// # Errors
/// [`L402Error`] of the first token when none is good.
pub fn verify(keys: &MasterKeys, credential: &Credential) -> Result<Verified, L402Error> {
    let opened = open_all(credential, |identifier| {
        let terms = Terms::decode(&identifier.token_id).ok_or(L402Error::Unknown)?;
        let root = keys.root(terms.epoch, &identifier.encode()).ok_or(L402Error::EpochRetired)?;
        Ok(Origin { root, asset: Some(terms.asset), sold: terms })
    })?;
    let payment_hash = credential.payment_hash();
    Ok(Verified {
        payment_hash,
        account: account_id::lightning(&payment_hash),
        tokens: opened.into_iter().map(|(terms, opened)| VerifiedToken::new(terms, opened)).collect(),
    })
}

/// The first token that is not revoked and whose caveats all hold (L402-14, L402-44, L402-51).
///
/// `is_revoked` is asked for the account, which stands for the payment hash, and for every link;
/// `context.preimage` is not read, since [`verify`] has compared it.
///
/// # Errors
/// [`L402Error`] of the first token when none permits.
pub fn permits<'v>(
    verified: &'v Verified,
    context: &Context<'_>,
    is_revoked: impl Fn(&[u8; 16]) -> bool,
) -> Result<&'v VerifiedToken, L402Error> {
    if is_revoked(&verified.account) {
        return Err(L402Error::Revoked);
    }
    let context = Context { preimage: None, ..*context };
    first_good(verified.tokens.iter().map(|token| {
        if token.links.iter().any(&is_revoked) {
            return Err(L402Error::Revoked);
        }
        caveat::permit(&token.caveats, &context)?;
        Ok(token)
    }))
}

/// Whether a payment that the ledger does not know may become a deposit now (L402-45, L402-46).
///
/// # Errors
/// `ClaimWindow` or `BeforeRestore`: nothing is credited; the latter is reported to the operator.
pub fn first_claim(terms: &Terms, claim: FirstClaim) -> Result<(), L402Error> {
    if terms.epoch < claim.epoch_min {
        return Err(L402Error::BeforeRestore);
    }
    let until = u64::from(terms.issued_at_s).saturating_add(claim.window_s);
    if claim.now_unix_s < until { Ok(()) } else { Err(L402Error::ClaimWindow(until)) }
}

/// Where a token's root key comes from, and what its minter knows of it.
pub(super) struct Origin<S> {
    pub(super) root: Zeroizing<[u8; 32]>,
    /// What amounts in caveats must be in; `None` when the identifier does not say.
    pub(super) asset: Option<Asset>,
    pub(super) sold: S,
}

/// A chain that stands, with what its caveats say.
pub(super) struct Opened {
    pub(super) caveats: Vec<Caveat>,
    pub(super) links: Vec<[u8; 16]>,
}

/// The tokens that verify, under root keys found by identifier.
pub(super) fn open_all<S>(
    credential: &Credential,
    origin: impl Fn(&Identifier) -> Result<Origin<S>, L402Error>,
) -> Result<Vec<(S, Opened)>, L402Error> {
    // First, because it costs a fifth of a chain: who guesses preimages buys little work.
    if !is_same(&credential.preimage().payment_hash().0, &credential.payment_hash().0) {
        return Err(L402Error::Preimage);
    }
    let mut good = Vec::new();
    let mut refused = None;
    for token in credential.tokens() {
        let opened = origin(token.identifier())
            .and_then(|origin| Ok((open(token, credential.preimage(), &origin)?, origin.sold)));
        match opened {
            Ok((opened, sold)) => good.push((sold, opened)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) if good.is_empty() => Err(error),
        Some(_) | None => Ok(good),
    }
}

fn open<S>(token: &Token, preimage: &Preimage, origin: &Origin<S>) -> Result<Opened, L402Error> {
    let macaroon = token.macaroon();
    let chain = macaroon.chain(&origin.root);
    let genuine = chain.last().is_some_and(|end| is_same(end, &macaroon.signature));
    if !genuine {
        return Err(L402Error::Unknown);
    }
    let mut caveats = understand(macaroon, origin.asset)?;
    for caveat in &caveats {
        if let Caveat::Preimage(named) = caveat
            && !is_same(named, preimage.as_bytes())
        {
            return Err(L402Error::PreimageCaveat);
        }
    }
    let links = chain.iter().map(link).collect();
    // It has been compared, and a cache of verified tokens should hold no secret: its place stays, its value goes.
    for caveat in &mut caveats {
        if let Caveat::Preimage(named) = caveat {
            *named = [0; 32];
        }
    }
    Ok(Opened { caveats, links })
}

/// Reads all caveats of a token: each can be judged, and none widens. Unknown ones are kept for policy.
pub(super) fn understand(macaroon: &Macaroon, asset: Option<Asset>) -> Result<Vec<Caveat>, L402Error> {
    let caveats = caveat::parse_all(&macaroon.caveats)?;
    for caveat in &caveats {
        match caveat {
            Caveat::PerCall(named, _) | Caveat::Budget { asset: named, .. } => {
                if asset.is_some_and(|asset| asset != *named) {
                    return Err(L402Error::WrongAsset);
                }
            }
            Caveat::Holder(key) if !crate::ed25519::is_usable(key) => {
                return Err(CaveatError::Malformed.into());
            }
            Caveat::Expires(_)
            | Caveat::NotBefore(_)
            | Caveat::Models(_)
            | Caveat::Routes(_)
            | Caveat::Services(_)
            | Caveat::Capabilities { .. }
            | Caveat::ValidUntil { .. }
            | Caveat::Expiration(_)
            | Caveat::Preimage(_)
            | Caveat::Holder(_)
            | Caveat::Unknown(_) => {}
        }
    }
    caveat::check_narrowing(&caveats)?;
    Ok(caveats)
}

impl Verified {
    /// The identity of its one deposit. Hashed when it is asked for: checking needs no more than the account.
    #[must_use]
    pub fn deposit_key(&self) -> [u8; 32] {
        deposit_key::ln(&self.payment_hash.0)
    }

    /// The key that the first of its tokens is bound to that is bound to one (L402-58).
    #[must_use]
    pub fn holder(&self) -> Option<&[u8; 32]> {
        self.tokens.iter().flat_map(|token| &token.caveats).find_map(|caveat| match caveat {
            Caveat::Holder(key) => Some(key),
            Caveat::Expires(_)
            | Caveat::NotBefore(_)
            | Caveat::PerCall(..)
            | Caveat::Budget { .. }
            | Caveat::Models(_)
            | Caveat::Routes(_)
            | Caveat::Services(_)
            | Caveat::Capabilities { .. }
            | Caveat::ValidUntil { .. }
            | Caveat::Expiration(_)
            | Caveat::Preimage(_)
            | Caveat::Unknown(_) => None,
        })
    }
}

impl VerifiedToken {
    fn new(terms: Terms, opened: Opened) -> Self {
        let Opened { caveats, links } = opened;
        let mut per_call = None;
        let mut budgets = Vec::new();
        // Caveat i was signed into point i + 1 of the chain.
        for (caveat, link) in caveats.iter().zip(links.iter().skip(1)) {
            if let Caveat::PerCall(_, limit) = caveat {
                // A repeat never widens, so the last is the strictest.
                per_call = Some(*limit);
            }
            if let Caveat::Budget { asset, limit, .. } = caveat {
                budgets.push(Budget { link: *link, asset: *asset, limit: *limit });
            }
        }
        Self { terms, caveats, links, per_call, budgets }
    }
}

/// The first that is good, else the first refusal.
fn first_good<T>(results: impl Iterator<Item = Result<T, L402Error>>) -> Result<T, L402Error> {
    let mut refused = None;
    for result in results {
        match result {
            Ok(good) => return Ok(good),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(L402Error::Unknown))
}
