//! The operating system's randomness.

use std::cell::RefCell;

/// What is asked for at once for names.
const POOL_BYTES: usize = 4096;

/// `N` random bytes.
///
/// # Panics
/// Never: without randomness the process cannot make unguessable ids, so it stops instead.
#[must_use]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no randomness, stopping");
        std::process::abort();
    }
    bytes
}

/// The same for names, which are shown to everybody and open nothing: asked of the system for many at once, since each
/// request has one. What has to be kept secret must not wait in memory for its use, so it is not made of these.
#[must_use]
pub(crate) fn name<const N: usize>() -> [u8; N] {
    thread_local! {
        static POOL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    POOL.with_borrow_mut(|pool| {
        if pool.len() < N {
            *pool = bytes::<POOL_BYTES>().to_vec();
        }
        let mut name = [0; N];
        let rest = pool.len().saturating_sub(N);
        name.copy_from_slice(&pool[rest..]);
        pool.truncate(rest);
        name
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{POOL_BYTES, name};

    #[test]
    fn no_name_comes_twice() {
        let names: Vec<[u8; 16]> = (0..POOL_BYTES).map(|_| name()).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }
}
