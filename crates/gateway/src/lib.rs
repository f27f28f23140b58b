//! The gateway: accept, pipeline, upstream, configuration, admin, telemetry.
//!
//! Invariant: it sequences decisions and takes none about money.
//!
//! A request's path, in the order of the modules: `accept` -> `wall` -> `call` (route, `credential`,
//! `quote`, `challenge` or `payments`, `payer`, `upstream`, `charge`).

pub mod admin;
pub mod config;
pub mod keys;
pub mod refusal;
pub mod server;

mod accept;
mod admission;
mod aftercare;
mod alarm;
mod answered;
mod asked;
mod bill;
mod body;
mod call;
mod call_id;
mod call_log;
mod cashu;
mod catalogues;
mod challenge;
mod channels;
mod charge;
mod claims;
mod clock;
mod credential;
mod endpoints;
mod epilogue;
mod estimate;
mod estimates;
mod exchange;
mod extensions;
mod facilitators;
mod facts;
mod forwarded;
mod forwarding;
mod free_calls;
mod gate;
mod growth;
mod heads;
mod idempotency;
mod identity;
mod journalled;
mod landing;
mod lenient;
mod lightning;
mod limits;
mod local_executor;
mod mpp;
mod open_hold;
mod outliving;
mod passing;
mod payer;
mod payments;
mod payouts;
mod posting;
mod presence;
mod price_ask;
mod price_list;
mod promises;
mod quote;
mod random;
mod remembered;
mod replays;
mod resolver;
mod retention;
mod retries;
mod selling;
mod sending;
mod serving;
mod session;
mod settling;
mod silence;
mod snapshot;
mod submitting;
mod tape;
mod telemetry;
mod till;
mod tokens;
mod top_ups;
mod tunnel;
mod unseen;
mod upstream;
mod wall;

pub use call_id::CallId;
pub use clock::Now;
pub use price_ask::{PriceAsk, PriceAskError, price};
pub use price_list::{PriceChange, PriceList, PriceListError};
