//! Problem documents: types, statuses, members.

use mpp::{MppError, PaymentError};
use serde_json::Value;
use wire::mpp::Problem;
use wire::mpp::problem::SessionProblem as S;

/// Each problem of theirs with ours.
fn pairs() -> Vec<(MppError, Problem)> {
    let why = || Some("why".to_owned());
    vec![
        (MppError::payment_required_default(), Problem::PaymentRequired),
        (MppError::PaymentInsufficient(why()), Problem::PaymentInsufficient),
        (MppError::PaymentExpired(why()), Problem::PaymentExpired),
        (MppError::MalformedCredential(why()), Problem::MalformedCredential),
        (MppError::invalid_challenge_reason("why"), Problem::InvalidChallenge),
        (MppError::InvalidPayload(why()), Problem::InvalidPayload),
        (MppError::VerificationFailed(why()), Problem::VerificationFailed),
        (MppError::CredentialReplayed(why()), Problem::Replayed),
        (MppError::PaymentActionRequired(why()), Problem::PaymentActionRequired),
        (MppError::unsupported_method(&"x"), Problem::MethodUnsupported),
        (MppError::BadRequest(why()), Problem::BadRequest),
        (MppError::InvalidSignature(why()), Problem::Session(S::InvalidSignature)),
        (MppError::SignerMismatch(why()), Problem::Session(S::SignerMismatch)),
        (MppError::AmountExceedsDeposit(why()), Problem::Session(S::AmountExceedsDeposit)),
        (MppError::DeltaTooSmall(why()), Problem::Session(S::DeltaTooSmall)),
        (MppError::InsufficientBalance(why()), Problem::Session(S::InsufficientBalance)),
        (MppError::ChannelNotFound(why()), Problem::Session(S::ChannelNotFound)),
        (MppError::ChannelClosed(why()), Problem::Session(S::ChannelFinalized)),
    ]
}

/// The titles differ: theirs are names of classes, ours those of mppx. The hint is theirs alone.
#[test]
fn documents_are_the_same_but_for_title_and_hint() {
    for (their, our) in pairs() {
        let mut document = serde_json::to_value(their.to_problem_details(Some("chal_1"))).unwrap();
        let detail = document["detail"].as_str().unwrap().to_owned();
        let ours = our.document(&detail, Some("chal_1"));
        let members = document.as_object_mut().unwrap();
        members.remove("hint");
        members.insert("title".into(), our.title().into());
        assert_eq!(document, Value::Object(ours), "{our:?}");
    }
}

/// Ours names no challenge in a mistake of its own; theirs names the one it is given.
#[test]
fn a_mistake_of_the_server() {
    let theirs = MppError::Internal("x".into()).to_problem_details(None);
    let ours = Problem::InternalPaymentError;
    assert_eq!((theirs.problem_type, theirs.status), (ours.uri(), ours.status()));
    assert!(!ours.document("x", Some("chal_1")).contains_key("challengeId"));
}
