use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::cbor::Writer;
use super::{Dleq, KeysetId, PROOFS_MAX, Point, Proof, TOKEN_BYTES_MAX, Token, TokenError as E};
use crate::base64;

const KEYSET: &str = "009a1f293253e41e";

fn coin(amount: u64, secret: &str) -> Proof {
    let keyset = KeysetId::parse(KEYSET).unwrap();
    Proof { amount, keyset, secret: secret.to_owned(), signature: Point([2; 33]), dleq: None }
}

fn token(proofs: Vec<Proof>) -> Token {
    Token { mint: "https://mint.example".to_owned(), unit: "sat".to_owned(), proofs }
}

fn v3(document: &Value) -> Result<Token, E> {
    Token::parse(&format!("cashuA{}", base64::encode_url(document.to_string().as_bytes())))
}

fn v4(bytes: &[u8]) -> Result<Token, E> {
    Token::parse(&format!("cashuB{}", base64::encode_url(bytes)))
}

/// A token that a real wallet made.
#[test]
fn cashu_1_a_real_token_is_read_and_written() {
    let vector: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/cashu_x_cashu.json")).unwrap();
    let (text, expect) = (vector["x_cashu"].as_str().unwrap(), &vector["expect"]);
    let read = Token::parse(text).unwrap();
    assert_eq!(
        (read.amount(), read.unit.as_str(), read.mint.as_str()),
        (10, "sat", expect["mint"].as_str().unwrap())
    );
    let amounts: Vec<u64> = read.proofs.iter().map(|proof| proof.amount).collect();
    assert_eq!(json!(amounts), expect["proof_amounts"]);
    assert_eq!(read.encode().trim_end_matches('='), text);
}

#[test]
fn cashu_1_what_is_written_is_read() {
    let evidence = Dleq { e: [1; 32], s: [2; 32], r: [3; 32] };
    let other = KeysetId::parse(&format!("01{}", "ab".repeat(32))).unwrap();
    let made = token(vec![
        coin(8, "a"),
        Proof { dleq: Some(evidence), ..coin(1 << 40, "b") },
        Proof { keyset: other, ..coin(2, "c") },
    ]);
    assert_eq!(Token::parse(&made.encode()), Ok(made.clone()));
    assert_eq!(made.amount(), (1 << 40) + 10);
    assert_eq!(Token::parse(made.encode().trim_end_matches('=')), Ok(made));
}

#[test]
fn cashu_1_version_3_is_read() {
    let proof = json!({"amount": 2, "id": KEYSET, "secret": "s", "C": "02".repeat(33), "dleq": null});
    let entry = json!({"mint": "https://mint.example//", "proofs": [proof]});
    let expected = Ok(token(vec![coin(2, "s")]));
    for document in [json!({"token": [entry], "unit": "sat", "memo": "x"}), json!({"token": [entry]})] {
        assert_eq!(v3(&document), expected);
    }
    let signed = json!({"amount": 2, "id": KEYSET, "secret": "s", "C": "02".repeat(33), "dleq":
        {"e": "01".repeat(32), "s": "02".repeat(32), "r": "03".repeat(32)}});
    let found = v3(&json!({"token": [{"mint": "m", "proofs": [signed]}]})).unwrap();
    assert!(found.proofs[0].dleq == Some(Dleq { e: [1; 32], s: [2; 32], r: [3; 32] }));
    for (document, error) in [
        (json!({"token": [entry, entry], "unit": "sat"}), E::SeveralMints),
        (json!({"token": []}), E::SeveralMints),
        (json!({"token": [{"mint": "m", "proofs": []}]}), E::Proofs),
        (json!({"token": [{"mint": "m", "proofs": vec![proof.clone(); PROOFS_MAX + 1]}]}), E::Proofs),
        (json!({"token": [{"mint": "m", "proofs": [proof, proof]}]}), E::Twice),
        (json!({"token": [{"mint": "m", "proofs": [{"amount": -2}]}]}), E::Malformed),
        (json!({"token": [entry], "unit": 1}), E::Malformed),
        (json!([]), E::Malformed),
    ] {
        assert_eq!(v3(&document), Err(error), "{document}");
    }
}

