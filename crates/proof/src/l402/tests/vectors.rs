//! Tokens of other minters: their identifiers are not ours, so root keys are looked up as the files say.

use std::collections::HashMap;

use serde_json::Value;
use wire::hex;
use wire::l402::{Credential, Identifier};
use zeroize::Zeroizing;

use super::CONTEXT;
use crate::caveat::{self, Context, UnknownCaveats};
use crate::l402::L402Error;
use crate::l402::verify::{Origin, open_all};

type Roots = HashMap<Vec<u8>, [u8; 32]>;

/// Every step but the deposit's terms.
fn verdict(credential: &Credential, roots: &Roots, context: &Context<'_>) -> Result<(), L402Error> {
    let opened = open_all(credential, |identifier: &Identifier| {
        let root = roots.get(identifier.encode().as_slice()).ok_or(L402Error::Unknown)?;
        Ok(Origin { root: Zeroizing::new(*root), asset: None, sold: () })
    })?;
    let mut verdicts = opened.iter().map(|((), opened)| caveat::permit(&opened.caveats, context));
    verdicts.next().unwrap().map_err(L402Error::from)
}

#[test]
fn l402_10_11_14_16_17_50_51_authorization() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/authorization.json")).unwrap();
    let context = &file["context"];
    assert_eq!(
        (context["now"].as_u64(), context["service"].as_str()),
        (Some(1_790_000_000), Some("inference"))
    );
    let roots: Roots = context["root_key_by_identifier"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, root)| (hex::decode(id).unwrap(), hex::decode_array(root.as_str().unwrap()).unwrap()))
        .collect();
    let mut counts = HashMap::new();
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let headers = case["headers"].as_array().unwrap();
        let lines =
            headers.iter().map(|line| (line[0].as_str().unwrap(), line[1].as_str().unwrap().as_bytes()));
        let found = match Credential::read(lines) {
            Ok(None) => "ignore",
            Err(error) => {
                assert_eq!(error.code(), "malformed_credential", "{name}");
                "reject"
            }
            Ok(Some(credential)) => match verdict(&credential, &roots, &CONTEXT) {
                Ok(()) => "accept",
                Err(error) => {
                    let expected = match name {
                        "wrong_preimage" | "payment_hash_as_preimage" => "preimage_mismatch",
                        "attenuation_widens_expiry" => "caveat_widened",
                        _ => "token_unknown",
                    };
                    assert_eq!(error.reason(), expected, "{name}");
                    "reject"
                }
            },
        };
        assert_eq!(found, case["expect"].as_str().unwrap(), "{name}");
        *counts.entry(found).or_insert(0) += 1;
    }
    assert_eq!(counts, HashMap::from([("accept", 14), ("reject", 18), ("ignore", 1)]));
}

/// Every macaroon of two other libraries, as a whole credential with its preimage.
#[test]
fn l402_20_51_52_53_54_macaroons() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/macaroons.json")).unwrap();
    let (mut accepted, mut refused_by_default) = (0, Vec::new());
    for row in file["macaroons"].as_array().unwrap() {
        let text = |member: &str| row[member].as_str().unwrap();
        let roots = Roots::from([(
            hex::decode(text("identifier")).unwrap(),
            hex::decode_array(text("root_key")).unwrap(),
        )]);
        let of = |unknown, require_scope| {
            let authorization = format!("L402 {}:{}", text("b64_std"), text("preimage"));
            // Another kind or length of identifier is refused before anything is checked.
            let credential = Credential::parse(&authorization).map_err(|error| error.reason())?.unwrap();
            let context = Context { unknown, require_scope, ..CONTEXT };
            verdict(&credential, &roots, &context).map_err(|error| error.reason())
        };
        let expected = match text("name") {
            "widened_expiry_bad" | "widened_services_bad" | "tier_escalation_bad" => Err("caveat_widened"),
            "expired_bad" => Err("token_expired"),
            "unknown_identifier_version_bad" | "truncated_identifier_bad" => Err("identifier_unknown"),
            _ => Ok(()),
        };
        assert_eq!(of(UnknownCaveats::Skip, false), expected, "{}", text("name"));
        assert_eq!(expected.is_err(), text("expect") == "reject", "{}", text("name"));
        if expected.is_ok() {
            accepted += 1;
            if let Err(reason) = of(UnknownCaveats::Reject, true) {
                refused_by_default.push((text("name").to_owned(), reason));
            }
        }
    }
    assert_eq!(accepted, 10);
    let unknown = |name: &str| (name.to_owned(), "unknown_caveat");
    assert_eq!(
        refused_by_default,
        [
            ("no_caveats".to_owned(), "token_unscoped"),
            unknown("six_caveats_volume"),
            unknown("long_caveat_varint2"),
            unknown("utf8_caveat"),
        ]
    );
}
