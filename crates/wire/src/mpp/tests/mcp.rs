use serde_json::{Value, json};

use super::{challenge, object, vectors};
use crate::mpp::mcp::*;
use crate::mpp::{Challenge, Credential, CredentialError as E, Field, Problem, Receipt};

fn exchange(at: usize) -> Value {
    let exchanges = vectors!("mcp-exchanges")["exchanges"].clone();
    assert_eq!(exchanges.as_array().unwrap().len(), 3);
    exchanges[at].clone()
}

fn paying() -> Credential {
    Credential {
        challenge: Challenge { opaque: Some("eyJhIjoiMSJ9".into()), ..challenge() },
        source: None,
        payload: object(&json!({"preimage": "07"})),
        field: Field::PaymentAuthorization,
    }
}

/// The three exchanges of mppx. That the third echo was altered is told by its id, in `proof::mpp`.
#[test]
fn exchanges_of_mppx() {
    for (at, problem) in [(0, Problem::PaymentRequired), (2, Problem::InvalidChallenge)] {
        let expected = exchange(at)["response"]["error"].clone();
        let challenges = challenges_of_error(&expected);
        assert_eq!(challenges.len(), 1);
        let document = object(&expected["data"]["problem"]);
        assert_eq!(error(problem, &document, &challenges), expected);
        assert_eq!(problem.uri(), expected["data"]["problem"]["type"]);
    }
    let unpaid = exchange(0)["request"].clone();
    assert_eq!((kind(&unpaid), credential(&unpaid)), (Kind::Payable, Ok(None)));

    let paid = exchange(1);
    let read = credential(&paid["request"]).unwrap().unwrap();
    let offered = challenges_of_error(&exchange(0)["response"]["error"]);
    assert_eq!(vec![read.challenge.clone()], offered, "brought back to the text that the id is made over");
    let mut params = object(&json!({"name": "chat", "arguments": {"prompt": "hi"}}));
    pay(&mut params, &read);
    assert_eq!(Value::Object(params), paid["request"]["params"]);

    let receipt = receipt(&paid["response"]["result"]).unwrap();
    let mut result = object(&json!({"content": [{"type": "text", "text": "ok"}]}));
    settled(&mut result, &Receipt { challenge_id: None, ..receipt.clone() }, &read.challenge.id);
    assert_eq!(Value::Object(result), paid["response"]["result"]);

    let altered = credential(&exchange(2)["request"]).unwrap().unwrap();
    assert_eq!(altered.challenge.id, read.challenge.id);
    assert_ne!(altered.challenge.slots(), read.challenge.slots());
}

#[test]
fn both_places_of_a_credential() {
    let mut params = object(&json!({"_meta": {"progressToken": 1}}));
    pay(&mut params, &paying());
    let sent = params["_meta"][CREDENTIAL].clone();
    assert_eq!(params["_meta"]["progressToken"], 1);
    let mut other = sent.clone();
    other["payload"] = json!({});
    let meta = |value: &Value| json!({ CREDENTIAL: value });
    for (what, message, expected) in [
        ("in params", json!({"params": params}), Ok(Some(paying()))),
        ("at the root", json!({"_meta": meta(&sent)}), Ok(Some(paying()))),
        ("in both, the same", json!({"_meta": meta(&sent), "params": params}), Ok(Some(paying()))),
        ("in both", json!({"_meta": meta(&other), "params": params}), Err(E::Ambiguous)),
        ("in none", json!({"params": {"_meta": {}}, "_meta": {"x": 1}}), Ok(None)),
        ("no object", json!({"_meta": meta(&json!("text"))}), Err(E::Member("object"))),
        ("no challenge", json!({"_meta": meta(&json!({"payload": {}}))}), Err(E::Member("challenge"))),
        (
            "one that cannot be read",
            json!({"_meta": meta(&json!(1)), "params": params}),
            Err(E::Member("object")),
        ),
    ] {
        assert_eq!(credential(&message), expected, "{what}");
    }
}

/// Text or object, `opaque` or `meta`: the text that the id is made over is the same.
#[test]
fn every_spelling_of_an_echo() {
    let native = paying().to_members();
    for (what, change) in [
        ("request as text", json!({"request": paying().challenge.request})),
        ("opaque as an object", json!({"opaque": {"a": "1"}})),
        ("meta beside opaque", json!({"meta": {"b": "2"}})),
        ("order of members", json!({"request": {"currency": "sat", "amount": "1"}})),
    ] {
        let mut members = native.clone();
        let challenge = members["challenge"].as_object_mut().unwrap();
        challenge.extend(object(&change));
        let message = json!({"params": {"_meta": {CREDENTIAL: members}}});
        assert_eq!(credential(&message), Ok(Some(paying())), "{what}");
    }
    let mut members = native;
    let challenge = members["challenge"].as_object_mut().unwrap();
    challenge.remove("opaque");
    challenge.insert("meta".into(), json!({"a": "1"}));
    let message = json!({"params": {"_meta": {CREDENTIAL: members}}});
    assert_eq!(credential(&message), Ok(Some(paying())), "meta alone");
}

