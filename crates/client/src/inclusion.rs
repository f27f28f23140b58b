//! Proof that the journal of a gateway has the entry a receipt speaks of (ledger.md 8.3).
//!
//! A receipt is a promise; this shows that the promise is in the books, at which place, and under which
//! signed head. Everything is checked from bytes: no network, no clock.

use ledger::merkle::{self, leaf_hash};
use ledger::{AccountId, Entry, TreeHead, asset_of_code};
use proof::tree_head;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::hex;
use wire::jws::Jwks;

/// Longest path: a journal of 2^64 entries.
const PATH_MAX: usize = 64;

/// Answer of `GET /farthing/receipts/{id}/proof`, as it came. All bytes are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    /// The entry's place, from 1.
    pub lsn: u64,
    /// Its place in the tree, from 0.
    pub leaf_index: u64,
    /// Leaf hash.
    pub leaf: String,
    /// Canonical bytes of the entry.
    pub entry: String,
    /// Hashes from the leaf's sibling up to the root's child.
    pub path: Vec<String>,
    /// The head whose tree it is.
    pub head: SignedHead,
}

/// A tree head and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// Hex, 16 bytes.
    pub store_id: String,
    /// Raised by each restore from a backup.
    pub epoch: u64,
    /// Entries in the tree.
    pub size: u64,
    /// Hex, 32 bytes.
    pub root: String,
    /// Hex, 32 bytes.
    pub last_hash: String,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Name of the published key; empty in an export, which names no key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kid: String,
    /// Hex, 64 bytes.
    pub signature: String,
}

/// Why a proof does not show what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// Hexadecimal of another size, a path without end, or bytes that are no entry.
    #[error("proof refused: it is malformed")]
    Malformed,
    /// No published key of that name, or the signature does not stand.
    #[error("proof refused: the tree head is not signed by this gateway's key")]
    Head,
    /// The bytes of the entry are not the ones the receipt or the leaf names.
    #[error("proof refused: it is for another entry")]
    OtherEntry,
    /// Entry and receipt contradict each other.
    #[error("proof refused: the journal has another {0} than the receipt")]
    Contradicts(&'static str),
    /// The path does not lead from the entry to the root.
    #[error("proof refused: the entry is not in the tree")]
    NotIncluded,
}

use InclusionError as E;

impl SignedHead {
    /// A head with its signature, and the name of the key that made it.
    #[must_use]
    pub fn new(head: &TreeHead, signature: &[u8; 64], kid: String) -> Self {
        Self {
            store_id: hex::encode(&head.store_id),
            epoch: head.epoch,
            size: head.size,
            root: hex::encode(&head.root),
            last_hash: hex::encode(&head.last_hash),
            time_ms: head.time_ms,
            kid,
            signature: hex::encode(signature),
        }
    }

    /// Checks the signature and reads the head.
    ///
    /// # Errors
    /// [`InclusionError::Malformed`] and [`InclusionError::Head`].
    pub fn verify(&self, keys: &Jwks) -> Result<TreeHead, InclusionError> {
        let head = TreeHead {
            store_id: array(&self.store_id)?,
            epoch: self.epoch,
            size: self.size,
            root: array(&self.root)?,
            last_hash: array(&self.last_hash)?,
            time_ms: self.time_ms,
        };
        let signature = array(&self.signature)?;
        let named = keys.keys.iter().filter(|key| self.kid.is_empty() || key.kid == self.kid);
        let mut publics = named.filter_map(wire::jws::Jwk::public);
        let stands = publics.any(|public| tree_head::verify(&public, &head, &signature).is_ok());
        if stands { Ok(head) } else { Err(E::Head) }
    }
}

impl Inclusion {
    /// Checks that the entry stands in the tree of a head signed by one of `keys`, and that it says what
    /// the receipt says. `receipt` is the payload of a receipt whose signature stands.
    ///
    /// # Errors
    /// [`InclusionError`]: somebody is wrong, and it is not the client.
    pub fn verify(&self, receipt: &Value, keys: &Jwks) -> Result<TreeHead, InclusionError> {
        let head = self.head.verify(keys)?;
        let bytes = hex::decode(&self.entry).map_err(|_| E::Malformed)?;
        let entry = Entry::parse(&bytes).map_err(|_| E::Malformed)?;
        let leaf = leaf_hash(&bytes);
        let at_its_place = entry.lsn == self.lsn && self.lsn.checked_sub(1) == Some(self.leaf_index);
        if leaf != array::<32>(&self.leaf)? || !at_its_place {
            return Err(E::OtherEntry);
        }
        agree(&entry, &bytes, receipt)?;
        if self.path.len() > PATH_MAX {
            return Err(E::Malformed);
        }
        let path = self.path.iter().map(|node| array(node)).collect::<Result<Vec<[u8; 32]>, _>>()?;
        if !merkle::verify_inclusion(&leaf, self.leaf_index, head.size, &path, &head.root) {
            return Err(E::NotIncluded);
        }
        if self.lsn == head.size && Entry::hash_of(&bytes) != head.last_hash {
            return Err(E::NotIncluded);
        }
        Ok(head)
    }
}

