//! Every way a request is refused, and what each says: what, why, whose fault, what happened to the
//! money, what to do next (UX-5). One enum, one match per question.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use meter::Sdk;
use money::{Amount, Asset};
use serde::Serialize;
use serde_json::{Map, Value, json};
use wire::mpp::Problem;
use wire::x402::v1;

use crate::call_id::CallId;
use crate::mpp::problem_of;

/// Headers of ours in a refusal, at most, beside those it brings.
const HEADERS: usize = 8;
/// The longest wait that an SDK is left to sit out by itself.
const RETRY_SOON_SECONDS_MAX: u32 = 120;

/// The code of a refusal (experience.md section 3, reference items 3, 14, 46).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation: one page each in specs/errors.md")]
pub enum Code {
    PaymentRequired,
    InsufficientBalance,
    OverKeyBudget,
    OverTokenBudget,
    QuoteExpired,
    ProofExpired,
    ProofUnderpaid,
    ProofInvalid,
    WrongNetwork,
    WrongPayee,
    WrongAsset,
    MalformedCredential,
    AmbiguousCredentials,
    KeyUnknown,
    KeyExpired,
    KeyRevoked,
    HolderProofMissing,
    HolderProofInvalid,
    SignatureMissing,
    SignatureInvalid,
    SignatureUnverified,
    KeyForbidden,
    AgentBlocked,
    CrawlForbidden,
    VerificationFailed,
    AccountFrozen,
    RouteNotFound,
    ModelNotPriced,
    ReceiptNotFound,
    BadRequest,
    BadBody,
    MisdirectedRequest,
    MethodNotAllowed,
    RequestTimeout,
    InProgress,
    AlreadyServed,
    IdempotencyMismatch,
    IdConflict,
    ChannelGone,
    TransactionReverted,
    BodyTooLarge,
    UriTooLong,
    HeaderTooLarge,
    RateLimited,
    UpstreamFailed,
    UpstreamTimeout,
    FacilitatorFailed,
    SettlementFailed,
    Permit2AllowanceRequired,
    SettlementUnknown,
    StoreUnavailable,
    Overloaded,
    Draining,
    Internal,
}

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The one who pays.
    Payer,
    /// The one who calls.
    Caller,
    /// The operator or the upstream.
    Operator,
    /// This gateway, for now.
    Gateway,
}

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

