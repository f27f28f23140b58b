use serde_json::Value;

use super::{cases, vectors};
use crate::mpp::Problem;
use crate::mpp::problem::{LightningProblem, SessionProblem};

#[test]
fn problems_of_mppx() {
    let file = vectors!("problem-types");
    for case in cases(&file, 19) {
        let (class, expected) = (case["class"].as_str().unwrap(), &case["problem"]);
        if class == "PaymentError" {
            // The base class of the others: it has no type, and no server answers with it.
            assert_eq!(expected.get("type"), None);
            continue;
        }
        let uri = expected["type"].as_str().unwrap();
        let problem = Problem::all().into_iter().find(|problem| problem.uri() == uri).unwrap();
        assert_eq!(problem.status(), case["status"], "{class}");
        let mut document = problem.document(expected["detail"].as_str().unwrap(), Some("chal_1"));
        if let Some(hint) = expected.get("hint") {
            document.insert("hint".into(), hint.clone());
        }
        if problem == Problem::InternalPaymentError {
            // What this server did wrong concerns no challenge.
            assert_eq!(document.get("challengeId"), None);
            document.insert("challengeId".into(), "chal_1".into());
        }
        assert_eq!(Value::Object(document), *expected, "{class}");
    }
}

/// The table of section 9: paying again is offered exactly where it is safe.
#[test]
fn statuses_and_challenges() {
    use Problem as P;
    for (problem, status, challenge) in [
        (P::PaymentRequired, 402, true),
        (P::PaymentInsufficient, 402, true),
        (P::PaymentExpired, 402, true),
        (P::MalformedCredential, 402, true),
        (P::InvalidChallenge, 402, true),
        (P::InvalidPayload, 402, true),
        (P::VerificationFailed, 402, true),
        (P::Replayed, 403, false),
        (P::PaymentActionRequired, 402, true),
        (P::MethodUnsupported, 400, false),
        (P::BadRequest, 400, false),
        (P::InternalPaymentError, 500, false),
        (P::Session(SessionProblem::InsufficientBalance), 402, true),
        (P::Session(SessionProblem::ChannelNotFound), 410, false),
        (P::Session(SessionProblem::ChannelFinalized), 410, false),
        (P::Session(SessionProblem::TransactionReverted), 409, false),
        (P::Lightning(LightningProblem::SessionClosed), 402, true),
    ] {
        assert_eq!((problem.status(), problem.has_challenge()), (status, challenge), "{problem:?}");
    }
    assert_eq!(P::Replayed.uri(), P::VerificationFailed.uri());
    let uris: std::collections::BTreeSet<_> = Problem::all().iter().map(|problem| problem.uri()).collect();
    assert_eq!(uris.len(), Problem::all().len() - 1, "each type once, but for a replay's");
}
