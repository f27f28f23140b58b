//! Hashes of ids, for the tables in memory that calls look something up in.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes what is a hash itself, was drawn at random, or was verified before it got here: such names need no mixing, but who may
/// make some up by trying must not choose their place in a table. So each table has keys of its own, and sixteen bytes take one
/// multiplication where the hasher of the standard library takes five times as much. Not for texts that anybody may send.
#[derive(Clone, Debug)]
pub struct IdHashes {
    keys: [u64; 2],
}

impl Default for IdHashes {
    fn default() -> Self {
        let random = RandomState::new();
        Self { keys: [random.hash_one(0), random.hash_one(1)] }
    }
}

impl BuildHasher for IdHashes {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        let [state, key] = self.keys;
        IdHasher { state, key }
    }
}

/// The hash of one id; see [`IdHashes`].
#[derive(Clone, Debug)]
pub struct IdHasher {
    state: u64,
    key: u64,
}

impl IdHasher {
    const fn mix(&mut self, low: u64, high: u64) {
        self.state = folded(self.state ^ low, self.key ^ high);
    }
}

/// Both halves of a product: each bit of its factors comes to bear on high and low bits.
const fn folded(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    let (below, above) = (product as u64, (product >> 64) as u64);
    below ^ above
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<16>();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let last = Some(&last).filter(|_| !rest.is_empty());
        for chunk in whole.iter().chain(last) {
            let words = u128::from_le_bytes(*chunk);
            #[expect(clippy::cast_possible_truncation, reason = "its halves")]
            self.mix(words as u64, (words >> 64) as u64);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into(), 0);
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word, 0);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64, 0);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64, 0);
    }

    /// Once more, so that ids which differ in few bits only lie no nearer than others.
    fn finish(&self) -> u64 {
        folded(self.state, self.key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::IdHashes;

    /// The bits that tables look at: the highest seven, and the lowest.
    fn places(hashes: impl Iterator<Item = u64>) -> (usize, usize) {
        let (high, low): (HashSet<_>, HashSet<_>) = hashes.map(|hash| (hash >> 57, hash & 0xfff)).unzip();
        (high.len(), low.len())
    }

    /// Ids that differ in one place only fall everywhere, wherever that is.
    #[test]
    fn neighbours_are_far_apart() {
        for place in 0..15 {
            let table = IdHashes { keys: [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03] };
            let ids = (0..4096_u16).map(|number| {
                let mut id = [7; 16];
                id[place..place + 2].copy_from_slice(&number.to_be_bytes());
                id
            });
            let (high, low) = places(ids.map(|id| table.hash_one(id)));
            // 4096 balls in as many places leave a little more than a third of them empty.
            assert!(high == 128 && low > 2400, "{place}: {high} {low}");
        }
    }

    #[test]
    fn each_table_has_its_own() {
        let (one, other) = (IdHashes::default(), IdHashes::default());
        assert_ne!(one.hash_one([1_u8; 16]), other.hash_one([1_u8; 16]));
        assert_eq!(one.hash_one("a key"), one.clone().hash_one("a key"));
        assert_ne!(one.hash_one("a key"), one.hash_one("a kez"));
    }
}