impl Code {
    /// The word in bodies, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment_required",
            Self::InsufficientBalance => "insufficient_balance",
            Self::OverKeyBudget => "over_key_budget",
            Self::OverTokenBudget => "over_token_budget",
            Self::QuoteExpired => "quote_expired",
            Self::ProofExpired => "proof_expired",
            Self::ProofUnderpaid => "proof_underpaid",
            Self::ProofInvalid => "proof_invalid",
            Self::WrongNetwork => "wrong_network",
            Self::WrongPayee => "wrong_payee",
            Self::WrongAsset => "wrong_asset",
            Self::MalformedCredential => "malformed_credential",
            Self::AmbiguousCredentials => "ambiguous_credentials",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::KeyRevoked => "key_revoked",
            Self::HolderProofMissing => "holder_proof_missing",
            Self::HolderProofInvalid => "holder_proof_invalid",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureUnverified => "signature_unverified",
            Self::KeyForbidden => "key_forbidden",
            Self::AgentBlocked => "agent_blocked",
            Self::CrawlForbidden => "crawl_forbidden",
            Self::VerificationFailed => "verification_failed",
            Self::AccountFrozen => "account_frozen",
            Self::RouteNotFound => "route_not_found",
            Self::ModelNotPriced => "model_not_priced",
            Self::ReceiptNotFound => "receipt_not_found",
            Self::BadRequest => "bad_request",
            Self::BadBody => "bad_body",
            Self::MisdirectedRequest => "misdirected_request",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::InProgress => "in_progress",
            Self::AlreadyServed => "already_served",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::IdConflict => "id_conflict",
            Self::ChannelGone => "channel_gone",
            Self::TransactionReverted => "transaction_reverted",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::RateLimited => "rate_limited",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::FacilitatorFailed => "facilitator_failed",
            Self::SettlementFailed => "settlement_failed",
            Self::Permit2AllowanceRequired => wire::x402::permit2::ALLOWANCE_REQUIRED,
            Self::SettlementUnknown => "settlement_unknown",
            Self::StoreUnavailable => "store_unavailable",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::PaymentRequired
            | Self::InsufficientBalance
            | Self::OverKeyBudget
            | Self::OverTokenBudget
            | Self::QuoteExpired
            | Self::ProofExpired
            | Self::ProofUnderpaid
            | Self::ProofInvalid
            | Self::WrongNetwork
            | Self::WrongPayee
            | Self::WrongAsset
            | Self::MalformedCredential
            | Self::SettlementFailed => StatusCode::PAYMENT_REQUIRED,
            Self::AmbiguousCredentials | Self::BadRequest | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::KeyUnknown
            | Self::KeyExpired
            | Self::KeyRevoked
            | Self::HolderProofMissing
            | Self::HolderProofInvalid
            | Self::SignatureMissing
            | Self::SignatureInvalid
            | Self::SignatureUnverified => StatusCode::UNAUTHORIZED,
            Self::KeyForbidden
            | Self::AgentBlocked
            | Self::CrawlForbidden
            | Self::VerificationFailed
            | Self::AccountFrozen => StatusCode::FORBIDDEN,
            Self::RouteNotFound | Self::ModelNotPriced | Self::ReceiptNotFound => StatusCode::NOT_FOUND,
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::InProgress | Self::AlreadyServed | Self::IdConflict | Self::TransactionReverted => {
                StatusCode::CONFLICT
            }
            Self::ChannelGone => StatusCode::GONE,
            Self::Permit2AllowanceRequired => StatusCode::PRECONDITION_FAILED,
            Self::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::FacilitatorFailed
            | Self::SettlementUnknown
            | Self::StoreUnavailable
            | Self::Overloaded
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Self::RouteNotFound
            | Self::BadRequest
            | Self::BadBody
            | Self::ReceiptNotFound
            | Self::MisdirectedRequest
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::InProgress
            | Self::AlreadyServed
            | Self::IdempotencyMismatch
            | Self::IdConflict
            | Self::BodyTooLarge
            | Self::UriTooLong
            | Self::HeaderTooLarge
            | Self::RateLimited
            | Self::SignatureMissing
            | Self::SignatureInvalid
            | Self::AgentBlocked => Fault::Caller,
            Self::ModelNotPriced | Self::UpstreamFailed | Self::UpstreamTimeout | Self::FacilitatorFailed => {
                Fault::Operator
            }
            Self::SettlementUnknown
            | Self::StoreUnavailable
            | Self::Overloaded
            | Self::Draining
            | Self::SignatureUnverified
            | Self::Internal => Fault::Gateway,
            Self::PaymentRequired
            | Self::InsufficientBalance
            | Self::OverKeyBudget
            | Self::OverTokenBudget
            | Self::QuoteExpired
            | Self::ProofExpired
            | Self::ProofUnderpaid
            | Self::ProofInvalid
            | Self::WrongNetwork
            | Self::WrongPayee
            | Self::WrongAsset
            | Self::MalformedCredential
            | Self::AmbiguousCredentials
            | Self::KeyUnknown
            | Self::KeyExpired
            | Self::KeyRevoked
            | Self::HolderProofMissing
            | Self::HolderProofInvalid
            | Self::KeyForbidden
            | Self::CrawlForbidden
            | Self::VerificationFailed
            | Self::AccountFrozen
            | Self::SettlementFailed
            | Self::ChannelGone
            | Self::TransactionReverted
            | Self::Permit2AllowanceRequired => Fault::Payer,
        }
    }

    /// Whether the same request again can only be refused again: the stock SDKs would otherwise repeat a
    /// conflict by themselves (MTR-38).
    fn is_final(self) -> bool {
        matches!(self, Self::AlreadyServed | Self::IdConflict | Self::TransactionReverted)
            || self.asks_for_payment()
    }

    /// Whether the answer is a challenge. One of them has a status of its own (x402.md section 4).
    fn asks_for_payment(self) -> bool {
        self == Self::Permit2AllowanceRequired || self.status() == StatusCode::PAYMENT_REQUIRED
    }

    /// The `type` the Anthropic SDKs map to their error classes (UX-7).
    const fn anthropic_type(self) -> &'static str {
        match self.status().as_u16() {
            400 | 405 | 408 | 409 | 410 | 412 | 414 | 421 | 422 | 431 => "invalid_request_error",
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            _ => "api_error",
        }
    }

    /// The `type` of an OpenAI error object.
    const fn openai_type(self) -> &'static str {
        match self.status().as_u16() {
            401 => "authentication_error",
            402 => "payment_required",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    const fn title(self) -> &'static str {
        match self.status().as_u16() {
            402 => "Payment required",
            401 => "Credential refused",
            403 => "Not permitted",
            404 => "Not found",
            409 => "Conflict",
            410 => "Gone",
            412 => "Approval required",
            413 | 414 | 431 => "Too large",
            429 => "Too many requests",
            502 | 504 => "Upstream failed",
            503 => "Try again later",
            400..=499 => "Bad request",
            _ => "Gateway error",
        }
    }
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

