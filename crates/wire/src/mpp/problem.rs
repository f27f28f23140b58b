//! The problem types of the scheme, with their statuses (MPP section 9).

use serde_json::{Map, Value};

/// What every type's URI starts with.
pub const BASE: &str = "https://paymentauth.org/problems/";

/// One problem type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// No credential.
    PaymentRequired,
    /// Balance or proof too small.
    PaymentInsufficient,
    /// The challenge has expired and nothing was claimed.
    PaymentExpired,
    /// A credential that cannot be read.
    MalformedCredential,
    /// Unknown, foreign or altered, or for another route.
    InvalidChallenge,
    /// The payload has not the shape of its method.
    InvalidPayload,
    /// The proof is wrong.
    VerificationFailed,
    /// The proof was spent before: no challenge, no further payment.
    Replayed,
    /// The payer has to do something first, as with 3-D Secure.
    PaymentActionRequired,
    /// Not a method or an intent that is offered.
    MethodUnsupported,
    /// Two credentials.
    BadRequest,
    /// A mistake of the server.
    InternalPaymentError,
    /// A problem of a session on vouchers.
    Session(SessionProblem),
    /// A problem of Lightning.
    Lightning(LightningProblem),
}

/// Problem types under `session/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionProblem {
    /// The voucher's signature is not one.
    InvalidSignature,
    /// It is somebody else's.
    SignerMismatch,
    /// The voucher is above the deposit.
    AmountExceedsDeposit,
    /// The voucher adds too little.
    DeltaTooSmall,
    /// Nothing is left; `requiredTopUp` says how much is missing.
    InsufficientBalance,
    /// The challenge is not known to the session.
    ChallengeNotFound,
    /// There is no such channel.
    ChannelNotFound,
    /// The channel is closed or closing.
    ChannelFinalized,
    /// The transaction on chain failed.
    TransactionReverted,
}

/// Problem types under `lightning/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LightningProblem {
    /// A credential that cannot be read.
    MalformedCredential,
    /// A challenge that was not issued, or is used up.
    UnknownChallenge,
    /// The preimage does not open the payment hash.
    InvalidPreimage,
    /// The invoice has expired.
    ExpiredInvoice,
    /// The challenge has expired.
    ChallengeExpired,
    /// There is no such session.
    SessionNotFound,
    /// The session is closed.
    SessionClosed,
    /// The session's balance is used up.
    InsufficientBalance,
    /// Nothing can be paid back to this invoice.
    InvalidReturnInvoice,
}

impl Problem {
    /// Every type once.
    #[must_use]
    pub fn all() -> Vec<Self> {
        use LightningProblem as L;
        use SessionProblem as S;
        let sessions = [
            S::InvalidSignature,
            S::SignerMismatch,
            S::AmountExceedsDeposit,
            S::DeltaTooSmall,
            S::InsufficientBalance,
            S::ChallengeNotFound,
            S::ChannelNotFound,
            S::ChannelFinalized,
            S::TransactionReverted,
        ];
        let lightning = [
            L::MalformedCredential,
            L::UnknownChallenge,
            L::InvalidPreimage,
            L::ExpiredInvoice,
            L::ChallengeExpired,
            L::SessionNotFound,
            L::SessionClosed,
            L::InsufficientBalance,
            L::InvalidReturnInvoice,
        ];
        [
            Self::PaymentRequired,
            Self::PaymentInsufficient,
            Self::PaymentExpired,
            Self::MalformedCredential,
            Self::InvalidChallenge,
            Self::InvalidPayload,
            Self::VerificationFailed,
            Self::Replayed,
            Self::PaymentActionRequired,
            Self::MethodUnsupported,
            Self::BadRequest,
            Self::InternalPaymentError,
        ]
        .into_iter()
        .chain(sessions.map(Self::Session))
        .chain(lightning.map(Self::Lightning))
        .collect()
    }

