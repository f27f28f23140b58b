//! A refusal with the problem type that clients of this scheme act on (mpp.md section 9).

use wire::mpp::problem::{LightningProblem, SessionProblem};
use wire::mpp::{CredentialError, Problem};

use crate::refusal::{Code, Facts, Refusal};

/// Nothing was taken. `reason` is the finer word for machines.
pub(crate) fn refused(problem: Problem, reason: &'static str, detail: &'static str) -> Refusal {
    let code = code_of(problem);
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(code, detail).facts(facts).problem(problem)
}

/// A credential that cannot be read.
pub(crate) fn undecodable(error: CredentialError) -> Refusal {
    let facts = Facts { reason: Some(error.reason().to_owned()), ..Facts::default() };
    if error.is_ambiguous() {
        return Refusal::new(Code::AmbiguousCredentials, "The request carries two payments.").facts(facts);
    }
    Refusal::new(Code::MalformedCredential, "The Payment credential cannot be decoded.").facts(facts)
}

/// The code of a problem, which has its status: each of the two words is for other readers.
const fn code_of(problem: Problem) -> Code {
    match problem {
        Problem::PaymentRequired | Problem::PaymentActionRequired => Code::PaymentRequired,
        Problem::PaymentInsufficient => Code::ProofUnderpaid,
        Problem::PaymentExpired => Code::ProofExpired,
        Problem::MalformedCredential | Problem::InvalidPayload => Code::MalformedCredential,
        Problem::InvalidChallenge | Problem::VerificationFailed => Code::ProofInvalid,
        Problem::Replayed => Code::VerificationFailed,
        Problem::MethodUnsupported | Problem::BadRequest => Code::BadRequest,
        Problem::InternalPaymentError => Code::Internal,
        Problem::Session(problem) => match problem {
            SessionProblem::InvalidSignature
            | SessionProblem::SignerMismatch
            | SessionProblem::AmountExceedsDeposit
            | SessionProblem::DeltaTooSmall
            | SessionProblem::ChallengeNotFound => Code::ProofInvalid,
            SessionProblem::InsufficientBalance => Code::InsufficientBalance,
            SessionProblem::ChannelNotFound | SessionProblem::ChannelFinalized => Code::ChannelGone,
            SessionProblem::TransactionReverted => Code::TransactionReverted,
        },
        Problem::Lightning(problem) => match problem {
            LightningProblem::MalformedCredential => Code::MalformedCredential,
            LightningProblem::ExpiredInvoice | LightningProblem::ChallengeExpired => Code::ProofExpired,
            LightningProblem::InsufficientBalance => Code::InsufficientBalance,
            LightningProblem::UnknownChallenge
            | LightningProblem::InvalidPreimage
            | LightningProblem::SessionNotFound
            | LightningProblem::SessionClosed
            | LightningProblem::InvalidReturnInvoice => Code::ProofInvalid,
        },
    }
}

/// The problem that a code stands for where nothing finer was said; none where it is no matter of payments.
pub(crate) const fn problem_of(code: Code) -> Option<Problem> {
    match code {
        Code::PaymentRequired => Some(Problem::PaymentRequired),
        Code::InsufficientBalance | Code::OverKeyBudget | Code::OverTokenBudget | Code::ProofUnderpaid => {
            Some(Problem::PaymentInsufficient)
        }
        Code::QuoteExpired | Code::ProofExpired => Some(Problem::PaymentExpired),
        Code::ProofInvalid
        | Code::WrongNetwork
        | Code::WrongPayee
        | Code::WrongAsset
        | Code::SettlementFailed => Some(Problem::VerificationFailed),
        Code::MalformedCredential => Some(Problem::MalformedCredential),
        Code::VerificationFailed => Some(Problem::Replayed),
        Code::AmbiguousCredentials => Some(Problem::BadRequest),
        Code::ChannelGone => Some(Problem::Session(SessionProblem::ChannelFinalized)),
        Code::TransactionReverted => Some(Problem::Session(SessionProblem::TransactionReverted)),
        Code::KeyUnknown
        | Code::KeyExpired
        | Code::KeyRevoked
        | Code::HolderProofMissing
        | Code::HolderProofInvalid
        | Code::SignatureMissing
        | Code::SignatureInvalid
        | Code::SignatureUnverified
        | Code::AgentBlocked
        | Code::CrawlForbidden
        | Code::KeyForbidden
        | Code::AccountFrozen
        | Code::RouteNotFound
        | Code::ModelNotPriced
        | Code::ReceiptNotFound
        | Code::BadRequest
        | Code::BadBody
        | Code::MisdirectedRequest
        | Code::MethodNotAllowed
        | Code::RequestTimeout
        | Code::InProgress
        | Code::AlreadyServed
        | Code::IdempotencyMismatch
        | Code::IdConflict
        | Code::BodyTooLarge
        | Code::UriTooLong
        | Code::HeaderTooLarge
        | Code::RateLimited
        | Code::UpstreamFailed
        | Code::UpstreamTimeout
        | Code::FacilitatorFailed
        | Code::Permit2AllowanceRequired
        | Code::SettlementUnknown
        | Code::StoreUnavailable
        | Code::Overloaded
        | Code::Draining
        | Code::Internal => None,
    }
}

#[cfg(test)]
mod tests {
    use wire::mpp::Problem;

    use super::{code_of, problem_of};

    /// One status, whichever word is read.
    #[test]
    fn a_problem_has_the_status_of_its_code() {
        for problem in Problem::all() {
            let code = code_of(problem);
            assert_eq!(code.status().as_u16(), problem.status(), "{problem:?}");
            if let Some(usual) = problem_of(code) {
                assert_eq!(usual.status(), problem.status(), "{problem:?}");
            }
        }
    }
}