/// The body of a refusal, written without a tree of values: anybody may ask for one, and pays nothing (PERF-33).
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    code: &'a str,
    fault: &'a str,
    money: &'a str,
    request_id: String,
    /// The error object of the SDK that called.
    error: Value,
    #[serde(rename = "x402Version", skip_serializing_if = "Option::is_none")]
    x402_version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepts: Option<&'a [v1::PaymentRequirements]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_up_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Value>,
    /// What clients of the `Payment` scheme look for.
    #[serde(flatten)]
    extensions: &'a Map<String, Value>,
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
    accepts: Option<Vec<v1::PaymentRequirements>>,
    top_up_url: Option<String>,
    /// Finer than the code says, for clients of the `Payment` scheme ...
    problem: Option<Problem>,
    /// ... with what their problem types carry: `challengeId`, `channelId`, `requiredTopUp`.
    extensions: Map<String, Value>,
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
            extensions: Map::new(),
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

    /// Makes it a challenge: the offers, as x402 v1 entries in the body and v2 in a header.
    #[must_use]
    pub(crate) fn offers(
        mut self,
        accepts: Vec<v1::PaymentRequirements>,
        payment_required: HeaderValue,
        top_up_url: String,
    ) -> Self {
        self.0.accepts = Some(accepts);
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
    pub(crate) fn extension(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(name.to_owned(), value.into());
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

    /// What it would say, for an answer that is no refusal itself.
    pub(crate) fn summary(&self) -> Value {
        let mut members = Map::new();
        members.insert("code".into(), self.0.code.name().into());
        members.insert("status".into(), self.0.code.status().as_u16().into());
        members.insert("detail".into(), self.0.detail.clone().into());
        let mut facts = self.fact_members("");
        facts.remove("money");
        members.extend(facts);
        Value::Object(members)
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
        headers.insert("farthing-request-id", call.header());
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // An SDK would try again within seconds.
        let is_far_off = self.0.retry_after_s.is_some_and(|seconds| seconds > RETRY_SOON_SECONDS_MAX);
        if self.0.code.is_final() || is_far_off {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
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

    fn body(&self, sdk: Sdk, call: CallId) -> Bytes {
        let (money, money_text) = self.0.money.facts();
        let message = format!("{} {money_text}", self.0.detail);
        let facts = self.fact_members(money);
        let error = match sdk {
            Sdk::OpenAi => {
                let mut error = Map::new();
                error.insert("type".into(), self.0.code.openai_type().into());
                error.insert("code".into(), self.0.code.name().into());
                error.insert("param".into(), Value::Null);
                error.insert("message".into(), message.into());
                error.extend(facts);
                Value::Object(error)
            }
            Sdk::Anthropic => {
                let mut details = Map::new();
                details.insert("error_code".into(), self.0.code.name().into());
                details.extend(facts);
                json!({"type": self.0.code.anthropic_type(), "message": message, "details": details})
            }
            Sdk::Gemini => {
                let status = self.0.code.status();
                let mut details = Map::new();
                details.insert("error_code".into(), self.0.code.name().into());
                details.extend(facts);
                json!({"code": status.as_u16(), "message": message, "status": google_status(status), "details": [details]})
            }
            // It prints nothing but a text.
            Sdk::Ollama => message.into(),
        };
        let kind = match self.0.problem.or(problem_of(self.0.code)) {
            Some(problem) => problem.uri(),
            None => format!("urn:farthing:problem:{}", self.0.code.name()),
        };
        let request_id = call.to_string();
        let document =
            Document {
                kind,
                title: self.0.code.title(),
                status: self.0.code.status().as_u16(),
                detail: &self.0.detail,
                instance: format!("/requests/{request_id}"),
                code: self.0.code.name(),
                fault: self.fault_name(),
                money,
                request_id,
                error,
                x402_version: self.0.accepts.as_ref().map(|_| v1::VERSION),
                accepts: self.0.accepts.as_deref(),
                top_up_url: self.0.top_up_url.as_deref(),
                balance: self.0.facts.balance.map(
                    |(amount, asset)| json!({"amount": amount.decimal(asset), "currency": asset.name()}),
                ),
                extensions: &self.0.extensions,
            };
        // It has string keys and no floats, so writing it cannot fail.
        serde_json::to_vec(&document).unwrap_or_default().into()
    }

    const fn fault_name(&self) -> &'static str {
        match self.0.code.fault() {
            Fault::Payer => "payer",
            Fault::Caller => "caller",
            Fault::Operator => "operator",
            Fault::Gateway => "gateway",
        }
    }

    fn fact_members(&self, money: &'static str) -> Map<String, Value> {
        let mut members = Map::new();
        let facts = &self.0.facts;
        if let Some((amount, asset)) = facts.need {
            members.insert("need".into(), amount.decimal(asset).into());
            members.insert("currency".into(), asset.name().into());
        }
        if let Some((amount, asset)) = facts.balance {
            members.insert("balance".into(), amount.decimal(asset).into());
        }
        if let Some(source) = facts.limit_source {
            members.insert("limit_source".into(), source.into());
        }
        if let Some(tokens) = facts.affordable_max_tokens {
            members.insert("affordable_max_tokens".into(), tokens.into());
        }
        if let Some(reason) = &facts.reason {
            members.insert("reason".into(), reason.clone().into());
        }
        if let Some(url) = &self.0.top_up_url {
            members.insert("top_up_url".into(), url.clone().into());
        }
        members.insert("money".into(), money.into());
        members
    }
}

/// Google's name for a status.
const fn google_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 413 | 422 | 431 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 | 405 | 410 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

/// What a field takes in a head: its name, its value, and what stands between.
pub(crate) fn field_bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + ": \r\n".len()
}

mod reader;

pub(crate) use reader::Reader;

#[cfg(test)]
mod tests;
