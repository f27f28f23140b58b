//! Why a request is refused, in one word; one match per question about it.

use http::StatusCode;

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
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::AlreadyServed | Self::IdConflict | Self::TransactionReverted)
            || self.asks_for_payment()
    }

    /// Whether the answer is a challenge. One of them has a status of its own (x402.md section 4).
    pub(super) fn asks_for_payment(self) -> bool {
        self == Self::Permit2AllowanceRequired || self.status() == StatusCode::PAYMENT_REQUIRED
    }

    /// The `type` the Anthropic SDKs map to their error classes (UX-7).
    pub(super) const fn anthropic_type(self) -> &'static str {
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
    pub(super) const fn openai_type(self) -> &'static str {
        match self.status().as_u16() {
            401 => "authentication_error",
            402 => "payment_required",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    pub(super) const fn title(self) -> &'static str {
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

/// Google's name for a status.
pub(super) const fn google_status(status: StatusCode) -> &'static str {
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
