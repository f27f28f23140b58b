//! The durable journal: one redb file behind one group-commit writer.
//!
//! Invariant: what was acknowledged survives a kill.
//!
//! The writer takes everything that waits, writes one transaction, syncs, and only then answers
//! (ledger.md 6.1). A failed sync is final: the store refuses everything from then on.

mod blank;
mod disk;
mod exposure;
mod head;
mod idempotent;
mod medium;
mod op;
mod options;
mod payment;
mod read;
mod reserve;
mod schema;
mod settings;
mod space;
mod store;
mod submitted;
mod tables;
mod tree;
mod writer;

pub use head::SignedHead;
pub use idempotent::Idempotent;
pub use op::{Committed, KeyRecord, Op, StoreError};
pub use options::{Durability, Exposure, Options};
pub use payment::{Attempt, Outcome, Payment, PaymentState};
pub use read::{Balance, Reader};
pub use reserve::Reserve;
pub use settings::{AccountMode, AccountSettings};
pub use space::Room;
pub use store::{QUEUE_MAX, Store};
pub use submitted::{Durable, Submitted};
pub use writer::SWEEP_ROWS_MAX;
