//! What is being done right now and must not be done twice: payments that are brought in, requests that
//! named themselves.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Work in flight: each key at most once, with the fingerprint of the request that it is done for.
#[derive(Debug, Default)]
pub(crate) struct Claims(DashMap<[u8; 32], [u8; 32]>);

/// The right to do it. Dropped when the call it was made for has ended and that is durable.
///
/// It has no timer of its own: whoever took a claim away from a holder that still works would let a payment
/// be served twice. It ends with its holder, and each step of a holder has an end: connecting and settling
/// have theirs, an answer has `first_byte` and `stream_idle`, a client that does not read has `write_stall`, a
/// client that has gone has `drain_up_to`, a call as a whole has the deadline of its hold, and a store that does
/// not write stops the process (LED-16, LED-18). A panic ends it too. Nothing of it outlives the process.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    key: [u8; 32],
    /// What else was taken with it: the other coins of a token.
    more: Vec<[u8; 32]>,
}

/// Somebody has the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// For this request.
    pub(crate) fingerprint: [u8; 32],
}

impl Claims {
    /// Takes the claim of a key.
    ///
    /// # Errors
    /// [`InFlight`]: come back later.
    pub(crate) fn take(self: &Arc<Self>, key: [u8; 32], fingerprint: [u8; 32]) -> Result<Claim, InFlight> {
        self.enter(key, fingerprint)?;
        Ok(Claim { claims: Arc::clone(self), key, more: Vec::new() })
    }

    /// Takes the claims of several keys, or of none.
    ///
    /// # Errors
    /// [`InFlight`] of the first that somebody has.
    pub(crate) fn take_all(
        self: &Arc<Self>,
        keys: &[[u8; 32]],
        fingerprint: [u8; 32],
    ) -> Result<Claim, InFlight> {
        let (first, rest) = keys.split_first().ok_or(InFlight { fingerprint })?;
        let mut claim = self.take(*first, fingerprint)?;
        for key in rest {
            self.enter(*key, fingerprint)?;
            claim.more.push(*key);
        }
        Ok(claim)
    }

    fn enter(&self, key: [u8; 32], fingerprint: [u8; 32]) -> Result<(), InFlight> {
        match self.0.entry(key) {
            Entry::Occupied(taken) => Err(InFlight { fingerprint: *taken.get() }),
            Entry::Vacant(free) => {
                free.insert(fingerprint);
                Ok(())
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for key in std::iter::once(&self.key).chain(&self.more) {
            self.claims.0.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Claims, InFlight};

    /// LED-18.
    #[test]
    fn a_claim_is_taken_once_until_it_is_let_go() {
        let claims = Arc::new(Claims::default());
        let first = claims.take([1; 32], [7; 32]);
        assert!(first.is_ok() && claims.take([2; 32], [7; 32]).is_ok());
        assert_eq!(claims.take([1; 32], [8; 32]).err(), Some(InFlight { fingerprint: [7; 32] }));
        drop(first);
        assert!(claims.take([1; 32], [8; 32]).is_ok());
    }

    /// CASHU-12: a token with a coin of another waits for that one, and takes nothing meanwhile.
    #[test]
    fn cashu_12_several_are_taken_together_or_not_at_all() {
        let claims = Arc::new(Claims::default());
        let first = claims.take_all(&[[1; 32], [2; 32]], [7; 32]).unwrap();
        assert_eq!(
            claims.take_all(&[[3; 32], [2; 32]], [8; 32]).err(),
            Some(InFlight { fingerprint: [7; 32] })
        );
        assert!(claims.take([3; 32], [8; 32]).is_ok(), "nothing is kept of what was refused");
        assert!(claims.take([2; 32], [8; 32]).is_err());
        drop(first);
        assert!(claims.take_all(&[[1; 32], [2; 32], [3; 32]], [8; 32]).is_ok());
        assert!(claims.0.is_empty());
        assert!(claims.take_all(&[], [8; 32]).is_err());
    }

    /// LED-16: a holder that ends in a panic lets go as well.
    #[test]
    fn a_panic_lets_go() {
        let claims = Arc::new(Claims::default());
        let ours = Arc::clone(&claims);
        let ended = std::thread::spawn(move || {
            let _claim = ours.take([1; 32], [7; 32]);
            panic!("as a call may");
        });
        assert!(ended.join().is_err());
        assert!(claims.take([1; 32], [7; 32]).is_ok());
    }
}
