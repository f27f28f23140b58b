//! Which payments are being brought in right now.

use std::sync::Arc;

use dashmap::DashMap;

/// Payments in flight: each deposit key at most once.
#[derive(Debug, Default)]
pub(crate) struct Claims(DashMap<[u8; 32], ()>);

/// The right to bring one payment in. Dropped when the call it was made for has ended and that is durable.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    key: [u8; 32],
}

impl Claims {
    pub(crate) fn take(self: &Arc<Self>, key: [u8; 32]) -> Option<Claim> {
        let mut fresh = false;
        self.0.entry(key).or_insert_with(|| fresh = true);
        fresh.then(|| Claim { claims: Arc::clone(self), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Claims;

    #[test]
    fn a_claim_is_taken_once_until_it_is_let_go() {
        let claims = Arc::new(Claims::default());
        let first = claims.take([1; 32]);
        assert!(first.is_some() && claims.take([1; 32]).is_none() && claims.take([2; 32]).is_some());
        drop(first);
        assert!(claims.take([1; 32]).is_some());
    }
}
