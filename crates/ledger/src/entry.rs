//! A journal entry: immutable, balanced, with bytes that do not depend on a language (ledger.md 8.2).

use money::Amount;
use sha2::{Digest, Sha256};

use crate::AccountId;

/// Prefix of every entry hash, NUL included.
pub const HASH_DOMAIN: &[u8] = b"farthing.entry.v1\0";
/// Longest external reference.
pub const REFERENCE_BYTES_MAX: usize = 256;
/// Version byte of the layout.
const LAYOUT: u8 = 1;
const LEGS_MAX: usize = 1024;

/// What an entry records. The numbers are part of the hashed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A payment became balance.
    Deposit = 1,
    /// A call was charged.
    Capture = 2,
    /// Balance went back to a payer.
    Refund = 3,
    /// The operator changed a balance by hand.
    Adjust = 9,
    /// What the calls of a batch earned, by model; its reference names their LSNs (LED-40).
    Income = 10,
}

impl Kind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 5] = [Self::Deposit, Self::Capture, Self::Refund, Self::Adjust, Self::Income];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The word in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Capture => "capture",
            Self::Refund => "refund",
            Self::Adjust => "adjust",
            Self::Income => "income",
        }
    }
}

/// Facts about an entry that are single bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Usage was estimated, not reported.
    pub estimated: bool,
    /// The payment for it settles after it (X402-21): it may take the payer below his floor, until that payment is
    /// deposited.
    pub promised: bool,
    /// Charged less than it cost: an estimate is cut to what was held, a report to what can have been used (MTR-25).
    pub cut: bool,
}

impl Flags {
    const ESTIMATED: u16 = 1;
    /// Behind the four bits that the layout names.
    const PROMISED: u16 = 16;
    const CUT: u16 = 32;

    fn bits(self) -> u16 {
        let estimated = if self.estimated { Self::ESTIMATED } else { 0 };
        let promised = if self.promised { Self::PROMISED } else { 0 };
        let cut = if self.cut { Self::CUT } else { 0 };
        estimated | promised | cut
    }

    fn from_bits(bits: u16) -> Option<Self> {
        let known = bits & !(Self::ESTIMATED | Self::PROMISED | Self::CUT) == 0;
        known.then_some(Self {
            estimated: bits & Self::ESTIMATED != 0,
            promised: bits & Self::PROMISED != 0,
            cut: bits & Self::CUT != 0,
        })
    }
}

/// One side of an entry before the writer knows the balance it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LegDraft {
    /// Asset code, see [`crate::leg_asset`] and [`crate::memo_asset`].
    pub asset: u16,
    /// The account.
    pub account: AccountId,
    /// What its balance changes by.
    pub amount: Amount,
}

/// One side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Asset code.
    pub asset: u16,
    /// The account.
    pub account: AccountId,
    /// What its balance changed by.
    pub amount: Amount,
    /// Its balance right after, in journal order.
    pub balance_after: Amount,
}

impl LegDraft {
    /// So many units of `asset` into an account, or out of it.
    #[must_use]
    pub const fn of(asset: u16, account: AccountId, units: i64) -> Self {
        Self { asset, account, amount: Amount::from_units(units) }
    }
}

/// An entry without its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What it records.
    pub kind: Kind,
    /// Single-bit facts.
    pub flags: Flags,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// The call or deposit.
    pub id: [u8; 16],
    /// Replay key of the proof, or zeros.
    pub key: [u8; 32],
    /// Transaction hash or the like, at most [`REFERENCE_BYTES_MAX`] bytes.
    pub reference: String,
    /// Id of the entry that this one puts right, or zeros (LED-39).
    pub corrects: [u8; 16],
    /// First bytes of the price version, or 0.
    pub price_version: u32,
    /// Exact cost in femto-USD before the one rounding.
    pub cost_femto: u128,
    /// The sides; they sum to zero per asset.
    pub legs: Vec<LegDraft>,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was posted; `draft.legs` is empty here, see `legs`.
    pub draft: Draft,
    /// Journal sequence number, gap-free from 1.
    pub lsn: u64,
    /// The sides with their balances, sorted by asset and account.
    pub legs: Vec<Leg>,
    /// Hash of the entry before.
    pub previous: [u8; 32],
}

/// Why something is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Legs do not sum to zero in some asset (LED-39).
    #[error("legs do not balance")]
    Unbalanced,
    /// No leg, too many legs, or one account twice.
    #[error("legs are not a set of accounts")]
    Legs,
    /// External reference too long.
    #[error("external reference too long")]
    Reference,
    /// Bytes that no entry has.
    #[error("entry bytes are damaged")]
    Damaged,
}

impl Draft {
    /// What most entries are: legs under an id, and nothing else said of them.
    #[must_use]
    pub const fn of(kind: Kind, id: [u8; 16], time_ms: u64, legs: Vec<LegDraft>) -> Self {
        Self {
            kind,
            flags: Flags { estimated: false, promised: false, cut: false },
            time_ms,
            id,
            key: [0; 32],
            reference: String::new(),
            corrects: [0; 16],
            price_version: 0,
            cost_femto: 0,
            legs,
        }
    }

