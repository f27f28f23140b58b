//! A medium that fails on purpose, a business that uses the store on it, and what must be true afterwards.

pub(crate) mod business;
pub(crate) mod dice;
pub(crate) mod platter;
pub(crate) mod verdict;
