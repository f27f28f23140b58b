//! Calls that a route gives away: so many for each source and window, without payment.
//!
//! What was given is counted in memory and written behind the answer, so that a restart gives no second quota; a crash may
//! forget the calls of the last batch. An address stands in the store only as a hash with the store's own id.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use ledger::{Account, AccountId, AccountRef, Ended, HoldEnd};
use meter::Metered;
use money::Amount;
use sha2::{Digest, Sha256};
use store::{Op, Room, StoreError};

use crate::charge::Charge;
use crate::clock::Now;
use crate::config::Route;
use crate::facts::CallFacts;
use crate::gate::Gate;
use crate::limits::Source;
use crate::payer::{Payer, usual_asset};

/// The name in logs and facts.
pub(crate) const PROTOCOL: &str = "free";
/// Sources remembered at most. Beyond it nobody new is given anything until windows are over.
const SOURCES_MAX: usize = 100_000;

/// Who was given how much.
#[derive(Debug, Default)]
pub(crate) struct FreeCalls {
    /// Keeps what is written from being anybody else's index of addresses.
    salt: [u8; 16],
    /// By the end of the window, Unix seconds, and the source on a route.
    given: DashMap<(u64, [u8; 16]), u32>,
    /// When windows that are over were let go last, Unix seconds.
    swept_s: AtomicU64,
}

impl FreeCalls {
    /// What was given before this process.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn open(reader: &store::Reader, now: Now) -> Result<Self, StoreError> {
        let given = reader.free_calls()?.into_iter().filter(|((until_s, _), _)| *until_s > now.seconds());
        Ok(Self { salt: reader.store_id()?, given: given.collect(), swept_s: AtomicU64::default() })
    }

    /// Gives a call away, if the route has any left for this source; how many are left then.
    pub(crate) fn give(&self, gate: &Gate, route: &Route, source: Source, now: Now) -> Option<u32> {
        let rules = route.freebies.as_ref()?;
        // What cannot be written down would be given again after a restart.
        if gate.store.room() != Room::Ample {
            return None;
        }
        let window_s = rules.window.as_secs().max(1);
        let until_s = now.seconds() - now.seconds() % window_s + window_s;
        let who = self.who(&route.name, source);
        let used = self.count(until_s, who, rules.calls.get(), now.seconds())?;
        match gate.store.submit(Op::FreeCall { until_s, who, used }, None) {
            Ok(_) => Some(rules.calls.get() - used),
            Err(error) => {
                tracing::warn!(%error, "a call that could not be counted was not given away");
                None
            }
        }
    }

    /// One more, if there is one: which it is.
    fn count(&self, until_s: u64, who: [u8; 16], most: u32, now_s: u64) -> Option<u32> {
        if self.given.len() >= SOURCES_MAX {
            self.sweep(now_s);
        }
        let is_known = self.given.contains_key(&(until_s, who));
        if !is_known && self.given.len() >= SOURCES_MAX {
            return None;
        }
        let mut used = self.given.entry((until_s, who)).or_default();
        let next = used.checked_add(1).filter(|next| *next <= most)?;
        *used = next;
        Some(next)
    }

    /// At most once a second: whoever finds no room must not make us look for it each time.
    fn sweep(&self, now_s: u64) {
        if self.swept_s.swap(now_s, Ordering::AcqRel) != now_s {
            self.given.retain(|(until_s, _), _| *until_s > now_s);
        }
    }

    fn who(&self, route: &str, source: Source) -> [u8; 16] {
        let digest = Sha256::new_with_prefix(b"farthing/free-call/1")
            .chain_update(self.salt)
            .chain_update(source.bytes())
            .chain_update(route)
            .finalize();
        let mut who = [0; 16];
        who.copy_from_slice(&digest[..16]);
        who
    }
}

impl Charge {
    /// The write for a call that was given away: what it would have cost, and that nothing was taken.
    pub(crate) fn gift(&self, cost: &meter::Charge, metered: &Metered) -> Option<Op> {
        if !self.is_given || !self.status.is_success() || metered.upstream_error {
            return None;
        }
        let asset = usual_asset(self.gate.keys.mode);
        let nothing = Amount::ZERO;
        let nobody = AccountRef::from(Account::new(AccountId([0; 16]), asset, nothing, nothing));
        let payer = Payer { account: nobody, key: None, token: None, session: None, protocol: PROTOCOL };
        let ended = Ended { end: HoldEnd::Voided, captured: nothing, overrun: nothing, available: nothing };
        let facts = CallFacts {
            charge: self,
            payer: &payer,
            held_first: nothing,
            held: nothing,
            ended: &ended,
            cost,
            metered,
            finished: Now::read(),
        };
        Some(Op::Capture {
            id: self.call.0,
            entry: None,
            facts: facts.packed(),
            served: None,
            settles: None,
            income: None,
            idempotent: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{FreeCalls, SOURCES_MAX};
    use crate::limits::Source;

    #[test]
    fn sources_have_their_own_and_are_bounded() {
        let free = FreeCalls::default();
        let who = |route: &str, address: &str| free.who(route, Source::of(address.parse().unwrap()));
        let one = who("a", "198.51.100.1");
        for other in [who("b", "198.51.100.1"), who("a", "198.51.100.2"), who("a", "::1")] {
            assert_ne!(one, other);
        }
        assert_eq!(one, who("a", "::ffff:198.51.100.1"));
        assert_eq!(who("a", "2001:db8::1"), who("a", "2001:db8::ffff:1"), "a network of IPv6 is one");
        assert_eq!([1, 2, 3].map(|_| free.count(100, one, 2, 50)), [Some(1), Some(2), None]);
        assert_eq!(free.count(200, one, 2, 150), Some(1), "the next window");
        for number in 0..SOURCES_MAX {
            let mut who = [0; 16];
            who[..8].copy_from_slice(&number.to_be_bytes());
            free.count(200, who, 1, 150);
        }
        // Those whose window is over make room, and then there is none.
        assert_eq!(free.given.len(), SOURCES_MAX);
        assert_eq!(free.count(200, [0xff; 16], 1, 151), None);
        assert_eq!(free.count(200, one, 2, 151), Some(2), "who is known goes on");
        assert_eq!(free.count(300, [0xff; 16], 1, 201), Some(1));
    }
}