    /// Sorts the legs and checks that they balance.
    ///
    /// # Errors
    /// [`EntryError`] names the rule that is broken; such a draft must never be written.
    pub fn checked(mut self) -> Result<Self, EntryError> {
        if self.reference.len() > REFERENCE_BYTES_MAX {
            return Err(EntryError::Reference);
        }
        if self.legs.is_empty() || self.legs.len() > LEGS_MAX {
            return Err(EntryError::Legs);
        }
        self.legs.sort_unstable();
        if self
            .legs
            .windows(2)
            .any(|pair| (pair[0].asset, pair[0].account) == (pair[1].asset, pair[1].account))
        {
            return Err(EntryError::Legs);
        }
        for side in self.legs.chunk_by(|a, b| a.asset == b.asset) {
            if side.iter().map(|leg| i128::from(leg.amount.units())).sum::<i128>() != 0 {
                return Err(EntryError::Unbalanced);
            }
        }
        Ok(self)
    }
}

impl Entry {
    /// The canonical bytes, big-endian, previous hash included.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let d = &self.draft;
        let mut out = Vec::with_capacity(160 + d.reference.len() + 34 * self.legs.len());
        out.extend([LAYOUT, d.kind as u8]);
        out.extend(d.flags.bits().to_be_bytes());
        out.extend(self.lsn.to_be_bytes());
        out.extend(d.time_ms.to_be_bytes());
        out.extend(d.id);
        out.extend(d.key);
        out.extend(u16::try_from(d.reference.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(d.reference.as_bytes());
        out.extend(d.corrects);
        out.extend(d.price_version.to_be_bytes());
        out.extend(d.cost_femto.to_be_bytes());
        out.extend(u16::try_from(self.legs.len()).unwrap_or(u16::MAX).to_be_bytes());
        for leg in &self.legs {
            out.extend(leg.account.0);
            out.extend(leg.asset.to_be_bytes());
            out.extend(leg.amount.units().to_be_bytes());
            out.extend(leg.balance_after.units().to_be_bytes());
        }
        out.extend(self.previous);
        out
    }

    /// The hash that the next entry carries.
    #[must_use]
    pub fn hash_of(bytes: &[u8]) -> [u8; 32] {
        Sha256::new_with_prefix(HASH_DOMAIN).chain_update(bytes).finalize().into()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`EntryError::Damaged`] for anything [`Entry::bytes`] does not write.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut rest = Reader(bytes);
        let [layout, kind] = rest.take()?;
        let kind = Kind::from_byte(kind).filter(|_| layout == LAYOUT).ok_or(EntryError::Damaged)?;
        let flags = Flags::from_bits(u16::from_be_bytes(rest.take()?)).ok_or(EntryError::Damaged)?;
        let lsn = u64::from_be_bytes(rest.take()?);
        let time_ms = u64::from_be_bytes(rest.take()?);
        let (id, key) = (rest.take()?, rest.take()?);
        let reference_bytes = u16::from_be_bytes(rest.take()?);
        let reference_bytes = rest.slice(usize::from(reference_bytes))?;
        let reference = std::str::from_utf8(reference_bytes).map_err(|_| EntryError::Damaged)?.to_owned();
        let corrects = rest.take()?;
        let price_version = u32::from_be_bytes(rest.take()?);
        let cost_femto = u128::from_be_bytes(rest.take()?);
        let count = usize::from(u16::from_be_bytes(rest.take()?));
        let mut legs = Vec::with_capacity(count.min(LEGS_MAX));
        for _ in 0..count {
            legs.push(Leg {
                account: AccountId(rest.take()?),
                asset: u16::from_be_bytes(rest.take()?),
                amount: Amount::from_units(i64::from_be_bytes(rest.take()?)),
                balance_after: Amount::from_units(i64::from_be_bytes(rest.take()?)),
            });
        }
        let previous = rest.take()?;
        if !rest.0.is_empty() {
            return Err(EntryError::Damaged);
        }
        let draft = Draft {
            kind,
            flags,
            time_ms,
            id,
            key,
            reference,
            corrects,
            price_version,
            cost_femto,
            legs: Vec::new(),
        };
        Ok(Self { draft, lsn, legs, previous })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn slice(&mut self, count: usize) -> Result<&'a [u8], EntryError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(EntryError::Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        self.slice(N)?.try_into().map_err(|_| EntryError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use money::{Amount, Asset};
    use proptest::prelude::*;

    use super::{Draft, Entry, EntryError, Flags, Kind, Leg, LegDraft};
    use crate::{AccountId, Chart, leg_asset};

    fn draft(amounts: &[(u8, u16, i64)]) -> Draft {
        let legs = amounts.iter().map(|&(account, asset, units)| LegDraft {
            asset,
            account: AccountId([account; 16]),
            amount: Amount::from_units(units),
        });
        Draft {
            kind: Kind::Capture,
            flags: Flags { estimated: true, promised: true, cut: true },
            time_ms: 1_795_000_000_000,
            id: [3; 16],
            key: [4; 32],
            reference: "0xabc".into(),
            corrects: [5; 16],
            price_version: 7,
            cost_femto: 99,
            legs: legs.collect(),
        }
    }

    fn placed(draft: &Draft) -> Entry {
        let legs = draft.legs.iter().map(|leg| Leg {
            asset: leg.asset,
            account: leg.account,
            amount: leg.amount,
            balance_after: leg.amount,
        });
        Entry {
            legs: legs.collect(),
            draft: Draft { legs: vec![], ..draft.clone() },
            lsn: 1,
            previous: [0; 32],
        }
    }

    /// LED-39.
    #[test]
    fn legs_must_balance_per_asset() {
        let usd = leg_asset(Asset::Usd);
        let test = leg_asset(Asset::Test);
        assert!(draft(&[(1, usd, -5), (2, usd, 5)]).checked().is_ok());
        assert_eq!(draft(&[(1, usd, -5), (2, usd, 4)]).checked(), Err(EntryError::Unbalanced));
        assert_eq!(draft(&[(1, usd, -5), (2, test, 5)]).checked(), Err(EntryError::Unbalanced));
        assert_eq!(draft(&[(1, usd, -5), (1, usd, 5)]).checked(), Err(EntryError::Legs));
        assert_eq!(draft(&[]).checked(), Err(EntryError::Legs));
    }

    #[test]
    fn bytes_round_trip_and_any_change_shows_in_the_hash() {
        let usd = leg_asset(Asset::Usd);
        let entry = placed(&draft(&[(1, usd, -5), (2, usd, 5)]).checked().unwrap());
        let bytes = entry.bytes();
        assert_eq!(Entry::parse(&bytes), Ok(entry));
        let hash = Entry::hash_of(&bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(Entry::hash_of(&changed), hash, "byte {at}");
        }
        assert_eq!(Entry::parse(&bytes[..bytes.len() - 1]), Err(EntryError::Damaged));
        assert_ne!(Chart::Memo.id(), AccountId([0; 16]));
    }

    #[test]
    fn kinds_have_their_numbers_and_words() {
        let known: Vec<(u8, &str)> = Kind::ALL.into_iter().map(|kind| (kind as u8, kind.name())).collect();
        assert_eq!(known, [(1, "deposit"), (2, "capture"), (3, "refund"), (9, "adjust"), (10, "income")]);
        for byte in 0..=u8::MAX {
            let number = Kind::from_byte(byte).map(|kind| kind as u8);
            assert_eq!(number, known.iter().any(|(known, _)| *known == byte).then_some(byte));
        }
        assert!(
            (0..=u16::MAX)
                .filter(|bits| Flags::from_bits(*bits).is_some())
                .eq([0, 1, 16, 17, 32, 33, 48, 49])
        );
    }

    #[test]
    fn a_draft_has_its_largest_sizes() {
        let usd = leg_asset(Asset::Usd);
        let pair = draft(&[(1, usd, -5), (2, usd, 5)]);
        let referring = |bytes| Draft { reference: "x".repeat(bytes), ..pair.clone() }.checked().map(|_| ());
        assert_eq!(referring(256), Ok(()));
        assert_eq!(referring(257), Err(EntryError::Reference));
        let with_legs = |count: u16| {
            let legs = (0..count).map(|number| {
                let mut account = [0; 16];
                account[..2].copy_from_slice(&number.to_be_bytes());
                LegDraft { asset: usd, account: AccountId(account), amount: Amount::ZERO }
            });
            Draft { legs: legs.collect(), ..pair.clone() }.checked().map(|_| ())
        };
        assert_eq!(with_legs(1024), Ok(()));
        assert_eq!(with_legs(1025), Err(EntryError::Legs));
        // The range of the sum is not that of an amount.
        let far =
            [(1, usd, i64::MAX), (2, usd, i64::MAX), (3, usd, i64::MIN), (4, usd, i64::MIN), (5, usd, 2)];
        assert!(draft(&far).checked().is_ok());
    }

    #[test]
    fn legs_come_sorted_by_asset_and_account() {
        let (usd, test) = (leg_asset(Asset::Usd), leg_asset(Asset::Test));
        let drawn = draft(&[(3, test, 1), (2, usd, -5), (1, test, -1), (1, usd, 5)]).checked().unwrap();
        let order: Vec<(u16, u8)> = drawn.legs.iter().map(|leg| (leg.asset, leg.account.0[0])).collect();
        assert_eq!(order, [(usd, 1), (usd, 2), (test, 1), (test, 3)]);
    }

    proptest! {
        #[test]
        fn parse_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(entry) = Entry::parse(&bytes) {
                prop_assert_eq!(entry.bytes(), bytes);
            }
        }
    }
}