/// Challenges go only where paying again is of use.
#[test]
fn codes() {
    for (problem, code, status, challenges) in [
        (Problem::PaymentRequired, -32_042, 402, 1),
        (Problem::VerificationFailed, -32_043, 402, 1),
        (Problem::PaymentExpired, -32_043, 402, 1),
        (Problem::MalformedCredential, -32_602, 402, 1),
        (Problem::InvalidPayload, -32_602, 402, 1),
        (Problem::Replayed, -32_043, 403, 0),
        (Problem::BadRequest, -32_043, 400, 0),
        (Problem::InternalPaymentError, -32_603, 500, 0),
    ] {
        let error = error(problem, &problem.document("why", None), &[challenge()]);
        assert_eq!(error["code"], code, "{problem:?}");
        assert_eq!(error["data"]["httpStatus"], status, "{problem:?}");
        assert_eq!(error["message"], "why");
        assert_eq!(error["data"]["challenges"].as_array().unwrap().len(), challenges, "{problem:?}");
    }
}

#[test]
fn a_challenge_that_cannot_be_read_hides_no_other() {
    let good = challenge();
    let mut native = good.to_object();
    native.insert("request".into(), good.request_object().unwrap().into());
    let bad = [json!(7), json!({}), json!({"id": ""})];
    let bad = bad.into_iter().chain(["id", "realm", "method", "intent", "request"].map(|name| {
        let mut without = native.clone();
        without.remove(name);
        Value::Object(without)
    }));
    let mut all: Vec<Value> = bad.collect();
    all.push(Value::Object(native));
    let error = |code: i64, data: Value| json!({"code": code, "data": data});
    let listed = json!({ "challenges": all });
    assert_eq!(challenges_of_error(&error(-32_042, listed.clone())), std::slice::from_ref(&good));
    assert_eq!(challenges_of_error(&error(-32_043, listed.clone())), std::slice::from_ref(&good));
    assert_eq!(challenges_of_error(&error(-32_000, listed.clone())), []);
    assert_eq!(challenges_of_error(&error(-32_042, json!({}))), []);
    assert_eq!(challenges_of_result(&json!({"_meta": {REQUIRED: listed}})), [good]);
    assert_eq!(challenges_of_result(&json!({"content": []})), []);
}

#[test]
fn kinds_of_messages() {
    for (message, expected) in [
        (json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}), Kind::Payable),
        (json!({"jsonrpc": "2.0", "id": "a", "method": "resources/read"}), Kind::Payable),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/get"}), Kind::Payable),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}), Kind::Free),
        (json!({"jsonrpc": "2.0", "method": "tools/call"}), Kind::Notification),
        (json!({"jsonrpc": "2.0", "id": null, "method": "tools/call"}), Kind::Other),
        (json!({"jsonrpc": "2.0", "id": 1, "result": {}}), Kind::Other),
        (json!({"id": 1, "method": "tools/call"}), Kind::Other),
        (json!([{"jsonrpc": "2.0", "id": 1, "method": "tools/call"}]), Kind::Other),
    ] {
        assert_eq!(kind(&message), expected, "{message}");
    }
}

#[test]
fn receipts_name_their_challenge() {
    let mut result = object(&json!({"_meta": 7}));
    settled(&mut result, &Receipt::new("lightning", "ab", "2026-03-10T21:00:00Z"), "aWQ");
    let result = Value::Object(result);
    assert_eq!(receipt(&result).unwrap().challenge_id.as_deref(), Some("aWQ"));
    let mut without = result.clone();
    without["_meta"][RECEIPT].as_object_mut().unwrap().remove("challengeId");
    assert_eq!(receipt(&without), None);
    assert_eq!(receipt(&json!({})), None);
}

#[test]
fn what_a_server_can_be_paid_with() {
    let payment =
        capability([("lightning", "charge"), ("evm", "charge"), ("lightning", "session"), ("evm", "charge")]);
    assert_eq!(
        payment,
        json!({"methods": {"lightning": {"intents": ["charge", "session"]}, "evm": {"intents": ["charge"]}}})
    );
    let capabilities = json!({"experimental": {"payment": payment}});
    assert!(supports(&capabilities, "lightning", "session"));
    assert!(!supports(&capabilities, "evm", "session"));
    assert!(!supports(&json!({}), "evm", "charge"));
}
