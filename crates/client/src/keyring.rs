//! Credit keys: the one a caller gives, the ones sellers gave us, and which origin each belongs to.

use std::collections::BTreeMap;
use std::path::Path;

use money::{Amount, Asset};
use proof::credit_key::attenuate;
use serde::{Deserialize, Serialize};
use wire::caveat::Caveat;
use wire::credit_key::{CreditKey, CreditKeyError, Mode};
use wire::hex;
use zeroize::Zeroize as _;

use crate::folder::{self, FileError};
use crate::{Secret, Signer, now_unix_s};

/// A credit key. `Debug` hides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    text: Secret,
    asset: Option<Asset>,
    saved: bool,
}

impl Key {
    /// A key that the caller gives.
    ///
    /// # Errors
    /// Text that is no credit key; the error holds no part of it.
    pub fn given(text: &str) -> Result<Self, CreditKeyError> {
        let key = CreditKey::parse(text.trim())?;
        let asset = limits(&key).map(|(asset, _)| asset).next();
        Ok(Self { text: Secret::new(text.trim().to_owned()), asset, saved: false })
    }

    /// Whether a seller gave it to us in exchange for a payment of ours.
    pub(crate) const fn is_saved(&self) -> bool {
        self.saved
    }

    /// What its account is denominated in, as far as we know.
    pub(crate) const fn asset(&self) -> Option<Asset> {
        self.asset
    }

    pub(crate) const fn text(&self) -> &Secret {
        &self.text
    }

    /// The key narrowed so that one call cannot hold more than `max`: the cap travels with the key and is
    /// enforced by its issuer. `None` if we do not know what its account is denominated in, or the key
    /// takes no more caveats.
    pub(crate) fn capped(&self, max: Amount) -> Option<Secret> {
        let asset = self.asset.filter(|asset| asset.is_dollar_parity())?;
        let key = CreditKey::parse(self.text.expose()).ok()?;
        let narrow_enough = limits(&key).any(|(_, per_call)| per_call.is_some_and(|limit| limit <= max));
        if narrow_enough {
            return Some(self.text.clone());
        }
        let caveat = format!("per_call={}:{}", asset.name(), max.units());
        attenuate(self.text.expose(), &caveat).ok().map(Secret::new)
    }

    /// Whose signature it demands, where that is not this signer's.
    pub(crate) fn holder_is_not(&self, signer: Option<&Signer>) -> Option<String> {
        Signer::lacks(signer, &CreditKey::parse(self.text.expose()).ok()?)
    }

    /// The key's name, which is no secret: account and key id.
    fn name(&self) -> Option<String> {
        let key = CreditKey::parse(self.text.expose()).ok()?;
        Some(format!("{}{}", hex::encode(&key.id().account), hex::encode(&key.id().key_id)))
    }
}

/// The asset of each amount in a key's caveats, and the amount where it limits one call.
fn limits(key: &CreditKey) -> impl Iterator<Item = (Asset, Option<Amount>)> {
    key.macaroon().caveats.iter().filter_map(|caveat| match Caveat::parse(caveat).ok()? {
        Caveat::PerCall(asset, limit) => Some((asset, Some(limit))),
        Caveat::Budget { asset, .. } => Some((asset, None)),
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
        | Caveat::Unknown(_) => None,
    })
}

/// `keys.json`
#[derive(Default, Serialize, Deserialize)]
struct Content {
    /// By origin: what its seller gave us.
    #[serde(default)]
    saved: BTreeMap<String, Saved>,
    /// By name of a key that a caller gave: the first origin it was sent to, and so the only one.
    #[serde(default)]
    given: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    key: String,
    asset: Option<String>,
    saved_at: u64,
}

