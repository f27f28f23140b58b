//! The durable journal: one redb file and a log beside it, behind one group-commit writer.
//!
//! Invariant: what was acknowledged survives a kill.
//!
//! The writer takes everything that waits, writes, syncs once, and only then answers (ledger.md 6.1).
//! Payments, charges and all else that comes with each call are durable in the log first, and share a later
//! transaction of the database. A failed sync is final: the store refuses everything from then on.

mod backup;
mod bell;
mod blank;
mod cashu;
mod channel;
mod check;
mod credit_lot;
mod disk;
mod exposure;
mod facts;
mod head;
mod idempotent;
mod journal;
mod lightning_session;
mod log;
mod lot;
mod medium;
mod meta;
mod op;
mod open_call;
mod options;
mod payment;
mod payout;
mod read;
mod recent;
mod reserve;
mod roll;
mod schema;
mod segment;
mod settings;
mod space;
mod store;
mod submitted;
mod tables;
mod top_up;
mod tree;
mod view;
mod writer;

pub use backup::{RestoreError, restore};
pub use cashu::{CashuCoin, CashuSignature, CashuState, CashuSwap, CashuWrite};
pub use channel::{
    Channel, ChannelClose, ChannelKind, ChannelMirror, ChannelRefund, ChannelTransaction, ChannelWrite,
    Promise,
};
pub use check::{CheckOptions, Finding, PaymentProblem, PayoutProblem, Report, TopUpProblem, check};
pub use credit_lot::{CreditLot, LotBook, LotKind, NotRefundable, Paid, RefundPolicy, Refundable};
pub use facts::{Fact, Facts, facts_json};
pub use head::SignedHead;
pub use idempotent::Idempotent;
pub use lightning_session::{LightningSession, SessionClose, SessionDeposit, SessionRefund, SessionWrite};
pub use lot::{Lot, Taken};
pub use op::{Committed, KeyRecord, Op, StoreError};
pub use open_call::{OpenCall, OwedInput};
pub use options::{Durability, Exposure, Options};
pub use payment::{Attempt, Outcome, Payment, PaymentState, Promised};
pub use payout::{Asking, Payout, PayoutState, PayoutStep};
pub use read::{Balance, FreeCall, Reader};
pub use reserve::Reserve;
pub use roll::Rolled;
pub use settings::{AccountMode, AccountSettings};
pub use space::Room;
pub use store::{Media, QUEUE_MAX, Store};
pub use submitted::{Durable, NotTaken, Submitted};
pub use top_up::{
    CodeStep, Parked, ParkedWhy, Redeemed, RedemptionCode, RefundState, RefundStep, TopUp, TopUpRefund,
    TopUpState, TopUpStep,
};
pub use view::view;
pub use writer::SWEEP_ROWS_MAX;
