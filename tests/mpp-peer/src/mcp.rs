//! Messages of MCP.

use mpp::mcp as peer;
use mpp::{MppError, PaymentError, Receipt as TheirReceipt};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wire::mpp::{Challenge, Credential, Field, Problem, Receipt, mcp};

use crate::{credential, echoed, given, ours, theirs};

proptest! {
    #[test]
    fn they_read_our_errors(challenge in given::challenge(), other in given::challenge()) {
        let problem = Problem::VerificationFailed;
        let error = mcp::error(problem, &problem.document("why", None), &[challenge.clone(), other.clone()]);
        prop_assert!(peer::is_payment_required(&error));
        let read: Vec<Challenge> = peer::extract_challenges(&error).unwrap().iter().map(ours).collect();
        prop_assert_eq!(read, vec![challenge, other]);
    }

    #[test]
    fn we_read_their_errors(challenge in given::challenge()) {
        for (their, our) in [
            (MppError::payment_required_default(), Problem::PaymentRequired),
            (MppError::malformed_credential_default(), Problem::MalformedCredential),
            (MppError::invalid_payload_default(), Problem::InvalidPayload),
            (MppError::Internal("x".into()), Problem::InternalPaymentError),
            (MppError::verification_failed_default(), Problem::VerificationFailed),
            (MppError::invalid_challenge_default(), Problem::InvalidChallenge),
        ] {
            let error = peer::payment_required_error_with_problem(&theirs(&challenge), their.to_problem_details(None));
            prop_assert_eq!(i64::from(error.code), mcp::code(our));
            let error = serde_json::to_value(error).unwrap();
            let read = mcp::challenges_of_error(&error);
            let asks = [mcp::PAYMENT_REQUIRED, mcp::VERIFICATION_FAILED].contains(&mcp::code(our));
            prop_assert_eq!(read, if asks { vec![challenge.clone()] } else { vec![] });
        }
    }

    #[test]
    fn credentials_both_ways(given in given::credential()) {
        let mut params = Map::new();
        mcp::pay(&mut params, &given);
        let read = peer::extract_credential(&params["_meta"]).unwrap();
        prop_assert_eq!(echoed(&read.challenge), given.challenge.clone());
        prop_assert_eq!((read.source, read.payload), (given.source.clone(), Value::Object(given.payload.clone())));

        let mut params = json!({});
        peer::try_attach_credential(&mut params, &credential(&given)).unwrap();
        let expected = Credential { field: Field::PaymentAuthorization, ..given };
        prop_assert_eq!(mcp::credential(&json!({ "params": params })), Ok(Some(expected)));
    }

    #[test]
    fn receipts_both_ways(reference in ".{0,20}", at in 0u64..4_000_000_000) {
        let receipt = Receipt::new("lightning", &reference, &wire::rfc3339::format(at).unwrap());
        let mut result = Map::new();
        mcp::settled(&mut result, &receipt, "chal_1");
        let read: TheirReceipt = peer::extract_receipt(&result["_meta"]).unwrap();
        prop_assert_eq!(&read.reference, &reference);

        let mut result = json!({});
        let plain = TheirReceipt { extensions: serde_json::Map::new(), ..read };
        peer::try_attach_receipt(&mut result, &plain, "chal_1").unwrap();
        prop_assert_eq!(mcp::receipt(&result), Some(Receipt { challenge_id: Some("chal_1".into()), ..receipt }));
    }
}
