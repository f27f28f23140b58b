//! Nonces that were used: each counts once (IDN-11). In memory, bounded, and gone with the process: what was signed before it
//! began is not taken where a nonce counts once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use proof::identity::NonceClaim;

/// Parts that lock by themselves.
const SHARDS: usize = 32;
/// Nonces of one key at a time: so many signatures in one window, and none of another key is pushed out.
const PER_KEY_MAX: u32 = 8_192;
/// Nonces in one part: 2 million in all, of which eight keys of the same part are needed to fill it.
const PER_SHARD_MAX: usize = 65_536;

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// Its first time.
    Fresh,
    /// It came before.
    Seen,
    /// There is no room to remember it, so it may have come before: nobody passes.
    Full,
    /// Its signature ended while the request came in: it may have been used and forgotten.
    Over,
}

/// All nonces of signatures that have not expired.
#[derive(Debug)]
pub(crate) struct Nonces {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    seen: HashSet<[u8; 32]>,
    per_key: HashMap<[u8; 16], u32>,
    /// What may be forgotten when, in Unix seconds.
    ends: BTreeMap<u64, Vec<NonceClaim>>,
    /// Everything that ended by then is forgotten. A request whose body was long on its way has an earlier time.
    forgotten_s: u64,
}

impl Default for Nonces {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Nonces {
    /// Uses a nonce up. Only for a signature that stands: else anybody could burn another's.
    pub(crate) fn claim(&self, claim: NonceClaim, now_s: u64) -> Claimed {
        // By key, so that a key is counted in one place.
        let place = usize::from(claim.key[0]) % SHARDS;
        let Some(shard) = self.shards.get(place) else { return Claimed::Full };
        shard.lock().unwrap_or_else(PoisonError::into_inner).claim(claim, now_s)
    }
}

impl Shard {
    fn claim(&mut self, claim: NonceClaim, now_s: u64) -> Claimed {
        self.forget(now_s);
        if claim.expires_s <= self.forgotten_s {
            return Claimed::Over;
        }
        if self.seen.contains(&claim.id) {
            return Claimed::Seen;
        }
        let of_key = self.per_key.get(&claim.key).copied().unwrap_or(0);
        if of_key >= PER_KEY_MAX || self.seen.len() >= PER_SHARD_MAX {
            return Claimed::Full;
        }
        self.seen.insert(claim.id);
        self.per_key.insert(claim.key, of_key + 1);
        self.ends.entry(claim.expires_s).or_default().push(claim);
        Claimed::Fresh
    }

    /// Each nonce is forgotten once, when its signature is over.
    fn forget(&mut self, now_s: u64) {
        self.forgotten_s = self.forgotten_s.max(now_s);
        while let Some(entry) = self.ends.first_entry().filter(|entry| *entry.key() <= now_s) {
            for claim in entry.remove() {
                self.seen.remove(&claim.id);
                if let Some(count) = self.per_key.get_mut(&claim.key) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.per_key.remove(&claim.key);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proof::identity::NonceClaim;

    use super::{Claimed, Nonces, PER_KEY_MAX, PER_SHARD_MAX};

    fn claim(key: u8, nonce: u32, expires_s: u64) -> NonceClaim {
        let mut id = [key; 32];
        id[..4].copy_from_slice(&nonce.to_be_bytes());
        let mut whole_key = [key; 16];
        // All in one shard.
        whole_key[0] = 0;
        NonceClaim { key: whole_key, id, expires_s }
    }

    #[test]
    fn idn_11_a_nonce_counts_once_until_its_signature_is_over() {
        let nonces = Nonces::default();
        assert_eq!(nonces.claim(claim(1, 1, 100), 40), Claimed::Fresh);
        assert_eq!(nonces.claim(claim(1, 1, 100), 99), Claimed::Seen);
        assert_eq!(nonces.claim(claim(1, 2, 100), 99), Claimed::Fresh);
        assert_eq!(nonces.claim(claim(2, 1, 100), 99), Claimed::Fresh, "of another key");
        assert_eq!(
            nonces.claim(claim(1, 1, 200), 100),
            Claimed::Fresh,
            "nobody takes that signature any more"
        );
    }

    /// A replay whose head comes in time and whose body does not: by then its nonce may be forgotten.
    #[test]
    fn idn_11_a_nonce_that_is_forgotten_is_not_taken_from_a_late_request() {
        let nonces = Nonces::default();
        assert_eq!(nonces.claim(claim(1, 1, 100), 40), Claimed::Fresh);
        assert_eq!(nonces.claim(claim(1, 2, 160), 101), Claimed::Fresh, "the first is forgotten");
        for _ in 0..2 {
            assert_eq!(nonces.claim(claim(1, 1, 100), 99), Claimed::Over);
        }
        assert_eq!(nonces.claim(claim(1, 3, 101), 99), Claimed::Over);
        assert_eq!(nonces.claim(claim(1, 4, 102), 99), Claimed::Fresh, "late, and not over");
        assert_eq!(nonces.claim(claim(1, 2, 160), 99), Claimed::Seen);
    }

    /// One key that signs without end fills its own room and nobody else's.
    #[test]
    fn idn_11_a_flood_of_one_key_is_its_own_affair() {
        let nonces = Nonces::default();
        let taken =
            (0..1_000_000).filter(|nonce| nonces.claim(claim(1, *nonce, 100), 40) == Claimed::Fresh).count();
        assert_eq!(taken, PER_KEY_MAX as usize);
        assert_eq!(nonces.claim(claim(1, 0, 100), 40), Claimed::Seen, "what was used stays used");
        assert_eq!(nonces.claim(claim(2, 0, 100), 40), Claimed::Fresh);
        assert_eq!(nonces.claim(claim(1, 0, 200), 100), Claimed::Fresh, "a window later there is room");
    }

    #[test]
    fn idn_11_a_full_store_lets_nobody_in() {
        let nonces = Nonces::default();
        let keys = u8::try_from(PER_SHARD_MAX / PER_KEY_MAX as usize).unwrap();
        for key in 0..keys {
            assert!((0..PER_KEY_MAX).all(|nonce| nonces.claim(claim(key, nonce, 100), 40) == Claimed::Fresh));
        }
        assert_eq!(nonces.claim(claim(keys, 0, 100), 40), Claimed::Full);
        let shard = nonces.shards[0].lock().unwrap();
        assert_eq!((shard.seen.len(), shard.per_key.len()), (PER_SHARD_MAX, usize::from(keys)));
    }
}
