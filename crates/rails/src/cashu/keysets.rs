//! What is known of a mint: which keysets it has, what spending their coins costs, and their keys (NUT-01, NUT-02).

use std::collections::BTreeMap;

use proof::cashu::{Terms, is_named};
use wire::cashu::mint::{self, Info, KEYSETS_MAX, Keys, KeysetInfo};
use wire::cashu::{KeysetId, Point, Proof};

use super::Mint;

/// What a mint has to be able to do: tell where coins stand, sign again what it has signed, and give evidence. Without
/// any of them a swap whose answer was lost could not be found out about.
pub const MINT_NUTS: [&str; 3] = ["7", "9", "12"];
/// Most keysets of one unit whose keys are asked for.
const SAME_UNIT_MAX: usize = 32;

/// A keyset whose name is the hash of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyset {
    /// Its name.
    pub id: KeysetId,
    /// Whether it signs.
    pub active: bool,
    /// Thousandths of a unit for each coin spent.
    pub fee_ppk: u64,
    /// Unix seconds, if it ends.
    pub final_expiry: Option<u64>,
    /// Amount -> public key.
    pub keys: BTreeMap<u64, Point>,
}

/// The keysets of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keysets(Vec<Keyset>);

/// Why a mint cannot be paid by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// No answer, or none that is sense.
    #[error("the mint does not answer")]
    NoAnswer,
    /// It does not say that it can do what we need.
    #[error("the mint does not support NUT-{0}")]
    Lacks(&'static str),
    /// It has no keyset that signs coins of the unit.
    #[error("the mint has no active keyset of this unit")]
    NoKeyset,
    /// The name of a keyset is not the hash of its keys.
    #[error("keyset {0} is not what its name says")]
    Misnamed(String),
}

impl Mint {
    /// Asks the mint for its keysets of `unit`. Keys of a keyset never change: those in `known` are not asked for again.
    ///
    /// # Errors
    /// [`LearnError`]: the mint must not be offered.
    pub async fn learn(&self, unit: &str, known: &Keysets) -> Result<Keysets, LearnError> {
        let info: Info = self.get("info").await.ok_or(LearnError::NoAnswer)?;
        if let Some(lacking) = MINT_NUTS.into_iter().find(|nut| !info.supports(nut)) {
            return Err(LearnError::Lacks(lacking));
        }
        let listed: mint::Keysets = self.get("keysets").await.ok_or(LearnError::NoAnswer)?;
        let mut ours: Vec<&KeysetInfo> =
            listed.keysets.iter().take(KEYSETS_MAX).filter(|keyset| keyset.unit == unit).collect();
        ours.sort_by_key(|keyset| !keyset.active);
        let mut keysets = Vec::new();
        for info in ours.into_iter().take(SAME_UNIT_MAX) {
            // Very old keysets have names of another kind.
            let Some(id) = mint::keyset_id(&info.id) else { continue };
            let keyset = self.keyset(id, info, known).await?;
            if keysets.iter().any(|other: &Keyset| other.id == id) {
                return Err(LearnError::Misnamed(info.id.clone()));
            }
            keysets.push(keyset);
        }
        let keysets = Keysets(keysets);
        if keysets.0.iter().any(|keyset| keyset.active) { Ok(keysets) } else { Err(LearnError::NoKeyset) }
    }

    async fn keyset(&self, id: KeysetId, info: &KeysetInfo, known: &Keysets) -> Result<Keyset, LearnError> {
        let keys = match known.exactly(&id) {
            Some(known) => known.keys.clone(),
            None => {
                let said: Keys = self.get(&format!("keys/{}", info.id)).await.ok_or(LearnError::NoAnswer)?;
                let of_id =
                    said.keysets.iter().find(|keyset| keyset.id == info.id && keyset.unit == info.unit);
                of_id.and_then(mint::KeysetKeys::by_amount).ok_or(LearnError::NoAnswer)?
            }
        };
        let fee_ppk = info.input_fee_ppk.unwrap_or(0);
        let terms = Terms { unit: &info.unit, fee_ppk, final_expiry: info.final_expiry };
        if !is_named(&id, &keys, terms) {
            return Err(LearnError::Misnamed(info.id.clone()));
        }
        Ok(Keyset { id, active: info.active, fee_ppk, final_expiry: info.final_expiry, keys })
    }
}

impl Keysets {
    /// The keyset of this whole name.
    #[must_use]
    pub fn exactly(&self, id: &KeysetId) -> Option<&Keyset> {
        self.0.iter().find(|keyset| keyset.id == *id)
    }

