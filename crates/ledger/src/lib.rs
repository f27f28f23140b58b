//! Accounts, holds and journal entries.
//!
//! Invariant: per asset, debits equal credits in every entry; available is below the floor by what was promised at most;
//! a hold ends exactly once.
#![deny(clippy::float_arithmetic)]

mod account;
mod account_ref;
pub mod audit;
mod book;
mod chart;
mod entry;
mod hold;
mod ids;
pub mod merkle;
mod pace;
mod slab;
mod sync;
mod tree_head;

pub use account::{Account, AccountId, AccountState, NotEmpty};
pub use account_ref::AccountRef;
pub use audit::{Audit, Checkpoint};
pub use book::{BUDGETS_PER_ACCOUNT_MAX, Balance, Book, Budget, Reserve};
pub use chart::{Chart, MEMO_FLAG, asset_of_code, leg_asset, memo_asset, window_link};
pub use entry::{Draft, Entry, EntryError, Flags, HASH_DOMAIN, Kind, Leg, LegDraft, REFERENCE_BYTES_MAX};
pub use hold::{Ended, HOLD_MAX, Hold, HoldEnd, ReserveError};
pub use ids::{IdHasher, IdHashes};
pub use pace::{Pace, Rate, TooEarly};
pub use tree_head::{TREE_HEAD_DOMAIN, TreeHead};
