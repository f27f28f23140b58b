use proptest::prelude::*;

use super::{authorization_vectors, macaroon_vectors, three_caveats};
use crate::hex;
use crate::l402::credential::{Credential, CredentialError as E, LINES_MAX, VALUE_BYTES_MAX};
use crate::l402::{Preimage, Token, TokenError as T};
use crate::macaroon::{Macaroon, MacaroonError as M};

/// What came of it, in a form that can be compared: the credential as it would be sent again.
fn read(headers: &[(&str, &str)]) -> Result<Option<String>, E> {
    let lines = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    Ok(Credential::read(lines)?.map(|credential| credential.to_authorization()))
}

/// The token of the vectors, its preimage, and the credential of both.
fn parts() -> (String, String, String) {
    let (row, token) = three_caveats();
    let preimage = row["preimage"].as_str().unwrap().to_owned();
    let token = token.to_base64();
    let whole = format!("L402 {token}:{preimage}");
    (token, preimage, whole)
}

/// A token over another payment.
fn other() -> (String, String) {
    let row = macaroon_vectors().into_iter().find(|row| row["name"] == "root_key_zero").unwrap();
    (row["b64_std"].as_str().unwrap().to_owned(), row["preimage"].as_str().unwrap().to_owned())
}

/// Cases that are refused for what they look like; the rest of the rejects is `proof`'s matter.
#[test]
fn l402_10_11_12_14_16_17_20_22_vectors() {
    let rows = authorization_vectors();
    assert_eq!(rows.len(), 33);
    for row in &rows {
        let name = row["name"].as_str().unwrap();
        let headers = row["headers"].as_array().unwrap();
        let lines = headers.iter().map(|line| (line[0].as_str().unwrap(), line[1].as_str().unwrap()));
        let found = read(&lines.collect::<Vec<_>>());
        let expected = match name {
            "other_scheme" => Ok(false),
            "no_preimage" => Err(E::NoPreimage),
            "no_colon" => Err(E::NoSeparator),
            "short_preimage" | "long_preimage" => Err(E::Preimage),
            "third_party_caveat" => Err(E::Token(T::Macaroon(M::ThirdParty))),
            "trailing_bytes" | "huge_varint" => Err(E::Token(T::Macaroon(M::Malformed))),
            "nonminimal_varint" => Err(E::Token(T::Macaroon(M::NotMinimal))),
            "v1_format" => Err(E::Token(T::Macaroon(M::Version))),
            "bad_base64" | "mixed_alphabet" => Err(E::Token(T::Base64)),
            _ => Ok(true),
        };
        assert_eq!(found.map(|found| found.is_some()), expected, "{name}");
        assert!(expected == Ok(true) || row["expect"] != "accept", "{name}");
    }
}

#[test]
fn l402_11_12_13_14_17_authorization_table() {
    let (token, preimage, whole) = parts();
    let (foreign, _) = other();
    let taken = |value: &str| (value.to_owned(), Ok(Some(whole.clone())));
    let list = |count: usize| vec![token.as_str(); count].join(",");
    let long = "A".repeat(VALUE_BYTES_MAX);
    for (rule, (value, expected)) in [
        ("L402-11 plain", taken(&whole)),
        ("L402-11 old name, mixed case", taken(&format!("lSaT {token}:{preimage}"))),
        ("L402-11 white space around", taken(&format!(" \tL402    {token}:{preimage} \t"))),
        ("L402-11 upper hex", taken(&format!("L402 {token}:{}", preimage.to_ascii_uppercase()))),
        ("L402-12 url alphabet padded", taken(&whole.replace('+', "-").replace('/', "_"))),
        ("L402-12 unpadded", taken(&whole.replace('=', ""))),
        ("L402-16 another scheme", ("Basic YTpi".to_owned(), Ok(None))),
        ("L402-16 bearer of somebody else", ("Bearer sk-test".to_owned(), Ok(None))),
        ("L402-16 the scheme is a whole word", (format!("L402x {token}:{preimage}"), Ok(None))),
        ("L402-16 nothing", (String::new(), Ok(None))),
        ("L402-11 65 digits", (format!("{whole}0"), Err(E::Preimage))),
        ("L402-11 66 digits", (format!("{whole}00"), Err(E::Preimage))),
        ("L402-11 no digit", (format!("L402 {token}:{}", "g".repeat(64)), Err(E::Preimage))),
        ("L402-11 two colons", (format!("L402 {token}::{preimage}"), Err(E::Preimage))),
        ("L402-17 before payment", (format!("L402 {token}:"), Err(E::NoPreimage))),
        ("L402-17 scheme alone", ("L402".to_owned(), Err(E::NoSeparator))),
        (
            "L402-12 space in the list",
            (format!("L402 {token}, {token}:{preimage}"), Err(E::Token(T::Base64))),
        ),
        ("L402-12 empty token", (format!("L402 :{preimage}"), Err(E::Token(T::Macaroon(M::Version))))),
        ("L402-13 five tokens", (format!("L402 {}:{preimage}", list(5)), Err(E::TooManyTokens))),
        ("L402-13 too long", (format!("L402 {long}:{preimage}"), Err(E::TooLong(VALUE_BYTES_MAX + 65)))),
        ("L402-14 two payments", (format!("L402 {token},{foreign}:{preimage}"), Err(E::SeveralPayments))),
        (
            "L402-14 one is broken",
            (format!("L402 {token},AAAA:{preimage}"), Err(E::Token(T::Macaroon(M::Version)))),
        ),
    ] {
        assert_eq!(read(&[("Authorization", &value)]), expected, "{rule}");
    }
    let four = Credential::parse(&format!("L402 {}:{preimage}", list(4))).unwrap().unwrap();
    assert_eq!(four.tokens().len(), 4);
}