/// Whether the journal's entry and the receipt tell the same story.
fn agree(entry: &Entry, bytes: &[u8], receipt: &Value) -> Result<(), InclusionError> {
    let text = |name: &str| receipt[name].as_str();
    if receipt["lsn"].as_u64() != Some(entry.lsn)
        || text("entry_hash") != Some(&hex::encode(&Entry::hash_of(bytes)))
        || text("call").and_then(|call| call.strip_prefix("req_")) != Some(&hex::encode(&entry.draft.id))
    {
        return Err(E::OtherEntry);
    }
    let account = text("account").and_then(AccountId::from_hex).ok_or(E::OtherEntry)?;
    let leg = entry.legs.iter().find_map(|leg| match asset_of_code(leg.asset) {
        Some((asset, false)) if leg.account == account => Some((leg, asset)),
        _ => None,
    });
    let (leg, asset) = leg.ok_or(E::Contradicts("account"))?;
    let charged = leg.amount.negated().map_err(|_| E::Contradicts("charge"))?;
    for (name, what, amount) in
        [("charged", "charge", charged), ("balance_after", "balance", leg.balance_after)]
    {
        let said = &receipt[name];
        if said["amount"].as_str() != Some(&amount.decimal(asset))
            || said["currency"].as_str() != Some(asset.name())
        {
            return Err(E::Contradicts(what));
        }
    }
    if text("cost_femto_usd").is_some_and(|cost| cost != entry.draft.cost_femto.to_string()) {
        return Err(E::Contradicts("cost"));
    }
    Ok(())
}

fn array<const N: usize>(text: &str) -> Result<[u8; N], InclusionError> {
    hex::decode_array(text).map_err(|_| E::Malformed)
}

#[cfg(test)]
pub(crate) mod tests {
    use ledger::merkle::{Frontier, inclusion_path, leaf_hash, node_hash};
    use ledger::{AccountId, Chart, Draft, Entry, Flags, Kind, Leg, TreeHead, leg_asset};
    use money::{Amount, Asset};
    use proof::{SigningKey, receipt, tree_head};
    use serde_json::{Value, json};
    use wire::hex;
    use wire::jws::Jwks;

    use super::{Inclusion, InclusionError as E, SignedHead};

    /// A journal of charges of one account, as a gateway keeps it.
    pub(crate) struct Books {
        pub(crate) key: SigningKey,
        entries: Vec<Vec<u8>>,
        leaves: Vec<[u8; 32]>,
    }

    const ACCOUNT: AccountId = AccountId([7; 16]);

    impl Books {
        pub(crate) fn of(size: u8) -> Self {
            let mut books =
                Self { key: SigningKey::from_bytes(&[1; 32]), entries: Vec::new(), leaves: Vec::new() };
            for number in 1..=size {
                let asset = leg_asset(Asset::Usd);
                let leg = |account, units: i64| Leg {
                    account,
                    asset,
                    amount: Amount::from_units(units),
                    balance_after: Amount::from_units(units * i64::from(number)),
                };
                let draft = Draft {
                    kind: Kind::Capture,
                    flags: Flags::default(),
                    time_ms: 1,
                    id: [number; 16],
                    key: [0; 32],
                    reference: String::new(),
                    corrects: [0; 16],
                    price_version: 0,
                    cost_femto: 30_000_000_000,
                    legs: vec![],
                };
                let legs = vec![leg(ACCOUNT, -30_000), leg(Chart::UsageClearing.id(), 30_000)];
                let previous = books.entries.last().map_or([0; 32], |bytes| Entry::hash_of(bytes));
                let bytes = Entry { draft, lsn: u64::from(number), legs, previous }.bytes();
                books.leaves.push(leaf_hash(&bytes));
                books.entries.push(bytes);
            }
            books
        }

        pub(crate) fn keys(&self) -> Jwks {
            receipt::jwks([&self.key.verifying_key()])
        }

        pub(crate) fn receipt(&self, lsn: u8) -> Value {
            let bytes = &self.entries[usize::from(lsn) - 1];
            json!({
                "call": format!("req_{}", hex::encode(&[lsn; 16])), "account": ACCOUNT.to_string(), "lsn": lsn,
                "entry_hash": hex::encode(&Entry::hash_of(bytes)), "cost_femto_usd": "30000000000",
                "charged": {"amount": "0.000030000", "currency": "USD"},
                "balance_after": {"amount": Amount::from_units(-30_000 * i64::from(lsn)).decimal(Asset::Usd), "currency": "USD"},
            })
        }

        fn subtree(&self, level: u8, index: usize) -> [u8; 32] {
            match level {
                0 => self.leaves[index],
                _ => node_hash(&self.subtree(level - 1, 2 * index), &self.subtree(level - 1, 2 * index + 1)),
            }
        }