    /// The last part of the type's URI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment-required",
            Self::PaymentInsufficient => "payment-insufficient",
            Self::PaymentExpired => "payment-expired",
            Self::MalformedCredential => "malformed-credential",
            Self::InvalidChallenge => "invalid-challenge",
            Self::InvalidPayload => "invalid-payload",
            Self::VerificationFailed | Self::Replayed => "verification-failed",
            Self::PaymentActionRequired => "payment-action-required",
            Self::MethodUnsupported => "method-unsupported",
            Self::BadRequest => "bad-request",
            Self::InternalPaymentError => "internal-payment-error",
            Self::Session(problem) => problem.name(),
            Self::Lightning(problem) => problem.name(),
        }
    }

    /// The type.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{BASE}{}", self.name())
    }

    /// The status it is answered with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::PaymentRequired
            | Self::PaymentInsufficient
            | Self::PaymentExpired
            | Self::MalformedCredential
            | Self::InvalidChallenge
            | Self::InvalidPayload
            | Self::VerificationFailed
            | Self::PaymentActionRequired
            | Self::Lightning(_) => 402,
            Self::Replayed => 403,
            Self::MethodUnsupported | Self::BadRequest => 400,
            Self::InternalPaymentError => 500,
            Self::Session(problem) => problem.status(),
        }
    }

    /// Whether a fresh challenge goes with it: whether paying again is safe and of use.
    #[must_use]
    pub const fn has_challenge(self) -> bool {
        self.status() == 402
    }

    /// For a person.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::PaymentRequired => "Payment Required",
            Self::PaymentInsufficient => "Payment Insufficient",
            Self::PaymentExpired => "Payment Expired",
            Self::MalformedCredential => "Malformed Credential",
            Self::InvalidChallenge => "Invalid Challenge",
            Self::InvalidPayload => "Invalid Payload",
            Self::VerificationFailed | Self::Replayed => "Verification Failed",
            Self::PaymentActionRequired => "Payment Action Required",
            Self::MethodUnsupported => "Method Unsupported",
            Self::BadRequest => "Bad Request",
            Self::InternalPaymentError => "Internal Payment Error",
            Self::Session(problem) => problem.title(),
            Self::Lightning(problem) => problem.title(),
        }
    }

    /// The members of a problem document, with `challengeId` where a challenge is concerned; a mistake of the server
    /// names none.
    #[must_use]
    pub fn document(self, detail: &str, challenge_id: Option<&str>) -> Map<String, Value> {
        let challenge_id = challenge_id.filter(|_| self != Self::InternalPaymentError);
        let members = [
            ("type", Some(Value::from(self.uri()))),
            ("title", Some(self.title().into())),
            ("status", Some(self.status().into())),
            ("detail", Some(detail.into())),
            ("challengeId", challenge_id.map(Value::from)),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

impl SessionProblem {
    /// The problem that a method has for it which has no types of its own for sessions (`solana`): all are answered with a
    /// fresh challenge.
    #[must_use]
    pub const fn plain(self) -> Problem {
        match self {
            Self::InsufficientBalance => Problem::PaymentInsufficient,
            Self::ChallengeNotFound => Problem::InvalidChallenge,
            Self::InvalidSignature
            | Self::SignerMismatch
            | Self::AmountExceedsDeposit
            | Self::DeltaTooSmall
            | Self::ChannelNotFound
            | Self::ChannelFinalized
            | Self::TransactionReverted => Problem::VerificationFailed,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::InvalidSignature => "session/invalid-signature",
            Self::SignerMismatch => "session/signer-mismatch",
            Self::AmountExceedsDeposit => "session/amount-exceeds-deposit",
            Self::DeltaTooSmall => "session/delta-too-small",
            Self::InsufficientBalance => "session/insufficient-balance",
            Self::ChallengeNotFound => "session/challenge-not-found",
            Self::ChannelNotFound => "session/channel-not-found",
            Self::ChannelFinalized => "session/channel-finalized",
            Self::TransactionReverted => "session/transaction-reverted",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::InvalidSignature
            | Self::SignerMismatch
            | Self::AmountExceedsDeposit
            | Self::DeltaTooSmall
            | Self::InsufficientBalance
            | Self::ChallengeNotFound => 402,
            Self::ChannelNotFound | Self::ChannelFinalized => 410,
            Self::TransactionReverted => 409,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::InvalidSignature => "Invalid Signature",
            Self::SignerMismatch => "Signer Mismatch",
            Self::AmountExceedsDeposit => "Amount Exceeds Deposit",
            Self::DeltaTooSmall => "Delta Too Small",
            Self::InsufficientBalance => "Insufficient Balance",
            Self::ChallengeNotFound => "Challenge Not Found",
            Self::ChannelNotFound => "Channel Not Found",
            // The title of deployed software, whose type says `finalized`.
            Self::ChannelFinalized => "Channel Closed",
            Self::TransactionReverted => "Transaction Reverted",
        }
    }
}

impl LightningProblem {
    const fn name(self) -> &'static str {
        match self {
            Self::MalformedCredential => "lightning/malformed-credential",
            Self::UnknownChallenge => "lightning/unknown-challenge",
            Self::InvalidPreimage => "lightning/invalid-preimage",
            Self::ExpiredInvoice => "lightning/expired-invoice",
            Self::ChallengeExpired => "lightning/challenge-expired",
            Self::SessionNotFound => "lightning/session-not-found",
            Self::SessionClosed => "lightning/session-closed",
            Self::InsufficientBalance => "lightning/insufficient-balance",
            Self::InvalidReturnInvoice => "lightning/invalid-return-invoice",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::MalformedCredential => "Malformed Credential",
            Self::UnknownChallenge => "Unknown Challenge",
            Self::InvalidPreimage => "Invalid Preimage",
            Self::ExpiredInvoice => "Expired Invoice",
            Self::ChallengeExpired => "Challenge Expired",
            Self::SessionNotFound => "Session Not Found",
            Self::SessionClosed => "Session Closed",
            Self::InsufficientBalance => "Insufficient Balance",
            Self::InvalidReturnInvoice => "Invalid Return Invoice",
        }
    }
}
