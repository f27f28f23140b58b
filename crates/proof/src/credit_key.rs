//! Credit keys: minting, checking, narrowing (L402-40..44, L402-51..57).
//!
//! ```
//! use proof::{EpochState, MasterKey, MasterKeys, credit_key};
//! use wire::credit_key::{CreditKey, Mode};
//!
//! let master = MasterKey { epoch: 7, state: EpochState::Mint, secret: [0x42; 32].into() };
//! let keys = MasterKeys::new([master]).unwrap();
//! let key = credit_key::mint(&keys, Mode::Test, [1; 16], [2; 16], &["expires=1900000000".into()]).unwrap();
//! // Offline, by whoever holds the key:
//! let narrower = credit_key::attenuate(&key, "models=deepseek-*").unwrap();
//!
//! let parsed = CreditKey::parse(&narrower).unwrap();
//! let verified = credit_key::verify(&keys, Mode::Test, &parsed, 1_800_000_000).unwrap();
//! assert!(credit_key::permits(&verified, "chat", Some("deepseek-chat"), None, 1_800_000_000).is_ok());
//! assert!(credit_key::permits(&verified, "chat", Some("gpt-9"), None, 1_800_000_000).is_err());
//! ```

use money::{Amount, Asset};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wire::caveat::{Caveat, CaveatError, Pattern};
use wire::credit_key::{CreditKey, CreditKeyError, KeyId, Mode};
use wire::macaroon::{Macaroon, MacaroonError};

use crate::MasterKeys;
use crate::caveat::{self, Widened};
use crate::mac::first_half;

/// A key whose chain verified and whose caveats are understood. May be cached under the whole key text;
/// [`permits`] is asked for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedKey {
    /// The account it draws on.
    pub account: [u8; 16],
    /// The key's name; revoking it kills every key derived from it.
    pub key_id: [u8; 16],
    /// Epoch it was minted under.
    pub epoch: u16,
    /// Valid while now is below, Unix seconds.
    pub expires: Option<u64>,
    /// Valid from, Unix seconds.
    pub not_before: Option<u64>,
    /// Most that one call may hold.
    pub per_call: Option<(Asset, Amount)>,
    /// Every budget on the chain; each is charged by each call.
    pub budgets: Vec<Budget>,
    /// Each list must match the model.
    pub models: Vec<Vec<Pattern>>,
    /// Each list must name the route.
    pub routes: Vec<Vec<String>>,
    /// Every request must be signed by this Ed25519 key.
    pub holder: Option<[u8; 32]>,
    /// One name per point of the chain, the key as minted first (L402-43): what revocation asks for.
    pub links: Vec<[u8; 16]>,
}

/// A ceiling over everything below one point of the chain (L402-55).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Name of that point: no holder can attach spending to somebody else's budget.
    pub link: [u8; 16],
    /// What `limit` counts.
    pub asset: Asset,
    /// The most that is ever captured or held.
    pub limit: Amount,
}

/// Why a key is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not minted by us, altered, of another mode, or of an epoch that is gone. One answer for all
    /// (KEY-1): whoever guesses learns nothing.
    #[error("unknown key")]
    Unknown,
    /// Ours, and its time is over.
    #[error("key expired at {0}")]
    Expired(u64),
    /// Ours, and a later caveat tries to allow more than an earlier one.
    #[error(transparent)]
    Widened(#[from] Widened),
    /// Ours, and a caveat has no meaning for credit keys. It restricts something: never skipped.
    #[error("unknown caveat `{0}`")]
    UnknownCaveat(String),
    /// Ours, and a caveat cannot be read or is reserved.
    #[error(transparent)]
    Caveat(#[from] CaveatError),
    /// Ours, and its amounts are in several assets, so they cannot all be the account's (L402-56).
    #[error("caveats name several assets")]
    SeveralAssets,
}

/// Why a good key does not cover this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Its time ended since it was verified. Answered like [`KeyError::Expired`].
    #[error("key expired at {0}")]
    Expired(u64),
    /// Its time has not come.
    #[error("key is valid from {0}")]
    NotBefore(u64),
    /// The route is not listed.
    #[error("key does not cover this route")]
    Route,
    /// The model is not listed, or the request names none.
    #[error("key does not cover this model")]
    Model,
    /// The key demands a request that is signed by its holder (KEY-4).
    #[error("key demands a request signed by its holder")]
    HolderProofMissing,
}

