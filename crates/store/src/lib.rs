//! The durable journal: one redb file behind one group-commit writer.
//!
//! Invariant: what was acknowledged survives a kill.
//!
//! The writer takes everything that waits, writes one transaction, syncs, and only then answers
//! (ledger.md 6.1). A failed sync is final: the store refuses everything from then on.

mod op;
mod payment;
mod read;
mod tables;
mod writer;

pub use op::{Committed, KeyRecord, Op, StoreError};
pub use payment::{Outcome, Payment, PaymentState};
pub use read::{Balance, Reader};
pub use writer::{QUEUE_MAX, Store};