#[test]
fn cashu_1_what_is_no_token() {
    let good = token(vec![coin(1, "s")]);
    let many = token((0..=PROOFS_MAX).map(|n| coin(1, &n.to_string())).collect());
    let of = |change: fn(&mut Token)| {
        let mut token = good.clone();
        change(&mut token);
        token.encode()
    };
    for (text, error) in [
        (String::new(), E::Version),
        ("cashuC00".to_owned(), E::Version),
        ("cashu€".to_owned(), E::Version),
        ("creqAoA".to_owned(), E::Version),
        ("cashuB!".to_owned(), E::Malformed),
        (format!("cashuB{}", "A".repeat(TOKEN_BYTES_MAX)), E::TooLong),
        (many.encode(), E::Proofs),
        (of(|token| token.proofs.clear()), E::Proofs),
        (of(|token| token.proofs.push(token.proofs[0].clone())), E::Twice),
        (of(|token| token.proofs[0].amount = 0), E::Malformed),
        (of(|token| token.proofs[0].secret.clear()), E::Malformed),
        (of(|token| token.proofs[0].secret = "s".repeat(1025)), E::Malformed),
        (of(|token| token.mint = "a mint".to_owned()), E::Malformed),
        (of(|token| token.unit.clear()), E::Malformed),
        (token(vec![coin(u64::MAX, "a"), coin(1, "b")]).encode(), E::Amount),
    ] {
        assert_eq!(Token::parse(&text), Err(error), "{}", text.len());
    }
}

/// Unknown members are passed over, wherever they stand; known ones come once, and nothing stands behind the document.
#[test]
fn cashu_1_members_come_once() {
    let start =
        |pairs| Writer::default().map(pairs).text("m").text("m").text("u").text("sat").text("t").list(1);
    let proofs = |written: Writer| {
        let written = written.map(2).text("i").bytes(&[0; 8]).text("p").list(1).map(4);
        written.text("a").unsigned(1).text("s").text("s").text("c").bytes(&[2; 33]).text("w").text("{}")
    };
    let plain = proofs(start(3)).finish();
    assert!(v4(&plain).is_ok());
    let known = proofs(start(5))
        .text("d")
        .text("memo")
        .text("x")
        .list(2)
        .unsigned(1)
        .map(1)
        .text("y")
        .bytes(b"z")
        .finish();
    assert_eq!(v4(&known), v4(&plain));
    let twice = proofs(start(4)).text("u").text("usd").finish();
    assert_eq!(v4(&twice), Err(E::Malformed));
    let more = [plain.as_slice(), &[0]].concat();
    assert_eq!(v4(&more), Err(E::Malformed));
    for cut in 0..plain.len() {
        assert!(v4(&plain[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn cashu_6_a_lock_is_seen() {
    assert!(coin(1, r#"["P2PK",{"nonce":"a","data":"02"}]"#).is_locked());
    assert!(coin(1, r#" ["HTLC",{}]"#).is_locked());
    assert!(!coin(1, &"ab".repeat(32)).is_locked());
}

#[test]
fn nothing_secret_is_printed() {
    let shown = format!("{:?} {:?}", token(vec![coin(1, "hush")]), coin(1, "hush"));
    assert!(!shown.contains("hush") && shown.contains("hidden"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_token_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = v4(&bytes);
        let _ = Token::parse(&format!("cashuA{}", base64::encode_url(&bytes)));
    }

    #[test]
    fn a_damaged_token_too(at in 0usize..400, byte: u8) {
        let mut bytes = super::v4::write(&token(vec![coin(1, "a"), coin(2, "b")]));
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = v4(&bytes);
    }

    #[test]
    fn any_text_too(text in "(cashu[AB])?\\PC{0,64}") {
        let _ = Token::parse(&text);
    }
}