/// Why a key cannot be minted or narrowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttenuateError {
    /// The text is no credit key.
    #[error(transparent)]
    Key(#[from] CreditKeyError),
    /// The result would be refused when presented.
    #[error(transparent)]
    Refused(#[from] KeyError),
    /// The result would be too long.
    #[error(transparent)]
    Limit(#[from] MacaroonError),
}

/// A new key, as text to hand out once. `key_id` is 16 random bytes.
///
/// # Errors
/// [`AttenuateError`] when a caveat would make the key useless (KEY-2).
pub fn mint(
    keys: &MasterKeys,
    mode: Mode,
    account: [u8; 16],
    key_id: [u8; 16],
    caveats: &[String],
) -> Result<String, AttenuateError> {
    let id = KeyId { mode, epoch: keys.mint_epoch(), account, key_id };
    let identifier = id.encode();
    let root = keys.root(id.epoch, &identifier).ok_or(KeyError::Unknown)?;
    let mut macaroon = Macaroon::mint(&root, &identifier, None);
    for caveat in caveats {
        macaroon.add_caveat(caveat.as_bytes())?;
    }
    let key = CreditKey::from_macaroon(macaroon).ok_or(KeyError::Unknown)?;
    understand(&key)?;
    Ok(key.to_text())
}

/// Adds one caveat, offline: the result is a weaker key under the same prefix.
///
/// # Errors
/// [`AttenuateError`] when the result would be refused; whether the key itself is genuine only its issuer knows.
pub fn attenuate(key: &str, caveat: &str) -> Result<String, AttenuateError> {
    let mut key = CreditKey::parse(key)?;
    key.add_caveat(caveat.as_bytes())?;
    understand(&key)?;
    Ok(key.to_text())
}

/// Checks the chain in constant time, then reads the caveats.
///
/// # Errors
/// [`KeyError`]. Revocation, balance and budgets are the caller's next steps.
pub fn verify(
    keys: &MasterKeys,
    mode: Mode,
    key: &CreditKey,
    now_unix_s: u64,
) -> Result<VerifiedKey, KeyError> {
    let (id, macaroon) = (key.id(), key.macaroon());
    if id.mode != mode {
        return Err(KeyError::Unknown);
    }
    let root = keys.root(id.epoch, &macaroon.identifier).ok_or(KeyError::Unknown)?;
    let chain = macaroon.chain(&root);
    let genuine = chain.last().is_some_and(|end| end.ct_eq(&macaroon.signature).into());
    if !genuine {
        return Err(KeyError::Unknown);
    }
    let caveats = understand(key)?;
    let links: Vec<_> = chain.iter().map(link).collect();
    let mut verified = VerifiedKey {
        account: id.account,
        key_id: id.key_id,
        epoch: id.epoch,
        expires: None,
        not_before: None,
        per_call: None,
        budgets: Vec::new(),
        models: Vec::new(),
        routes: Vec::new(),
        holder: None,
        links: Vec::new(),
    };
    // Caveat i was signed into point i + 1 of the chain.
    for (caveat, link) in caveats.into_iter().zip(links.iter().skip(1)) {
        verified.narrow(caveat, *link);
    }
    verified.links = links;
    match verified.expires {
        Some(until) if now_unix_s >= until => Err(KeyError::Expired(until)),
        Some(_) | None => Ok(verified),
    }
}

/// Whether a verified key covers this request now (KEY-3). `model` is `None` when the request names none, `holder` is the
/// key that the request carries a good signature of.
///
/// # Errors
/// [`Forbidden`] with the first reason.
pub fn permits(
    key: &VerifiedKey,
    route: &str,
    model: Option<&str>,
    holder: Option<&[u8; 32]>,
    now_unix_s: u64,
) -> Result<(), Forbidden> {
    if let Some(until) = key.expires.filter(|until| now_unix_s >= *until) {
        return Err(Forbidden::Expired(until));
    }
    if key.holder.as_ref().is_some_and(|own| holder != Some(own)) {
        return Err(Forbidden::HolderProofMissing);
    }
    if let Some(from) = key.not_before.filter(|from| now_unix_s < *from) {
        return Err(Forbidden::NotBefore(from));
    }
    if !key.routes.iter().all(|routes| routes.iter().any(|allowed| allowed == route)) {
        return Err(Forbidden::Route);
    }
    let matches =
        |patterns: &Vec<Pattern>| model.is_some_and(|model| patterns.iter().any(|p| p.matches(model)));
    if !key.models.iter().all(matches) {
        return Err(Forbidden::Model);
    }
    Ok(())
}

impl VerifiedKey {
    /// The asset its amounts are in, if it names any: it must be the account's (L402-56).
    #[must_use]
    pub fn asset(&self) -> Option<Asset> {
        self.per_call.map(|(asset, _)| asset).or_else(|| self.budgets.first().map(|budget| budget.asset))
    }

    /// Takes one caveat in. A repeat never widens, so the last of a kind is the strictest.
    fn narrow(&mut self, caveat: Caveat, link: [u8; 16]) {
        match caveat {
            Caveat::Expires(until) => self.expire(until),
            Caveat::Expiration(until_ms) => self.expire(caveat::expires_from_ms(until_ms)),
            Caveat::NotBefore(from) => self.not_before = Some(from),
            Caveat::PerCall(asset, limit) => self.per_call = Some((asset, limit)),
            Caveat::Budget { asset, limit, .. } => self.budgets.push(Budget { link, asset, limit }),
            Caveat::Models(patterns) => self.models.push(patterns),
            Caveat::Routes(routes) => self.routes.push(routes),
            Caveat::Holder(key) => self.holder = Some(key),
            // Refused by `understand` before anything gets here.
            Caveat::Services(_)
            | Caveat::Capabilities { .. }
            | Caveat::ValidUntil { .. }
            | Caveat::Preimage(_)
            | Caveat::Unknown(_) => self.expire(0),
        }
    }

    /// `expires=` and `expiration=` may both stand on a key: the earlier end counts.
    fn expire(&mut self, until: u64) {
        self.expires = Some(self.expires.map_or(until, |earlier| earlier.min(until)));
    }
}

/// Reads all caveats of a key: each must mean something for credit keys, and none may widen.
fn understand(key: &CreditKey) -> Result<Vec<Caveat>, KeyError> {
    let caveats = caveat::parse_all(&key.macaroon().caveats)?;
    let mut assets = Vec::new();
    for caveat in &caveats {
        match caveat {
            Caveat::PerCall(asset, _) | Caveat::Budget { asset, .. } => assets.push(*asset),
            Caveat::Holder(holder) if !crate::ed25519::is_usable(holder) => {
                return Err(KeyError::Caveat(CaveatError::Malformed));
            }
            Caveat::Expires(_)
            | Caveat::NotBefore(_)
            | Caveat::Models(_)
            | Caveat::Routes(_)
            | Caveat::Expiration(_)
            | Caveat::Holder(_) => {}
            Caveat::Services(_)
            | Caveat::Capabilities { .. }
            | Caveat::ValidUntil { .. }
            | Caveat::Preimage(_)
            | Caveat::Unknown(_) => return Err(KeyError::UnknownCaveat(caveat.name().to_owned())),
        }
    }
    if assets.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(KeyError::SeveralAssets);
    }
    caveat::check_narrowing(&caveats)?;
    Ok(caveats)
}

/// The public name of the last point of a key's chain: revoking it ends this key, and every key made of it (L402-44).
#[must_use]
pub fn last_link(key: &CreditKey) -> [u8; 16] {
    link(&key.macaroon().signature)
}

/// The public name of one point of a chain (L402-43).
pub(crate) fn link(signature: &[u8; 32]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(b"farthing/link/1").chain_update(signature).finalize();
    first_half(&hash.into())
}

#[cfg(test)]
mod tests;
