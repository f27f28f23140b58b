//! A Cashu mint: its keysets, and the swap by which ecash of a payer becomes ours (NUT-02, 03, 07, 09, 12).
//!
//! A token is a copy of something: until it is swapped, whoever has seen it can spend it. A swap spends the payer's coins
//! for coins that only we know, in one step of the mint. Its outcome is settled, refused or unknown; what is unknown is
//! found out by asking for the signatures of our coins again, which are the same for the same payment.

mod keysets;
mod plan;
mod swap;

use std::fmt;
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::cashu::mint;

use crate::dial::{Dialer, Origin};
use crate::{Answer, Exchange, ExchangeError};

pub use keysets::{Keyset, Keysets, LearnError, MINT_NUTS};
pub use plan::{Plan, PlanError};
pub use swap::{Found, Said, Swapped};

/// Largest answer of a mint that is read: a keyset is some 6 KB, a list of keysets of an old mint more.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

/// A mint of the operator's choice (SEC-40).
#[derive(Clone)]
pub struct Mint {
    /// Its URL as payers write it, without a slash at its end.
    pub url: String,
    /// Where it listens.
    pub origin: Origin,
    /// Path before `/v1`, without a slash at its end.
    pub base: String,
    /// Opens connections.
    pub dialer: Dialer,
    /// For one question.
    pub time_max: Duration,
}

impl Mint {
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ExchangeError> {
        let path = format!("{}/v1/{path}", self.base);
        let exchange = Exchange {
            origin: &self.origin,
            method,
            path: &path,
            body,
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        exchange.run(&self.dialer).await
    }

    async fn post(&self, path: &str, question: &impl Serialize) -> Result<Answer, ExchangeError> {
        // Objects of ours have text keys and no floats, so writing them cannot fail.
        let body = serde_json::to_vec(question).map_err(|_| ExchangeError::NotSent)?;
        self.ask(Method::POST, path, Bytes::from(body)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        read(self.ask(Method::GET, path, Bytes::new()).await)
    }
}

/// A good answer; none for any other.
fn read<T: DeserializeOwned>(answer: Result<Answer, ExchangeError>) -> Option<T> {
    let answer = answer.ok().filter(|answer| answer.status == 200)?;
    mint::read(&answer.body)
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mint({})", self.url)
    }
}