#[test]
fn l402_15_wrapped_forms() {
    let (token, preimage, whole) = parts();
    let credential = Credential::parse(&whole).unwrap().unwrap();
    let wrapped = credential.to_wrapped();
    assert!(wrapped.starts_with("l402_AgEEbHNhdAJC") && wrapped.contains(['-', '_']));
    let bearer = format!("bearer  {wrapped}");
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("X-Api-Key", &wrapped),
        ("api-key", &wrapped),
        ("x-goog-api-key", &wrapped),
    ] {
        assert_eq!(read(&[(name, value)]), Ok(Some(whole.clone())), "{name}");
    }
    let standard = format!("l402_{token}.{preimage}");
    for (rule, value, expected) in [
        ("L402-12 url alphabet only", standard.as_str(), Err(E::Token(T::Base64))),
        ("no full stop", "l402_AgEE", Err(E::NoSeparator)),
        ("two full stops", &format!("{wrapped}."), Err(E::Preimage)),
        ("no preimage", "l402_AgEE.", Err(E::NoPreimage)),
        ("upper-case prefix", "L402_AgEE.00", Ok(None)),
        ("with the scheme, in a key header", &bearer, Ok(None)),
        ("a credit key", "fk_test_AgIm", Ok(None)),
    ] {
        assert_eq!(read(&[("x-api-key", value)]), expected, "{rule}");
    }
}

#[test]
fn l402_15_hex_forms() {
    let row = macaroon_vectors().into_iter().find(|row| row["name"] == "preimage_caveat_form").unwrap();
    let value = row["v2_hex_js_macaroon"].as_str().unwrap();
    let upper = value.to_ascii_uppercase();
    for (name, value) in
        [("macaroon", value), ("Grpc-Metadata-Macaroon", &upper), ("token", value), ("Macaroon", &upper)]
    {
        let credential = Credential::read([(name, value.as_bytes())]).unwrap().unwrap();
        assert_eq!(
            hex::encode(credential.preimage().as_bytes()),
            row["preimage"].as_str().unwrap(),
            "{name}"
        );
        assert_eq!(credential.payment_hash().to_string(), row["payment_hash"].as_str().unwrap(), "{name}");
    }
    let bare = hex::encode(&three_caveats().1.macaroon().encode());
    assert_eq!(read(&[("macaroon", &bare)]), Err(E::NoPreimage));
    assert_eq!(read(&[("macaroon", "0g")]), Err(E::Hex));
    assert_eq!(read(&[("macaroon", "0203")]), Err(E::Token(T::Macaroon(M::Malformed))));
    // Anybody's header may be called so.
    assert_eq!(read(&[("token", "0g")]), Ok(None));
    assert_eq!(read(&[("token", &bare)]), Ok(None));
}

/// Settled: a malformed line is passed over when another decodes; two payments are ambiguous.
#[test]
fn l402_10_15_several_lines() {
    let (token, preimage, whole) = parts();
    let (foreign, foreign_preimage) = other();
    let lsat = format!("LSAT {token}:{preimage}");
    let another = format!("L402 {foreign}:{foreign_preimage}");
    let wrapped = Credential::parse(&another).unwrap().unwrap().to_wrapped();
    let broken = format!("L402 {token}:");
    let auth = "authorization";
    for (rule, headers, expected) in [
        ("as Go clients send it", vec![(auth, lsat.as_str()), (auth, &whole)], Ok(Some(whole.clone()))),
        ("a foreign line before", vec![(auth, "Bearer sk-test"), (auth, &whole)], Ok(Some(whole.clone()))),
        ("a foreign line after", vec![(auth, &whole), (auth, "Bearer sk-test")], Ok(Some(whole.clone()))),
        ("a malformed line before", vec![(auth, &broken), (auth, &whole)], Ok(Some(whole.clone()))),
        ("a malformed line after", vec![(auth, &whole), (auth, &broken)], Ok(Some(whole.clone()))),
        ("the first error", vec![(auth, &broken), (auth, "L402 x")], Err(E::NoPreimage)),
        ("two payments", vec![(auth, &whole), (auth, &another)], Err(E::Ambiguous)),
        ("two payments, two headers", vec![("x-api-key", &wrapped), (auth, &whole)], Err(E::Ambiguous)),
        ("nine lines", vec![(auth, "L402 x"); LINES_MAX + 1], Err(E::TooManyLines)),
        ("other headers", vec![("cookie", &whole), ("host", "a")], Ok(None)),
    ] {
        assert_eq!(read(&headers), expected, "{rule}");
    }
    assert_eq!(Credential::read([(auth, &b"L402 \xff"[..])]).map(|found| found.is_some()), Ok(false));
}