        pub(crate) fn head(&self, size: u64, time_ms: u64) -> SignedHead {
            let mut tree = Frontier::default();
            self.leaves.iter().take(usize::try_from(size).unwrap()).for_each(|leaf| tree.append(*leaf));
            let last = &self.entries[usize::try_from(size).unwrap() - 1];
            let head = TreeHead {
                store_id: [3; 16],
                epoch: 1,
                size,
                root: tree.root(),
                last_hash: Entry::hash_of(last),
                time_ms,
            };
            signed(&self.key, &head)
        }

        pub(crate) fn inclusion(&self, lsn: u8, size: u64) -> Inclusion {
            let index = u64::from(lsn) - 1;
            let path = inclusion_path::<()>(index, size, |node| {
                Ok(self.subtree(node.level, usize::try_from(node.index).unwrap()))
            });
            Inclusion {
                lsn: lsn.into(),
                leaf_index: index,
                leaf: hex::encode(&self.leaves[usize::from(lsn) - 1]),
                entry: hex::encode(&self.entries[usize::from(lsn) - 1]),
                path: path.unwrap().iter().map(|node| hex::encode(node)).collect(),
                head: self.head(size, 1000 + size),
            }
        }
    }

    pub(crate) fn signed(key: &SigningKey, head: &TreeHead) -> SignedHead {
        SignedHead::new(head, &tree_head::sign(key, head), receipt::kid(&key.verifying_key()))
    }

    #[test]
    fn every_entry_of_every_tree_is_found() {
        let books = Books::of(9);
        for size in 1..=9u8 {
            for lsn in 1..=size {
                let proof = books.inclusion(lsn, size.into());
                let head = proof.verify(&books.receipt(lsn), &books.keys());
                assert_eq!(head.map(|head| head.size), Ok(size.into()), "{lsn} of {size}");
            }
        }
    }

    /// LED-41: whatever is changed in proof or receipt, it does not stand any more.
    #[test]
    fn nothing_may_be_changed() {
        let books = Books::of(7);
        let (good, receipt, keys) = (books.inclusion(3, 7), books.receipt(3), books.keys());
        assert!(good.verify(&receipt, &keys).is_ok());
        let other = books.inclusion(4, 7);
        let flipped = |text: &str| {
            let mut bytes = hex::decode(text).unwrap();
            bytes[0] ^= 1;
            hex::encode(&bytes)
        };
        let with = |change: &dyn Fn(&mut Inclusion)| {
            let mut proof = good.clone();
            change(&mut proof);
            proof.verify(&receipt, &keys)
        };
        for (what, got, expected) in [
            ("another entry's proof", other.verify(&receipt, &keys), E::OtherEntry),
            ("another leaf", with(&|p| p.leaf = other.leaf.clone()), E::OtherEntry),
            ("another place", with(&|p| p.leaf_index = 3), E::OtherEntry),
            ("a place outside", with(&|p| p.lsn = 0), E::OtherEntry),
            ("a path that is longer", with(&|p| p.path.push(flipped(&p.leaf))), E::NotIncluded),
            ("a path that is shorter", with(&|p| drop(p.path.pop())), E::NotIncluded),
            ("another sibling", with(&|p| p.path[1] = flipped(&p.path[1])), E::NotIncluded),
            ("a path without end", with(&|p| p.path = vec![p.leaf.clone(); 65]), E::Malformed),
            ("half a hash", with(&|p| p.leaf.truncate(10)), E::Malformed),
            ("no entry", with(&|p| p.entry.truncate(20)), E::Malformed),
            ("another root", with(&|p| p.head.root = flipped(&p.head.root)), E::Head),
            ("another size", with(&|p| p.head.size = 8), E::Head),
            ("another epoch", with(&|p| p.head.epoch = 2), E::Head),
            ("another signature", with(&|p| p.head.signature = flipped(&p.head.signature)), E::Head),
            ("a key nobody published", with(&|p| p.head.kid = "x".to_owned()), E::Head),
        ] {
            assert_eq!(got, Err(expected), "{what}");
        }
        for (name, value, expected) in [
            ("lsn", json!(4), E::OtherEntry),
            ("entry_hash", json!("00"), E::OtherEntry),
            ("call", json!("req_00"), E::OtherEntry),
            ("account", json!(AccountId([8; 16]).to_string()), E::Contradicts("account")),
            ("charged", json!({"amount": "0.000030001", "currency": "USD"}), E::Contradicts("charge")),
            ("charged", json!({"amount": "0.000030000", "currency": "EUR"}), E::Contradicts("charge")),
            ("balance_after", json!({"amount": "1.000000000", "currency": "USD"}), E::Contradicts("balance")),
            ("cost_femto_usd", json!("1"), E::Contradicts("cost")),
        ] {
            let mut said = receipt.clone();
            said[name] = value;
            assert_eq!(good.verify(&said, &keys), Err(expected), "{name}");
        }
    }
}
