//! The operating system's randomness.

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
