//! The way to the upstream and back: pooled connections, requests built anew, answers cut to a list.

mod answer;
mod credit;
pub(crate) mod grpc;
mod h1;
mod h2;
mod key_search;
mod outgoing;
mod pool;
pub(crate) mod websocket;

pub(crate) use answer::{AnswerHead, FIELDS, FREE_FIELDS, answer_head};
pub(crate) use credit::{is_out as is_out_of_credit, is_out_by_head as is_out_of_credit_by_head};
pub(crate) use key_search::{KeySearch, KeySeen, KeyWatch};
pub(crate) use outgoing::{Outgoing, RequestBody};
pub(crate) use pool::{BodyError, NotReady, Pool, Ready, SendError, UpstreamBody, Way};
