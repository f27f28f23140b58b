//! The operating system's randomness.

/// `N` random bytes, or none where the system has no randomness.
pub(crate) fn bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// What spreads the rests of those who failed together.
pub(crate) fn spread() -> u16 {
    u16::from_be_bytes(bytes().unwrap_or_default())
}
