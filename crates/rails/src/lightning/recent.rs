//! The payment hashes that were seen of late.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many are remembered: more than may be open at once.
const HASHES_MAX: usize = 8192;

/// A bounded memory of payment hashes; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Hashes>);

#[derive(Debug, Default)]
struct Hashes {
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Recent {
    /// Remembers it. False if it was known already.
    pub(super) fn is_new(&self, payment_hash: &[u8; 32]) -> bool {
        let mut hashes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !hashes.known.insert(*payment_hash) {
            return false;
        }
        hashes.order.push_back(*payment_hash);
        if hashes.order.len() > HASHES_MAX
            && let Some(oldest) = hashes.order.pop_front()
        {
            hashes.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{HASHES_MAX, Recent};

    #[test]
    fn it_knows_the_last_ones_only() {
        let recent = Recent::default();
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            hash
        };
        for number in 0..=HASHES_MAX {
            assert!(recent.is_new(&hash(number)));
        }
        assert!(!recent.is_new(&hash(1)));
        assert!(recent.is_new(&hash(0)), "forgotten");
        assert_eq!(recent.0.lock().unwrap().known.len(), HASHES_MAX);
    }
}