impl Drop for Saved {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Most keys whose origin is remembered.
const GIVEN_MAX: usize = 4096;

/// What an account is denominated in whose seller was paid over Lightning: the usual asset of the key's mode.
pub(crate) fn usual_asset(key: &Secret) -> Option<Asset> {
    Some(match CreditKey::parse(key.expose()).ok()?.mode() {
        Mode::Live => Asset::Usd,
        Mode::Test => Asset::Test,
    })
}

/// The key that this origin gave us.
pub(crate) fn saved_for(file: &Path, origin: &str) -> Result<Option<Key>, FileError> {
    let content: Content = folder::load(file)?;
    let Some(saved) = content.saved.get(origin) else { return Ok(None) };
    let asset = saved.asset.as_deref().and_then(Asset::from_name);
    Ok(Some(Key { text: Secret::new(saved.key.clone()), asset, saved: true }))
}

/// Keeps a key that this origin gave us, in place of an earlier one.
pub(crate) fn save(file: &Path, origin: &str, key: &Secret, asset: Option<Asset>) -> Result<(), FileError> {
    folder::update(file, |content: &mut Content| {
        let asset = asset.map(|asset| asset.name().to_owned());
        let saved = Saved { key: key.expose().to_owned(), asset, saved_at: now_unix_s() };
        content.saved.insert(origin.to_owned(), saved);
    })
}

/// Remembers where a given key goes at its first use. `Err(origin)` if it belongs elsewhere (SEC-33).
pub(crate) fn pin(file: &Path, origin: &str, key: &Key) -> Result<Result<(), String>, FileError> {
    let Some(name) = key.name() else { return Ok(Ok(())) };
    let content: Content = folder::load(file)?;
    let known = content.given.get(&name).or_else(|| {
        // The same key as one that a seller gave us.
        let mut saved = content.saved.iter();
        let same = |saved: &Saved| saved.key == key.text.expose();
        saved.find(|(_, saved)| same(saved)).map(|(origin, _)| origin)
    });
    match known {
        Some(known) if known == origin => Ok(Ok(())),
        Some(known) => Ok(Err(known.clone())),
        None => folder::update(file, |content: &mut Content| {
            if content.given.len() < GIVEN_MAX {
                content.given.insert(name, origin.to_owned());
            }
            Ok(())
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Key, pin, save, saved_for};
    use crate::Secret;
    use money::{Amount, Asset};
    use proof::{EpochState, MasterKey, MasterKeys, credit_key};
    use wire::credit_key::Mode;

    fn minted(id: u8, caveats: &[&str]) -> String {
        let master = MasterKey { epoch: 1, state: EpochState::Mint, secret: [7; 32].into() };
        let keys = MasterKeys::new([master]).unwrap();
        let caveats: Vec<String> = caveats.iter().map(|&caveat| caveat.to_owned()).collect();
        credit_key::mint(&keys, Mode::Test, [1; 16], [id; 16], &caveats).unwrap()
    }

    #[test]
    fn a_cap_travels_with_the_key_where_its_asset_is_known() {
        let max = Amount::from_units(5_000);
        for (situation, caveats, expected) in [
            ("asset unknown", vec![], None),
            ("asset of a budget", vec!["budget=a:USD:90000"], Some(Some("per_call=USD:5000"))),
            ("wider limit", vec!["per_call=TEST:5001"], Some(Some("per_call=TEST:5000"))),
            ("narrow enough", vec!["per_call=TEST:5000"], Some(None)),
            ("no dollar", vec!["budget=a:CNY:90000"], None),
        ] {
            let text = minted(1, &caveats);
            let capped = Key::given(&text).unwrap().capped(max);
            let expected = expected.map(|caveat| match caveat {
                Some(caveat) => credit_key::attenuate(&text, caveat).unwrap(),
                None => text.clone(),
            });
            assert_eq!(capped.as_ref().map(Secret::expose), expected.as_deref(), "{situation}");
        }
    }

    #[test]
    fn sec_33_a_key_belongs_to_one_origin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        let (here, there) = ("https://a.example", "https://b.example");
        let given = Key::given(&minted(1, &[])).unwrap();
        assert_eq!(pin(&file, here, &given).unwrap(), Ok(()));
        assert_eq!(pin(&file, here, &given).unwrap(), Ok(()));
        assert_eq!(pin(&file, there, &given).unwrap(), Err(here.to_owned()));
        let narrowed = credit_key::attenuate(given.text().expose(), "expires=9").unwrap();
        assert_eq!(pin(&file, there, &Key::given(&narrowed).unwrap()).unwrap(), Err(here.to_owned()));

        let other = minted(2, &[]);
        save(&file, there, &Secret::new(other.clone()), Some(Asset::Test)).unwrap();
        assert_eq!(pin(&file, here, &Key::given(&other).unwrap()).unwrap(), Err(there.to_owned()));
        assert!(saved_for(&file, here).unwrap().is_none());
        let saved = saved_for(&file, there).unwrap().unwrap();
        assert_eq!(
            (saved.text().expose(), saved.asset, saved.saved),
            (other.as_str(), Some(Asset::Test), true)
        );
        assert!(!format!("{saved:?}").contains("fk_"));
    }
}
