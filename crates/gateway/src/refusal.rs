//! Every way a request is refused, and what each says: what, why, whose fault, what happened to the
//! money, what to do next (UX-5).

mod body;
mod code;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use meter::Sdk;
use money::{Amount, Asset};
use serde_json::Value;
use wire::mpp::Problem;

pub use code::{Code, Fault};
pub(crate) use reader::Reader;

use crate::call_id::CallId;

const REQUEST_ID: HeaderName = HeaderName::from_static("farthing-request-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Headers of ours in a refusal, at most, beside those it brings.
const HEADERS: usize = 8;
/// The longest wait that an SDK is left to sit out by itself.
const RETRY_SOON_SECONDS_MAX: u32 = 120;

/// What happened to the money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Money {
    /// Nothing was taken and no proof was used up.
    NothingTaken,
    /// The payment was deposited and stays as balance of its account.
    DepositKept,
    /// It is not known whether the payment moved. The same request again finds out; a new payment
    /// might pay twice.
    Unknown,
    /// An earlier copy of this request decides.
    FirstAttemptDecides,
    /// The call was charged; its receipt has this id.
    Captured(CallId),
}

impl Money {
    fn facts(&self) -> (&'static str, &'static str) {
        match self {
            Self::NothingTaken => ("nothing_taken", "Nothing was taken."),
            Self::DepositKept => ("deposit_kept", "The payment stays as balance of your account."),
            Self::Unknown => (
                "unknown",
                "It is not known yet whether the payment moved: send the same request again, do not pay again.",
            ),
            Self::FirstAttemptDecides => {
                ("first_attempt_decides", "An earlier copy of this request decides; nothing more was taken.")
            }
            Self::Captured(_) => ("captured", "The call was charged once; its receipt says for what."),
        }
    }
}

/// What a payer needs to know to choose the next step (UX-9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the call needs, and in which asset.
    pub need: Option<(Amount, Asset)>,
    /// What the account has.
    pub balance: Option<(Amount, Asset)>,
    /// Which limit refused: `balance`, `token_budget`, `per_call` ...
    pub limit_source: Option<&'static str>,
    /// Output tokens the balance would cover.
    pub affordable_max_tokens: Option<u64>,
    /// Finer reason than the code.
    pub reason: Option<String>,
}

/// A refusal on its way to the client.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    detail: String,
    money: Money,
    facts: Facts,
    retry_after_s: Option<u32>,
    headers: HeaderMap,
    /// Entries of x402 v1, each as JSON.
    accepts: Option<Arc<[String]>>,
    top_up_url: Option<String>,
    /// Finer than the code says, for clients of the `Payment` scheme ...
    problem: Option<Problem>,
    /// ... with what their problem types carry: `challengeId`, `channelId`, `requiredTopUp`.
    extensions: BTreeMap<&'static str, Value>,
}

impl Refusal {
    /// A refusal that took nothing. `detail` is for people and never echoes input.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            money: Money::NothingTaken,
            facts: Facts::default(),
            retry_after_s: None,
            headers: HeaderMap::new(),
            accepts: None,
            top_up_url: None,
            problem: None,
            extensions: BTreeMap::new(),
        }))
    }

    /// Says what happened to the money.
    #[must_use]
    pub fn money(mut self, money: Money) -> Self {
        self.0.money = money;
        self
    }

    /// Adds the payer's facts.
    #[must_use]
    pub fn facts(mut self, facts: Facts) -> Self {
        self.0.facts = facts;
        self
    }

    /// Asks to come back after `seconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// Adds a header of ours.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Whether it says something in this header already.
    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        self.0.headers.contains_key(name)
    }

    /// Adds a line of ours to a field that may have several.
    #[must_use]
    pub(crate) fn line(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// What its headers take so far.
    pub(crate) fn headers_bytes(&self) -> usize {
        self.0.headers.iter().map(|(name, value)| field_bytes(name, value)).sum()
    }

    /// The same facts and headers under another code: what it asks for cannot be had now.
    #[must_use]
    pub(crate) fn instead(mut self, code: Code, detail: &'static str) -> Self {
        (self.0.code, self.0.detail) = (code, detail.to_owned());
        (self.0.accepts, self.0.top_up_url, self.0.problem) = (None, None, None);
        self.0.headers.remove("payment-required");
        self.0.headers.remove(header::WWW_AUTHENTICATE);
        self
    }

    /// Makes it a challenge: the offers, as x402 v1 entries in the body, each as JSON, and v2 in a header.
    #[must_use]
    pub(crate) fn offers(
        mut self,
        accepts: Arc<[String]>,
        payment_required: HeaderValue,
        top_up_url: String,
    ) -> Self {
        self.0.accepts = Some(accepts);
        // Also for those that come later.
        self.0.headers.reserve(HEADERS + 1);
        self.0.headers.insert(HeaderName::from_static("payment-required"), payment_required);
        self.0.top_up_url = Some(top_up_url);
        self
    }

    /// Says which problem of the `Payment` scheme it is.
    #[must_use]
    pub(crate) const fn problem(mut self, problem: Problem) -> Self {
        self.0.problem = Some(problem);
        self
    }

    /// Adds a member that problems of the `Payment` scheme have.
    #[must_use]
    pub(crate) fn extension(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(name, value.into());
        self
    }

    /// Whether a payment would help.
    #[must_use]
    pub fn is_payable(&self) -> bool {
        self.0.code.asks_for_payment()
    }

    /// Whether a payment would help, and it is not said yet how one is made.
    pub(crate) fn lacks_offers(&self) -> bool {
        self.is_payable() && self.0.accepts.is_none()
    }

    /// Finer reason than the code, where there is one.
    #[cfg(test)]
    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.facts.reason.as_deref()
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// The whole answer: at once a problem (RFC 9457), an x402 v1 body and an error object of the SDK
    /// that called.
    #[must_use]
    pub fn response(mut self, sdk: Sdk, call: CallId) -> Response<Bytes> {
        let mut response = Response::new(self.body(sdk, call));
        *response.status_mut() = self.0.code.status();
        *response.headers_mut() = std::mem::take(&mut self.0.headers);
        let headers = response.headers_mut();
        // Makes room once, instead of each time it is full.
        headers.reserve(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, call.header());
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // An SDK would try again within seconds.
        let is_far_off = self.0.retry_after_s.is_some_and(|seconds| seconds > RETRY_SOON_SECONDS_MAX);
        if self.0.code.is_final() || is_far_off {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.is_payable() {
            let exposed = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, WWW-Authenticate, X-Cashu, \
                           Payment-Receipt, Retry-After";
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
        }
        if let Money::Captured(receipt) = self.0.money {
            headers.insert("farthing-receipt", receipt.header());
        }
        response
    }
}

/// What a field takes in a head: its name, its value, and what stands between.
pub(crate) fn field_bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + ": \r\n".len()
}

#[cfg(test)]
mod tests;
