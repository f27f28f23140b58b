//! Where the accounts of a book are: records of one cache line, never moved and never freed, and an index that finds
//! them by name (PERF-26).

use std::hash::BuildHasher as _;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;
use money::Asset;

use crate::{Account, AccountId, IdHashes};

/// Parts of the slab, each behind a lock of its own. It is taken to find or open an account, never to use one.
const SHARDS: usize = 64;
/// Records of one allocation: 4 KiB of them. An account that is opened costs at most this much at once.
const CHUNK: usize = 64;

/// Every account that is kept for good.
///
/// Its records are leaked on purpose: a book lives as long as its process, a reference into it is then one word that
/// nobody counts, and one that outlives the book stays good.
#[derive(Debug)]
pub(crate) struct Slab {
    /// Keyed: whoever chooses the name of an account must not choose its place.
    hasher: IdHashes,
    shards: [RwLock<Shard>; SHARDS],
}

impl Default for Slab {
    fn default() -> Self {
        Self { hasher: IdHashes::default(), shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

/// Two shards never share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    /// Slots by the hash of the account's id. Holds no ids, they are compared in the records: 5 bytes a place.
    slots: HashTable<u32>,
    chunks: Vec<&'static [Account]>,
    /// Records of the newest chunk that nobody has.
    free: &'static [Account],
}

impl Slab {
    /// The account in this asset, if it is open.
    pub(crate) fn find(&self, id: AccountId, asset: Asset) -> Option<&'static Account> {
        let hash = self.hash(id);
        self.read(hash).find(hash, id, asset)
    }

    /// The account of a payer in the asset that was opened first.
    pub(crate) fn first(&self, id: AccountId) -> Option<&'static Account> {
        let hash = self.hash(id);
        self.read(hash).first(hash, id)
    }

    /// The account in this asset, opened empty on first sight.
    pub(crate) fn open(&self, id: AccountId, asset: Asset) -> &'static Account {
        let hash = self.hash(id);
        if let Some(found) = self.read(hash).find(hash, id, asset) {
            return found;
        }
        let mut shard = self.write(hash);
        // Somebody else may have opened it meanwhile.
        shard.find(hash, id, asset).unwrap_or_else(|| shard.add(&self.hasher, id, asset))
    }

    /// The account of a payer, opened in this asset unless it has one in another.
    pub(crate) fn open_first(&self, id: AccountId, asset: Asset) -> &'static Account {
        let hash = self.hash(id);
        let mut shard = self.write(hash);
        shard.first(hash, id).unwrap_or_else(|| shard.add(&self.hasher, id, asset))
    }

    /// Number of accounts.
    pub(crate) fn len(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.slots.len()).sum()
    }

    fn hash(&self, id: AccountId) -> u64 {
        self.hasher.hash_one(id)
    }

    /// The part that a hash falls in, by bits that the table inside does not look at: it takes the highest seven, and
    /// from the lowest as many as it has places.
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        let place = usize::try_from(hash >> 32 & 0xffff).unwrap_or(0);
        &self.shards[place % SHARDS]
    }

    /// A thread that panicked has left the shard whole: its last step is to put the slot in.
    fn read(&self, hash: u64) -> RwLockReadGuard<'_, Shard> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, Shard> {
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn find(&self, hash: u64, id: AccountId, asset: Asset) -> Option<&'static Account> {
        let is_it = |account: &Account| account.id() == id && account.asset() == asset;
        let slot = *self.slots.find(hash, |slot| self.at(*slot).is_some_and(is_it))?;
        self.at(slot)
    }

    /// Slots are given out in order: the lowest was opened first.
    fn first(&self, hash: u64, id: AccountId) -> Option<&'static Account> {
        let of_id = |slot: &&u32| self.at(**slot).is_some_and(|account| account.id() == id);
        let slot = self.slots.iter_hash(hash).filter(of_id).min()?;
        self.at(*slot)
    }

    fn at(&self, slot: u32) -> Option<&'static Account> {
        let slot = usize::try_from(slot).ok()?;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn add(&mut self, hasher: &IdHashes, id: AccountId, asset: Asset) -> &'static Account {
        // 2^32 records of a shard would be 256 GiB.
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let account = self.take_free();
        account.name(id, asset);
        let Self { slots, chunks, .. } = self;
        let id_at = |slot: &u32| {
            let slot = usize::try_from(*slot).unwrap_or(0);
            hasher.hash_one(chunks[slot / CHUNK][slot % CHUNK].id())
        };
        slots.insert_unique(hasher.hash_one(id), slot, id_at);
        account
    }

    fn take_free(&mut self) -> &'static Account {
        if let Some((account, free)) = self.free.split_first() {
            self.free = free;
            return account;
        }
        let chunk: &'static [Account; CHUNK] = Box::leak(Box::new(std::array::from_fn(|_| Account::blank())));
        let [account, free @ ..] = chunk;
        self.chunks.push(chunk);
        self.free = free;
        account
    }
}