    /// The keyset that a token means, whether it is named in full or abbreviated. None: there is none, or it could be
    /// more than one (NUT-00).
    #[must_use]
    pub fn meant(&self, id: &KeysetId) -> Option<&Keyset> {
        let mut meant = self.0.iter().filter(|keyset| id.names(&keyset.id));
        meant.next().filter(|_| meant.next().is_none())
    }

    /// The keyset that signs: the cheapest to spend, and one without an end before one that ends.
    #[must_use]
    pub fn signing(&self, now_s: u64) -> Option<&Keyset> {
        let lasts = |keyset: &&Keyset| keyset.final_expiry.is_none_or(|end| end == 0 || end > now_s);
        let signing = self.0.iter().filter(|keyset| keyset.active).filter(lasts);
        signing.min_by_key(|keyset| (keyset.fee_ppk, keyset.final_expiry.is_some(), keyset.id))
    }

    /// What spending these coins costs, in whole units. None: a keyset is not known.
    #[must_use]
    pub fn fee(&self, proofs: &[Proof]) -> Option<u64> {
        let ppk =
            proofs.iter().try_fold(0u64, |sum, proof| sum.checked_add(self.meant(&proof.keyset)?.fee_ppk))?;
        Some(ppk.div_ceil(1000))
    }

    /// The highest fee for each coin of a keyset that signs, in thousandths.
    #[must_use]
    pub fn fee_ppk_max(&self) -> u64 {
        self.0.iter().filter(|keyset| keyset.active).map(|keyset| keyset.fee_ppk).max().unwrap_or(0)
    }
}

#[cfg(test)]
impl From<Vec<Keyset>> for Keysets {
    fn from(keysets: Vec<Keyset>) -> Self {
        Self(keysets)
    }
}

#[cfg(test)]
mod tests {
    use super::{Keyset, Keysets};
    use wire::cashu::{KeysetId, Point, Proof};

    fn keyset(id: &str, active: bool, fee_ppk: u64, final_expiry: Option<u64>) -> Keyset {
        let id = KeysetId::parse(id).unwrap();
        Keyset { id, active, fee_ppk, final_expiry, keys: [(1, Point([2; 33]))].into() }
    }

    fn coin(keyset: &str) -> Proof {
        let keyset = KeysetId::parse(keyset).unwrap();
        Proof { amount: 1, keyset, secret: "s".into(), signature: Point([2; 33]), dleq: None }
    }

    #[test]
    fn cashu_2_an_abbreviation_means_one_keyset() {
        let (a, b) = (format!("01{}", "aa".repeat(32)), format!("01{}bb", "aa".repeat(31)));
        let short = KeysetId::parse(&a[..16]).unwrap();
        let one = Keysets(vec![keyset(&a, true, 0, None)]);
        assert_eq!(one.meant(&short).unwrap().id.to_text(), a);
        let two = Keysets(vec![keyset(&a, true, 0, None), keyset(&b, true, 0, None)]);
        assert!(two.meant(&short).is_none(), "it could be either");
        assert_eq!(two.meant(&KeysetId::parse(&b).unwrap()).unwrap().id.to_text(), b);
    }

    #[test]
    fn cashu_10_the_fee_is_rounded_up_once() {
        let keysets = Keysets(vec![
            keyset("00aaaaaaaaaaaaaa", true, 100, None),
            keyset("00bbbbbbbbbbbbbb", false, 450, None),
        ]);
        let (a, b) = (coin("00aaaaaaaaaaaaaa"), coin("00bbbbbbbbbbbbbb"));
        assert_eq!(keysets.fee(&vec![a.clone(); 10]), Some(1));
        assert_eq!(keysets.fee(&vec![a.clone(); 11]), Some(2));
        assert_eq!(keysets.fee(&[a, b.clone(), b]), Some(1));
        assert_eq!(keysets.fee(&[coin("00cccccccccccccc")]), None);
        assert_eq!(keysets.fee_ppk_max(), 100);
        let dear = Keysets(vec![keyset("00aaaaaaaaaaaaaa", true, u64::MAX, None)]);
        assert_eq!(dear.fee(&vec![coin("00aaaaaaaaaaaaaa"); 2]), None);
    }

    #[test]
    fn which_keyset_signs() {
        let keysets = Keysets(vec![
            keyset("00aaaaaaaaaaaaaa", false, 0, None),
            keyset("00bbbbbbbbbbbbbb", true, 200, None),
            keyset("00cccccccccccccc", true, 100, Some(50)),
            keyset("00dddddddddddddd", true, 100, Some(500)),
        ]);
        assert_eq!(keysets.signing(100).unwrap().id.to_text(), "00dddddddddddddd");
        assert_eq!(keysets.signing(500).unwrap().id.to_text(), "00bbbbbbbbbbbbbb");
        assert!(Keysets::default().signing(0).is_none());
    }
}