#[test]
fn l402_15_place_decides_between_tokens_of_one_payment() {
    let (_, preimage, _) = parts();
    let (_, mut token) = three_caveats();
    let preimage = Preimage::parse(&preimage).unwrap();
    // Each place brings the same payment with one more caveat.
    let mut credentials = vec![Credential::new(token.clone(), preimage.clone())];
    for _ in 0..3 {
        token.add_caveat(b"expires=1900000000").unwrap();
        credentials.push(Credential::new(token.clone(), preimage.clone()));
    }
    token.add_caveat(format!("preimage={}", hex::encode(preimage.as_bytes())).as_bytes()).unwrap();
    let hex = hex::encode(&token.macaroon().encode());
    let [scheme, bearer, key, google] = credentials.as_slice() else { panic!("four were made") };
    let mut headers = vec![
        ("macaroon", hex),
        ("x-goog-api-key", google.to_wrapped()),
        ("x-api-key", key.to_wrapped()),
        ("authorization", format!("Bearer {}", bearer.to_wrapped())),
        ("authorization", scheme.to_authorization()),
    ];
    for caveats in 3..=7 {
        let lines = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let taken = Credential::read(lines).unwrap().unwrap();
        assert_eq!(taken.tokens()[0].macaroon().caveats.len(), caveats);
        headers.pop();
    }
}

#[test]
fn l402_30_a_credit_key_is_no_l402_token() {
    let key = Macaroon::mint(&[1; 32], &[b"FK".as_slice(), &[1; 36]].concat(), None);
    assert!(Token::from_macaroon(key.clone()).is_none());
    let value = format!("L402 {}:{}", crate::base64::encode_std(&key.encode()), "00".repeat(32));
    assert_eq!(read(&[("authorization", &value)]), Err(E::Token(T::Identifier)));
}

#[test]
fn l402_23_debug_prints_no_secret() {
    let (_, preimage, whole) = parts();
    let credential = Credential::parse(&whole).unwrap().unwrap();
    let printed = format!("{credential:?}");
    assert!(printed.ends_with("1 tokens, preimage hidden)") && !printed.contains(&preimage), "{printed}");
}

#[test]
fn codes_tell_malformed_from_ambiguous() {
    assert_eq!((E::Ambiguous.code(), E::Ambiguous.reason()), ("ambiguous_credentials", "several_payments"));
    for error in [E::NoPreimage, E::Preimage, E::Token(T::Base64), E::TooLong(1), E::SeveralPayments] {
        assert_eq!(error.code(), "malformed_credential", "{error:?}");
    }
}

proptest! {
    #[test]
    fn any_lines_are_a_credential_or_an_error(
        names in proptest::collection::vec("(authorization|x-api-key|api-key|macaroon|token|x)", 0..4),
        value in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let _ = Credential::read(names.iter().map(|name| (name.as_str(), value.as_slice())));
    }

    #[test]
    fn credential_like_text_too(text in "(L402|lsat|Bearer l402_) ?[A-Za-z0-9+/=_.,:-]{0,120}") {
        let _ = Credential::parse(&text);
    }

    /// No alteration of one byte decodes to the same credential, except another spelling of it.
    #[test]
    fn one_byte_counts(index in 5usize..298, byte in 0x21u8..0x7f) {
        let (_, _, whole) = parts();
        let mut altered = whole.clone().into_bytes();
        let index = index.min(altered.len() - 1);
        altered[index] = byte;
        let altered = String::from_utf8(altered).unwrap();
        prop_assume!(!altered.eq_ignore_ascii_case(&whole));
        if let Ok(Some(read)) = Credential::parse(&altered) {
            prop_assert_ne!(read.to_authorization(), whole);
        }
    }

    #[test]
    fn what_we_write_is_read(preimage: [u8; 32], caveat in "[a-z]{1,9}=[a-z]{1,30}") {
        let (_, mut token) = three_caveats();
        token.add_caveat(caveat.as_bytes()).unwrap();
        let credential = Credential::new(token, Preimage::new(preimage));
        let again = Credential::parse(&credential.to_authorization()).unwrap().unwrap();
        prop_assert_eq!(again.to_authorization(), credential.to_authorization());
        let wrapped = format!("Bearer {}", credential.to_wrapped());
        let again = Credential::parse(&wrapped).unwrap().unwrap();
        prop_assert_eq!(again.to_authorization(), credential.to_authorization());
    }
}