#[cfg(test)]
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
#[expect(clippy::disallowed_methods, reason = "races need threads")]
mod tests {
    use std::sync::{Arc, Barrier};
    use std::thread;

    use money::{Amount, Asset};

    use super::{CHUNK, SHARDS, Slab};
    use crate::{Account, AccountId};

    fn id(number: u32) -> AccountId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        AccountId(id)
    }

    /// Enough for several chunks and several sizes of the table in every shard.
    const MANY: u32 = (SHARDS * CHUNK * 4) as u32;

    #[test]
    fn what_was_opened_is_found_where_it_was() {
        let slab = Slab::default();
        let opened: Vec<&Account> = (0..MANY).map(|number| slab.open(id(number), Asset::Usdc)).collect();
        assert_eq!(slab.len(), MANY as usize);
        for (number, account) in (0..MANY).zip(&opened) {
            assert_eq!((account.id(), account.asset()), (id(number), Asset::Usdc));
            assert_eq!((account.available(), account.held()), (Amount::ZERO, Amount::ZERO));
            let found = slab.find(id(number), Asset::Usdc).unwrap();
            assert!(std::ptr::eq(*account, found) && std::ptr::eq(found, slab.open(id(number), Asset::Usdc)));
        }
        assert!(slab.find(id(MANY), Asset::Usdc).is_none() && slab.find(id(0), Asset::Usd).is_none());
        assert_eq!(slab.len(), MANY as usize);
    }

    /// LED-4: another asset of the same payer is another account, and the first stays the first.
    #[test]
    fn accounts_of_one_name_are_told_apart_by_asset() {
        let slab = Slab::default();
        assert!(slab.first(id(1)).is_none());
        let assets = [Asset::Usdt, Asset::Usd, Asset::Test];
        let opened = assets.map(|asset| slab.open(id(1), asset));
        for (account, asset) in opened.into_iter().zip(assets) {
            assert_eq!(account.asset(), asset);
            assert!(std::ptr::eq(account, slab.find(id(1), asset).unwrap()));
        }
        assert!(std::ptr::eq(slab.first(id(1)).unwrap(), opened[0]));
        assert!(std::ptr::eq(slab.open_first(id(1), Asset::Eur), opened[0]));
        assert_eq!(slab.open_first(id(2), Asset::Eur).asset(), Asset::Eur);
        assert_eq!(slab.len(), 4);
    }

    /// Threads that open the same accounts at once get the same records, and what one gives to one all see.
    #[test]
    fn opening_races() {
        const THREADS: usize = 4;
        let (slab, start) = (Arc::new(Slab::default()), Arc::new(Barrier::new(THREADS)));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (slab, start) = (Arc::clone(&slab), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    for number in 0..MANY {
                        slab.open(id(number), Asset::Usd).give(1);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(slab.len(), MANY as usize);
        let all = (0..MANY).map(|number| slab.find(id(number), Asset::Usd).unwrap().available().units());
        assert!(all.into_iter().all(|units| units == i64::try_from(THREADS).unwrap()));
    }
}
